"""The classifier of a folder of images, from the command line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from pluggrad.nn import state

EXAMPLE = "image_folder.py"
OUT = Path("runs", "image_folder")
SMALL = ["--images", "15", "--size", "16", "--epochs", "1", "--batch", "12"]


def accuracy(output: str) -> float:
    """In percent."""
    return float(re.search(r"^test accuracy: (\d+\.\d\d)%$", output, re.MULTILINE)[1])


def test_on_every_device(tmp_path, run_example, device_name):
    result = run_example(EXAMPLE, "--device", device_name, *SMALL, "--workers", "0")
    assert result.returncode == 0, result.stderr
    assert "circle, square, triangle: 36 images to train on, 9 to test on" in result.stdout
    assert f", device {device_name}" in result.stdout
    assert "same answers" in result.stdout
    assert (tmp_path / OUT / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert state.safe_load(tmp_path / OUT / "model.safetensors")["14.weight"].shape == (3, 64)


@pytest.mark.usefixtures("compiled")
def test_it_learns(run_example):
    result = run_example(EXAMPLE, *SMALL, "--images", "80", "--epochs", "12")
    assert result.returncode == 0, result.stderr
    assert accuracy(result.stdout) >= 75


def test_a_folder_of_ones_own(tmp_path, run_example):
    for name, color in (("dark", (20, 0, 0)), ("light", (220, 255, 255)), ("red", (255, 0, 0))):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(15):  # as many as are drawn elsewhere: the kernels are the same
            Image.new("RGB", (12 + number, 15), color).save(tmp_path / "data" / name / f"{number}.jpg")
    result = run_example(EXAMPLE, "--data", "data", *SMALL)
    assert result.returncode == 0, result.stderr
    assert "dark, light, red: 36 images to train on, 9 to test on" in result.stdout
    assert not list((tmp_path / OUT).glob("shapes*"))


def test_a_damaged_image_is_named(tmp_path, run_example):
    (tmp_path / "data" / "class").mkdir(parents=True)
    (tmp_path / "data" / "class" / "1.png").write_bytes(b"no image")
    result = run_example(EXAMPLE, "--data", "data", *SMALL, "--workers", "0")
    assert result.returncode != 0
    assert re.match(r"image_folder\.py: read .*1\.png: expected an image", result.stderr)


@pytest.mark.parametrize("place", ["nowhere", "."])
def test_a_folder_without_classes(tmp_path, run_example, place):
    (tmp_path / "empty").mkdir()
    result = run_example(EXAMPLE, "--data", f"empty/{place}", *SMALL)
    assert result.returncode != 0
    assert result.stderr.startswith("image_folder.py: ")
    assert "Traceback" not in result.stderr
