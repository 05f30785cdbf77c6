"""Schedules of contractions, and of sums, that read a large operand once and use each element a few times.

Memory sets the time of a matrix times a vector, so tasks read the matrix in long runs, a few rows side by
side. Where memory runs along the sum, lanes do too, and each row has a sum. Where it runs along outputs, a
task sweeps over a few rows at a time and adds to its part of the outputs in cache; what tasks have of
the same outputs is added up after.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import substitute, toposort
from pluggrad.kernel import ops
from pluggrad.kernel.index_nodes import weighted_sum
from pluggrad.kernel.kernel import Axis, BufferParam, Kernel, axis, const
from pluggrad.kernel.reductions import identity
from pluggrad.shape.index import row_major
from pluggrad.target import Capabilities
from pluggrad.tune.accesses import Access, accesses, fit_lanes, reduction_of, vector_lanes
from pluggrad.tune.actions import axis_of, bind, cover, reorder, split, split_reduce
from pluggrad.tune.contraction import Scheduled, is_contraction
from pluggrad.tune.place import place, whole

_MOST_USES: Final = 16  # of an element of the matrix: beyond, arithmetic takes as long as memory
_LARGE: Final = 1 << 17  # elements of a matrix whose time is that of its memory
_SMALL_SHARE: Final = 8  # the matrix is so many times larger than all else
_NEAR_SHARE: Final = 2  # of the last-level cache: what fits in there needs no long runs
_SHORTEST_ROW: Final = 1024  # elements: shorter rows lie side by side anyway
_TASKS: Final = 32  # a fixed number, so that sums do not depend on cores
_SUMS: Final = 16  # registers of sums: enough to hide their latency, few enough for operands beside them
_SIDE_BY_SIDE: Final = 8  # rows of the matrix: as many streams as prefetchers follow and a cache set holds
_WINDOW: Final = 4096  # how far from an even share of the rows a divisor of them is looked for
_SHORTEST_SHARE: Final = 32  # rows of a task that sweeps over them
_SHARE_ROWS: Final = 16  # the same, for each use: what a task stores is little beside what it reads
_SHORTEST_RUN: Final = 256  # elements of a row that a task reads
_RESIDENT: Final = 8192  # sums that stay in the first-level cache during a sweep
_VECTORS: Final = (8, 4, 2, 1)  # of one row side by side, most first


class Stream(NamedTuple):
    """A contraction's large operand, or a sum's, and the output axes that it misses: each element has `times`
    uses."""

    matrix: Access
    size: int
    reduction: Node
    uses: list[Axis]
    times: int


def find_stream(kernel: Kernel, capabilities: Capabilities) -> Stream | None:
    """The operand whose memory decides how long a contraction takes, if one does."""
    reductions = [n for n in toposort(kernel.stores) if n.op is ops.REDUCE]
    if not capabilities.vector_bytes or not is_contraction(kernel, reductions):
        return None
    *others, matrix = sorted(accesses(kernel), key=lambda x: _size(kernel, x))
    uses = [a for a in kernel.axes if a.kind == "PARALLEL" and a.extent > 1 and a.id not in matrix.strides]
    times = math.prod([a.extent for a in uses])
    size, other = _size(kernel, matrix), _size(kernel, others[-1])
    if not _is_plain(matrix) or times > _MOST_USES or size < max(_LARGE, _SMALL_SHARE * other):
        return None
    return Stream(matrix, size, reductions[0], uses, times)


def _find_summed(kernel: Kernel, capabilities: Capabilities) -> Stream | None:
    """The operand of a large sum that reads nothing else along its axis, as if it were multiplied by ones."""
    reductions = [n for n in toposort(kernel.stores) if n.op is ops.REDUCE]
    if not capabilities.vector_bytes or len(reductions) != 1 or reductions[0].arg[0] != "ADD":
        return None
    summed = [x for x in accesses(kernel)
              if x.node.op is ops.LOAD and not x.strides.keys().isdisjoint(reductions[0].arg[1])]
    outputs = {a.id for a in kernel.axes if a.kind == "PARALLEL" and a.extent > 1}
    alone = len(summed) == 1 and _is_plain(summed[0]) and outputs <= summed[0].strides.keys()
    if not alone or any(a.kind == "LOOP" for a in kernel.axes) or _size(kernel, summed[0]) < _LARGE:
        return None
    return Stream(summed[0], _size(kernel, summed[0]), reductions[0], [], 1)


def _size(kernel: Kernel, x: Access) -> int:
    """The positions that an access has."""
    return math.prod([a.extent for a in kernel.axes if a.id in x.strides])


def _is_plain(x: Access) -> bool:
    """Whether this is a load at every position, of an element that strides alone tell."""
    return x.node.op is ops.LOAD and len(x.node.src) == 1 and None not in x.strides.values()


# ---- memory runs along the sum -----------------------------------------------------------------------------
def tune_along_rows(kernel: Kernel, capabilities: Capabilities) -> Scheduled | None:
    """Lanes along the rows of the matrix, a few rows at a time; what lies across them is packed first."""
    stream = find_stream(kernel, capabilities) if capabilities.max_group <= 1 else None
    if stream is None:
        return None
    ids = stream.reduction.arg[1]
    along = next((a for a in kernel.axes if a.id in ids and stream.matrix.stride(a.id) == 1), None)
    rows = [a for a in kernel.axes if a.kind == "PARALLEL" and a.extent > 1 and a not in stream.uses]
    if along is None or not rows or along.extent < _SHORTEST_ROW or _fill_lanes(kernel, stream, capabilities):
        return None
    longest = max(rows, key=lambda a: a.extent)
    tasks = math.prod([a.extent for a in rows])
    side_by_side = max(min(_SUMS // stream.times, _SIDE_BY_SIDE, tasks // _TASKS), 1)
    vectors = min(max(_SUMS // (side_by_side * stream.times), 1), 4)
    lanes = fit_lanes(vector_lanes(kernel, capabilities, vectors), along.extent)
    uses = [a.id for a in stream.uses]
    kernel, steps, vector = split(bind(kernel, "TILE", *uses), along.id, lanes, "REDUCE", "VECTOR")
    packs, kernel = _by_step(kernel, steps, [*uses, vector])
    return Scheduled(packs, cover(kernel, longest.id, side_by_side, "PARALLEL", "TILE")[0], [])


def _fill_lanes(kernel: Kernel, stream: Stream, capabilities: Capabilities) -> bool:
    """Whether all uses of an element fill at least half a vector of the other operand, as its lanes."""
    others = [x for x in accesses(kernel) if x.node.op is ops.LOAD and x.node is not stream.matrix.node]
    return 2 * stream.times >= vector_lanes(kernel, capabilities, 1) and len(stream.uses) == 1 and all(
        x.stride(stream.uses[0].id) in (0, 1) for x in others)


def _by_step(kernel: Kernel, steps: int, registers: list[int]) -> tuple[list[Kernel], Kernel]:
    """What is not read along memory, or from rows of it far apart, packed in the order of steps."""
    packs: list[Kernel] = []
    for x in accesses(kernel):
        used = [id for id in registers if id in x.strides]
        in_place = x.stride(registers[-1]) == 1 and len(used) < 2
        if x.node.op is not ops.LOAD or steps not in x.strides or in_place:
            continue
        first = [a for a in kernel.axes if a.id in x.strides and a.id not in used]
        dims = [*sorted(first, key=lambda a: a.kind == "REDUCE"), *[axis_of(kernel, id) for id in used]]
        kernel = _placed(kernel, x.node, dims, packs)
    return packs, kernel


def _placed(kernel: Kernel, load: Node, dims: Sequence[Axis], packs: list[Kernel]) -> Kernel:
    """The kernel that reads a load's values over `dims`, row-major, where one more of `packs` puts them."""
    placed = place(kernel, load, [whole(a) for a in dims])
    if placed is None:
        return kernel
    packs.append(placed[0])
    return placed[1]


