"""A value of a row that several of its loops compute is computed once, and kept in memory of the task."""
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
from pluggrad.kernel.kernel import Axis, Kernel, axis
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
