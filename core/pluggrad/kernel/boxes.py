"""Boxes: parts of a buffer that an engine copies to local memory as a whole, with zeros beyond its ends.

A store over BOX axes is such a copy. What it stores is a load under a gate that says of each dimension of the
buffer, as the box sees it, that the position along it lies below its extent. The element loaded is the sum of
those positions, each times a stride.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pluggrad.errors import InternalError
from pluggrad.graph import ops as g
from pluggrad.ir.node import Node
from pluggrad.kernel import ops
from pluggrad.kernel.index_nodes import linear, weighted_sum
from pluggrad.kernel.kernel import Box, Dim, Kernel, axis


class BoxCopy(NamedTuple):
    """A store as the copy of a box: to buffer `target` at element `place`, from these positions on."""

    box: Box
    target: int
    place: Node
    starts: tuple[Node, ...]


def boxes_of(kernel: Kernel) -> dict[int, BoxCopy]:
    """The stores that are copies of boxes, by their numbers in the kernel."""
    extents = {a.id: a.extent for a in kernel.axes if a.kind == "BOX"}
    return {number: _copy_of(store, extents) for number, store in enumerate(kernel.stores)
            if not extents.keys().isdisjoint(store.arg[1])}


def bounds(gate: Node) -> Iterator[Node]:
    """The conditions that a gate is made of, each once."""
    found, stack = dict[Node, None](), [gate]
    while stack:
        n = stack.pop()
        if n.op is g.AND:
            stack += reversed(n.src)
        else:
            found[n] = None
    return iter(found)


def _copy_of(store: Node, extents: Mapping[int, int]) -> BoxCopy:
    place, load = store.src
    if load.op is not ops.LOAD or len(load.src) != 2:
        raise InternalError(f"a box is loaded within its bounds, and {load} is not")
    left, offset = _terms(load.src[0])
    found = []
    for bound in bounds(load.src[1]):
        if bound.op is not g.LT or bound.src[1].op is not ops.CONST:
            raise InternalError(f"a bound of a box says position < extent, and {bound} does not")
        position, start = _terms(bound.src[0])
        term, factor = next(iter(position.items()))
        stride = left.get(term, 0) // factor
        left = {n: left.get(n, 0) - stride * position.get(n, 0) for n in left | position}
        offset -= stride * start
        count = 1 + sum([f * (extents[n.arg] - 1) for n, f in position.items() if _along_box(n, extents)])
        outside = [(n, f) for n, f in position.items() if not _along_box(n, extents)]
        found.append((Dim(bound.src[1].arg.bits, stride, count), weighted_sum(outside, start)))
    if any(left.values()):
        raise InternalError(f"the positions of a box do not make up its address: {left} is left")
    found.sort(key=lambda each: each[0].stride)
    terms, first = _terms(place)
    span = next(extents[n.arg] for n, factor in terms.items() if factor == 1)
    within = [(n, f) for n, f in terms.items() if not _along_box(n, extents)]
    box = Box(load.arg, offset, tuple([dim for dim, _ in found]), span)
    return BoxCopy(box, store.arg[0], weighted_sum(within, first), tuple([start for _, start in found]))


def _along_box(n: Node, extents: Mapping[int, int]) -> bool:
    return n.op is ops.AXIS and n.arg in extents


def _terms(index: Node) -> tuple[dict[Node, int], int]:
    """A sum by its terms, each with its factor, and the constant."""
    strides, rest, offset = linear(index)
    return {axis(id): stride for id, stride in strides.items()} | rest, offset
