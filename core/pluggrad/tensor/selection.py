"""Selecting by integer tensors, and its opposite: gather, scatter, and what is made of them.

Indices are integers of any dtype, tensors or data, and count from the end where they are negative. One that
is out of range raises IndexError: at once where the index is known here, else when the result is computed.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Self

import numpy as np

from pluggrad import dtypes, runtime
from pluggrad.errors import DTypeError, ShapeError, ValueRangeError
from pluggrad.graph import build, ops
from pluggrad.ir.node import Node
from pluggrad.shape.broadcast import broadcast_shapes, check_axis, check_shape
from pluggrad.shape.dims import Shape
from pluggrad.tensor.index_keys import known_positions, parse_key, selection
from pluggrad.tensor.indexing import Indexing

_MODES: Final[dict[str, ops.Mode]] = {
    "sum": "ADD", "mean": "ADD", "prod": "MUL", "amax": "MAX", "amin": "MIN"}
_REDUCE: Final[dict[str | None, ops.Mode]] = {None: "SET", "add": "ADD", "multiply": "MUL"}


class Selection(Indexing):
    """Methods that read or write at places that data decide."""

    __slots__ = ()

    def _index(self, op: str, index: Any, axis: int) -> tuple[Node, str | None]:
        """An index along an axis of this tensor, and the name of its check; data are checked here."""
        if isinstance(index, Indexing):
            if not index.dtype.is_int:
                raise DTypeError(op=op, expected="integer indices", got=index.dtype.name)
            return index.node, op
        array = np.asarray(index)
        if array.dtype.kind not in "iu" and array.size:
            raise DTypeError(op=op, expected="integer indices", got=str(array.dtype))
        known = known_positions(array.astype(np.int64), self.shape[axis], axis, op)
        return runtime.upload(known, dtypes.int64, self.node.device), None

    def _cut(self, op: str, axis: int, shape: Shape) -> tuple[build.Step, ...]:
        """The view of this tensor that is as large as an index of `shape` but for one axis."""
        x = self.shape
        if len(shape) != len(x) or any(d > full for i, (d, full) in enumerate(zip(shape, x)) if i != axis):
            raise ShapeError(op=op, expected=f"an index of {len(x)} axes, at most {x} but for axis {axis}",
                             got=str(shape))
        view = _resized(shape, axis, x[axis])
        return () if view == x else (("slice", tuple([(0, dim, 1) for dim in view])),)

    # ---- reading -------------------------------------------------------------------------------------------
    def gather(self, dim: int, index: Any) -> Self:
        """Element j is `self` at j with `index[j]` along `dim`; the result has the shape of `index`.

        index: integers with as many axes as this tensor, no larger but along `dim`.
        """
        axis = check_axis("gather", dim, self.ndim)
        places, op = self._index("gather", index, axis)
        view = build.move(self.node, self._cut("gather", axis, places.shape))
        return self._new(build.gather(view, places, axis, op))

    def take_along_dim(self, indices: Any, dim: int | None = None) -> Self:
        """`gather` with both shapes broadcast but along `dim`; None: of the flattened tensor."""
        if dim is None:
            return self.flatten().gather(0, _flat(indices))
        axis = check_axis("take_along_dim", dim, self.ndim)
        places, op = self._index("take_along_dim", indices, axis)
        if len(places.shape) != self.ndim:
            raise ShapeError(op="take_along_dim", expected=f"indices of {self.ndim} axes",
                             got=str(places.shape))
        around = [_resized(shape, axis, 1) for shape in (self.shape, places.shape)]
        common = broadcast_shapes("take_along_dim", *around)
        x, places = [build.expand(n, _resized(common, axis, n.shape[axis])) for n in (self.node, places)]
        return self._new(build.gather(x, places, axis, op))

    def index_select(self, dim: int, index: Any) -> Self:
        """The slices along `dim` that the integers of a vector name, in their order."""
        axis = check_axis("index_select", dim, self.ndim)
        places, op = self._index("index_select", index, axis)
        return self._new(build.gather(self.node, _along(places, self.shape, axis, "index_select"), axis, op))

    def take(self, index: Any) -> Self:
        """Elements of the flattened tensor, in the shape of `index`."""
        flat = self.flatten()
        places, op = flat._index("take", index, 0)
        found = build.gather(flat.node, build.reshape(places, (places.type.size,)), 0, op)
        return self._new(build.reshape(found, places.shape))

    def embedding(self, weight: Any) -> Self:
        """Row `weight[i]` for each integer i of this tensor: shape (*self.shape, *weight.shape[1:])."""
        if not isinstance(weight, Selection) or not weight.ndim:
            raise ShapeError(op="embedding", expected="a tensor of rows as the weight", got=str(weight))
        places, op = weight._index("embedding", self, 0)
        flat = _along(build.reshape(places, (places.type.size,)), weight.shape, 0, "embedding")
        rows = build.gather(weight.node, flat, 0, op)
        return self._new(build.reshape(rows, (*self.shape, *weight.shape[1:])))

    # ---- writing -------------------------------------------------------------------------------------------
    def scatter(self, dim: int, index: Any, src: Any, reduce: str | None = None) -> Self:
        """This tensor with `src[j]` written at j with `index[j]` along `dim`; of those that meet, the last.

        src: a number, or a tensor no smaller than `index`. reduce: "add" or "multiply" combine with what is
        there.
        """
        if reduce not in _REDUCE:
            raise ValueRangeError(op="scatter", expected="reduce None, 'add' or 'multiply'", got=repr(reduce))
        return self._scattered("scatter", dim, index, src, _REDUCE[reduce])

    def scatter_add(self, dim: int, index: Any, src: Any) -> Self:
        """`scatter` with all that meets added up, in order."""
        return self._scattered("scatter_add", dim, index, src, "ADD")

    def scatter_reduce(self, dim: int, index: Any, src: Any, reduce: str, include_self: bool = True) -> Self:
        """What meets in an element reduced by "sum", "prod", "mean", "amax" or "amin".

        include_self: whether what was there takes part; elements that nothing meets keep it in any case.
        """
        if reduce not in _MODES:
            raise ValueRangeError(op="scatter_reduce", expected=f"reduce {', '.join(map(repr, _MODES))}",
                                  got=repr(reduce))
        op, x = "scatter_reduce", self
        if not include_self:
            neutral = {"ADD": 0, "MUL": 1, "MAX": self.dtype.min, "MIN": self.dtype.max}[_MODES[reduce]]
            x = self._scattered(op, dim, index, self._filled(neutral, ()), "SET")
        made = x._scattered(op, dim, index, src, _MODES[reduce])
        if reduce != "mean":
            return made
        before, one = self._filled(int(include_self), self.shape), self._filled(1, ())
        counts = before._scattered(op, dim, index, one, "ADD").maximum(1)
        return made / counts if self.dtype.is_float else made // counts

    def index_add(self, dim: int, index: Any, source: Any, alpha: float = 1) -> Self:
        """This tensor with the slices of `alpha * source` along `dim` added to those that a vector names."""
        axis = check_axis("index_add", dim, self.ndim)
        places, op = self._index("index_add", index, axis)
        spread = _along(places, self.shape, axis, "index_add")
        value = self._source("index_add", source if alpha == 1 else source * alpha, spread.shape)
        return self._new(build.scatter(self.node, spread, value, axis, "ADD", (), op))

    def index_put(self, indices: Sequence[Any], values: Any, accumulate: bool = False) -> Self:
        """This tensor with `values` written at `self[indices]`, or added there, all that meets."""
        chosen = selection(parse_key(tuple(indices), self.node), self.shape, self.node.device, writes=True)
        mode: ops.Mode = "ADD" if accumulate else "SET"
        return self._new(chosen.write(self.node, self._value_to_write(values), (), mode))

    def _scattered(self, op: str, dim: int, index: Any, src: Any, mode: ops.Mode) -> Self:
        axis = check_axis(op, dim, self.ndim)
        places, check = self._index(op, index, axis)
        view = self._cut(op, axis, places.shape)
        value = self._source(op, src, places.shape)
        return self._new(build.scatter(self.node, places, value, axis, mode, view, check))

    def _source(self, op: str, src: Any, shape: Shape) -> Node:
        """What is written, cut to the shape of the index."""
        value = self._operand(src, op) if isinstance(src, Indexing) else self._value_to_write(src)
        if not value.shape:
            return build.broadcast_to(value, shape, op)
        if len(value.shape) != len(shape) or any(d > full for d, full in zip(shape, value.shape)):
            raise ShapeError(op=op, expected=f"a source of at least {shape}", got=str(value.shape))
        return build.slice(value, [(0, d, 1) for d in shape])

    def _filled(self, value: Any, shape: Shape) -> Self:
        """A constant of this tensor's dtype."""
        x = self.node
        return self._new(build.const(value, x.dtype, x.device, shape))

    # ---- masks ---------------------------------------------------------------------------------------------
    def masked_select(self, mask: Any, size: int | None = None, fill_value: Any = 0) -> Self:
        """The elements where a mask that broadcasts holds, in row-major order: a vector.

        size: its length, which spares computing the mask: `fill_value` follows where there are fewer, and
        more are left out.
        """
        truth = self._operand(mask, "masked_select")
        if truth.dtype.kind != "b":
            raise DTypeError(op="masked_select", expected="a mask of bool", got=truth.dtype.name,
                             hint="Compare it first: x.masked_select(mask != 0)")
        common = broadcast_shapes("masked_select", self.shape, truth.shape)
        x, held = [self._new(build.broadcast_to(n, common)).flatten() for n in (self.node, truth)]
        if size is None:
            return x[held.cast(dtypes.bool_)]
        return x._packed("masked_select", held, size, fill_value)

    def nonzero(self, size: int | None = None, fill_value: Any = 0) -> Self:
        """int64 (n, ndim): the position of each element that is not zero, in row-major order.

        size: n, as in `masked_select`.
        """
        if size is None:
            found = np.argwhere(runtime.fetch(self.cast(dtypes.bool_)))
            return self._from_data(found, dtypes.int64, self.node.device, False)
        x = self.node
        columns = []
        for axis, dim in enumerate(self.shape):
            along = build.reshape(build.iota(dim, dtypes.int64, x.device),
                                  tuple([dim if i == axis else 1 for i in range(self.ndim)]))
            column = self._new(build.broadcast_to(along, x.shape)).flatten()
            columns.append(column._packed("nonzero", self.flatten(), size, fill_value).unsqueeze(1))
        if not columns:
            return self._new(build.const(0, dtypes.int64, x.device, (size, 0)))
        return columns[0].cat(*columns[1:], dim=1)

    def _packed(self, op: str, held: Self, size: int, fill_value: Any) -> Self:
        """The elements of a vector where `held` is true, moved to the front of one of `size`."""
        check_shape(op, (size,))
        x, length = self.node, self.shape[0]
        fill = self._filled(fill_value, (size,))
        if length == 0:
            return fill
        truth = build.contiguous(held.cast(dtypes.bool_).node)
        first = build.scan("ADD", build.cast(truth, dtypes.int64), 0)
        count = build.slice(first, ((length - 1, 1, 1),))
        number, one = build.iota(length, dtypes.int64, x.device), build.const(1, dtypes.int64, x.device)
        # what is not held goes behind all that is: each has a place of its own
        rest = build.binary(ops.ADD, count, build.binary(ops.SUB, number, first))
        place = build.where(truth, build.binary(ops.SUB, first, one), rest)
        base = self._filled(0, (length,)).node
        packed = self._new(build.scatter(base, place, x, 0, "SET", (), None, unique=True))
        kept = packed[:size] if size <= length else packed.pad(((0, size - length),))
        inside = build.binary(ops.LT, build.iota(size, dtypes.int64, x.device), count)
        return self._new(inside).where(kept, fill)


def _flat(indices: Any) -> Any:
    return indices.flatten() if isinstance(indices, Indexing) else np.ravel(indices)


def _along(places: Node, shape: Shape, axis: int, op: str) -> Node:
    """A vector of indices for every element beside the axis."""
    if len(places.shape) != 1:
        raise ShapeError(op=op, expected="a vector of indices", got=f"shape {places.shape}")
    count = math.prod(places.shape)
    around = _resized((1,) * len(shape), axis, count)
    return build.expand(build.reshape(places, around), _resized(shape, axis, count))


def _resized(shape: Shape, axis: int, dim: int) -> Shape:
    return (*shape[:axis], dim, *shape[axis + 1:])
