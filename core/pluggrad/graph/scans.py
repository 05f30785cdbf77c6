"""Running reductions: where an extreme was met, and long ones in blocks.

Each block is a row of its own, for as many tasks; then come the blocks' totals, and both together. A block
goes on from the very total of the one before: sums of what is not negative never fall from one to the next.
"""
from __future__ import annotations

from typing import Final

from pluggrad import dtypes
from pluggrad.graph import build, ops
from pluggrad.graph.types import tensor_type
from pluggrad.ir.node import Node, node

_BLOCK: Final = 1024  # elements: some microseconds, and totals are 1/1024 of the work
_SHORTEST: Final = 1 << 13  # of an axis that is cut
_ENOUGH_ROWS: Final = 32  # that need no blocks; fixed numbers all, so that sums do not depend on cores


def first_met(n: Node) -> Node:
    """The place along its axis at which the running extreme `n` was first met; of NaN: the first."""
    name, axis = n.arg
    size = n.shape[axis]
    before, present = _part(n, axis, 0, size - 1), _part(n.src[0], axis, 1, size - 1)
    lesser, greater = (present, before) if name == "MAX" else (before, present)
    # nothing new follows a NaN, and a NaN is new elsewhere: no comparison with it holds
    known = build.binary(ops.OR, build.binary(ops.LE, lesser, greater), build.binary(ops.NE, before, before))
    dtype = dtypes.int32 if size <= dtypes.int32.max else dtypes.int64
    place = _part(build.iota(size, dtype, n.device), 0, 1, size - 1)
    along = build.reshape(place, [size - 1 if i == axis else 1 for i in range(len(n.shape))])
    new = build.where(known, build.const(0, dtype, n.device), along)
    return build.scan("MAX", build.pad(new, [(int(i == axis), 0) for i in range(len(n.shape))]), axis)


def running(x: Node, name: ops.Running, axis: int) -> Node:
    """The SCAN of `x`, in blocks where its axis is long and its rows are few."""
    length = x.shape[axis]
    if length < _SHORTEST or x.type.size >= length * _ENOUGH_ROWS:
        return _whole(x, name, axis)
    before, after = x.shape[:axis], x.shape[axis + 1:]
    blocks = -(-length // _BLOCK)
    widths = [(0, blocks * _BLOCK - length) if i == axis else (0, 0) for i in range(len(x.shape))]
    padded = build.pad(x, widths)  # what follows the last element changes nothing before it
    within = _whole(build.reshape(padded, (*before, blocks, _BLOCK, *after)), name, axis + 1)
    ends = build.reshape(_part(within, axis + 1, _BLOCK - 1, 1), (*before, blocks, *after))
    earlier = _delayed(running(ends, name, axis), axis)
    earlier = build.broadcast_to(build.reshape(earlier, (*before, blocks, 1, *after)), within.shape)
    number = build.reshape(build.iota(blocks, dtypes.int32, x.device), (blocks, *(1,) * (len(after) + 1)))
    first = build.binary(ops.EQ, number, build.const(0, dtypes.int32, x.device))
    together = build.where(first, within, build.binary(ops.GRAPH_OPS[name], earlier, within))
    return _part(build.reshape(together, (*before, blocks * _BLOCK, *after)), axis, 0, length)


def _whole(x: Node, name: ops.Running, axis: int) -> Node:
    return node(ops.SCAN, (x,), ops.Scan(name, axis), tensor_type(x.shape, x.dtype, x.device))


def _delayed(x: Node, axis: int) -> Node:
    """One place later along the axis, after a 0."""
    widths = [(int(i == axis), 0) for i in range(len(x.shape))]
    return build.pad(_part(x, axis, 0, x.shape[axis] - 1), widths)


def _part(x: Node, axis: int, start: int, size: int) -> Node:
    return build.slice(x, [(start, size, 1) if i == axis else (0, dim, 1) for i, dim in enumerate(x.shape)])
