"""`place`: a value that a kernel evaluates again and again is computed beforehand into memory of its own.

Packed panels of a matmul's operands, and the padded input of a convolution, are values placed for the whole
team: a kernel of its own fills the memory, the next one reads it. What one task alone reads again and again
it places for itself, in local memory.
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from pluggrad.graph import ops as g
from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import rewrite, substitute, toposort
from pluggrad.kernel import ops
from pluggrad.kernel.free import free_axes
from pluggrad.kernel.index_nodes import Linear, linear, weighted_sum
from pluggrad.kernel.kernel import Axis, BufferParam, Kernel, axis, const
from pluggrad.shape.index import row_major


class Dim(NamedTuple):
    """One dimension of placed memory: position sum(factor * axis) - low, below extent."""

    terms: tuple[tuple[int, int], ...]
    low: int
    extent: int


def whole(a: Axis) -> Dim:
    """The dimension that is an axis."""
    return Dim(((a.id, 1),), 0, a.extent)


def place(kernel: Kernel, value: Node, dims: Sequence[Dim],
          part: str = "pack") -> tuple[Kernel, Kernel] | None:
    """The kernel that fills memory with `value` over `dims`, row-major, and the kernel that reads it there.

    Both number the memory after the kernel's own buffers; `part` names the first in listings. None where
    `value` depends on an axis otherwise than through the sums that the dims stand for.
    """
    taken = max([a.id for a in kernel.axes]) + 1
    axes: list[Axis] = []
    merged: dict[int, tuple[Axis, Dim]] = {}
    for dim in dims:
        if dim.low == 0 and len(dim.terms) == 1 and dim.terms[0][1] == 1:
            axes.append(Axis(dim.terms[0][0], dim.extent, "PARALLEL"))
            continue
        axes.append(Axis(taken + len(axes), dim.extent, "PARALLEL"))
        merged |= {id: (axes[-1], dim) for id, _ in dim.terms}
    moved = _through(value, merged)
    if moved is None or not free_axes(toposort([moved]))[moved] <= {a.id for a in axes}:
        return None
    number, strides = len(kernel.buffers), row_major(tuple([a.extent for a in axes]))
    memory = BufferParam(value.type, math.prod([a.extent for a in axes]), "out")
    position = weighted_sum([(axis(a.id), stride) for a, stride in zip(axes, strides, strict=True)])
    store = node(ops.STORE, (position, moved), (number, tuple([a.id for a in axes])), value.type)
    fill = Kernel(f"{kernel.name}_{part}", (*kernel.buffers, memory), kernel.values,
                  (*axes, *_bound(kernel, [store])), (store,))
    loaded = node(ops.LOAD, (_position(dims, strides),), number, value.type)
    stores = substitute(kernel.stores, {value: loaded})
    ranged = {id for n in stores for id in n.arg[1]}
    kept = (*[a for a in kernel.axes if a.id in ranged], *_bound(kernel, stores))
    buffers = (*kernel.buffers, replace(memory, role="in"))
    return fill, replace(kernel, buffers=buffers, axes=kept, stores=stores)


def place_local(kernel: Kernel, value: Node, dims: Sequence[Dim],
                within: Sequence[int] = ()) -> Kernel | None:
    """The kernel in which each task first stores `value` over `dims`, row-major, in local memory of its own,
    and then reads it there.

    It is stored just before the first store that needs it, in the LOOPs `within` of that one, which have to
    be its outermost. Along a dim that is a TILE or a VECTOR it is stored in registers, along others in loops.
    None where `value` depends on more axes than PARALLEL ones, `within` and the dims.
    """
    axes: list[Axis] = []
    merged: dict[int, tuple[Axis, Dim]] = {}
    taken = max([a.id for a in kernel.axes]) + 1
    kinds = {a.id: a.kind for a in kernel.axes}
    for dim in dims:
        (id, _), *more = dim.terms
        if not more and dim == Dim(((id, 1),), 0, dim.extent) and kinds[id] in ("TILE", "VECTOR"):
            axes.append(Axis(id, dim.extent, kinds[id]))
            continue
        axes.append(Axis(taken + len(axes), dim.extent, "LOOP"))
        merged |= {id: (axes[-1], dim) for id, _ in dim.terms}
    around = (*[a.id for a in kernel.axes if a.kind == "PARALLEL"], *within)
    moved = _through(value, merged)
    ranged = (*around, *[a.id for a in axes])
    if moved is None or not free_axes(toposort([moved]), kernel.local)[moved] <= set(ranged):
        return None
    number, strides = len(kernel.buffers), row_major(tuple([a.extent for a in axes]))
    memory = BufferParam(value.type, math.prod([a.extent for a in axes]), "local")
    position = weighted_sum([(axis(a.id), stride) for a, stride in zip(axes, strides, strict=True)])
    fill = node(ops.STORE, (position, moved), (number, ranged), value.type)
    loaded = node(ops.LOAD, (_position(dims, strides),), number, value.type)
    first = next(i for i, store in enumerate(kernel.stores) if value in toposort([store]))
    stores = substitute(kernel.stores, {value: loaded})
    new = [a for a in axes if a.id not in kinds]
    return replace(kernel, buffers=(*kernel.buffers, memory), axes=(*kernel.axes, *new),
                   stores=(*stores[:first], fill, *stores[first:]))


def _position(dims: Sequence[Dim], strides: Sequence[int]) -> Node:
    """Where the element of a kernel's axes lies in memory over `dims`."""
    terms = [(axis(id), factor * stride) for dim, stride in zip(dims, strides, strict=True)
             for id, factor in dim.terms]
    return weighted_sum(terms, -sum([dim.low * stride for dim, stride in zip(dims, strides, strict=True)]))


