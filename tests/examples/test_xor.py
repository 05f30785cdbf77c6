"""The smallest network reaches all four answers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "xor.py"


def test_all_four():
    result = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    answers = re.findall(r"^(\d) xor (\d) = (\d\.\d{3})$", result.stdout, re.MULTILINE)
    assert len(answers) == 4
    for left, right, output in answers:
        assert round(float(output)) == int(left) ^ int(right)
