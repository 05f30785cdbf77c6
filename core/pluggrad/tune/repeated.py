"""A value of a row that several of its loops compute is computed once, and kept in memory of the task.

What is reduced of it is then reduced as it is kept: a loop less.
"""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import rewrite, substitute, toposort
from pluggrad.kernel import ops
from pluggrad.kernel.cost import weight
from pluggrad.kernel.free import free_axes
from pluggrad.kernel.kernel import Axis, BufferParam, Kernel, axis, const
from pluggrad.kernel.reductions import identity
from pluggrad.target import Capabilities
from pluggrad.tune.actions import axis_of
from pluggrad.tune.place import place_local, whole

_WORTH_KEEPING: Final = 10  # additions: what costs less is computed again as soon as it is loaded


def keep_repeated(kernel: Kernel, capabilities: Capabilities) -> Kernel:
    """The kernel with the dearest value that loops of one extent have in common kept in local memory.

    Such as the exponentials of a softmax, which it sums up and then divides. Only of one store, as keeping
    something puts stores in an order.
    """
    if len(kernel.stores) > 1 or not capabilities.local_bytes:
        return kernel
    order = toposort(kernel.stores)
    inner = {a.id: a for a in kernel.axes if a.kind in ("LOOP", "REDUCE")}
    free = free_axes(order, kernel.local)
    reached = {n: free[n] & inner.keys() for n in order}
    along = {n: min(ids) for n, ids in reached.items() if len(ids) == 1 and n.op is not ops.STORE}
    candidates = [
        copies for copies in _alike([n for n in order if n in along], inner)
        if len({along[n] for n in copies}) > 1 and _weight(copies[0], along) >= _WORTH_KEEPING
        and inner[along[copies[0]]].extent * copies[0].type.itemsize <= capabilities.local_bytes]
    if not candidates:
        return kernel
    return _kept(kernel, max(candidates, key=lambda copies: _weight(copies[0], along)), along)


def _alike(nodes: Sequence[Node], inner: Mapping[int, Axis]) -> list[list[Node]]:
    """Nodes that compute the same at the same position, whichever loop of one extent they are in."""
    first: dict[int, int] = {}
    stands_for = {id: first.setdefault(a.extent, id) for id, a in inner.items()}

    def rule(n: Node, src: tuple[Node, ...]) -> Node:
        if n.op is ops.AXIS and n.arg in stands_for:
            return axis(stands_for[n.arg])
        return node(n.op, src, n.arg, n.type)

    groups: dict[Node, list[Node]] = defaultdict(list)
    for n, same in zip(nodes, rewrite(nodes, rule), strict=True):
        groups[same].append(n)
    return list(groups.values())


def _weight(value: Node, along: Mapping[Node, int]) -> int:
    """Additions that an element is worth, without what is the same for the whole row."""
    return sum([weight(n) for n in toposort([value], lambda n: n.src if n in along else ()) if n in along])


def _kept(kernel: Kernel, copies: Sequence[Node], along: Mapping[Node, int]) -> Kernel:
    first, *others = copies
    kept = place_local(kernel, first, [whole(axis_of(kernel, along[first]))])
    if kept is None:
        return kernel
    slot = len(kernel.buffers)
    loads = {n: node(ops.LOAD, (axis(along[n]),), slot, n.type) for n in others}
    return replace(kept, stores=substitute(kept.stores, loads))


def reduce_where_kept(kernel: Kernel, capabilities: Capabilities) -> Kernel:
    """The kernel whose reductions of what a row keeps are made in the loop that keeps it, a vector of partial
    results in local memory each."""
    fills = [store for store in kernel.stores if store.arg[0] in kernel.local and len(store.arg) == 2]
    for fill in fills:
        inner = [a for a in kernel.axes if a.id in fill.arg[1] and a.kind != "PARALLEL"]
        if [a.kind for a in inner] != ["LOOP", "VECTOR"]:
            continue
        for n in toposort(kernel.stores):
            value = _kept_value(kernel, n, fill, inner) if n.op is ops.REDUCE else None
            if value is not None:
                made = _reduced_in_loop(kernel, n, value, fill, inner[-1])
                fits = made.local_bytes <= capabilities.local_bytes
                return reduce_where_kept(made, capabilities) if fits else kernel
    return kernel


def _kept_value(kernel: Kernel, reduction: Node, fill: Node, inner: Sequence[Axis]) -> Node | None:
    """What a reduction combines, in the loop of a store to local memory; None where it reads something else
    of that memory than what is stored there at that moment, or nothing of it."""
    bound = [axis_of(kernel, id) for id in reduction.arg[1]]
    if [a.extent for a in bound] != [a.extent for a in inner]:
        return None
    here = {a.id: other.id for a, other in zip(bound, inner, strict=True)}

    def rule(n: Node, src: tuple[Node, ...]) -> Node:
        if n.op is ops.AXIS and n.arg in here:
            return axis(here[n.arg])
        if n.op is ops.TAIL and n.arg[0] in here:
            return node(n.op, src, (here[n.arg[0]], *n.arg[1:]), n.type)
        return node(n.op, src, n.arg, n.type)

    slot, (index, kept, *gate) = fill.arg[0], fill.src
    loaded, moved = node(ops.LOAD, (index, *gate), slot, kept.type), rewrite(reduction.src, rule)
    value, = substitute(moved, {loaded: kept})
    later = {store.arg[0] for store in kernel.stores[kernel.stores.index(fill):]} & kernel.local.keys()
    reads = {n.arg for n in toposort([value]) if n.op is ops.LOAD}
    axes = free_axes(toposort([value]), kernel.local)[value]
    return value if loaded in toposort(moved) and not reads & later and axes <= set(fill.arg[1]) else None


def _reduced_in_loop(kernel: Kernel, reduction: Node, value: Node, fill: Node, vector: Axis) -> Kernel:
    """The kernel that combines `value` with partial results in the loop of `fill`, and these after it."""
    name, dtype, slot = reduction.arg[0], reduction.type, len(kernel.buffers)
    partial = BufferParam(dtype, vector.extent, "local")
    lane, tasks = axis(vector.id), [a.id for a in kernel.axes if a.kind == "PARALLEL"]
    begin = node(ops.STORE, (lane, const(identity(name, dtype), dtype)), (slot, (*tasks, vector.id)), dtype)
    more = node(ops.STORE, (lane, value), (slot, fill.arg[1], name), dtype)
    last = reduction.arg[1][-1]
    whole = node(ops.REDUCE, (node(ops.LOAD, (axis(last),), slot, dtype),), (name, (last,)), dtype)
    at = kernel.stores.index(fill)
    stores = substitute([*kernel.stores[:at], begin, fill, more, *kernel.stores[at + 1:]], {reduction: whole})
    bound = {id for n in toposort(stores) if n.op in (ops.STORE, ops.REDUCE) for id in n.arg[1]}
    return replace(kernel, buffers=(*kernel.buffers, partial), stores=stores,
                   axes=tuple([a for a in kernel.axes if a.id in bound]))
