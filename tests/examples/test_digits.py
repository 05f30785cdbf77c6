"""The digit classifier from the command line: what it prints, writes and refuses."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import re
import runpy
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pluggrad.data import digits
from pluggrad.nn import state

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits.py"

COUNTED = """
import json, runpy, sys
sys.argv[0] = sys.argv[1]
del sys.argv[1]
runpy.run_path(sys.argv[0], run_name="__main__")
from pluggrad import GlobalCounters
print(json.dumps(GlobalCounters.snapshot()))
"""


def accuracy(part: str, output: str) -> float:
    """In percent."""
    return float(re.search(rf"^{part} accuracy: (\d+\.\d\d)%$", output, re.MULTILINE)[1])


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def write_folder(folder: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    """One pair of files, as MNIST has them; images (n, side, side) from 0 to 1."""
    write_idx(folder / "images-idx3-ubyte.gz", images * 255)
    write_idx(folder / "labels-idx1-ubyte.gz", labels)
    return folder


@pytest.fixture(scope="module")
def enlarged(tmp_path_factory) -> Path:
    """The bundled digits in MNIST's size: 28 x 28, each pixel three wide and a border."""
    data = digits()
    images = np.concatenate([part.numpy()[:, 0] for part in (data.X_train, data.X_test)])
    labels = np.concatenate([part.numpy() for part in (data.Y_train, data.Y_test)])
    large = np.pad(np.kron(images, np.ones((1, 3, 3))), ((0, 0), (2, 2), (2, 2)))
    return write_folder(tmp_path_factory.mktemp("enlarged"), large, labels)


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    """480 of the bundled digits: 384 to train on, few enough for an interpreter."""
    images, labels = digits().X_train.numpy()[:480, 0], digits().Y_train.numpy()[:480]
    return write_folder(tmp_path_factory.mktemp("few"), images, labels)


@pytest.mark.usefixtures("compiled")
def test_the_default_run(tmp_path, run_example):
    result = run_example("digits.py")
    assert result.returncode == 0, result.stderr
    assert accuracy("test", result.stdout) >= 98.5
    assert accuracy("train", result.stdout) >= 99.5
    assert "1438 images to train on, 359 to test on" in result.stdout
    assert "same answers" in result.stdout
    assert re.search(r"100%.* images/s, loss=\d\.\d{4}\]", result.stderr)
    assert (tmp_path / "runs" / "digits" / "digits.png").read_bytes().startswith(b"\x89PNG")


def test_the_checkpoint_holds_weights_and_running_statistics(tmp_path, few, run_example):
    assert run_example("digits.py", "--data", str(few), "--epochs", "1").returncode == 0
    stored = state.safe_load(tmp_path / "runs" / "digits" / "digits.safetensors")
    expected = {"9.weight": (10, 64), "9.bias": (10,)}
    for index, inputs, outputs in [(0, 1, 32), (2, 32, 32), (3, 32, 64), (5, 64, 64)]:
        expected[f"{index}.0.weight"] = (outputs, inputs, 3, 3)
        expected |= {f"{index}.1.{name}": (outputs,) for name in ("weight", "bias")}
        expected |= {f"{index}.1.running_{name}": (outputs,) for name in ("mean", "var")}
        expected[f"{index}.1.num_batches_tracked"] = ()
    assert {name: tensor.shape for name, tensor in stored.items()} == expected
    assert stored["0.1.num_batches_tracked"].item() == 12  # 384 images, 32 in a step


@pytest.mark.usefixtures("compiled")
def test_another_seed(run_example):
    result = run_example("digits.py", "--seed", "3")
    assert result.returncode == 0, result.stderr
    assert accuracy("test", result.stdout) >= 98.5


@pytest.mark.usefixtures("compiled")
def test_a_folder_of_idx_files(enlarged, run_example):
    result = run_example("digits.py", "--data", str(enlarged), "--epochs", "2")
    assert result.returncode == 0, result.stderr
    assert accuracy("test", result.stdout) >= 95


@pytest.mark.usefixtures("compiled")
def test_mnist(mnist_10k, run_example):
    result = run_example("digits.py", "--data", str(mnist_10k))
    assert result.returncode == 0, result.stderr
    assert "8000 images to train on, 2000 to test on" in result.stdout
    assert "5 epochs in" in result.stdout
    assert accuracy("test", result.stdout) >= 98.5


def test_images_move_by_a_pixel_at_most():
    image = np.zeros((1, 1, 5, 5), np.float32)
    image[0, 0, 2, 2] = 1
    moved = runpy.run_path(str(EXAMPLE))["moved"](image.repeat(200, axis=0), np.random.default_rng(0))
    assert moved.shape == (200, 1, 5, 5)
    places = {tuple(place) for place in np.argwhere(moved)[:, 2:]}
    assert places == set(itertools.product((1, 2, 3), repeat=2))
    assert (moved.sum(axis=(1, 2, 3)) == 1).all()


def test_a_run_repeats_with_its_seed(few, run_example):
    options = ("--data", str(few), "--epochs", "1", "--seed")
    lines = [run_example("digits.py", *options, seed).stdout for seed in ("5", "5", "6")]
    kept = [re.sub(r" in \d+\.\d s", "", text) for text in lines]
    assert kept[0] == kept[1] != kept[2]


def test_on_every_device(few, device_name, run_example):
    result = run_example("digits.py", "--device", device_name, "--data", str(few), "--epochs", "2")
    assert result.returncode == 0, result.stderr
    assert f"device {device_name}" in result.stdout
    assert accuracy("test", result.stdout) > 30


def test_a_profile(tmp_path, few, run_example):
    file = tmp_path / "trace.json"
    result = run_example("digits.py", "--data", str(few), "--epochs", "1", "--profile", str(file))
    assert result.returncode == 0, result.stderr
    assert re.search(r"^device +kernel +calls", result.stdout, re.MULTILINE)
    events = [event for event in json.loads(file.read_text())["traceEvents"] if event["ph"] == "X"]
    assert {event["cat"] for event in events} >= {"kernel", "copy"}
    assert max(event["args"]["GFLOP/s"] for event in events if event["cat"] == "kernel") > 0


def test_a_second_process_compiles_nothing(tmp_path, few, fresh_cache):
    options = ["--data", str(few), "--epochs", "1", "--out", str(tmp_path / "out")]
    command = [sys.executable, "-c", COUNTED, str(EXAMPLE), *options]
    environment = os.environ | {"MPLCONFIGDIR": str(tmp_path / "matplotlib")}
    outputs = [
        subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
        for _ in range(2)
    ]
    first, second = (json.loads(text.splitlines()[-1]) for text in outputs)
    assert first["scheduled"] > 0
    assert (second["scheduled"], second["compiled"]) == (0, 0)
    assert second["kernels"] == first["kernels"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "no-such-device"], "no-such-device"),
        (["--data", "nowhere"], "nowhere has none of train-images"),
        (["--batch", "0"], "expected at least 1, got 0"),
        (["--batch", "100000"], "at most 1438"),
    ],
)
def test_what_it_refuses(arguments, message, run_example):
    result = run_example("digits.py", *arguments)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
