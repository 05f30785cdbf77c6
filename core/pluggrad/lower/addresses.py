"""Addresses: what varies over registers is taken out of each index, as strides per register axis."""
from __future__ import annotations

from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import rewrite, toposort
from pluggrad.kernel import ops
from pluggrad.kernel.index_nodes import linear, weighted_sum
from pluggrad.kernel.kernel import Kernel, axis


def split_addresses(kernel: Kernel) -> tuple[Node, ...]:
    """The arg of LOAD and PREFETCH becomes (buffer, strides) and STORE's (buffer, strides, axes[, name]);
    strides are None where the index does not vary by a constant along some register axis."""
    registers = {a.id for a in kernel.axes if a.in_registers}

    def rule(n: Node, src: tuple[Node, ...]) -> Node:
        if n.op is ops.PREFETCH:
            base, strides = _split(src[1], registers)
            return node(n.op, (src[0], base), (n.arg, strides), n.type)
        if n.op not in (ops.LOAD, ops.STORE):
            return node(n.op, src, n.arg, n.type)
        base, strides = _split(src[0], registers)
        arg = (n.arg, strides) if n.op is ops.LOAD else (n.arg[0], strides, *n.arg[1:])
        return node(n.op, (base, *src[1:]), arg, n.type)

    return rewrite(kernel.stores, rule)


def _split(index: Node, registers: set[int]) -> tuple[Node, tuple[tuple[int, int], ...] | None]:
    strides, rest, offset = linear(index)
    if any(_varies(n, registers) for n in toposort(rest)):
        return index, None
    outside = [(axis(id), stride) for id, stride in strides.items() if id not in registers]
    inside = sorted([(id, stride) for id, stride in strides.items() if id in registers])
    return weighted_sum([*outside, *rest.items()], offset), tuple(inside)


def _varies(n: Node, registers: set[int]) -> bool:
    """Whether a node brings in a register axis; addresses of loads below it are split already."""
    return (n.op is ops.AXIS and n.arg in registers) or (n.op is ops.LOAD and bool(n.arg[1]))
