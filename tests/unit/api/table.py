"""All rows, a list of each family."""

from __future__ import annotations

from tests.unit.api import (
    elementwise_rows,
    linalg_rows,
    network_rows,
    reduction_rows,
    selection_rows,
    shape_rows,
)

FAMILIES = (elementwise_rows, shape_rows, reduction_rows, selection_rows, linalg_rows, network_rows)
ROWS = [row for family in FAMILIES for row in family.ROWS]
