"""Schedules of reductions along rows, and of long reductions with few outputs, which take two phases."""
from __future__ import annotations

import math

from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.cost import weight
from pluggrad.kernel.free import free_axes
from pluggrad.kernel.kernel import Axis, Kernel
from pluggrad.target import Capabilities
from pluggrad.tune.accesses import accesses, best_vector_axis, fit_lanes, vector_lanes
from pluggrad.tune.actions import axis_of, share_axis, split, split_reduce
from pluggrad.tune.prefetch import prefetch_rows
from pluggrad.tune.repeated import keep_repeated, reduce_where_kept
from pluggrad.tune.streaming import split_at_lines

_ENOUGH_TASKS = 32  # that need no second phase; a fixed number, so that sums do not depend on cores
_SMALLEST_SPLIT = 1 << 14  # elements of a reduction below which a second phase costs more than it gains
_SMALLEST_PART = 64  # steps of a reduction that one task takes at least
_TILE = 4  # vectors that are computed side by side: of one row, or one each of as many rows or runs
_SHORTEST_RUN = 1024  # elements of a row, of which so many runs lie far enough apart
_RUN_VECTORS = 2  # of each run, so that sums of all runs are in registers
_SIMPLE = 30  # additions' worth of arithmetic that registers full of sums leave room for
_SHORT_ROW = 16  # vectors of a row that is over so soon that its sums are waited for
_ROW_REGISTERS = 4  # of a row that is held in registers from one reduction to the next


