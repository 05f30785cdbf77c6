"""Schedules of kernels without reductions: vectors along memory, chunks as tasks, blocks to transpose."""
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from pluggrad.kernel import ops
from pluggrad.kernel.cost import cost, estimate_us
from pluggrad.kernel.kernel import Axis, Kernel
from pluggrad.target import Capabilities
from pluggrad.tune.accesses import accesses, best_vector_axis, even_tile, fit_lanes, vector_lanes
from pluggrad.tune.actions import bind, reorder, split
from pluggrad.tune.prefetch import prefetch_step
from pluggrad.tune.streaming import split_at_lines, stream_outputs

_TASK_US = 8.0  # work that one task should have at least, so that taking it costs nothing beside it
_ROWS_BY_ELEMENT = 4  # of a block that is moved element by element: more take long to compile, for little
_FAR = 2048  # bytes from row to row: the lines of so many rows meet in half the sets of a cache, or fewer
_BLOCK_STEPS = 8  # transposing blocks along each side of a task: all of the cache lines it touches
_LARGEST_GROUP = 8  # neighbors that are told apart, as the places of a pooling window
_GROUP_ROWS = 4  # rows of groups that share what is computed for a task
_LONG_TASK = 4096  # vectors: beside so many, the tail of a task costs nothing
_SHARES = 4  # tasks of loops over rows, for one that is long enough: rows need no whole vectors
_TASKS_PER_CORE = 8  # more tasks than cores, so that a slow core does not set the time


def tune_elementwise(kernel: Kernel, capabilities: Capabilities) -> Kernel:
    """Vectors along memory; a long axis is first cut into chunks, whole numbers of vectors, one a task."""
    vector = best_vector_axis(kernel, weighted=True)
    if vector is None:
        return kernel
    groups = _groups_axis(kernel, vector)
    if groups is not None:
        return _interleave(kernel, vector, groups, capabilities)
    lanes = fit_lanes(vector_lanes(kernel, capabilities, 2), vector.extent)
    other = _transposed_axis(kernel, vector)
    if other is not None and lanes > 1:
        return _transpose(kernel, vector, other, capabilities)
    chunk = _chunk(kernel, vector, lanes, capabilities)
    id = vector.id
    if chunk < vector.extent:
        kernel, _, id = split(kernel, id, chunk, "PARALLEL", "LOOP")
    if lanes > 1:
        kernel = split_at_lines(kernel, id, lanes, capabilities)
    return _longer_tasks(kernel, capabilities)


def _groups_axis(kernel: Kernel, member: Axis) -> Axis | None:
    """The axis from one short group of neighbors to the next, where memory runs through groups of them."""
    if member.extent > _LARGEST_GROUP:
        return None
    found = accesses(kernel)
    for a in reversed(kernel.axes):
        steps = {(x.stride(member.id), x.stride(a.id)) for x in found}
        together = steps <= {(1, member.extent), (0, 1), (0, 0)}
        if a.kind == "PARALLEL" and a.extent > member.extent and together:
            return a
    return None


def _interleave(kernel: Kernel, member: Axis, groups: Axis, capabilities: Capabilities) -> Kernel:
    """Vectors of groups, a register for each place in them, which a renderer can interleave."""
    lanes = fit_lanes(vector_lanes(kernel, capabilities, 1), groups.extent)
    rows = [a for a in kernel.axes if a.kind == "PARALLEL" and a not in (member, groups)]
    kernel, _, _ = split(kernel, groups.id, lanes, "PARALLEL", "VECTOR")
    if rows and rows[-1].extent > 1:
        kernel, _, _ = split(kernel, rows[-1].id, even_tile(rows[-1].extent, _GROUP_ROWS), "PARALLEL", "TILE")
    return _longer_tasks(bind(kernel, "TILE", member.id), capabilities)


def _transposed_axis(kernel: Kernel, vector: Axis) -> Axis | None:
    """The axis along which some load runs through memory that jumps along the vector axis."""
    for access in accesses(kernel):
        if access.node.op is not ops.LOAD or access.stride(vector.id) in (0, 1, -1):
            continue
        for a in kernel.axes:
            if a.kind == "PARALLEL" and a.id != vector.id and a.extent > 1 and access.stride(a.id) == 1:
                return a
    return None


