"""docs/array-api.md says what is so."""

from __future__ import annotations

import re

import pytest

import pluggrad.array_api as xp
from pluggrad import Tensor
from tests.architecture.source import ROOT
from tests.unit.array_api.calls import calls, signatures

PAGE = (ROOT / "docs" / "array-api.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([^|]+)` \| `([^|]+)` \| \w", PAGE, re.MULTILINE)


def test_it_counts_right():
    assert f"All {len(signatures())} functions" in PAGE
    total = sum(map(len, calls().values()))
    assert f"{total} calls of all functions are compared with NumPy" in PAGE
    assert len(ROWS) == PAGE.count("\n| `")


@pytest.mark.parametrize(("expression", "value"), ROWS)
def test_each_row_is_so(expression, value):
    names = {"xp": xp, "Tensor": Tensor}
    assert eval(expression, names) == eval(value, names)
