"""Schedules for devices that run each task by a group of work items, which share fast memory.

Two shapes. Spread: what would be a task each is an item each, neighbors in memory side by side. Shared: a
group takes a row, its items take the row's elements in turn, and their partial results are combined.
"""
from __future__ import annotations

from typing import Final

from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.free import free_axes
from pluggrad.kernel.kernel import Axis, Kernel
from pluggrad.target import Capabilities
from pluggrad.tune.accesses import accesses, best_vector_axis, fit_lanes, vector_lanes
from pluggrad.tune.actions import axis_of, bind, cover, join, reorder, split, split_reduce
from pluggrad.tune.contraction import Scheduled, is_contraction, tune_contraction
from pluggrad.tune.group_tiles import tune_in_group_tiles
from pluggrad.tune.matrix_units import multiply_matrices
from pluggrad.tune.matvec import Stream, find_stream
from pluggrad.tune.scatter import ordered_axes

_SHORTEST_SHARED: Final = 32  # elements of a row; below, an item takes it alone
_ENOUGH_ITEMS: Final = 16  # for each lane of all cores: so many outputs keep the device busy, an item each
_MOST_USES: Final = 8  # of an element of a matrix that sets the time by its memory
_ROWS: Final = 4  # of such a matrix that a group takes at a time
_ENOUGH_GROUPS: Final = 4  # for each core
_SHORTEST_PART: Final = 32  # steps of a sum that is cut
_WIDEST: Final = 8  # bytes of an element, for the local memory that combining takes


def tune_in_groups(kernel: Kernel, capabilities: Capabilities) -> list[Kernel]:
    """The kernel with its outputs, or the rows that it reduces, divided among work items."""
    if ordered_axes(kernel):
        return [_spread(kernel, capabilities)]
    if not any(n.op is ops.REDUCE for n in toposort(kernel.stores)):
        return [_spread(_in_vectors(kernel, capabilities), capabilities)]
    along = best_vector_axis(kernel, weighted=True)
    if along is not None and along.kind == "PARALLEL":
        return [_spread(_in_vectors(kernel, capabilities), capabilities)]
    group = _sharing_group(kernel, capabilities)
    return [_share(kernel, group, capabilities) if group > 1 else _spread(kernel, capabilities)]


def multiply_in_groups(kernel: Kernel, capabilities: Capabilities) -> Scheduled | None:
    """A contraction by the rows of its one large operand, or as a product in panels of a group, by a matrix
    unit if there is one for it; None where it is neither."""
    reductions = [n for n in toposort(kernel.stores) if n.op is ops.REDUCE]
    if capabilities.max_group <= 1 or not is_contraction(kernel, reductions):
        return None
    streamed = _stream(kernel, capabilities)
    if streamed is not None:
        return streamed
    return multiply_matrices(kernel, capabilities) or tune_in_group_tiles(kernel, capabilities)


def contract_in_groups(kernel: Kernel, capabilities: Capabilities) -> Scheduled:
    """A contraction in register tiles, one for each work item; kernels before and after are not tuned."""
    known = multiply_in_groups(kernel, capabilities)
    if known is not None:
        return known
    scheduled = tune_contraction(kernel, capabilities)
    return scheduled._replace(contraction=_spread(scheduled.contraction, capabilities))


def _stream(kernel: Kernel, capabilities: Capabilities) -> Scheduled | None:
    """A matrix by one vector or a few: memory sets the time, and items read the matrix side by side.

    Where it runs along the sum a group shares a few rows, else an item takes columns, and a part of the sum.
    """
    stream = find_stream(kernel, capabilities)
    if stream is None or stream.times > _MOST_USES:
        return None
    summed = [axis_of(kernel, id) for id in stream.reduction.arg[1]]
    if any(stream.matrix.stride(a.id) == 1 for a in summed):
        return _along_rows(kernel, stream, capabilities)
    tasks = [a for a in kernel.axes if a.kind == "PARALLEL"]
    columns = next((a for a in tasks if stream.matrix.stride(a.id) == 1), None)
    if columns is None or len(summed) > 1:
        return None
    row, lanes, uses = summed[0], vector_lanes(kernel, capabilities, 1), [a.id for a in stream.uses]
    kernel, _, lane = cover(kernel, columns.id, lanes, "PARALLEL", "PARALLEL")
    items = kernel.tasks // (lanes * stream.times)
    parts = _ENOUGH_ITEMS * capabilities.cores * capabilities.subgroup_width // items
    chunk = _share_of(row.extent, parts)
    kernel, *total = split_reduce(kernel, row.id, chunk) if chunk < row.extent else (kernel,)
    kernel = bind(bind(kernel, "TILE", *uses), "VECTOR", lane)
    return Scheduled([], _spread(kernel, capabilities), total)


