"""What is in a tensor: its different elements, and membership."""
from __future__ import annotations

from typing import Any, Self

from pluggrad import dtypes, runtime
from pluggrad.graph import build
from pluggrad.graph.sorting import sorting_order
from pluggrad.ir.node import Node
from pluggrad.shape.broadcast import check_axis
from pluggrad.tensor.statistics import Statistics


class Sets(Statistics):
    """Different elements and membership."""

    __slots__ = ()

    def isin(self, test_elements: Any, assume_unique: bool = False, invert: bool = False) -> Self:
        """bool: whether each element is one of `test_elements`; `invert`: whether it is none. NaN is none.

        assume_unique: makes no difference.
        """
        x, tested = self._promoted("isin", test_elements)
        if x.type.size == 0 or tested.type.size == 0:
            return self._new(build.const(invert, dtypes.bool_, x.device, x.shape))
        ordered = self._new(build.reshape(tested, (-1,))).sort()[0]
        place = ordered.searchsorted(self._new(x)).minimum(ordered.shape[0] - 1)
        found = ordered.take(place).eq(self._new(x))
        return found.logical_not() if invert else found

    def unique(self, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False,
               dim: int | None = None) -> Any:
        """The different elements in order; each NaN is one. Computes the value, as its shape depends on it.

        return_inverse: also where each element of this tensor is among them, int64. return_counts: also how
        often each occurs, int64. dim: different slices along that axis, in the order of their elements.
        sorted: they are in any case.
        """
        axis = None if dim is None else check_axis("unique", dim, self.ndim)
        x = self.flatten() if axis is None else self.movedim(axis, 0)
        length = x.shape[0]
        if length == 0:
            nothing = x._new(build.const(0, dtypes.int64, x.node.device, (0,)))
            same, inverse = (x, nothing.reshape(self.shape)) if axis is None else (self, nothing)
            return _chosen((same, return_inverse and inverse, return_counts and nothing))
        rows = x if x.ndim == 1 else x.flatten(1)
        order = rows._lexicographic()
        found = build.gather(rows.node, _spread(order, rows.shape), 0, None, unique=True)
        ordered = rows._new(build.contiguous(found))
        differs = ordered[1:].ne(ordered[:-1])
        new = (differs if rows.ndim == 1 else differs.any(1)).pad(((1, 0),), value=True)
        group = new.cast(dtypes.int64).cumsum()
        count = int(runtime.fetch(group[-1]))
        first = new.nonzero(count).flatten()
        values = ordered.index_select(0, first).reshape(count, *x.shape[1:])
        ends = first[1:].cat(first._filled(length, (1,)))
        inverse = group._new(build.scatter(build.const(0, dtypes.int64, x.node.device, (length,)), order,
                                           (group - 1).node, 0, "SET", (), None, unique=True))
        if axis is None:
            inverse = inverse.reshape(self.shape)
        else:
            values = values.movedim(0, axis)
        return _chosen((values, return_inverse and inverse, return_counts and ends - first))

    def _lexicographic(self) -> Node:
        """The order of rows by their elements, the first counting most; of a vector, by its elements."""
        if self.ndim == 1:
            return sorting_order(build.detach(self.node))
        order = build.iota(self.shape[0], dtypes.int32, self.node.device)
        for column in reversed(range(self.shape[1])):
            present = build.gather(build.detach(self[:, column].node), order, 0, None)
            order = build.gather(order, sorting_order(present), 0, None)
        return order


def _spread(order: Node, shape: tuple[int, ...]) -> Node:
    return build.broadcast_to(build.reshape(order, (shape[0], *(1,) * (len(shape) - 1))), shape)


def _chosen(parts: tuple[Any, ...]) -> Any:
    """The first of them, or a tuple with those asked for."""
    wanted = tuple([part for part in parts if part is not False])
    return wanted if len(wanted) > 1 else wanted[0]
