"""The digit classifier from the command line: what it prints, writes and refuses."""

from __future__ import annotations

import gzip
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pluggrad.data import digits
from pluggrad.nn import state

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits.py"


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLE), "--out", str(folder / "out"), *arguments]
    environment = os.environ | {"MPLCONFIGDIR": str(folder / "matplotlib")}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)


COUNTED = """
import json, runpy, sys
sys.argv[0] = sys.argv[1]
del sys.argv[1]
runpy.run_path(sys.argv[0], run_name="__main__")
from pluggrad import GlobalCounters
print(json.dumps(GlobalCounters.snapshot()))
"""


def accuracy(part: str, output: str) -> float:
    return float(re.search(rf"^{part} accuracy: (\d\.\d{{3}})$", output, re.MULTILINE)[1])


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


@pytest.fixture(scope="module")
def enlarged(tmp_path_factory) -> Path:
    """The bundled digits as MNIST's one pair of files: 28 x 28, each pixel three wide and a border."""
    folder = tmp_path_factory.mktemp("idx")
    images = np.concatenate([part.numpy()[:, 0] for part in (digits().X_train, digits().X_test)]) * 255
    labels = np.concatenate([part.numpy() for part in (digits().Y_train, digits().Y_test)])
    large = np.pad(np.kron(images, np.ones((1, 3, 3))), ((0, 0), (2, 2), (2, 2)))
    write_idx(folder / "images-idx3-ubyte.gz", large)
    write_idx(folder / "labels-idx1-ubyte.gz", labels)
    return folder


def test_the_default_run(tmp_path):
    result = run(folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert accuracy("test", result.stdout) >= 0.97
    assert accuracy("train", result.stdout) >= 0.99
    assert "1438 images to train on, 359 to test on" in result.stdout
    assert "same answers" in result.stdout
    assert re.search(r"100%.* images/s, loss=\d\.\d{4}\]", result.stderr)
    shapes = {name: t.shape for name, t in state.safe_load(tmp_path / "out" / "digits.safetensors").items()}
    assert shapes == {
        "0.weight": (256, 64),
        "0.bias": (256,),
        "3.weight": (128, 256),
        "3.bias": (128,),
        "6.weight": (10, 128),
        "6.bias": (10,),
    }
    assert (tmp_path / "out" / "digits.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_other_seeds(tmp_path, seed):
    result = run("--seed", str(seed), folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert accuracy("test", result.stdout) >= 0.97


def test_a_folder_of_idx_files(tmp_path, enlarged):
    result = run("--data", str(enlarged), "--epochs", "4", "--batch", "32", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert accuracy("test", result.stdout) >= 0.9


def test_mnist(tmp_path, mnist_10k):
    result = run("--data", str(mnist_10k), "--epochs", "4", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "8000 images to train on, 2000 to test on" in result.stdout
    assert accuracy("test", result.stdout) >= 0.94


def test_a_run_repeats_with_its_seed(tmp_path):
    lines = [run("--epochs", "1", "--seed", seed, folder=tmp_path).stdout for seed in ("5", "5", "6")]
    kept = [re.sub(r" in \d+\.\d s", "", text) for text in lines]
    assert kept[0] == kept[1] != kept[2]


def test_on_every_device(tmp_path, device_name):
    result = run("--device", device_name, "--epochs", "1", "--batch", "359", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"device {device_name}" in result.stdout
    assert accuracy("test", result.stdout) > 0.3


def test_a_second_process_compiles_nothing(tmp_path, fresh_cache):
    command = [sys.executable, "-c", COUNTED, str(EXAMPLE), "--epochs", "1", "--out", str(tmp_path / "out")]
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
def test_what_it_refuses(tmp_path, arguments, message):
    result = run(*arguments, folder=tmp_path)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
