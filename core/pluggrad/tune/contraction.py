"""Schedules of contractions: reductions whose operands are shared between outputs, as in a matmul."""
from __future__ import annotations

from pluggrad.ir.node import Node
from pluggrad.kernel import ops
from pluggrad.kernel.kernel import Axis, Kernel
from pluggrad.target import Capabilities
from pluggrad.tune.accesses import accesses, best_vector_axis, fit_lanes, vector_lanes
from pluggrad.tune.actions import reorder, split


def is_contraction(kernel: Kernel, reductions: list[Node]) -> bool:
    """One reduction whose loads each miss some axis of the outputs."""
    if len(reductions) != 1 or any(a.kind == "LOOP" for a in kernel.axes):
        return False
    reduced = set(reductions[0].arg[1])
    outputs = {a.id for a in kernel.axes if a.kind == "PARALLEL" and a.extent > 1}
    loads = [x for x in accesses(kernel) if x.node.op is ops.LOAD and reduced & set(x.strides)]
    return len(loads) >= 2 and any(outputs - set(x.strides) for x in loads)


def tune_contraction(kernel: Kernel, capabilities: Capabilities) -> Kernel:
    vector = best_vector_axis(kernel)
    if vector is None or not capabilities.vector_bytes:
        return kernel
    if vector.kind == "REDUCE":
        return _tune_dot(kernel, vector, capabilities)
    return _tune_outer(kernel, vector, capabilities)


def _tune_outer(kernel: Kernel, vector: Axis, capabilities: Capabilities) -> Kernel:
    """Vectors of outputs: a tile of rows times two vectors, each row's element broadcast."""
    lanes = fit_lanes(vector_lanes(kernel, capabilities, 2), vector.extent)
    kernel, columns, _ = split(kernel, vector.id, lanes, "PARALLEL", "VECTOR")
    per_row = max(lanes // vector_lanes(kernel, capabilities, 1), 1)
    room = max((capabilities.vector_registers - per_row - 2) // per_row, 1)
    rows = _tile_axis(kernel, {columns})
    if rows is None:
        return kernel
    kernel, tasks, _ = split(kernel, rows.id, best_tile(rows.extent, room), "PARALLEL", "TILE")
    # consecutive tasks share the panel of columns, which then stays in cache
    return _fastest_tasks(kernel, columns, tasks)


def _fastest_tasks(kernel: Kernel, *ids: int) -> Kernel:
    """The PARALLEL axes `ids` last of their kind: they change fastest from one task to the next."""
    others = [a.id for a in kernel.axes if a.kind == "PARALLEL" and a.id not in ids]
    return reorder(kernel, [*others, *ids])


def _tune_dot(kernel: Kernel, vector: Axis, capabilities: Capabilities) -> Kernel:
    """Vectors along the reduction: a square tile of outputs, each vector used for a whole row or column."""
    lanes = fit_lanes(vector_lanes(kernel, capabilities, 1), vector.extent)
    kernel, _, _ = split(kernel, vector.id, lanes, "REDUCE", "VECTOR")
    first = _tile_axis(kernel, set())
    if first is None:
        return kernel
    second = _tile_axis(kernel, {first.id})
    side = 4 if capabilities.vector_registers >= 32 else 3
    kernel, a, _ = split(kernel, first.id, best_tile(first.extent, side), "PARALLEL", "TILE")
    if second is None:
        return kernel
    kernel, b, _ = split(kernel, second.id, best_tile(second.extent, side), "PARALLEL", "TILE")
    return _fastest_tasks(kernel, a, b)


def _tile_axis(kernel: Kernel, taken: set[int]) -> Axis | None:
    """The largest output axis that some load does not vary over: tiling it uses that load again."""
    loads = [x for x in accesses(kernel) if x.node.op is ops.LOAD]
    candidates = [a for a in kernel.axes if a.kind == "PARALLEL" and a.extent > 1 and a.id not in taken
                  and any(a.id not in x.strides for x in loads)]
    return max(candidates, key=lambda a: (a.extent, -a.id), default=None)


def best_tile(extent: int, most: int) -> int:
    """The tile of at most `most` that wastes least of `extent`; larger wins among equals."""
    if extent <= most:
        return max(extent, 1)
    choices = range(max(most // 2, 1), most + 1)
    return min(choices, key=lambda t: (-(-extent // t) * t / extent + 0.25 / t, -t))
