"""The smallest network reaches all four answers, on every device and from any weights."""

from __future__ import annotations

import re

import pytest

from examples import xor


def assert_right(output: str) -> None:
    answers = re.findall(r"^(\d) xor (\d) = (\d\.\d{3})$", output, re.MULTILINE)
    assert len(answers) == 4
    for left, right, answer in answers:
        assert abs(float(answer) - (int(left) ^ int(right))) < 0.1


def test_all_four(run_example, device_name):
    result = run_example("xor.py", "--device", device_name)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"device {device_name}\n")
    assert_right(result.stdout)
    assert re.search(r"100%.*loss=0\.00\d\d", result.stderr)


@pytest.mark.parametrize("seed", range(1, 6))
def test_other_weights(capsys, seed):
    xor.main(["--seed", str(seed)])
    assert_right(capsys.readouterr().out)


def test_a_device_that_is_not_there(run_example):
    result = run_example("xor.py", "--device", "no-such-device")
    assert result.returncode == 1
    assert result.stderr.startswith("xor.py: no plugin provides device 'no-such-device'")
