"""Which axes a node ranges over: those it reaches, save those that a REDUCE on the way binds."""
from __future__ import annotations

from collections.abc import Iterable, Mapping

from pluggrad.ir.node import Node
from pluggrad.kernel import ops


def free_axes(order: Iterable[Node], local: Mapping[int, frozenset[int]] | None = None,
              ) -> dict[Node, frozenset[int]]:
    """The ids of the axes that each node depends on; `order` lists sources before users.

    local: the axes that the contents of some buffers differ along, as `Kernel.local` has them.
    """
    free: dict[Node, frozenset[int]] = {}
    for node in order:
        if node.op is ops.AXIS:
            free[node] = frozenset([node.arg])
        else:
            axes = frozenset[int]().union(*[free[s] for s in node.src])
            if node.op in (ops.SCAN, ops.TALLY):
                axes |= {node.arg[1]}  # also where every element is the same
            elif local and node.op is ops.LOAD:
                axes |= local.get(node.arg, axes)
            free[node] = axes.difference(node.arg[1]) if node.op is ops.REDUCE else axes
    return free
