"""Axes that a kernel's indices divide, as after a reshape: in parts, the quotients and remainders vanish."""
from __future__ import annotations

from collections import defaultdict

from pluggrad.ir.node import Node
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.kernel import Kernel
from pluggrad.shape.index import Affine, add, axis_index, scale


def divided(kernel: Kernel, among: int) -> dict[int, tuple[int, ...]]:
    """The extents of the parts of each of the first `among` axes, outermost first, where it has several.

    Quotients and remainders of an axis by d, or of its quotient, mark the places where it is cut. A cut that
    does not divide the extent, or the next cut, is left alone.
    """
    extents = {a.id: a.extent for a in kernel.axes[:among]}
    cuts: dict[int, set[int]] = defaultdict(set)
    for n in toposort(kernel.stores):
        found = _quotient(n.src[0]) if n.op in (ops.CDIV, ops.CMOD) else None
        if found is not None and found[0] in extents:
            cuts[found[0]].add(found[1] * n.src[1].arg.bits)
    chains = {id: _chain(sorted(places), extents[id]) for id, places in cuts.items()}
    return {id: chain for id, chain in chains.items() if len(chain) > 1}


def _quotient(n: Node) -> tuple[int, int] | None:
    """(axis, divisor) where `n` is the quotient of an axis, 1 being the divisor of the axis itself."""
    divisor = 1
    while n.op is ops.CDIV:
        n, divisor = n.src[0], divisor * n.src[1].arg.bits
    return (n.arg, divisor) if n.op is ops.AXIS else None


def _chain(places: list[int], extent: int) -> tuple[int, ...]:
    parts: list[int] = []
    last = 1
    for place in places:
        if place % last == 0 and place > last and extent % place == 0 and place < extent:
            parts.append(place // last)
            last = place
    return (extent // last, *reversed(parts))


def index_of(parts: tuple[tuple[int, int], ...]) -> Affine:
    """The position along an axis that is in parts."""
    position = axis_index(*parts[0])
    for id, extent in parts[1:]:
        position = add(scale(position, extent), axis_index(id, extent))
    return position