def split_long_reduction(kernel: Kernel, capabilities: Capabilities) -> tuple[Kernel, ...]:
    """Few outputs of long reductions keep all cores busy only in two phases."""
    ids = _common_axes(kernel)
    if ids is None:
        return (kernel,)
    outputs = math.prod([a.extent for a in kernel.axes if a.kind == "PARALLEL"])
    reduced = [axis_of(kernel, id) for id in ids]
    work = outputs * math.prod([a.extent for a in reduced])
    tasks = _parallel_tasks(kernel, outputs, capabilities)
    if work < _SMALLEST_SPLIT or tasks >= _ENOUGH_TASKS:
        return (kernel,)
    # by the shape and a fixed share of work, never by cores or load: two phases always add up in one order
    wanted = min(max(2 * _ENOUGH_TASKS // max(tasks, 1), 2), max(work >> 13, 1))
    cut, chunk = _cut(kernel, reduced, wanted)
    return split_reduce(kernel, cut.id, chunk) if chunk < cut.extent else (kernel,)


def _common_axes(kernel: Kernel) -> tuple[int, ...] | None:
    """The axes of all reductions, if these are the same and none lies within another or in a loop."""
    order = toposort(kernel.stores)
    reductions = [n for n in order if n.op is ops.REDUCE]
    if not reductions:
        return None
    ids: tuple[int, ...] = reductions[0].arg[1]
    free = free_axes(order)
    loops = {a.id for a in kernel.axes if a.kind == "LOOP"}
    if any(n.arg[1] != ids or free[n] & loops for n in reductions):
        return None
    inner = toposort([n.src[0] for n in reductions])
    return None if any(n.op is ops.REDUCE for n in inner) else ids


def _parallel_tasks(kernel: Kernel, outputs: int, capabilities: Capabilities) -> int:
    """Tasks that outputs alone give: a vector of them each where memory runs along an output axis."""
    axis = best_vector_axis(kernel, weighted=True)
    if axis is None or axis.kind != "PARALLEL":
        return outputs
    return outputs // axis.extent * -(-axis.extent // _column_lanes(kernel, axis, capabilities))


def _cut(kernel: Kernel, reduced: list[Axis], wanted: int) -> tuple[Axis, int]:
    """The axis to cut into about `wanted` parts, and how long they are.

    The first that is long enough leaves the loops within it whole; else the longest, in whole vectors.
    """
    longest = max(reduced, key=lambda a: a.extent)
    if reduced[0] is not longest and reduced[0].extent >= wanted:
        return reduced[0], -(-reduced[0].extent // wanted)
    chunk = -(-longest.extent // min(wanted, max(longest.extent // _SMALLEST_PART, 1)))
    step = _SMALLEST_PART * (_TILE if chunk >= _TILE * _SHORTEST_RUN else 1)
    return longest, -(-chunk // step) * step


def tune_rows(kernel: Kernel, capabilities: Capabilities) -> Kernel:
    """Reductions along memory, and inner loops, take vectors of the row; across memory, of the outputs."""
    vector = best_vector_axis(kernel, weighted=True)
    if vector is None or not capabilities.vector_bytes:
        return kernel
    if vector.kind == "PARALLEL":
        lanes = _column_lanes(kernel, vector, capabilities)
        columns = split(kernel, vector.id, lanes, "PARALLEL", "VECTOR")[0] if lanes > 1 else kernel
        return prefetch_rows(columns, 1, capabilities)
    rows = _tiled_rows(kernel, capabilities)
    if rows is None:
        kernel = keep_repeated(kernel, capabilities)
    if rows is not None and _fits_registers(kernel, capabilities):
        kernel = _hold_rows(kernel, capabilities)
    else:
        runs = None if rows else _in_runs(kernel, capabilities)
        lanes = vector_lanes(kernel, capabilities, 1 if rows else _RUN_VECTORS if runs else _TILE)
        kernel = prefetch_rows(runs or kernel, _TILE if rows else 1, capabilities)
        kernel = reduce_where_kept(_vectorize_rows(kernel, lanes, capabilities), capabilities)
    return split(kernel, rows.id, _TILE, "PARALLEL", "TILE")[0] if rows else kernel


def _tiled_rows(kernel: Kernel, capabilities: Capabilities) -> Axis | None:
    """The axis of rows, if they are so many that a task had better take several side by side.

    The steps from a short row's sum or maximum to the next depend on each other: other rows fill the wait.
    Long ones that are walked once are streams, of which processors follow several faster than one.
    """
    rows = [a for a in kernel.axes if a.kind == "PARALLEL"]
    longest = max(a.extent for a in kernel.axes if a.kind in ("LOOP", "REDUCE"))
    if longest > _SHORT_ROW * vector_lanes(kernel, capabilities, 1) and _only_walk(kernel) is None:
        return None
    many = math.prod([a.extent for a in rows]) >= _TILE * _ENOUGH_TASKS
    return rows[-1] if many and rows[-1].extent >= _TILE else None


def _only_walk(kernel: Kernel) -> Axis | None:
    """The one axis that all reductions run along, where nothing else is done with a row."""
    inner = [a for a in kernel.axes if a.kind in ("LOOP", "REDUCE")]
    return inner[0] if len(inner) == 1 and inner[0].kind == "REDUCE" else None


def _in_runs(kernel: Kernel, capabilities: Capabilities) -> Kernel | None:
    """A long row cut into runs that are reduced side by side; None where vectors do not divide them."""
    walk = _only_walk(kernel)
    if walk is None or walk.extent < _TILE * _SHORTEST_RUN or \
            walk.extent % (_TILE * vector_lanes(kernel, capabilities, _RUN_VECTORS)):
        return None
    return split(kernel, walk.id, walk.extent // _TILE, "TILE", "REDUCE")[0]


def _vectorize_rows(kernel: Kernel, lanes: int, capabilities: Capabilities) -> Kernel:
    """Lanes for every loop that runs along memory, or through none; in a nest, along most of it."""
    found = accesses(kernel)
    extents = {a.id: a.extent for a in kernel.axes}

    def along(a: Axis) -> int:
        return sum([math.prod([extents[id] for id in x.strides]) for x in found if x.stride(a.id) == 1])

    for a in sorted([a for a in kernel.axes if a.kind in ("LOOP", "REDUCE")], key=along, reverse=True):
        fitting = fit_lanes(lanes, a.extent)
        usable = along(a) or all(x.stride(a.id) == 0 for x in found)
        if fitting > 1 and usable and _last_in_reductions(kernel, a):
            if a.kind == "LOOP":
                kernel = split_at_lines(kernel, a.id, fitting, capabilities)
            else:
                kernel = split(kernel, a.id, fitting, a.kind, "VECTOR")[0]
    return kernel


def _column_lanes(kernel: Kernel, vector: Axis, capabilities: Capabilities) -> int:
    """Lanes across outputs: as long a run of memory at each step as registers allow."""
    order = toposort(kernel.stores)
    sums = sum(n.op is ops.REDUCE for n in order)
    simple = sum([weight(n) for n in order if n.type.is_float]) <= _SIMPLE
    registers = capabilities.vector_registers // (2 * sums) if simple else 2
    lanes = vector_lanes(kernel, capabilities, 1 << max(registers, 2).bit_length() - 1)
    return fit_lanes(lanes, vector.extent)


def _fits_registers(kernel: Kernel, capabilities: Capabilities) -> bool:
    """Whether all reductions and inner stores run along one axis each, of one length, short enough."""
    extents = {a.extent for a in kernel.axes if a.kind in ("LOOP", "REDUCE")}
    longest = _ROW_REGISTERS * vector_lanes(kernel, capabilities, 1)
    return len(extents) == 1 and max(extents) <= longest and all(len(nest) < 2 for nest in _nests(kernel))


def _hold_rows(kernel: Kernel, capabilities: Capabilities) -> Kernel:
    """Load and compute each row once, for all reductions and stores."""
    first, *others = [a for a in kernel.axes if a.kind in ("LOOP", "REDUCE")]
    for other in others:
        kernel = share_axis(kernel, other.id, first.id)
    lanes = fit_lanes(vector_lanes(kernel, capabilities, 1), first.extent)
    return split(kernel, first.id, lanes, "TILE", "VECTOR")[0]


def _nests(kernel: Kernel) -> list[frozenset[int]]:
    """The loops of each reduction and each store, those of what a reduction lies within included."""
    order = toposort(kernel.stores)
    free = free_axes(order)
    tasks = {a.id for a in kernel.axes if a.kind == "PARALLEL"}
    return [free[n].union(n.arg[1]) - tasks for n in order if n.op in (ops.REDUCE, ops.STORE)]


def _last_in_reductions(kernel: Kernel, a: Axis) -> bool:
    """One vector axis a loop nest: an axis takes lanes where no other of its reduction or store does."""
    return not any(axis_of(kernel, id).kind == "VECTOR" for nest in _nests(kernel) if a.id in nest
                   for id in nest)