# ---- memory runs along outputs -----------------------------------------------------------------------------
def sweep_rows(kernel: Kernel, capabilities: Capabilities) -> Scheduled | None:
    """Sums swept up from a share of the matrix's rows in each task; shares are added up after.

    The sum of a matrix along its rows is one of these: each of its elements has one use, too.
    """
    if capabilities.max_group > 1:
        return None
    stream = find_stream(kernel, capabilities) or _find_summed(kernel, capabilities)
    if stream is None or len(stream.reduction.arg[1]) != 1:
        return None
    column = next((a for a in kernel.axes if a.kind == "PARALLEL" and stream.matrix.stride(a.id) == 1), None)
    if column is None or not _gains_by_sweeping(kernel, stream, column, capabilities):
        return None
    row = axis_of(kernel, stream.reduction.arg[1][0])
    lanes = vector_lanes(kernel, capabilities, next(v for v in _VECTORS if v * stream.times <= _SUMS))
    blocks, share = _task(kernel, stream, row, column)
    packs, kernel = _by_row(kernel, row, stream)
    # what overlaps has sums of its own: nothing is added twice
    width = -(-column.extent // (blocks * lanes)) * lanes
    kernel, _, sweep = cover(kernel, column.id, width, "PARALLEL", "PARALLEL")
    kernel, sweep, vector = cover(kernel, sweep, lanes, "PARALLEL", "PARALLEL")
    uses = [a.id for a in stream.uses]
    kernel, *totals = split_reduce(kernel, row.id, share) if share < row.extent else (kernel,)
    kernel = bind(bind(bind(kernel, "TILE", *uses), "VECTOR", vector), "LOOP", sweep)
    kernel, step = _add_in_memory(kernel, [sweep, *uses, vector])
    tasks = [a.id for a in kernel.axes if a.kind == "PARALLEL"]
    return Scheduled(packs, reorder(kernel, [*tasks, step, sweep]), totals)


def _gains_by_sweeping(kernel: Kernel, stream: Stream, column: Axis, capabilities: Capabilities) -> bool:
    """Whether there is memory to wait for, more sums than registers hold, and memory to keep them in."""
    nbytes = stream.size * stream.matrix.itemsize
    far = stream.times == 1 or nbytes * _NEAR_SHARE > capabilities.shared_cache_bytes
    sums = column.extent * stream.times
    room = 2 * _RESIDENT * stream.reduction.type.itemsize <= capabilities.local_bytes
    return far and room and sums > 2 * vector_lanes(kernel, capabilities, _SUMS)


def _task(kernel: Kernel, stream: Stream, row: Axis, column: Axis) -> tuple[int, int]:
    """Into how many blocks the columns are cut, and how many rows a task takes."""
    batches = math.prod([a.extent for a in kernel.axes if a.kind == "PARALLEL" and a is not column
                         and a.id in stream.matrix.strides])
    shares = max(row.extent // (_SHARE_ROWS * stream.times), 1)
    blocks = min(-(-_TASKS // (batches * shares)), column.extent // _SHORTEST_RUN)
    blocks = max(blocks, -(-column.extent * stream.times // _RESIDENT))
    return blocks, _share(row.extent, -(-_TASKS // (blocks * batches)))


def _share(rows: int, tasks: int) -> int:
    """About as many rows as each of `tasks` would take: a divisor if there is one, in whole steps if so."""
    about = min(max(-(-rows // tasks), _SHORTEST_SHARE), rows)
    lowest, highest = max(about * 3 // 4, about - _WINDOW), min(about * 3 // 2, about + _WINDOW, rows)
    near = [n for n in range(lowest, highest + 1) if rows % n == 0]
    return min(near, key=lambda n: (n % _SIDE_BY_SIDE > 0, abs(n - about)), default=about)


def _by_row(kernel: Kernel, row: Axis, stream: Stream) -> tuple[list[Kernel], Kernel]:
    """What each row of the matrix is multiplied by, packed together where it lies apart."""
    packs: list[Kernel] = []
    for x in accesses(kernel):
        uses = [a for a in stream.uses if a.id in x.strides]
        if x.node.op is not ops.LOAD or row.id not in x.strides or not uses or x.stride(uses[-1].id) == 1:
            continue
        first = [a for a in kernel.axes if a.id in x.strides and a is not row and a not in uses]
        kernel = _placed(kernel, x.node, [*first, row, *uses], packs)
    return packs, kernel


def _add_in_memory(kernel: Kernel, within: list[int]) -> tuple[Kernel, int]:
    """The sums over a few rows at a time added up in local memory over the axes `within`; the axis of times.

    A step's sums lie side by side there: far apart they would meet in few sets of the cache.
    """
    reduction = reduction_of(kernel)
    # written out, each row has a load of its own: prefetchers tell streams apart by their instructions
    kernel, step, few = split(kernel, reduction.arg[1][0], _SIDE_BY_SIDE, "LOOP", "UNROLL")
    reduction = reduction_of(kernel)
    name, dtype, slot = reduction.arg[0], reduction.type, len(kernel.buffers)
    axes = [axis_of(kernel, id) for id in within]
    strides = row_major(tuple([a.extent for a in axes]))
    index = weighted_sum([(axis(a.id), stride) for a, stride in zip(axes, strides, strict=True)])
    ranged = (*[a.id for a in kernel.axes if a.kind == "PARALLEL"], *within)
    begin = node(ops.STORE, (index, const(identity(name, dtype), dtype)), (slot, ranged), dtype)
    summed = node(ops.REDUCE, reduction.src, (name, (few,)), dtype)
    more = node(ops.STORE, (index, summed), (slot, (*ranged, step), name), dtype)
    stores = substitute(kernel.stores, {reduction: node(ops.LOAD, (index,), slot, dtype)})
    memory = BufferParam(dtype, math.prod([a.extent for a in axes]), "local")
    return replace(kernel, buffers=(*kernel.buffers, memory), stores=(begin, more, *stores)), step