def _transpose(kernel: Kernel, columns: Axis, rows: Axis, capabilities: Capabilities) -> Kernel:
    """Blocks of registers along one axis by lanes along the other, which a renderer can transpose.

    Stores run through memory along `columns`, some load along `rows`. Tasks are squares of blocks, but where
    stores go through caches to rows far apart, which share few places there: they go along `columns` then, so
    that lines are finished before others take their place.
    """
    found = accesses(kernel)
    # narrow elements move twice as many at once, as more of a cache line
    lanes = vector_lanes(kernel, capabilities, 2 if max(x.itemsize for x in found) < 4 else 1)
    loads = [x.stride(columns.id) for x in found if x.node.op is ops.LOAD]
    across = sum(stride not in (0, 1, -1) for stride in loads)
    most = min(lanes, max(capabilities.vector_registers // (2 * across), 2))  # half of all, to transpose in
    if not capabilities.register_transposes:
        most = min(most, _ROWS_BY_ELEMENT)
    wide, narrow = (rows, columns) if columns.extent < min(lanes, rows.extent) else (columns, rows)
    fitting = {wide.id: fit_lanes(lanes, wide.extent), narrow.id: even_tile(narrow.extent, most)}
    sizes = {a.id: fitting[a.id] for a in (rows, columns)}
    blocks = {a.id: -(-a.extent // sizes[a.id]) for a in (rows, columns)}
    others = [a for a in kernel.axes if a.kind == "PARALLEL" and a.id not in blocks]
    per_task = math.prod([*[a.extent for a in others], *blocks.values()]) // _tasks(kernel, capabilities)
    # loads wait for memory, stores do not: the inner loop follows more of them, so that prefetchers do too
    inward = (columns, rows) if across > sum(stride in (1, -1) for stride in loads) else (rows, columns)
    side = min(math.isqrt(per_task), _BLOCK_STEPS)
    squares = _in_blocks(kernel, wide, sizes, {a.id: _about(blocks[a.id], side) for a in inward})
    if any(b.streamed for b in stream_outputs(squares.kernel, capabilities).buffers):
        crossing = [x.node for x in accesses(squares.kernel) if x.node.op is ops.LOAD
                    and x.stride(squares.registers[columns.id]) not in (0, 1, -1)]
        return prefetch_step(squares.kernel, crossing, squares.loops[0], capabilities)
    if not any(abs(x.stride(rows.id) or 0) * x.itemsize >= _FAR for x in found if x.node.op is ops.STORE):
        return squares.kernel
    along = _about(blocks[columns.id], per_task)
    return _in_blocks(kernel, wide, sizes, {rows.id: 1, columns.id: along}).kernel


def _about(blocks: int, steps: int) -> int:
    """Steps of a task, of so many blocks in all."""
    return _dividing(blocks, max(min(steps, blocks), 1))


class _Blocks(NamedTuple):
    """A kernel in blocks: the axis of registers by the axis that was cut, and the loops, outermost first."""

    kernel: Kernel
    registers: dict[int, int]
    loops: list[int]


def _in_blocks(kernel: Kernel, wide: Axis, sizes: Mapping[int, int], steps: Mapping[int, int]) -> _Blocks:
    """Axes cut into blocks of `sizes`, lanes along `wide`; a task has so many `steps` of them, in that order
    of loops."""
    tasks, loops, registers = [], dict[int, int](), dict[int, int]()
    for id, size in sizes.items():
        kernel, task, inner = split(kernel, id, steps[id] * size, "PARALLEL", "LOOP")
        kernel, loops[id], registers[id] = split(
            kernel, inner, size, "LOOP", "VECTOR" if id == wide.id else "TILE")
        tasks.append(task)
    inward = [loops[id] for id in steps]
    others = [a.id for a in kernel.axes if a.kind == "PARALLEL" and a.id not in tasks]
    return _Blocks(reorder(kernel, [*others, *tasks, *inward]), registers, inward)


def _longer_tasks(kernel: Kernel, capabilities: Capabilities) -> Kernel:
    """The innermost tasks in loops, while there remain enough for all cores to share evenly."""
    parallel = [a for a in kernel.axes if a.kind == "PARALLEL"]
    spare = math.prod([a.extent for a in parallel]) // (_SHARES * _tasks(kernel, capabilities))
    for a in reversed(parallel):
        if a.extent > spare:
            steps = _dividing(a.extent, spare)
            return split(kernel, a.id, steps, "PARALLEL", "LOOP")[0] if 1 < steps < a.extent else kernel
        kernel = bind(kernel, "LOOP", a.id)
        spare //= a.extent
    return kernel


def _tasks(kernel: Kernel, capabilities: Capabilities) -> int:
    """How many tasks a kernel should be cut into."""
    one_core = estimate_us(cost(kernel), capabilities)
    return int(min(max(one_core / _TASK_US, 1), capabilities.cores * _TASKS_PER_CORE))


def _chunk(kernel: Kernel, vector: Axis, lanes: int, capabilities: Capabilities) -> int:
    """Elements of one task along the vector axis: whole vectors, or all where the rows are tasks enough."""
    rows = math.prod([a.extent for a in kernel.axes if a.kind == "PARALLEL" and a.id != vector.id])
    vectors = -(-vector.extent // lanes)
    pieces = min(-(-_tasks(kernel, capabilities) // rows), vectors)
    if pieces < 2:
        return vector.extent
    per_task = -(-vectors // pieces)
    if vector.extent % lanes == 0:
        per_task = _dividing(vectors, per_task)
    return per_task * lanes


def _dividing(extent: int, about: int) -> int:
    """A divisor of `extent` near `about`, if there is one within a factor of two: it spares the tail."""
    if about > _LONG_TASK:
        return about
    candidates = [d for d in range(max(about // 2, 1), min(about * 2, extent) + 1) if extent % d == 0]
    return min(candidates, key=lambda d: abs(d - about), default=about)
