"""What a network has learned from one question helps it with another."""

from __future__ import annotations

import re

from pluggrad import Tensor
from pluggrad.nn import state


def shares(output: str) -> dict[str, float]:
    """In percent, by what was trained."""
    rows = re.findall(r"^(\w[\w, ]*?) +#+ +(\d+\.\d)%$", output, re.MULTILINE)
    return {title: float(share) for title, share in rows}


def test_less_is_needed_than_from_scratch(tmp_path, run_example):
    result = run_example("fine_tune.py")
    assert result.returncode == 0, result.stderr
    found = shares(result.stdout)
    assert found["the body, a random head"] < 75
    assert found["the body, a new head"] > found["from scratch"] + 2
    assert found["then both"] > found["from scratch"] + 2
    assert result.stderr.count("100%") == 4

    weights = tmp_path / "runs" / "fine_tune" / "reader.safetensors"
    assert {"body.0.0.weight", "head.weight"} <= state.safe_load(weights).keys()
    result = run_example("fine_tune.py", "--weights", str(weights))
    assert result.returncode == 0, result.stderr
    again = shares(result.stdout)
    assert again["the body, a new head"] > again["from scratch"] + 2
    assert result.stderr.count("100%") == 3  # it did not learn to read again


def test_on_every_device(run_example, device_name):
    result = run_example("fine_tune.py", "--device", device_name, "--steps", "2", "--images", "1")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"device {device_name}\n")
    assert len(shares(result.stdout)) == 4


def test_weights_of_another_network(tmp_path, run_example):
    file = tmp_path / "other.safetensors"
    state.safe_save({"body.0.0.weight": Tensor.zeros(32, 1, 5, 5)}, file)
    result = run_example("fine_tune.py", "--weights", str(file))
    assert result.returncode == 1
    assert "misshapen: 0.0.weight, expected (32, 1, 3, 3), got (32, 1, 5, 5)" in result.stderr
    assert "missing: 2.0.weight" in result.stderr
    assert "Traceback" not in result.stderr
