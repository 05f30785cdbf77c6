"""The residual network from the command line, on small settings and on the real files where they are."""

from __future__ import annotations

import gzip
import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest

from examples.resnet_mnist import Block
from pluggrad import Tensor
from pluggrad.data import digits

EXAMPLE = "resnet_mnist.py"
RECORD = Path(__file__).parents[2] / "examples" / "results" / "resnet_mnist.jsonl"


def accuracy(output: str) -> float:
    """The mean over the seeds, in percent."""
    return float(re.search(r"^mean test accuracy: (\d+\.\d\d)%$", output, re.MULTILINE)[1])


def write_enlarged(folder: Path, count: int) -> Path:
    """Bundled digits in MNIST's size and format, as one pair of files."""
    images, labels = digits().X_train.numpy()[:count, 0], digits().Y_train.numpy()[:count]
    large = np.pad(np.kron(images, np.ones((1, 3, 3))), ((0, 0), (2, 2), (2, 2))) * 255
    for name, array in (("images-idx3-ubyte.gz", large), ("labels-idx1-ubyte.gz", labels)):
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        (folder / name).write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))
    return folder


def test_on_every_device(tmp_path, run_example, device_name):
    folder = write_enlarged(tmp_path, 10)
    result = run_example(EXAMPLE, "--data", str(folder), "--device", device_name, "--epochs", "1",
                         "--batch", "8")
    assert result.returncode == 0, result.stderr
    assert f"8 images to train on, 2 to test on, device {device_name}" in result.stdout


@pytest.mark.usefixtures("compiled")
def test_it_learns(tmp_path, run_example):
    folder = write_enlarged(tmp_path, 500)
    result = run_example(EXAMPLE, "--data", str(folder), "--epochs", "3", "--batch", "8", "--seeds", "3", "4",
                         "--record", "record.jsonl")
    assert result.returncode == 0, result.stderr
    assert accuracy(result.stdout) >= 90
    assert re.search(r"^a \d, read as \d", result.stdout, re.MULTILINE)
    stored = [json.loads(line) for line in (tmp_path / "record.jsonl").read_text().splitlines()]
    assert [each["seed"] for each in stored] == [3, 4]
    mean = 100 * np.mean([each["accuracy"] for each in stored])
    assert mean == pytest.approx(accuracy(result.stdout), abs=0.01)


@pytest.mark.usefixtures("compiled")
def test_mnist(mnist_10k, run_example):
    result = run_example(EXAMPLE, "--data", str(mnist_10k), "--epochs", "2")
    assert result.returncode == 0, result.stderr
    assert "8000 images to train on, 2000 to test on" in result.stdout
    assert accuracy(result.stdout) >= 97.5


def test_the_recorded_runs_reach_99_percent():
    runs = [json.loads(line) for line in RECORD.read_text().splitlines()]
    assert sorted(run["seed"] for run in runs) == [0, 1, 2]
    assert {(run["train_images"], run["test_images"]) for run in runs} == {(8000, 2000)}
    assert np.mean([run["accuracy"] for run in runs]) >= 0.99


def test_a_block_keeps_or_changes_shapes():
    x = Tensor.rand(2, 4, 6, 6)
    assert Block(4, 4)(x).shape == (2, 4, 6, 6)
    assert Block(4, 8, stride=2)(x).shape == (2, 8, 3, 3)
    assert Block(4, 4, stride=2)(x).shape == (2, 4, 3, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--data", "nowhere"], "nowhere has none of train-images"),
     (["--device", "no-such-device"], "no-such-device")],
)
def test_what_it_refuses(run_example, arguments, message):
    result = run_example(EXAMPLE, *arguments)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
