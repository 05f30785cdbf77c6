"""Writing over an operand: legal where a kernel reads each element of it for that very element alone."""
from __future__ import annotations

from dataclasses import replace

from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import rewrite, toposort
from pluggrad.kernel import ops
from pluggrad.kernel.kernel import Kernel


def overwrite(kernel: Kernel, source: int, target: int) -> Kernel | None:
    """The kernel with buffer `source` read from buffer `target`, which becomes inout; None if not legal."""
    store = next(s for s in kernel.stores if s.arg[0] == target)
    if len(store.src) > 2 or any(s.arg[1] != store.arg[1] for s in kernel.stores):
        return None
    if kernel.buffers[source].dtype is not kernel.buffers[target].dtype:
        return None
    order = toposort(kernel.stores)
    reduced = set(toposort([n.src[0] for n in order if n.op is ops.REDUCE]))
    for n in order:
        if n.op is not ops.LOAD or n.arg != source:
            continue
        if n in reduced or n.src[0] is not store.src[0]:
            return None

    def rule(n: Node, src: tuple[Node, ...]) -> Node:
        return node(n.op, src, target if n.op is ops.LOAD and n.arg == source else n.arg, n.type)

    buffers = tuple([replace(b, role="inout") if i == target else b for i, b in enumerate(kernel.buffers)])
    return replace(kernel, buffers=buffers, stores=rewrite(kernel.stores, rule))
