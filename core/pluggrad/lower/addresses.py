"""Addresses: what varies over registers is taken out of each index, as strides per register axis."""
from __future__ import annotations

from pluggrad.graph import ops as g
from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import rewrite, toposort
from pluggrad.kernel import ops
from pluggrad.kernel.index_nodes import INDEX, linear
from pluggrad.kernel.kernel import Kernel, axis, const


def split_addresses(kernel: Kernel) -> tuple[Node, ...]:
    """LOAD's arg becomes (buffer, strides) and STORE's (buffer, strides, axes); strides are None where the
    index does not vary by a constant along some register axis."""
    registers = {a.id for a in kernel.axes if a.kind in ("TILE", "VECTOR")}

    def rule(n: Node, src: tuple[Node, ...]) -> Node:
        if n.op not in (ops.LOAD, ops.STORE):
            return node(n.op, src, n.arg, n.type)
        base, strides = _split(src[0], registers)
        arg = (n.arg, strides) if n.op is ops.LOAD else (n.arg[0], strides, n.arg[1])
        return node(n.op, (base, *src[1:]), arg, n.type)

    replaced = rewrite(kernel.stores, rule)
    return tuple([replaced[s] for s in kernel.stores])


def _split(index: Node, registers: set[int]) -> tuple[Node, tuple[tuple[int, int], ...] | None]:
    axes, rest, offset = linear(index)
    if any(n.op is ops.AXIS and n.arg in registers for n in toposort(rest)):
        return index, None
    strides = tuple(sorted([(id, c) for id, c in axes.items() if id in registers]))
    base: Node | None = None
    for term, factor in [*[(axis(id), c) for id, c in axes.items() if id not in registers], *rest.items()]:
        scaled = term if factor == 1 else node(g.MUL, (term, const(factor)), None, INDEX)
        base = scaled if base is None else node(g.ADD, (base, scaled), None, INDEX)
    if base is None:
        return const(offset), strides
    return (base if offset == 0 else node(g.ADD, (base, const(offset)), None, INDEX)), strides
