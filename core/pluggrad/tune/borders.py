"""Copies of gated loads, cut to where the gate can be true: around it are zeros, and no lane is masked."""
from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import NamedTuple

from pluggrad import dtypes
from pluggrad.graph import ops as g
from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import substitute
from pluggrad.kernel import ops
from pluggrad.kernel.index_nodes import linear, weighted_sum
from pluggrad.kernel.kernel import Axis, Kernel, axis, const


class Trimmed(NamedTuple):
    """A kernel one of whose stores ranges over the positions from `low` to below `high` along an axis."""

    kernel: Kernel
    low: int
    high: int


def trim(kernel: Kernel, number: int, a: Axis, low: int, high: int) -> Trimmed:
    """A store of a gated load, from `low` to below `high` along an axis, without the part where the gate is
    false wherever the others stand."""
    store = kernel.stores[number]
    load, kept = store.src[1], list[Node]()
    for test in _tests(load.src[1]) if len(load.src) > 1 else []:
        (left, right), strict = [linear(s) for s in test.src], test.op is g.LT
        step = right.strides.get(a.id, 0) - left.strides.get(a.id, 0)
        if left.rest or right.rest or {*left.strides, *right.strides} != {a.id} or abs(step) != 1:
            kept.append(test)
            continue
        beyond = right.offset - left.offset - strict  # true where step * position + beyond >= 0
        low, high = (max(low, -beyond), high) if step > 0 else (low, min(high, beyond + 1))
    gate = [reduce(lambda x, y: node(g.AND, (x, y), None, dtypes.bool_), kept)] if kept else []
    loaded = node(ops.LOAD, (load.src[0], *gate), load.arg, load.type)
    moved = substitute([node(ops.STORE, (store.src[0], loaded), store.arg, store.type)],
                       {axis(a.id): weighted_sum([(axis(a.id), 1)], low)})[0]
    axes = [replace(x, extent=high - low) if x == a else x for x in kernel.axes]
    stores = [moved if i == number else n for i, n in enumerate(kernel.stores)]
    return Trimmed(replace(kernel, axes=tuple(axes), stores=tuple(stores)), low, high)


def _tests(gate: Node) -> list[Node]:
    """The comparisons that are all true where a gate is."""
    return [test for s in gate.src for test in _tests(s)] if gate.op is g.AND else [gate]


def with_zeros(trimmed: Trimmed, number: int, a: Axis) -> Kernel:
    """The kernel that stores zeros, too, along axis `a` before and behind what the store has been cut to."""
    kernel = trimmed.kernel
    copied = kernel.stores[number]
    position, = substitute(copied.src[:1], {axis(a.id): weighted_sum([(axis(a.id), 1)], -trimmed.low)})
    for start, end in ((0, trimmed.low), (trimmed.high, a.extent)):
        if start == end:
            continue
        zeros = Axis(max([x.id for x in kernel.axes]) + 1, end - start, a.kind)
        here, = substitute([position], {axis(a.id): weighted_sum([(axis(zeros.id), 1)], start)})
        slot, ranged = copied.arg
        ids = tuple([zeros.id if id == a.id else id for id in ranged])
        store = node(ops.STORE, (here, const(0, copied.type)), (slot, ids), copied.type)
        stores = (*kernel.stores[:number + 1], store, *kernel.stores[number + 1:])
        kernel = replace(kernel, axes=(*kernel.axes, zeros), stores=stores)
    return kernel
