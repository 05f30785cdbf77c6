"""Between index functions (shape/index.py) and kernel nodes, both ways."""
from __future__ import annotations

from collections.abc import Iterable

from pluggrad import dtypes
from pluggrad.graph import ops as g
from pluggrad.ir.node import Node, node
from pluggrad.kernel import ops
from pluggrad.kernel.kernel import axis, const
from pluggrad.shape.index import Affine, Atom, AxisAtom, Condition, Quotient

INDEX = dtypes.int64


def index_node(x: Affine) -> Node:
    """An Affine as int64 arithmetic."""
    total: Node | None = None
    for atom, factor in x.terms:
        term = _atom(atom)
        term = term if factor == 1 else node(g.MUL, (term, const(factor)), None, INDEX)
        total = term if total is None else node(g.ADD, (total, term), None, INDEX)
    if total is None:
        return const(x.offset)
    return total if x.offset == 0 else node(g.ADD, (total, const(x.offset)), None, INDEX)


def _atom(atom: Atom) -> Node:
    if isinstance(atom, AxisAtom):
        return axis(atom.id)
    op = ops.CDIV if isinstance(atom, Quotient) else ops.CMOD
    return node(op, (index_node(atom.value), const(atom.divisor)), None, INDEX)


def gate_node(checks: Iterable[Condition]) -> Node | None:
    """All conditions together as one bool node; None where there are none."""
    gate: Node | None = None
    for check in checks:
        value = index_node(check.value)
        for test in (node(g.LE, (const(check.low), value), None, dtypes.bool_),
                     node(g.LT, (value, const(check.high)), None, dtypes.bool_)):
            gate = test if gate is None else node(g.AND, (gate, test), None, dtypes.bool_)
    return gate


def linear(index: Node) -> tuple[dict[int, int], dict[Node, int], int]:
    """An index node as (axis id -> coefficient, any other node -> coefficient, constant)."""
    axes: dict[int, int] = {}
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
            axes[n.arg] = axes.get(n.arg, 0) + factor
        else:
            rest[n] = rest.get(n, 0) + factor
    return {a: c for a, c in axes.items() if c}, {n: c for n, c in rest.items() if c}, offset
