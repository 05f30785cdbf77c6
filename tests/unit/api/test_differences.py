"""pluggrad's side of the table of differences from PyTorch; tests/pytorch runs the other."""

from __future__ import annotations

import pytest

from pluggrad import Tensor
from tests.unit.api.differences import outcome, table

pytestmark = pytest.mark.usefixtures("device")


def test_the_table_is_there():
    assert len(table()) > 12


@pytest.mark.parametrize("row", [pytest.param(row, id=row.expression) for row in table()])
def test_ours(row):
    assert outcome(row.expression, Tensor, Tensor) == row.ours
