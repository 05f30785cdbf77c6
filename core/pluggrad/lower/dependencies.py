"""What each node of a kernel depends on: loops, registers, local memory; and which reductions go together."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pluggrad.ir.node import Node
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.kernel import Kernel
from pluggrad.kernel.order import Step, groups_of


class Dependencies:
    """Of all nodes of a kernel whose stores are made in the order of `steps`, and of `others`.

    loops: axes of loops, tasks and items. registers: axes in registers, sorted. reads: local buffers, where
    the kernel has any. tails, heads: by the axis whose loop they are about. filled: the stores that are made
    in the loop of a reduction, by its axis.
    """

    def __init__(self, kernel: Kernel, steps: Sequence[Step], others: Iterable[Node] = ()) -> None:
        self.axes = {a.id: a for a in kernel.axes}
        self.order = toposort([*kernel.stores, *others])
        self.loops: dict[Node, frozenset[int]] = {}
        self.registers: dict[Node, tuple[int, ...]] = {}
        self.reads: dict[Node, frozenset[int]] = {}
        self.tails: dict[int, list[Node]] = {}
        self.heads: dict[int, list[Node]] = {}
        self.filled: dict[int, list[list[Node]]] = {}
        self._local = kernel.local.keys()
        self._depth: dict[Node, int] = {}  # reductions within reductions
        for group in [group for step in steps for group in groups_of(step)]:
            if group.within is not None:
                stores = [kernel.stores[number] for number in group.stores]
                self.filled.setdefault(group.within, []).append(stores)
        for n in self.order:
            self._add(n)

    def _add(self, n: Node) -> None:
        loops = frozenset().union(*[self.loops[s] for s in n.src])
        registers = set().union(*[self.registers[s] for s in n.src])
        if n.op is ops.AXIS and self.is_register(n.arg):
            registers = {n.arg}
        elif n.op is ops.AXIS:
            loops = frozenset({n.arg})
        elif n.op is ops.TAIL and not self.is_register(n.arg[0]):
            loops = loops | {n.arg[0]}
            self.tails.setdefault(n.arg[0], []).append(n)
        elif n.op is ops.HEAD and not self.is_register(n.arg):
            loops = loops | {n.arg}
            self.heads.setdefault(n.arg, []).append(n)
        elif n.op in (ops.LOAD, ops.STORE, ops.PREFETCH) and n.arg[1] is not None:
            registers |= {id for id, _ in n.arg[1]}
        elif n.op in (ops.SCAN, ops.TALLY):
            loops = loops | {n.arg[1]}
        elif n.op is ops.REDUCE:
            loops, registers = loops - set(n.arg[1]), registers - set(n.arg[1])
        self.loops[n], self.registers[n] = loops, tuple(sorted(registers))
        self._depth[n] = max([self._depth[s] for s in n.src], default=0) + (n.op is ops.REDUCE)
        if self._local:
            loaded = {n.arg[0]} & self._local if n.op is ops.LOAD else frozenset[int]()
            reads = frozenset(loaded).union(*[self.reads[s] for s in n.src])
            bound = [id for id in n.arg[1] if id in self.filled] if n.op is ops.REDUCE else []
            self.reads[n] = reads.difference(*map(self.filled_along, bound))

    def filled_along(self, id: int) -> frozenset[int]:
        """The local buffers that are stored to at each step of a reduction's loop."""
        return frozenset([store.arg[0] for stores in self.filled[id] for store in stores])

    def group(self, n: Node) -> tuple[Any, ...]:
        """Equal for reductions that can share their loops."""
        return n.arg[1], self.loops[n], self._depth[n], self.reads.get(n)

    def grouped(self, nodes: Iterable[Node]) -> dict[tuple[Any, ...], list[Node]]:
        """Reductions among the nodes, those together that can share their loops."""
        groups: dict[tuple[Any, ...], list[Node]] = {}
        for n in nodes:
            if n.op is ops.REDUCE:
                groups.setdefault(self.group(n), []).append(n)
        return groups

    def is_register(self, id: int) -> bool:
        """Whether an axis lives in registers."""
        return self.axes[id].in_registers
