"""Positions in what is sorted: where values belong, and which bins they fall into."""
from __future__ import annotations

from typing import Any, Self

from pluggrad import dtypes
from pluggrad.errors import ShapeError, ValueRangeError
from pluggrad.graph import build
from pluggrad.graph.searching import insertion_places
from pluggrad.ir.node import Node
from pluggrad.tensor.sorting import Sorting


class Searching(Sorting):
    """Binary search."""

    __slots__ = ()

    def searchsorted(self, values: Any, *, out_int32: bool = False, right: bool = False,
                     side: str | None = None) -> Self:
        """Where each value would be put into this tensor, sorted along its last axis, to keep it so: int64.

        Before equals, or behind them with `right` or side="right". This tensor: a vector, or rows for rows of
        `values` that agree with them in all other axes. NaN counts as larger than any number.
        """
        behind = _is_right("searchsorted", right, side)
        return self._sorted_places("searchsorted", values, behind, out_int32)

    def bucketize(self, boundaries: Any, *, out_int32: bool = False, right: bool = False) -> Self:
        """Which bin each element lies in, int64: `searchsorted` of it in the sorted vector `boundaries`.

        right: False for bins that hold their upper boundary, True for the lower one. ValueRangeError for
        data that are not sorted (a tensor is not looked at).
        """
        edges = boundaries
        if not isinstance(edges, Searching):
            edges = self._sorted_data("bucketize", boundaries)
        if edges.ndim != 1:
            raise ShapeError(op="bucketize", expected="a vector of boundaries", got=f"shape {edges.shape}")
        return edges._sorted_places("bucketize", self, right, out_int32)  # type: ignore[no-any-return]

    def _sorted_places(self, op: str, values: Any, right: bool, narrow: bool) -> Self:
        ordered, wanted = self._promoted(op, values)
        if not ordered.shape or (len(ordered.shape) > 1 and ordered.shape[:-1] != wanted.shape[:-1]):
            raise ShapeError(op=op, got=str(ordered.shape),
                             expected=f"a vector, or rows as values of shape {wanted.shape} have them")
        dtype = dtypes.int32 if narrow else dtypes.int64
        if 0 in (wanted.type.size, ordered.type.size):
            return self._new(build.const(0, dtype, wanted.device, wanted.shape))
        length = ordered.shape[-1]
        rows = build.reshape(ordered, (-1, length))
        found = insertion_places(rows, build.reshape(wanted, (rows.shape[0], -1)), right)
        return self._new(build.cast(build.reshape(found, wanted.shape), dtype))

    def _promoted(self, op: str, other: Any) -> tuple[Node, Node]:
        x = build.detach(self.node)
        if isinstance(other, (int, float)):
            y = build.const(other, dtypes.weak_result(x.dtype, other, op), x.device)
        else:
            y = build.detach(self._operand(other, op))
        dtype = dtypes.promote(x.dtype, y.dtype)
        return build.cast(x, dtype), build.cast(y, dtype)


def _is_right(op: str, right: bool, side: str | None) -> bool:
    if side not in (None, "left", "right"):
        raise ValueRangeError(op=op, expected="side 'left' or 'right'", got=repr(side))
    if side == "left" and right:
        raise ValueRangeError(op=op, expected="side and right to agree", got="side='left' and right=True")
    return right or side == "right"