def _bound(kernel: Kernel, stores: Sequence[Node]) -> list[Axis]:
    """The axes that reductions within `stores` bind."""
    ids = {id for n in toposort(stores) if n.op is ops.REDUCE for id in n.arg[1]}
    return [a for a in kernel.axes if a.id in ids]


def _through(value: Node, merged: Mapping[int, tuple[Axis, Dim]]) -> Node | None:
    """`value` with sums of axes that a dim stands for replaced by the dim's axis; None where it cannot be.

    Indices and the operands of comparisons are where axes occur.
    """
    if not merged:
        return value
    failed = False

    def index(n: Node) -> Node:
        nonlocal failed
        found = _replaced(linear(n), merged)
        failed = failed or found is None
        return n if found is None else found

    def rule(n: Node, src: tuple[Node, ...]) -> Node:
        if n.op is ops.LOAD:
            return node(n.op, (index(n.src[0]), *src[1:]), n.arg, n.type)
        if n.op is ops.TAIL and n.arg[0] in merged:
            return node(g.LT, (index(n.src[0]), const(n.arg[2])), None, n.type)
        if n.op is ops.HEAD and n.arg in merged:
            return node(g.LE, (const(0), index(n.src[0])), None, n.type)
        if n.op in (g.LT, g.LE) and n.src[0].type is const(0).type:
            return node(n.op, (index(n.src[0]), index(n.src[1])), n.arg, n.type)
        return node(n.op, src, n.arg, n.type)

    made = rewrite([value], rule)[0]
    return None if failed else made


def _replaced(position: Linear, merged: Mapping[int, tuple[Axis, Dim]]) -> Node | None:
    """A linear index over the dims' axes."""
    if any(n.op is ops.AXIS and n.arg in merged for n in toposort(position.rest)):
        return None
    terms: list[tuple[Node, int]] = list(position.rest.items())
    offset, done = position.offset, set[int]()
    for id, stride in position.strides.items():
        if id not in merged:
            terms.append((axis(id), stride))
            continue
        target, dim = merged[id]
        factors = dict(dim.terms)
        step = stride // factors[id]
        if any(position.strides.get(other, 0) != step * factor for other, factor in dim.terms):
            return None
        if target.id not in done:
            done.add(target.id)
            terms.append((axis(target.id), step))
            offset += step * dim.low
    return weighted_sum(terms, offset)


def gate_dims(kernel: Kernel, load: Node) -> list[Dim] | None:
    """The dims of everything that a gated load could read if it had no gate.

    Sums that the gate bounds become a dim each, so do other axes. None where it compares something else.
    """
    extents = {a.id: a.extent for a in kernel.axes}
    strides, rest, _ = linear(load.src[0])
    bounded: dict[frozenset[tuple[int, int]], Dim] = {}
    for n in toposort(load.src[1:]):
        if n.op not in (g.LT, g.LE):
            continue
        for side in n.src:
            terms, other, _ = linear(side)
            if other:
                return None
            if terms:
                bounded[frozenset(terms.items())] = span(terms, extents)
    grouped = [id for dim in bounded.values() for id, _ in dim.terms]
    if rest or not bounded or len(set(grouped)) != len(grouped):
        return None
    alone = [Dim(((id, 1),), 0, extents[id]) for id in strides if id not in grouped]
    def steps(dim: Dim) -> int:
        return max([abs(strides.get(id, 0)) for id, _ in dim.terms])
    return sorted([*bounded.values(), *alone], key=steps, reverse=True)  # as the source: rows are copied


def span(terms: Mapping[int, int], extents: Mapping[int, int]) -> Dim:
    """The dim of a sum of axes, without its offset."""
    reach = [factor * (extents[id] - 1) for id, factor in terms.items()]
    low, high = sum([min(r, 0) for r in reach]), sum([max(r, 0) for r in reach])
    return Dim(tuple(sorted(terms.items())), low, high - low + 1)


def footprint(dims: Iterable[Dim]) -> int:
    """Elements of the memory over `dims`."""
    return math.prod([dim.extent for dim in dims])
