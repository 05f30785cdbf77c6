"""Schedule actions: each is a small pure function Kernel -> Kernel that checks that it is legal.

They rewrite axes only; a kernel computes what it did, save for the order in which a reduction adds up.
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from pluggrad import dtypes
from pluggrad.errors import InternalError
from pluggrad.graph import ops as g
from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import rewrite, substitute, toposort
from pluggrad.kernel import ops
from pluggrad.kernel.free import free_axes
from pluggrad.kernel.index_nodes import INDEX, index_node, linear, weighted_sum
from pluggrad.kernel.kernel import Axis, AxisKind, BufferParam, Kernel, axis, const
from pluggrad.kernel.reductions import identity
from pluggrad.shape.index import axis_index, flatten


def axis_of(kernel: Kernel, id: int) -> Axis:
    """The axis called `id`."""
    for found in kernel.axes:
        if found.id == id:
            return found
    raise InternalError(f"kernel {kernel.name} has no axis {id}")


def _fresh(kernel: Kernel) -> int:
    return max([a.id for a in kernel.axes], default=-1) + 1


def reorder(kernel: Kernel, ids: list[int]) -> Kernel:
    """Put the named axes first, in this order; the others follow as they stood."""
    first = [axis_of(kernel, id) for id in ids]
    return replace(kernel, axes=(*first, *[a for a in kernel.axes if a.id not in ids]))


def bind(kernel: Kernel, kind: AxisKind, *ids: int) -> Kernel:
    """The whole of each of the axes `ids` as one of that kind."""
    return replace(kernel, axes=tuple([replace(a, kind=kind) if a.id in ids else a for a in kernel.axes]))


def split(kernel: Kernel, id: int, factor: int, outer: AxisKind, inner: AxisKind) -> tuple[Kernel, int, int]:
    """axis -> outer * factor + inner; returns the kernel and the ids of both axes.

    Where `factor` does not divide the extent, loads and stores are gated and reductions take their identity
    beyond it.
    """
    old, new = axis_of(kernel, id), _fresh(kernel)
    position = weighted_sum([(axis(new), factor), (axis(new + 1), 1)])
    gate = None
    if old.extent % factor:
        gate = node(ops.TAIL, (position,), (new, factor, old.extent), dtypes.bool_)
    parts = Axis(new, -(-old.extent // factor), outer), Axis(new + 1, factor, inner)
    return _split_at(kernel, old, *parts, position, gate)


def split_shifted(kernel: Kernel, id: int, factor: int, shift: Node, most: int, outer: AxisKind,
                  inner: AxisKind) -> tuple[Kernel, int, int]:
    """axis -> outer * factor + inner - shift, where the values of `shift` lie between 0 and `most` < factor.

    As `split`, gated at both ends.
    """
    old, new = axis_of(kernel, id), _fresh(kernel)
    position = weighted_sum([(axis(new), factor), (axis(new + 1), 1), (shift, -1)])
    head = node(ops.HEAD, (position,), new, dtypes.bool_)
    tail = node(ops.TAIL, (position,), (new, factor, old.extent), dtypes.bool_)
    parts = Axis(new, -(-(old.extent + most) // factor), outer), Axis(new + 1, factor, inner)
    return _split_at(kernel, old, *parts, position, _both(head, (tail,)))


def cover(kernel: Kernel, id: int, factor: int, outer: AxisKind, inner: AxisKind) -> tuple[Kernel, int, int]:
    """As `split`, but where `factor` does not divide the extent the last part overlaps the one before it.

    What lies in both is computed twice instead of gated, so what stores over the axis must not read
    what they write, nor may the axis be reduced over.
    """
    old, new = axis_of(kernel, id), _fresh(kernel)
    exact = old.extent % factor == 0 or old.extent < factor
    if exact or old.kind == "REDUCE" or _reads_what_it_writes(kernel, id):
        return split(kernel, id, factor, outer, inner)
    start = node(g.MIN, (weighted_sum([(axis(new), factor)]), const(old.extent - factor)), None, INDEX)
    position = weighted_sum([(start, 1), (axis(new + 1), 1)])
    parts = Axis(new, -(-old.extent // factor), outer), Axis(new + 1, factor, inner)
    return _split_at(kernel, old, *parts, position, None)


def _reads_what_it_writes(kernel: Kernel, id: int) -> bool:
    """Whether stores over axis `id` read what one of them writes, or add to it."""
    stores = [n for n in kernel.stores if id in n.arg[1]]
    read = {n.arg for n in toposort(stores) if n.op is ops.LOAD}
    return any(n.arg[0] in read or len(n.arg) > 2 for n in stores)


def _split_at(kernel: Kernel, old: Axis, outer: Axis, inner: Axis, position: Node,
              gate: Node | None) -> tuple[Kernel, int, int]:
    """Replace an axis by two, at a position made of them, under a gate."""
    stores = _substitute(kernel.stores, old.id, position, (outer.id, inner.id), gate)
    axes = [new for a in kernel.axes for new in ((outer, inner) if a is old else (a,))]
    return replace(kernel, axes=tuple(axes), stores=stores), outer.id, inner.id


def _replaced(ids: tuple[int, ...], old: int, new: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(dict.fromkeys([part for id in ids for part in (new if id == old else (id,))]))


def _both(gate: Node, others: tuple[Node, ...]) -> Node:
    return node(g.AND, (others[0], gate), None, dtypes.bool_) if others else gate


def _substitute(stores: tuple[Node, ...], old: int, position: Node, new: tuple[int, ...],
                gate: Node | None) -> tuple[Node, ...]:
    """Replace AXIS(old) by `position`, and gate what depends on it."""
    dependent = {position}

    def rule(n: Node, src: tuple[Node, ...]) -> Node:
        made = replacement(n, src)
        binds = n.op is ops.REDUCE and old in n.arg[1]
        if not binds and not dependent.isdisjoint(src):
            dependent.add(made)
        return made

    def replacement(n: Node, src: tuple[Node, ...]) -> Node:
        if n.op is ops.AXIS:
            return position if n.arg == old else n
        if n.op is ops.TAIL and n.arg[0] == old:  # its outer axis is no single axis any more
            return node(g.LT, (src[0], const(n.arg[2])), None, dtypes.bool_)
        if n.op is ops.HEAD and n.arg == old:
            return node(g.LE, (const(0), src[0]), None, dtypes.bool_)
        if n.op in (ops.LOAD, ops.TALLY):
            guard = src[1:]
            if gate is not None and not dependent.isdisjoint(src):
                guard = (_both(gate, guard),)
            return node(n.op, (src[0], *guard), n.arg, n.type)
        if n.op is ops.REDUCE:
            name, axes = n.arg
            value = src[0]
            if old in axes and gate is not None:
                value = node(g.WHERE, (gate, value, const(identity(name, n.type), n.type)), None, n.type)
            return node(ops.REDUCE, (value,), (name, _replaced(axes, old, new)), n.type)
        if n.op is ops.STORE:
            buffer, axes, *combine = n.arg
            guard = src[2:]
            if gate is not None and old in axes:
                guard = (_both(gate, guard),)
            return node(ops.STORE, (*src[:2], *guard), (buffer, _replaced(axes, old, new), *combine), n.type)
        return node(n.op, src, n.arg, n.type)

    return rewrite(stores, rule)


def merge_adjacent(kernel: Kernel) -> Kernel:
    """Merge neighboring PARALLEL or LOOP axes that every access walks as if they were one."""
    while True:
        pair = next(((a, b) for a, b in pairwise(kernel.axes) if _mergeable(kernel, a, b)), None)
        if pair is None:
            return kernel
        kernel = _merge(kernel, *pair)


def _mergeable(kernel: Kernel, a: Axis, b: Axis) -> bool:
    """Whether every address walks `a` in steps of the whole of `b`, and neither is used as a value."""
    if a.kind != b.kind or a.kind not in ("PARALLEL", "LOOP", "REDUCE"):
        return False
    for n in toposort(kernel.stores):
        if n.op in (ops.SCAN, ops.TALLY) and n.arg[1] in (a.id, b.id):
            return False
        if n.op in (ops.REDUCE, ops.STORE) and (a.id in n.arg[1]) != (b.id in n.arg[1]):
            return False
        if n.op in (ops.LOAD, ops.STORE):
            strides, rest, _ = linear(n.src[0])
            if strides.get(a.id, 0) != strides.get(b.id, 0) * b.extent or _reaches(rest, (a.id, b.id)):
                return False
    values = toposort(kernel.stores, lambda n: n.src[1:] if n.op in (ops.LOAD, ops.STORE) else n.src)
    own = axis(a.id), axis(b.id)
    return not any(n in own or n.op in (ops.HEAD, ops.TAIL) for n in values)


def _reaches(nodes: Iterable[Node], ids: tuple[int, ...]) -> bool:
    return any(n.op is ops.AXIS and n.arg in ids for n in toposort(nodes))


def _merge(kernel: Kernel, a: Axis, b: Axis) -> Kernel:
    """One axis of a.extent * b.extent; addresses walk `a` in steps of all of `b`, so that `a` drops out."""
    merged = Axis(_fresh(kernel), a.extent * b.extent, b.kind)

    def rule(n: Node, src: tuple[Node, ...]) -> Node:
        if n.op is ops.AXIS:
            return const(0) if n.arg == a.id else axis(merged.id) if n.arg == b.id else n
        if n.op in (ops.REDUCE, ops.STORE) and b.id in n.arg[1]:
            ids = tuple([merged.id if id == b.id else id for id in n.arg[1] if id != a.id])
            return node(n.op, src, (n.arg[0], ids, *n.arg[2:]), n.type)
        return node(n.op, src, n.arg, n.type)

    axes = tuple([merged if x.id == b.id else x for x in kernel.axes if x.id != a.id])
    return replace(kernel, axes=axes, stores=rewrite(kernel.stores, rule))


def join(kernel: Kernel, outer: int, inner: int) -> tuple[Kernel, Axis]:
    """Two axes of one kind, in any order of memory, as one in the place of `inner`: what `split` undoes."""
    a, b = axis_of(kernel, outer), axis_of(kernel, inner)
    if a.kind != b.kind:
        raise InternalError(f"kernel {kernel.name}: axes {a} and {b} differ in kind")
    joined, extent = Axis(_fresh(kernel), a.extent * b.extent, b.kind), const(b.extent)
    high = node(ops.CDIV, (axis(joined.id), extent), None, INDEX)
    low = node(ops.CMOD, (axis(joined.id), extent), None, INDEX)
    stores = _substitute(kernel.stores, outer, high, (joined.id,), None)
    stores = _substitute(stores, inner, low, (joined.id,), None)
    axes = tuple([joined if x.id == inner else x for x in kernel.axes if x.id != outer])
    return replace(kernel, axes=axes, stores=stores), joined


def join_all(kernel: Kernel, ids: Sequence[int]) -> tuple[Kernel, Axis]:
    """Several axes as one, in their order: that of the last runs fastest."""
    first, *others = ids
    joined = axis_of(kernel, first)
    for id in others:
        kernel, joined = join(kernel, joined.id, id)
    return kernel, joined


def _in_order_of_axes(index: Node, id: int) -> Node:
    """A sum along axis `id` and others in one order, so that equal positions are one node."""
    strides, rest, offset = linear(index)
    if id not in strides:
        return index
    return weighted_sum([*[(axis(i), strides[i]) for i in sorted(strides)], *rest.items()], offset)


def share_axis(kernel: Kernel, id: int, with_id: int) -> Kernel:
    """Let what runs along axis `id` run along `with_id` instead, of the same extent: equal values become one.

    Each reduction and each store binds the axis for itself, so that their loops stay apart unless the axis
    is one of registers.
    """
    old, new = axis_of(kernel, id), axis_of(kernel, with_id)
    if old.extent != new.extent:
        raise InternalError(f"kernel {kernel.name}: axes {old} and {new} differ in extent")

    def rule(n: Node, src: tuple[Node, ...]) -> Node:
        if n.op is ops.AXIS and n.arg == id:
            return axis(with_id)
        if n.op in (ops.REDUCE, ops.STORE):
            return node(n.op, src, (n.arg[0], _replaced(n.arg[1], id, (with_id,)), *n.arg[2:]), n.type)
        made = node(n.op, src, n.arg, n.type)
        return _in_order_of_axes(made, with_id) if n.op is g.ADD and n.type is INDEX else made

    axes = tuple([a for a in kernel.axes if a.id != id])
    return replace(kernel, axes=axes, stores=rewrite(kernel.stores, rule))


def split_reduce(kernel: Kernel, id: int, chunk: int) -> tuple[Kernel, Kernel]:
    """Reduce in two phases: partial results of `chunk` steps of axis `id` each, then those.

    Every reduction must bind that axis, and none may depend on another. Both kernels number the temporaries
    between them after the kernel's own buffers.
    """
    parts = -(-axis_of(kernel, id).extent // chunk)
    whole, outer, _ = split(kernel, id, chunk, "PARALLEL", "REDUCE")
    reductions = [n for n in toposort(whole.stores) if n.op is ops.REDUCE]
    rows = [a for a in whole.axes if a.kind == "PARALLEL" and a.id != outer]
    free = free_axes(toposort(whole.stores))
    temporaries, partial_stores, final = list[BufferParam](), [], {}
    part, second = axis_of(whole, outer), Axis(_fresh(whole), parts, "REDUCE")
    for number, n in enumerate(reductions, start=len(kernel.buffers)):
        name, axes = n.arg
        own = [a for a in rows if a.id in free[n]]  # none for an index that all rows look up
        temporaries.append(BufferParam(n.type, math.prod([a.extent for a in own]) * parts, "out"))
        partial = node(ops.REDUCE, n.src, (name, tuple([a for a in axes if a != outer])), n.type)
        ids = (*[a.id for a in own], outer)
        partial_stores.append(node(ops.STORE, (_row_major([part, *own]), partial), (number, ids), n.type))
        loaded = node(ops.LOAD, (_row_major([second, *own]),), number, n.type)
        final[n] = node(ops.REDUCE, (loaded,), (name, (second.id,)), n.type)
    stores = substitute(whole.stores, final)
    buffers_in = tuple([replace(b, role="in") for b in temporaries])
    bound = {id for n in reductions for id in n.arg[1]}
    kept = [a for a in whole.axes if a.id not in bound]
    reduced = [a for a in whole.axes if a.id in bound - {outer}]
    partial_kernel = Kernel(f"{kernel.name}_partial", (*kernel.buffers, *temporaries), kernel.values,
                            (part, *rows, *reduced), tuple(partial_stores))
    final_kernel = Kernel(kernel.name, kernel.buffers + buffers_in, kernel.values, (*kept, second), stores)
    return partial_kernel, final_kernel


def _row_major(axes: Sequence[Axis]) -> Node:
    """The row-major position along `axes`."""
    extents = tuple([a.extent for a in axes])
    return index_node(flatten(tuple([axis_index(a.id, a.extent) for a in axes]), extents))


def prune_buffers(kernel: Kernel) -> tuple[Kernel, tuple[int, ...]]:
    """Drop buffers that nothing touches, and put local ones last; returns the kernel and the old numbers of
    its arguments."""
    accesses = [n for n in toposort(kernel.stores) if n.op in (ops.LOAD, ops.STORE)]
    local = kernel.local
    kept = tuple(sorted({n.arg if n.op is ops.LOAD else n.arg[0] for n in accesses},
                        key=lambda slot: (slot in local, slot)))
    arguments = tuple([slot for slot in kept if slot not in local])
    number = {old: new for new, old in enumerate(kept)}

    def rule(n: Node, src: tuple[Node, ...]) -> Node:
        if n.op in (ops.LOAD, ops.PREFETCH):
            return node(n.op, src, number[n.arg], n.type)
        if n.op is ops.TALLY:
            return node(n.op, src, (number[n.arg[0]], n.arg[1]), n.type)
        return node(n.op, src, (number[n.arg[0]], *n.arg[1:]) if n.op is ops.STORE else n.arg, n.type)

    if kept == tuple(range(len(kernel.buffers))):
        return kernel, arguments
    buffers = tuple([kernel.buffers[old] for old in kept])
    return replace(kernel, buffers=buffers, stores=rewrite(kernel.stores, rule)), arguments
