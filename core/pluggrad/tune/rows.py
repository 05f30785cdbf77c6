"""Schedules of reductions along rows, and of long reductions with few outputs, which take two phases."""
from __future__ import annotations

import math

from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.kernel import Axis, Kernel
from pluggrad.target import Capabilities
from pluggrad.tune.accesses import accesses, best_vector_axis, fit_lanes, vector_lanes
from pluggrad.tune.actions import axis_of, split, split_reduce

_ENOUGH_TASKS = 32  # outputs that need no second phase; a fixed number, so that sums do not depend on cores
_SMALLEST_SPLIT = 1 << 14  # elements of a reduction below which a second phase costs more than it gains


def split_long_reduction(kernel: Kernel, capabilities: Capabilities) -> tuple[Kernel, ...]:
    """Few outputs of long reductions keep all cores busy only in two phases."""
    outputs = math.prod([a.extent for a in kernel.axes if a.kind == "PARALLEL"])
    reductions = [n for n in toposort(kernel.stores) if n.op is ops.REDUCE]
    if not reductions or any(a.kind == "LOOP" for a in kernel.axes):
        return (kernel,)
    ids = reductions[0].arg[1]
    if any(n.arg[1] != ids or any(s.op is ops.REDUCE for s in toposort(n.src)) for n in reductions):
        return (kernel,)
    longest = max([axis_of(kernel, id) for id in ids], key=lambda a: a.extent)
    length = math.prod([axis_of(kernel, id).extent for id in ids])
    if outputs * length < _SMALLEST_SPLIT:
        return (kernel,)
    if _parallel_tasks(kernel, outputs, capabilities) >= _ENOUGH_TASKS:
        return (kernel,)
    # by the shape and a fixed share of work, never by cores or load: two phases always add up in one order
    parts = min(longest.extent // 64, max(64 // max(outputs, 1), 8), max(outputs * length >> 13, 1))
    if parts < 2:
        return (kernel,)
    chunk = -(-longest.extent // parts)
    if chunk > 64:  # whole vectors, so that only the last part has a tail
        chunk = -(-chunk // 64) * 64
    return split_reduce(kernel, longest.id, chunk)


def _parallel_tasks(kernel: Kernel, outputs: int, capabilities: Capabilities) -> int:
    """Tasks that outputs alone give: a vector of them each where memory runs along an output axis."""
    lanes = max(capabilities.vector_bytes // 4, 1)
    axis = best_vector_axis(kernel, weighted=True)
    return outputs // lanes if axis is not None and axis.kind == "PARALLEL" else outputs


def tune_rows(kernel: Kernel, capabilities: Capabilities) -> Kernel:
    """Reductions along memory, and inner loops, take vectors of the row; across memory, of the outputs."""
    vector = best_vector_axis(kernel, weighted=True)
    lanes = vector_lanes(kernel, capabilities, 4)
    if vector is None:
        return kernel
    if vector.kind == "PARALLEL":
        lanes = fit_lanes(vector_lanes(kernel, capabilities, 2), vector.extent)
        return split(kernel, vector.id, lanes, "PARALLEL", "VECTOR")[0] if lanes > 1 else kernel
    found = accesses(kernel)
    for a in [a for a in kernel.axes if a.kind in ("LOOP", "REDUCE")]:
        strides = [access.stride(a.id) for access in found]
        fitting = fit_lanes(lanes, a.extent)
        if fitting > 1 and any(s == 1 for s in strides) and _last_in_reductions(kernel, a):
            kernel, _, _ = split(kernel, a.id, fitting, a.kind, "VECTOR")
    return kernel


def _last_in_reductions(kernel: Kernel, a: Axis) -> bool:
    """One vector axis a loop nest: an axis takes lanes where no other of its reduction or store does."""
    nests = [n.arg[1] for n in toposort(kernel.stores) if n.op in (ops.REDUCE, ops.STORE)]
    return not any(axis_of(kernel, id).kind == "VECTOR" for nest in nests if a.id in nest for id in nest)
