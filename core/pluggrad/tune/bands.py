"""Padded inputs of convolutions, copied by the tasks that read them.

A task takes a band of rows of an image. It copies what the band reads to local memory, with the zeros around
it, and computes all of the band's outputs from there: the padded input never is in memory, and no core waits
until others have made it.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from pluggrad.ir.node import Node
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.index_nodes import linear
from pluggrad.kernel.kernel import Axis, Kernel
from pluggrad.target import Capabilities
from pluggrad.tune.accesses import fit_lanes, vector_lanes
from pluggrad.tune.actions import bind, cover
from pluggrad.tune.borders import trim, with_zeros
from pluggrad.tune.place import Dim, footprint, gate_dims, place_local, span
from pluggrad.tune.prefetch import prefetch_loads
from pluggrad.tune.tiles import Contraction, Tile

_COPY: Final = 0.5  # cycles to copy an element
_COPY_ROW: Final = 12.0  # cycles for each row of it


@dataclass(frozen=True, slots=True)
class Band:
    """What a task takes: `height` positions along an axis, all of the axes `whole`, one of so many `parts` of
    the tiles along the axis of vectors. dims: of the copy, rows counted from the band's first.
    """

    along: int
    height: int
    whole: tuple[int, ...]
    parts: int
    dims: tuple[Dim, ...]


def best_band(gated: Kernel, problem: Contraction, tile: Tile, slot: int) -> Band | None:
    """The cheapest band for a tile of `problem`, which is `gated` with its input padded by the team in buffer
    `slot`. None where the team's way costs less."""
    if not problem.capabilities.local_bytes or tile.parts:
        return None
    packing, one = problem.prices_beside(slot, tile)
    prices = {band: packing + _cycles(band, problem, tile, one) for band in _bands(gated, problem, tile)}
    best = min(prices, key=prices.__getitem__, default=None)
    team = problem.price(tile) + problem.padding_cycles(problem.kernel.buffers[slot].size)
    return best if best is not None and prices[best] < team else None


def _bands(gated: Kernel, problem: Contraction, tile: Tile) -> list[Band]:
    """Bands whose copy fits into local memory; none where a tile reaches over several images."""
    load = _gated_load(gated)
    dims = gate_dims(gated, load) if load is not None else None
    if load is None or dims is None:
        return []
    moving = _moving(dims, problem.outputs)
    read = {id for dim in dims for id, _ in dim.terms}
    shared = [a.id for a in problem.outputs if a.id not in read]
    inside = {*shared, *[a.id for a in moving]}
    if not moving or not {tile.vector, *dict(tile.rows)} <= inside:
        return []
    apart = {a.id for a in problem.outputs} - inside
    copied = [dim for dim in dims if not any(id in apart for id, _ in dim.terms)]
    along, *others = moving
    whole = (*shared, *[a.id for a in others])
    room = problem.capabilities.local_bytes // load.type.itemsize
    blocks = -(-problem.extents[tile.vector] // tile.lanes) if tile.vector in shared else 1
    found = []
    for height in _evenly(along.extent, _sizes(tile).get(along.id, 1)):
        extents = {**problem.extents, along.id: height}
        band = tuple([span(dict(dim.terms), extents) for dim in copied])
        if footprint(band) <= room:
            found += [Band(along.id, height, whole, -(-blocks // n), band) for n in _evenly(blocks, 1)]
    return found


def _gated_load(kernel: Kernel) -> Node | None:
    """The load under a gate, if there is one alone."""
    found = [n for n in toposort(kernel.stores) if n.op is ops.LOAD and len(n.src) > 1]
    return found[0] if len(found) == 1 else None


def _moving(dims: list[Dim], outputs: list[Axis]) -> list[Axis]:
    """The axes of outputs that move a window, in the order of memory."""
    extended = {a.id: a for a in outputs}
    return [extended[id] for dim in dims if len(dim.terms) > 1 for id, _ in dim.terms if id in extended]


def _sizes(tile: Tile) -> dict[int, int]:
    return {**dict(tile.rows), tile.vector: tile.lanes}


def _evenly(extent: int, step: int) -> list[int]:
    """Sizes of parts that cut an axis nearly evenly, in whole steps."""
    steps = -(-extent // step)
    return list(dict.fromkeys(min(-(-steps // n) * step, extent) for n in range(1, steps + 1)))


def _cycles(band: Band, problem: Contraction, tile: Tile, one: float) -> float:
    """Cycles of all cores together, `one` for a tile."""
    extents, sizes = problem.extents, _sizes(tile)
    tasks = math.prod([a.extent for a in problem.outputs if a.id not in (band.along, *band.whole)])
    tasks *= -(-extents[band.along] // band.height) * band.parts
    counts = {id: -(-extents[id] // sizes.get(id, 1)) for id in band.whole}
    if band.parts > 1:
        counts[tile.vector] = -(-counts[tile.vector] // band.parts)
    tiles = math.prod(counts.values()) * -(-band.height // sizes.get(band.along, 1))
    size = footprint(band.dims)
    copy = size * _COPY + size // band.dims[-1].extent * _COPY_ROW
    return problem.price_of_tasks(tasks, tiles * one + copy)


def copied_in_bands(kernel: Kernel, band: Band, capabilities: Capabilities) -> tuple[Kernel, int] | None:
    """The kernel in which each task copies its band first, and the axis of a band's rows.

    The axes `whole` are loops from then on. A copy asks for what the next band reads: from channel to channel
    prefetchers lose their way.
    """
    load = _gated_load(kernel)
    if load is None:
        return None
    ahead = linear(load.src[0]).strides[band.along] * band.height
    kernel = bind(kernel, "LOOP", *band.whole)
    kernel, _, rows = cover(kernel, band.along, band.height, "PARALLEL", "LOOP")
    known = {a.id for a in kernel.axes}
    moved = _gated_load(kernel)
    dims = [_renamed(dim, band.along, rows) for dim in band.dims]
    made = place_local(kernel, moved, dims) if moved is not None else None
    if made is None:
        return None
    number = next(i for i, n in enumerate(made.stores) if n.arg[0] == len(kernel.buffers))
    *_, last = [a for a in made.axes if a.id not in known]
    trimmed = trim(made, number, last, 0, last.extent)
    if trimmed.low >= trimmed.high:  # nothing but zeros
        return None
    lanes = fit_lanes(vector_lanes(kernel, capabilities, 1), trimmed.high - trimmed.low)
    kernel = cover(with_zeros(trimmed, number, last), last.id, lanes, "LOOP", "VECTOR")[0]
    return prefetch_loads(kernel, load.arg, ahead) if capabilities.prefetch else kernel, rows


def _renamed(dim: Dim, id: int, new: int) -> Dim:
    terms = tuple([(new if each == id else each, factor) for each, factor in dim.terms])
    return Dim(terms, dim.low, dim.extent)
