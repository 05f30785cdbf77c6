"""Sorting and what it makes cheap: all of it stable, in linear time, NaN after every number.

Values carry gradients back to where they came from. Indices are int32, as tinygrad has them.
"""
from __future__ import annotations

from typing import Any, Self

import numpy as np

from pluggrad import dtypes
from pluggrad.errors import ValueRangeError
from pluggrad.graph import build
from pluggrad.graph.sorting import leading_order, sorting_order
from pluggrad.ir.node import Node
from pluggrad.shape.broadcast import check_axis
from pluggrad.tensor.scans import Scans


class Sorting(Scans):
    """Sorting, the largest or smallest, and positions in what is sorted."""

    __slots__ = ()

    def sort(self, dim: int = -1, descending: bool = False) -> tuple[Self, Self]:
        """The elements in order along `dim`, and where each of them was, int32.

        Equals keep their order, in both directions; NaN counts as larger than any number.
        """
        order = self._order("sort", dim, descending)
        return self._in_order(order, dim), self._new(order)

    def argsort(self, dim: int = -1, descending: bool = False) -> Self:
        """The places of the elements along `dim` in their order, int32, as the second of `sort`."""
        return self._new(self._order("argsort", dim, descending))

    def msort(self) -> Self:
        """The elements in order along the first axis."""
        return self.sort(0)[0]

    def topk(self, k: int, dim: int = -1, largest: bool = True, sorted_: bool = True) -> tuple[Self, Self]:
        """The `k` largest elements along `dim`, the largest first, and where they are, int32.

        Of equals the first are taken, in their order; NaN counts as larger than any number. largest: False
        for the smallest, the smallest first. sorted_: they are in order in any case.
        """
        order = self._order("topk", dim, largest, k)
        return self._in_order(order, dim), self._new(order)

    def _order(self, op: str, dim: int, descending: bool, count: int | None = None) -> Node:
        """Places along an axis in the order of their elements: all, or the first `count`."""
        axis = check_axis(op, dim, self.ndim)
        x = build.detach(self.node)
        size = x.shape[axis] if x.shape else 1
        if count is not None and count not in range(size + 1):
            raise ValueRangeError(op=op, expected=f"a k from 0 to {size}, the size of axis {axis}",
                                  got=str(count))
        if not x.shape or count == 0:
            shape = tuple([0 if i == axis else dim for i, dim in enumerate(x.shape or (1,))])
            return build.const(0, dtypes.int32, x.device, shape if count == 0 else ())
        moved = build.permute(x, last(axis, self.ndim))
        if count is None:
            order = sorting_order(moved, descending)
        else:
            order = leading_order(moved, count, descending)
        return build.permute(order, back(axis, self.ndim))

    def _in_order(self, order: Node, dim: int) -> Self:
        """The elements at places along an axis none of which occurs twice."""
        x = self.node
        if not x.shape:
            return self._new(build.broadcast_to(x, order.shape))
        axis = check_axis("sort", dim, self.ndim)
        return self._new(build.gather(x, order, axis, None, unique=True))

    def _sorted_data(self, op: str, data: Any) -> Self:
        """A tensor of boundaries that are known here, and so are seen to be in order."""
        known = np.asarray(data)
        if known.ndim == 1 and (known[1:] < known[:-1]).any():
            place = int((known[1:] < known[:-1]).argmax())
            raise ValueRangeError(op=op, expected="boundaries in ascending order",
                                  got=f"{known[place]} before {known[place + 1]}", hint="Sort them first")
        return self._from_data(data, None, self.node.device, False)


def last(axis: int, rank: int) -> list[int]:
    """The order of axes with one of them moved to the end."""
    return [*[i for i in range(rank) if i != axis], axis]


def back(axis: int, rank: int) -> list[int]:
    """What undoes it."""
    return [*range(axis), rank - 1, *range(axis, rank - 1)]
