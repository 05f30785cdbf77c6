"""Factors of a product that lie in memory as boxes do, which an engine copies where there is one."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

from pluggrad import dtypes
from pluggrad.graph import ops as g
from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import substitute
from pluggrad.kernel import ops
from pluggrad.kernel.index_nodes import linear
from pluggrad.kernel.kernel import Kernel, axis, const
from pluggrad.target import BoxEngine
from pluggrad.tune.accesses import reduction_of
from pluggrad.tune.products import multiplied, narrowest

_POSITIONS: Final = 1 << 31  # along a dimension: they are int32


def in_boxes(kernel: Kernel, ids: Sequence[int], engine: BoxEngine) -> Kernel | None:
    """A product over rows, columns and steps, `ids`, whose factors are loaded within the bounds of every axis
    that they vary along; None where the engine cannot copy both."""
    factors = [narrowest(factor) for factor in multiplied(reduction_of(kernel)).src]
    extents = {a.id: a.extent for a in kernel.axes}
    if not all(_suits(kernel, factor, ids, extents, engine) for factor in factors):
        return None
    bound = {factor: _within_bounds(factor, extents) for factor in factors}
    return replace(kernel, stores=substitute(kernel.stores, bound))


def runs_along(load: Node, id: int) -> bool:
    """Whether neighbors along an axis are neighbors in memory."""
    return linear(load.src[0]).strides.get(id) == 1


def _suits(kernel: Kernel, factor: Node, ids: Sequence[int], extents: dict[int, int],
           engine: BoxEngine) -> bool:
    """Whether a factor is read as it lies, its axes one within the other in memory."""
    if factor.op is not ops.LOAD or len(factor.src) > 1 or kernel.buffers[factor.arg].role != "in":
        return False
    strides, rest, offset = linear(factor.src[0])
    dims = sorted([(stride, extents[id]) for id, stride in strides.items()])
    inner = [id for id, stride in strides.items() if stride == 1]
    multiple = engine.alignment // factor.type.itemsize
    aligned = all(stride % multiple == 0 for stride in (offset, *[stride for stride, _ in dims[1:]]))
    nested = all(above % stride == 0 and above >= stride * extent for (stride, extent), (above, _)
                 in pairwise(dims))
    numbered = all(extent <= _POSITIONS for _, extent in dims)
    return not rest and numbered and 2 <= len(dims) <= engine.dims and aligned and nested \
        and len(inner) == 1 and inner[0] in ids and len(strides.keys() & set(ids)) == 2


def _within_bounds(load: Node, extents: dict[int, int]) -> Node:
    """The load, gated by each of its axes, whatever these are split into."""
    gate: Node | None = None
    for id in sorted(linear(load.src[0]).strides):
        below = node(g.LT, (axis(id), const(extents[id])), None, dtypes.bool_)
        gate = below if gate is None else node(g.AND, (gate, below), None, dtypes.bool_)
    assert gate is not None
    return node(ops.LOAD, (load.src[0], gate), load.arg, load.type)
