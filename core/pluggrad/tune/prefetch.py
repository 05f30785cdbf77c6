"""Which memory kernels ask for before they read it, so that it is on its way while they compute."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from pluggrad.graph import ops as g
from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import rewrite, substitute, toposort
from pluggrad.kernel import ops
from pluggrad.kernel.index_nodes import INDEX, linear, weighted_sum
from pluggrad.kernel.kernel import BufferParam, Kernel, axis, const
from pluggrad.target import Capabilities
from pluggrad.tune.actions import axis_of


class _Walk(NamedTuple):
    """A reduction or a loop of stores: the LOOP or REDUCE axes that it runs along, and its loads by slot.

    first: it needs nothing that another walk brings.
    """

    root: Node
    axes: tuple[int, ...]
    loads: Mapping[int, Sequence[Node]]
    first: bool


def prefetch_loads(kernel: Kernel, slot: int, ahead: int) -> Kernel:
    """The kernel whose loads of a buffer ask for the elements `ahead` of them."""
    loads = [n for n in toposort(kernel.stores) if n.op is ops.LOAD and n.arg == slot]
    return replace(kernel, stores=substitute(kernel.stores, {n: _asking(n, n, ahead) for n in loads}))


def prefetch_step(kernel: Kernel, loads: Sequence[Node], id: int, capabilities: Capabilities) -> Kernel:
    """The kernel whose `loads` ask for what they read at the next step of LOOP axis `id`.

    For loops around the innermost one, whose steps lie so far apart that processors do not foresee them.
    """
    last = axis_of(kernel, id).extent - 1
    if not capabilities.prefetch or not last:
        return kernel
    following = node(g.MIN, (weighted_sum([(axis(id), 1)], 1), const(last)), None, INDEX)
    asking = {}
    for n in loads:
        buffer = kernel.buffers[n.arg]
        if buffer.role == "in" and buffer.nbytes > capabilities.cache_bytes:
            there, = substitute([n.src[0]], {axis(id): following})
            asking[n] = node(ops.PREFETCH, (n, there), n.arg, n.type)
    return replace(kernel, stores=substitute(kernel.stores, asking))


def prefetch_rows(kernel: Kernel, rows: int, capabilities: Capabilities) -> Kernel:
    """The kernel whose walks of a row ask for the row of the next task, which takes `rows` of them.

    The first walk waits for memory, which has nothing to do while the others compute: those ask, also where
    they do not read the row themselves but what was kept of it. One walk alone runs through memory as fast as
    processors foresee.
    """
    tasks = [a for a in kernel.axes if a.kind == "PARALLEL" and a.extent > 1]
    if not capabilities.prefetch or not tasks:
        return kernel
    for slot, buffer in enumerate(kernel.buffers):
        walks = list(_walks(kernel))
        loads = [n for walk in walks for n in walk.loads.get(slot, ())]
        steps = {linear(n.src[0]).strides.get(tasks[-1].id, 0) for n in loads}
        row = rows * steps.pop() if len(steps) == 1 else 0
        if row > 0 and _is_worth_asking(buffer, row, capabilities):
            later = [walk for walk in walks if not walk.first]
            asking = [_asking_store(kernel, walk, loads[0], row) for walk in later if slot not in walk.loads]
            read = {n: _asking(n, n, row) for walk in later for n in walk.loads.get(slot, ())}
            for replaced in (dict(filter(None, asking)), read):
                kernel = replace(kernel, stores=substitute(kernel.stores, replaced))
    return kernel


def _walks(kernel: Kernel) -> Iterator[_Walk]:
    inner = {a.id for a in kernel.axes if a.kind in ("LOOP", "REDUCE")}
    for root in toposort(kernel.stores):
        axes = tuple([id for id in root.arg[1] if id in inner]) if root.op in (ops.REDUCE, ops.STORE) else ()
        if not axes:
            continue
        own = toposort(root.src, lambda n: () if n.op is ops.REDUCE else n.src)
        loads = defaultdict[int, list[Node]](list)
        for n in own:
            if n.op is ops.LOAD:
                loads[n.arg].append(n)
        waits = any(n.op is ops.REDUCE for n in own) or not loads.keys().isdisjoint(kernel.local)
        yield _Walk(root, axes, loads, not waits)


def _asking_store(kernel: Kernel, walk: _Walk, read: Node, row: int) -> tuple[Node, Node] | None:
    """A store that reads nothing of a buffer, and the same that asks for what lies `row` elements beyond a
    load of it; None where they do not run along axes of the same extents."""
    extents = {a.id: a.extent for a in kernel.axes if a.kind in ("LOOP", "REDUCE")}
    along = [id for id in linear(read.src[0]).strides if id in extents]
    if walk.root.op is not ops.STORE or [extents[id] for id in along] != [extents[id] for id in walk.axes]:
        return None
    renamed = dict(zip(along, walk.axes, strict=True))

    def rule(n: Node, src: tuple[Node, ...]) -> Node:
        here = n.op is ops.AXIS and n.arg in renamed
        return axis(renamed[n.arg]) if here else node(n.op, src, n.arg, n.type)

    index, value, *gate = walk.root.src
    there, = rewrite([read], rule)
    asking = _asking(value, there, row)
    return walk.root, node(ops.STORE, (index, asking, *gate), walk.root.arg, walk.root.type)


def _asking(value: Node, read: Node, ahead: int) -> Node:
    """The value, which asks for what lies ahead of a load."""
    return node(ops.PREFETCH, (value, weighted_sum([(read.src[0], 1)], ahead)), read.arg, value.type)


def _is_worth_asking(buffer: BufferParam, row: int, capabilities: Capabilities) -> bool:
    """Whether an input is not in a core's cache anyway, and two of its rows would be."""
    size, cache = buffer.dtype.itemsize, capabilities.cache_bytes
    return buffer.role == "in" and buffer.size * size > cache and 2 * row * size <= cache
