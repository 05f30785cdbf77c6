"""Between index functions (shape/index.py) and kernel nodes, both ways."""
from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from pluggrad import dtypes
from pluggrad.errors import InternalError
from pluggrad.graph import ops as g
from pluggrad.ir.node import Node, Op, node
from pluggrad.kernel import ops
from pluggrad.kernel.kernel import axis, const
from pluggrad.shape.index import Affine, Atom, AxisAtom, Condition, Lookup, Quotient

INDEX = dtypes.int64
# what the arithmetic of indices gives for integers
ARITHMETIC: Final[dict[Op, Callable[[int, int], int]]] = {
    g.ADD: operator.add, g.SUB: operator.sub, g.MUL: operator.mul,
    ops.CDIV: operator.floordiv, ops.CMOD: operator.mod,  # of what is never negative
}


def weighted_sum(terms: Iterable[tuple[Node, int]], offset: int = 0) -> Node:
    """sum(factor * term) + offset as int64 arithmetic."""
    total: Node | None = None
    for term, factor in terms:
        scaled = term if factor == 1 else node(g.MUL, (term, const(factor)), None, INDEX)
        total = scaled if total is None else node(g.ADD, (total, scaled), None, INDEX)
    if total is None:
        return const(offset)
    return total if offset == 0 else node(g.ADD, (total, const(offset)), None, INDEX)


Resolve = Callable[[Lookup], Node]


def _unresolved(found: Lookup) -> Node:
    raise InternalError(f"an index made of axes alone was expected, got {found}")


def index_node(x: Affine, resolve: Resolve = _unresolved) -> Node:
    """An Affine as int64 arithmetic; `resolve` gives the node of what is looked up in data."""
    return weighted_sum([(_atom(atom, resolve), factor) for atom, factor in x.terms], x.offset)


def _atom(atom: Atom, resolve: Resolve) -> Node:
    if isinstance(atom, AxisAtom):
        return axis(atom.id)
    if isinstance(atom, Lookup):
        return resolve(atom)
    op = ops.CDIV if isinstance(atom, Quotient) else ops.CMOD
    return node(op, (index_node(atom.value, resolve), const(atom.divisor)), None, INDEX)


def gate_node(checks: Iterable[Condition], resolve: Resolve = _unresolved) -> Node | None:
    """All conditions together as one bool node; None where there are none."""
    gate: Node | None = None
    for check in checks:
        value = index_node(check.value, resolve)
        for test in (node(g.LE, (const(check.low), value), None, dtypes.bool_),
                     node(g.LT, (value, const(check.high)), None, dtypes.bool_)):
            gate = test if gate is None else node(g.AND, (gate, test), None, dtypes.bool_)
    return gate


class Linear(NamedTuple):
    """sum(stride * position along axis id) + sum(factor * node of `rest`) + offset."""

    strides: dict[int, int]
    rest: dict[Node, int]
    offset: int


def linear(index: Node) -> Linear:
    """An index node taken apart; `rest` holds what is neither an axis, nor a constant, nor a sum of them."""
    strides: dict[int, int] = {}
    rest: dict[Node, int] = {}
    offset = 0
    stack = [(index, 1)]
    while stack:
        n, factor = stack.pop()
        if n.op is g.ADD:
            stack.extend([(s, factor) for s in n.src])
        elif n.op is g.MUL and n.src[1].op is ops.CONST:
            stack.append((n.src[0], factor * n.src[1].arg.bits))
        elif n.op is ops.CONST:
            offset += factor * n.arg.bits
        elif n.op is ops.AXIS:
            strides[n.arg] = strides.get(n.arg, 0) + factor
        else:
            rest[n] = rest.get(n, 0) + factor
    return Linear({id: s for id, s in strides.items() if s}, {n: f for n, f in rest.items() if f}, offset)
