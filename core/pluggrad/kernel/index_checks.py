"""Indices that data decide: counted from the end where negative, kept inside, reported where they are not.

A report is a store to the kernel's status buffer under a gate that hardly ever holds: kernels that look
nothing up pay nothing. Its word for a check stays 0, which is always in range, or takes some index that was
not.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence

from pluggrad import dtypes
from pluggrad.graph import ops as g
from pluggrad.ir.node import Node, Op, node
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.free import free_axes
from pluggrad.kernel.index_nodes import INDEX
from pluggrad.kernel.kernel import Axis, IndexCheck, cast, const
from pluggrad.shape.index import Lookup


def _both(op: Op, x: Node, y: Node) -> Node:
    return node(op, (x, y), None, dtypes.bool_ if op.kind == "compare" else x.type)


def _wrapped(found: Lookup, number: Node) -> Node:
    """The number as a position from the start; still out of range where it was."""
    position = cast(number, INDEX)
    if found.check is None or number.type.kind == "u":
        return position
    negative = _both(g.LT, position, const(0))
    return node(g.WHERE, (negative, _both(g.ADD, position, const(found.extent)), position), None, INDEX)


class IndexChecks:
    """The checks of one kernel, in the order in which they were first asked for."""

    def __init__(self) -> None:
        self._reports: dict[tuple[IndexCheck, Node, Node], None] = {}  # number, and where it is out of range

    @property
    def checks(self) -> tuple[IndexCheck, ...]:
        """What each word of the status buffer is about."""
        return tuple([check for check, _, _ in self._reports])

    def position(self, found: Lookup, number: Node) -> Node:
        """The position to read, always in range."""
        position = _wrapped(found, number)
        if found.check is None:
            return position
        return _both(g.MAX, _both(g.MIN, position, const(found.extent - 1)), const(0))

    def position_if_inside(self, found: Lookup, number: Node) -> Node:
        """The position to write under the gate of `inside`."""
        return _wrapped(found, number)

    def inside(self, found: Lookup, number: Node, gate: Node | None) -> tuple[Node, ...]:
        """The test that the number is in range, () where that is known; it is reported where it fails.

        gate: the condition under which it is looked up.
        """
        if found.check is None:
            return ()
        unsigned = node(g.BITCAST, (_wrapped(found, number),), None, dtypes.uint64)  # negative ones are large
        inside = _both(g.LT, unsigned, const(found.extent, dtypes.uint64))
        wrong = node(g.NOT, (inside,), None, dtypes.bool_)
        wrong = wrong if gate is None else _both(g.AND, wrong, gate)
        self._reports[IndexCheck(*found.check, found.extent), cast(number, INDEX), wrong] = None
        return (inside,)

    def stores(self, slot: int, axes: Sequence[Axis],
               reduced_together: Iterable[Sequence[int]]) -> list[Node]:
        """The reports, to the status buffer in `slot`. A number within a reduction is reported after it; then
        all axes `reduced_together` with its own are, so that the loops are shared."""
        groups = list(reduced_together)
        made = []
        for word, (_, number, wrong) in enumerate(self._reports):
            bound = free_axes(toposort([wrong]))[wrong]
            reduced = dict.fromkeys(id for group in groups if bound.intersection(group) for id in group)
            if reduced:
                number, wrong = _some(number, wrong, tuple(reduced))
            ids = tuple([axis.id for axis in axes if axis.id in bound and axis.id not in reduced])
            made.append(node(ops.STORE, (const(word), number, wrong), (slot, ids), INDEX))
        return made


def _some(number: Node, wrong: Node, axes: tuple[int, ...]) -> tuple[Node, Node]:
    """One of the wrong numbers along `axes`, and whether there is any: as unsigned, none of them is 0."""
    bits = node(g.BITCAST, (number,), None, dtypes.uint64)
    none = const(0, dtypes.uint64)
    largest = node(ops.REDUCE, (node(g.WHERE, (wrong, bits, none), None, dtypes.uint64),), ("MAX", axes),
                   dtypes.uint64)
    return node(g.BITCAST, (largest,), None, INDEX), _both(g.NE, largest, none)
