"""Schedules of writes at places that data decide: one task stores, in order, what may meet in one element."""
from __future__ import annotations

import math
from typing import Final

from pluggrad.graph import ops as g
from pluggrad.ir.node import Node
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.cost import cost, estimate_us
from pluggrad.kernel.index_nodes import linear
from pluggrad.kernel.kernel import Axis, Kernel
from pluggrad.target import Capabilities
from pluggrad.tune.accesses import best_vector_axis, fit_lanes, vector_lanes
from pluggrad.tune.actions import reorder, split

_INDEX_OPS: Final = frozenset({g.ADD, g.MUL, ops.AXIS, ops.CONST, ops.CDIV, ops.CMOD})
_TASK_US = 20.0  # work of a task that makes up for reading all indices in each


def ordered_axes(kernel: Kernel) -> list[int]:
    """The LOOP axes that run in order: those of a SCAN, and those along which stores may meet."""
    found = {n.arg[1] for n in toposort(kernel.stores) if n.op is ops.SCAN}
    for store in kernel.stores:
        if kernel.buffers[store.arg[0]].role != "status":  # any report will do
            found |= set(store.arg[1]) - _apart(store.src[0])
    return [a.id for a in kernel.axes if a.kind == "LOOP" and a.id in found]


def _apart(index: Node) -> set[int]:
    """The axes along which no two positions are equal, as far as their function of the axes tells."""
    position = linear(index)
    decided = _axes([n for n in position.rest if not all(m.op in _INDEX_OPS for m in toposort([n]))])
    return (set(position.strides) | _axes(list(position.rest))) - decided


def _axes(nodes: list[Node]) -> set[int]:
    return {n.arg for n in toposort(nodes) if n.op is ops.AXIS}


def tune_scatter(kernel: Kernel, capabilities: Capabilities) -> Kernel:
    """Vectors along memory beside the ordered axes; a task takes a part of every row, as wide as can be."""
    ordered = ordered_axes(kernel)
    vector = best_vector_axis(kernel, ("PARALLEL",), weighted=True)
    if vector is None:
        return kernel
    lanes = fit_lanes(vector_lanes(kernel, capabilities, 2), vector.extent)
    chunk = _chunk(kernel, vector, lanes, capabilities)
    id = vector.id
    if chunk < vector.extent:
        kernel, _, id = split(kernel, id, chunk, "PARALLEL", "LOOP")
    if lanes > 1:
        kernel = split(kernel, id, lanes, "LOOP", "VECTOR")[0]
    return reorder(kernel, [a.id for a in kernel.axes if a.kind == "PARALLEL"] + ordered)


def _chunk(kernel: Kernel, vector: Axis, lanes: int, capabilities: Capabilities) -> int:
    """Elements along the vector axis of one task: whole vectors, in as many tasks as cores."""
    rows = math.prod([a.extent for a in kernel.axes if a.kind == "PARALLEL" and a.id != vector.id])
    wanted = min(estimate_us(cost(kernel), capabilities) / _TASK_US, capabilities.cores)
    pieces = max(int(wanted) // rows, 1)
    vectors = -(-vector.extent // lanes)
    return -(-vectors // pieces) * lanes
