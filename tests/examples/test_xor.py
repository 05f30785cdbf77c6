"""The smallest network reaches all four answers, on every device."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "xor.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLE), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_all_four(device_name):
    result = run("--device", device_name)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"device {device_name}\n")
    answers = re.findall(r"^(\d) xor (\d) = (\d\.\d{3})$", result.stdout, re.MULTILINE)
    assert len(answers) == 4
    for left, right, output in answers:
        assert round(float(output)) == int(left) ^ int(right)


def test_a_device_that_is_not_there():
    result = run("--device", "no-such-device")
    assert result.returncode == 1
    assert result.stderr.startswith("xor.py: no plugin provides device 'no-such-device'")
