"""Schedules of reductions over small windows, side by side or overlapping, as in pooling."""
from __future__ import annotations

import math

from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.kernel import Axis, Kernel
from pluggrad.target import Capabilities
from pluggrad.tune.accesses import accesses, even_tile, fit_lanes, vector_lanes
from pluggrad.tune.actions import axis_of, bind, share_axis, split

_LARGEST_WINDOW = 16  # elements, which are all in registers at once
_STEPS = {2, 3, 4}  # elements from one window to the next: beyond, vectors hold too little that is wanted
_FEWEST = 4  # windows in a row that are worth a vector


def share_windows(kernel: Kernel) -> Kernel:
    """All reductions and stores over windows of one shape share its axes: a window is loaded once for all."""
    kinds = {a.id: a.kind for a in kernel.axes}
    nests = [tuple([id for id in n.arg[1] if kinds[id] in ("REDUCE", "LOOP")])
             for n in toposort(kernel.stores) if n.op in (ops.REDUCE, ops.STORE)]
    first, *others = dict.fromkeys([nest for nest in nests if nest])
    extents = [axis_of(kernel, id).extent for id in first]
    if any([axis_of(kernel, id).extent for id in nest] != extents for nest in others):
        return kernel
    for nest in others:
        for id, shared in zip(nest, first, strict=True):
            kernel = share_axis(kernel, id, shared)
    return kernel


def window_axis(kernel: Kernel, capabilities: Capabilities) -> Axis | None:
    """The axis from one window to the next, if that is what the kernel reduces."""
    reductions = [n for n in toposort(kernel.stores) if n.op is ops.REDUCE]
    ids = reductions[0].arg[1]
    if any(a.kind == "LOOP" for a in kernel.axes):
        return None
    if not capabilities.vector_bytes or any(n.arg[1] != ids for n in reductions):
        return None
    if math.prod([axis_of(kernel, id).extent for id in ids]) > _LARGEST_WINDOW:
        return None
    found = accesses(kernel)
    for a in kernel.axes:
        if a.kind != "PARALLEL" or a.extent < _FEWEST:
            continue
        loads = {x.stride(a.id) for x in found if x.node.op is ops.LOAD}
        stores = {x.stride(a.id) for x in found if x.node.op is ops.STORE}
        if stores <= {1, *_STEPS} and loads & _STEPS and loads <= {0, 1, *_STEPS}:
            return a
    return None


def tune_windows(kernel: Kernel, across: Axis, capabilities: Capabilities) -> Kernel:
    """A vector of windows, which are held in registers, and as many rows of them as there is room for."""
    reduced = [a for a in kernel.axes if a.kind == "REDUCE"]
    rows = [a for a in kernel.axes if a.kind == "PARALLEL" and a.id != across.id]
    room = max(_LARGEST_WINDOW // math.prod([a.extent for a in reduced]), 1)
    lanes = fit_lanes(vector_lanes(kernel, capabilities, 1), across.extent)
    kernel, _, _ = split(kernel, across.id, lanes, "PARALLEL", "VECTOR")
    if rows and room > 1:
        kernel, _, _ = split(kernel, rows[-1].id, even_tile(rows[-1].extent, room), "PARALLEL", "TILE")
    return bind(kernel, "TILE", *[a.id for a in reduced])
