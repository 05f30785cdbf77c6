"""Where a node reads its sources: what schedule and kernel have to agree on.

Evaluating a node at an index, under conditions, needs its sources at indices of their own. Movement ops and
GATHER do no more than that.
"""
from __future__ import annotations

from pluggrad.graph import ops
from pluggrad.ir.node import Node
from pluggrad.shape.index import Affine, Condition, Index, Lookup, source_index, view_index, view_shape

Gate = tuple[Condition, ...]
Place = tuple[Node, Index, Gate]  # a graph node, evaluated at an index, under conditions


def sources_at(place: Place) -> list[Place]:
    """The places of the sources of a node that is no reduction. Of a GATHER: what it selects from, then the
    index, which has to be known first."""
    n, at, gate = place
    if n.op in ops.MOVEMENT:
        moved, checks = source_index(n.op.name.lower(), n.arg, at, n.shape, n.src[0].shape)
        return [(n.src[0], moved, gate + tuple([c for c in checks if c not in gate]))]
    if n.op is ops.GATHER:
        return [(n.src[0], _selected(at, n.arg.axis, lookup(place)), gate), (n.src[1], at, gate)]
    if n.op is ops.RANDOM_BITS:
        return [(s, (), ()) for s in n.src]
    return [(s, at, gate) for s in operands(n)]


def operands(n: Node) -> tuple[Node, ...]:
    """The sources whose values `n` needs; a BARRIER only waits for its second."""
    return n.src[:1] if n.op is ops.BARRIER else n.src


def lookup(place: Place) -> Lookup:
    """The position that a GATHER, or a SCATTER, takes from its index."""
    n, at, gate = place
    target = n.src[0].shape if n.op is ops.GATHER else view_shape(n.arg.view, n.src[0].shape)
    return Lookup(n.src[1], at, gate, target[n.arg.axis], n.arg.check)


def counted_at(root: Node, at: Index) -> Index:
    """The element of a TALLY that counts what it finds at `at` of its domain."""
    source = root.src[0]
    found = Lookup(source, at, (), root.arg, None)
    return (*at[:-1], Affine(((found, 1),), source.shape[-1]))


def _selected(at: Index, axis: int, found: Lookup) -> Index:
    return (*at[:axis], Affine(((found, 1),), 0), *at[axis + 1:])


def written_at(root: Node, at: Index) -> Index:
    """The element of its base that a write changes at `at` of its domain."""
    base = root.src[0].shape
    if root.op is ops.UPDATE:
        return view_index(root.arg, at, base)
    return view_index(root.arg.view, _selected(at, root.arg.axis, lookup((root, at, ()))), base)
