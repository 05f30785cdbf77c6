"""Schedules of convolutions of each channel by itself: a few multiply-adds for each element.

A task goes through a plane in bands of rows. It copies what a band reads to local memory, in between zeros
that it stored there once, computes there, and writes the band in one run. Nothing of that is masked: what a
masked store wrote is late for a load soon after.
"""
from __future__ import annotations

import math
from dataclasses import replace
from typing import Final, NamedTuple

from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.kernel import Axis, Kernel, axis, const
from pluggrad.target import Capabilities
from pluggrad.tune.accesses import Access, accesses, even_tile, fit_lanes, reduction_of, vector_lanes
from pluggrad.tune.actions import bind, cover, merge_adjacent, split
from pluggrad.tune.borders import trim
from pluggrad.tune.place import Dim, gate_dims, place_local, span, whole
from pluggrad.tune.prefetch import prefetch_loads

_LARGEST_WINDOW: Final = 32  # elements: more multiply-adds take longer than memory does
_FEWEST_OUTPUTS: Final = 1 << 12  # fewer are over before a copy pays
_BANDS: Final = range(4, 9)  # rows of outputs: what they read stays in the first-level cache
_ROWS: Final = 4  # of outputs side by side
_TASKS: Final = 32  # planes enough to be a task each
_AHEAD: Final = 12 << 10  # bytes: several bands, and still in the second-level cache when they are come to


class _Planes(NamedTuple):
    """A depthwise convolution: its image, its reduction, and the axes of a plane of outputs."""

    image: Access
    reduction: Node
    rows: Axis
    columns: Axis


def _find_planes(kernel: Kernel) -> _Planes | None:
    """None where the kernel is no depthwise convolution over two axes, the second along memory."""
    reductions = [n for n in toposort(kernel.stores) if n.op is ops.REDUCE]
    if len(reductions) != 1 or len(kernel.stores) != 1 or any(a.kind == "LOOP" for a in kernel.axes):
        return None
    window = [a for a in kernel.axes if a.id in reductions[0].arg[1]]
    outputs = [a for a in kernel.axes if a.kind == "PARALLEL" and a.extent > 1]
    *loads, written = accesses(kernel)
    read = [x for x in loads if any(x.stride(a.id) != 0 for a in window)]
    image = next((x for x in read if all(x.stride(a.id) for a in [*outputs, *window])), None)
    if image is None or len(read) != 2 or len(window) != 2 or written.node.op is not ops.STORE or \
            math.prod([a.extent for a in window]) > _LARGEST_WINDOW:
        return None
    weights = next(x for x in read if x is not image)
    steps = sorted([abs(image.stride(a.id) or 0) for a in window])
    free = [a for a in outputs if weights.stride(a.id) == 0]
    columns = next((a for a in free if written.stride(a.id) == 1), None)
    rows = next((a for a in free if columns and written.stride(a.id) == columns.extent), None)
    if rows is None or columns is None or steps[0] != 1 or (image.stride(rows.id) or 0) % steps[1]:
        return None
    return _Planes(image, reductions[0], rows, columns)


def tune_depthwise(kernel: Kernel, capabilities: Capabilities) -> Kernel | None:
    """A depthwise convolution, a band of a plane at a time; None where the kernel is something else."""
    found = _find_planes(kernel) if capabilities.vector_bytes and capabilities.local_bytes else None
    if found is None or kernel.tasks < _FEWEST_OUTPUTS:
        return None
    columns, width = found.columns, vector_lanes(kernel, capabilities, 1)
    height = _band(found.rows.extent, columns.extent * found.image.itemsize, capabilities.alignment)
    loops = kernel.tasks // columns.extent // found.rows.extent >= _TASKS
    kernel, bands, rows = split(kernel, found.rows.id, height, "LOOP" if loops else "PARALLEL", "LOOP")
    within = [bands] if loops else []
    kernel = bind(bind(kernel, "LOOP", columns.id), "UNROLL", *found.reduction.arg[1])
    kernel, copied = _copied(kernel, within, width)
    reduction = reduction_of(kernel)
    known = {a.id for a in kernel.axes}
    band = [whole(a) for a in kernel.axes if a.id in (rows, columns.id)]
    held = place_local(kernel, reduction, band, within)
    if held is None or held.local_bytes > capabilities.local_bytes:
        return None
    computed = [a for a in held.axes if a.id not in known]
    kernel = merge_adjacent(held)
    written = [a for a in kernel.axes if a.kind == "LOOP" and a.id in kernel.stores[-1].arg[1]]
    for a in (*copied, computed[-1], written[-1]):
        kernel, _, _ = cover(kernel, a.id, fit_lanes(width, a.extent), "LOOP", "VECTOR")
    kernel = split(kernel, computed[0].id, even_tile(height, _ROWS), "LOOP", "TILE")[0]
    if not capabilities.prefetch:
        return kernel
    # prefetchers lose their way from band to band
    return prefetch_loads(kernel, found.image.node.arg, _AHEAD // found.image.itemsize)


def _copied(kernel: Kernel, within: list[int], lanes: int) -> tuple[Kernel, list[Axis]]:
    """What a band reads, copied with zeros around it where there is padding, and the axes of the copy.

    The zeros are stored first, all over: what is copied then needs no masks, which cost more than the stores.
    """
    image = next((x.node for x in accesses(kernel) if x.node.op is ops.LOAD and len(x.node.src) > 1), None)
    dims = gate_dims(kernel, image) if image is not None else None
    if image is None or dims is None:
        return kernel, []
    outside = {*within, *[a.id for a in kernel.axes if a.kind == "PARALLEL"]}
    inside = [dim for dim in [_without(kernel, dim, outside) for dim in dims] if dim is not None]
    made = place_local(kernel, image, [*inside[:-1], _in_lines(inside[-1], lanes)], within)
    if made is None:
        return kernel, []
    first = next(i for i, n in enumerate(made.stores) if n.arg[0] == len(kernel.buffers))
    *others, column = [a for a in made.axes if a not in kernel.axes]
    for a, low, high in (*[(a, 0, a.extent) for a in others], (column, lanes, lanes + inside[-1].extent)):
        made = trim(made, first, a, low, high).kernel
    if any(a.extent < 1 for a in made.axes):  # nothing but zeros
        return kernel, []
    zeros = Axis(column.id + 1, made.buffers[-1].size, "LOOP")
    outer = [a.id for a in kernel.axes if a.kind == "PARALLEL"]
    store = node(ops.STORE, (axis(zeros.id), const(0, image.type)), (len(kernel.buffers), (*outer, zeros.id)),
                 image.type)
    return replace(made, axes=(*made.axes, zeros), stores=(store, *made.stores)), [zeros, column]


def _in_lines(dim: Dim, lanes: int) -> Dim:
    """A dim with room for a vector before it and to the end of its last one, so that rows begin alike."""
    return Dim(dim.terms, dim.low - lanes, -(-(dim.extent + lanes) // lanes) * lanes)


def _without(kernel: Kernel, dim: Dim, outside: set[int]) -> Dim | None:
    """The part of a dim that varies within a band."""
    terms = {id: factor for id, factor in dim.terms if id not in outside}
    return span(terms, {a.id: a.extent for a in kernel.axes}) if terms else None


def _band(rows: int, row_bytes: int, line: int) -> int:
    """How many rows a band has: a divisor, so that none is shorter, and whole cache lines if so."""
    divisors = [n for n in range(_BANDS[0], rows + 1) if rows % n == 0]
    found = [n for n in divisors if n in _BANDS] or divisors[:1]
    return min(found, key=lambda n: (n * row_bytes % line > 0, -n), default=rows)
