"""PyTorch's side of the table of differences."""

from __future__ import annotations

import pytest

from tests.unit.api.differences import outcome, table

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


@pytest.mark.parametrize("row", [pytest.param(row, id=row.expression) for row in table()])
def test_theirs(row):
    assert outcome(row.spelled or row.expression, torch.tensor, torch) == row.theirs
