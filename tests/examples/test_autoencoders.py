"""What the autoencoders draw: digits without noise, and digits that nobody wrote."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numpy as np
import pytest

from examples import pictures
from pluggrad import device
from pluggrad.data import digits

EXAMPLES = Path(pictures.__file__).parent

DRAWN = r"(?:[ .:\-=+*#%@]*\n){8}"  # lines of digits that are 8 pixels high


def png(path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG")


def test_noise_is_cleaned_away(tmp_path, run_example):
    result = run_example("denoising_autoencoder.py", "--steps", "400")
    assert result.returncode == 0, result.stderr
    found = re.search(r"pixel: (0\.\d{4}) with the noise, (0\.\d{4}) cleaned$", result.stdout, re.MULTILINE)
    assert float(found[1]) > 2 * float(found[2])
    assert re.search(rf"with noise:\n{DRAWN}\ncleaned:\n{DRAWN}\nas it was:\n", result.stdout)
    assert "100%" in result.stderr
    assert png(tmp_path / "runs" / "denoising_autoencoder" / "denoising_autoencoder.png")


def test_digits_are_drawn(tmp_path, run_example):
    result = run_example("variational_autoencoder.py", "--steps", "800")
    assert result.returncode == 0, result.stderr
    reached = float(re.search(r"^test images: (\d+\.\d\d) nats each$", result.stdout, re.MULTILINE)[1])
    assert reached < nats_without_a_plane() - 2
    assert re.search(rf"drawn at random points of the plane:\n({DRAWN}\n){{3}}", result.stdout)
    assert "100%" in result.stderr
    assert png(tmp_path / "runs" / "variational_autoencoder" / "variational_autoencoder.png")


def nats_without_a_plane() -> float:
    """Of a test image, for who knows how dark each pixel is on average."""
    data = digits()
    x, p = data.X_test.numpy(), np.clip(data.X_train.numpy().mean(axis=0), 1e-4, 1 - 1e-4)
    return float(-(x * np.log(p) + (1 - x) * np.log(1 - p)).sum(axis=(1, 2, 3)).mean())


@pytest.mark.parametrize("name", ["denoising_autoencoder", "variational_autoencoder"])
def test_a_run_repeats_with_its_seed_on_every_device(tmp_path, monkeypatch, capsys, device_name, name):
    monkeypatch.syspath_prepend(EXAMPLES)
    example = importlib.import_module(name)

    def output(seed: str) -> str:
        with device(device_name):
            example.main(["--steps", "2", "--batch", "4", "--seed", seed, "--out", str(tmp_path)])
        return capsys.readouterr().out

    first = output("1")
    assert first.startswith(f"device {device_name}\n")
    assert first == output("1") != output("2")


@pytest.mark.parametrize("name", ["denoising_autoencoder.py", "variational_autoencoder.py"])
def test_a_device_that_is_not_there(run_example, name):
    result = run_example(name, "--device", "no-such-device")
    assert result.returncode == 1
    assert result.stderr.startswith(f"{name}: no plugin provides device 'no-such-device'")


def test_images_as_text():
    small = np.zeros((2, 3, 3), np.float32)
    small[0, 1, 1], small[1, 2] = 1, 0.5
    assert pictures.as_text(small) == "\n  @@\n        ++++++"
    large = np.linspace(0, 1, 20)[None, None].repeat(20, axis=1)
    assert pictures.as_text(large).splitlines() == ["  ..::--==++**##%%@@"] * 10