def _along_rows(kernel: Kernel, stream: Stream, capabilities: Capabilities) -> Scheduled | None:
    """A few rows for each group, whose other operand is read once; as many as leave each core some."""
    kernel = bind(kernel, "TILE", *[a.id for a in stream.uses])
    group, lanes = _sharing_group(kernel, capabilities), vector_lanes(kernel, capabilities, 1)
    if group == 1:
        return None
    along = next(a for a in kernel.axes if a.kind == "REDUCE" and stream.matrix.stride(a.id) == 1)
    if along.extent % (lanes * group) == 0:
        kernel = split(kernel, along.id, lanes, "REDUCE", "VECTOR")[0]
    rows = [a for a in kernel.axes if a.kind == "PARALLEL" and a.extent > 1]
    room = capabilities.scratch_bytes // (group * _WIDEST * stream.times)
    most = min(room, _ROWS, kernel.tasks // (_ENOUGH_GROUPS * capabilities.cores))
    if rows and most > 1:
        longest = max(rows, key=lambda a: a.extent)
        kernel = cover(kernel, longest.id, most, "PARALLEL", "TILE")[0]
    return Scheduled([], _share(kernel, group, capabilities), [])


def _share_of(steps: int, parts: int) -> int:
    """Steps of a part of a sum: a divisor where there is one of about an even share."""
    about = min(max(steps // max(parts, 1), _SHORTEST_PART), steps)
    return next((n for n in range(about, min(2 * about, steps) + 1) if steps % n == 0), about)


def _in_vectors(kernel: Kernel, capabilities: Capabilities) -> Kernel:
    """A vector of neighbors for each item, where they are whole vectors; items run along memory."""
    along = best_vector_axis(kernel, ("PARALLEL",), weighted=True)
    if along is None:
        return kernel
    others = [a.id for a in kernel.axes if a.kind == "PARALLEL" and a is not along]
    kernel = reorder(kernel, [*others, along.id])
    lanes = vector_lanes(kernel, capabilities, 1)
    steps = {x.stride(along.id) for x in accesses(kernel)}
    if lanes < 2 or along.extent % lanes or not steps <= {0, 1}:
        return kernel
    return split(kernel, along.id, lanes, "PARALLEL", "VECTOR")[0]


def _spread(kernel: Kernel, capabilities: Capabilities) -> Kernel:
    """The innermost tasks as work items: as many as a group takes, but a group for every core if possible."""
    tasks = [a for a in kernel.axes if a.kind == "PARALLEL" and a.extent > 1]
    if not tasks:
        return kernel
    wanted = _group_size(kernel.tasks // capabilities.cores, capabilities)
    last = tasks.pop()
    while tasks and last.extent % wanted and last.extent < 8 * wanted:
        kernel, last = join(kernel, tasks.pop().id, last.id)
    group = fit_lanes(wanted, last.extent)
    return split(kernel, last.id, group, "PARALLEL", "ITEM")[0] if group > 1 else kernel


def _sharing_group(kernel: Kernel, capabilities: Capabilities) -> int:
    """Items that share a row; 1 where there are rows enough for an item each, or no memory to combine in."""
    longest = max(a.extent for a in kernel.axes if a.kind in ("LOOP", "REDUCE"))
    enough = kernel.tasks >= _ENOUGH_ITEMS * capabilities.cores * capabilities.subgroup_width
    if longest < _SHORTEST_SHARED or (enough and longest < capabilities.subgroup_width):
        return 1
    group = _group_size(longest, capabilities)
    while group > 1 and group * _WIDEST > capabilities.scratch_bytes:
        group //= 2
    return group


def _share(kernel: Kernel, group: int, capabilities: Capabilities) -> Kernel:
    """Rows divided among the items of a group: each loop along memory, one of each reduction and store."""
    lanes = vector_lanes(kernel, capabilities, 1)
    steps = accesses(kernel)
    inner = sorted([a for a in kernel.axes if a.kind in ("LOOP", "REDUCE")],
                   key=lambda a: (sum(x.stride(a.id) == 1 for x in steps), a.extent), reverse=True)
    for a in inner:
        if not _can_be_shared(kernel, a):
            continue
        id, whole = a.id, all(x.stride(a.id) in (0, 1) for x in steps)
        if lanes > 1 and whole and a.extent % (lanes * group) == 0:
            kernel, id, _ = split(kernel, id, lanes, a.kind, "VECTOR")
        kernel = split(kernel, id, group, a.kind, "ITEM")[0]
    return kernel


def _can_be_shared(kernel: Kernel, a: Axis) -> bool:
    """Whether nothing that runs along an axis is divided among the items already, nor lies within what is."""
    order = toposort(kernel.stores)
    free = free_axes(order)
    items = {x.id for x in kernel.axes if x.kind == "ITEM"}
    for n in order:
        if n.op is ops.STORE and a.id in n.arg[1] and not items.isdisjoint(n.arg[1]):
            return False
        reached = free[n].union(n.arg[1]) if n.op is ops.REDUCE else frozenset()
        if a.id in reached and not items.isdisjoint(reached):
            return False
    return True


def _group_size(wanted: int, capabilities: Capabilities) -> int:
    """A power of two of about so many items: at least a subgroup, at most what the device takes."""
    most = 1 << capabilities.max_group.bit_length() - 1
    return min(max(fit_lanes(most, wanted), capabilities.subgroup_width), most)
