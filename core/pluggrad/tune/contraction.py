"""Schedules of contractions: reductions whose operands are shared between outputs, as in a matmul.

The cheapest register tile is taken (tiles.py). An operand that it does not read along memory is packed
beforehand into panels that it does; one with a border is copied with zeros around it.
"""
from __future__ import annotations

import math
from dataclasses import replace
from typing import Final, NamedTuple

from pluggrad.graph import ops as g
from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import rewrite, substitute, toposort
from pluggrad.kernel import ops
from pluggrad.kernel.index_nodes import linear
from pluggrad.kernel.kernel import Axis, Kernel
from pluggrad.target import Capabilities
from pluggrad.tune.accesses import accesses, reduction_of
from pluggrad.tune.actions import axis_of, cover, reorder, split, split_reduce
from pluggrad.tune.bands import best_band, copied_in_bands
from pluggrad.tune.pairs import Paired, in_pairs
from pluggrad.tune.place import Dim, footprint, gate_dims, place, place_local, whole
from pluggrad.tune.tiles import PAGE, Contraction, Tile

_CACHE_SHARE: Final = 2  # panels of one tile may fill one part in so many of a core's cache
_SHORTEST_BLOCK: Final = 1024  # steps of a reduction between two sums in memory
_SHORT_LOOP: Final = 8  # steps; to enter and leave it costs as much as some of them
_LONG_END: Final = 4  # loads and stores of as many elements as there are sums
_MOST_PADDING: Final = 5.0  # times the operand, for zeros around it; gates in the inner loop cost more


def is_contraction(kernel: Kernel, reductions: list[Node]) -> bool:
    """One reduction whose loads each miss some axis of the outputs."""
    if len(reductions) != 1 or any(a.kind == "LOOP" for a in kernel.axes):
        return False
    reduced = set(reductions[0].arg[1])
    outputs = {a.id for a in kernel.axes if a.kind == "PARALLEL" and a.extent > 1}
    loads = [x for x in accesses(kernel) if x.node.op is ops.LOAD and reduced & set(x.strides)]
    return len(loads) >= 2 and any(outputs - set(x.strides) for x in loads)


class Scheduled(NamedTuple):
    """A contraction, scheduled, and the kernels to run before and after it, which still have to be."""

    before: list[Kernel]
    contraction: Kernel
    after: list[Kernel]


def tune_contraction(kernel: Kernel, capabilities: Capabilities) -> Scheduled:
    """The contraction in the cheapest tile, operands packed first, a long end computed on its own."""
    if not capabilities.vector_bytes:
        return Scheduled([], kernel, [])
    kernel, after = _without_end(kernel)
    gated = without_shared_gates(kernel)
    before, kernel = padded(kernel)
    kernel = _nearest_last(kernel)
    paired = in_pairs(kernel, capabilities)
    if paired is None or not _is_cheaper(paired, kernel, capabilities):
        banded = _in_bands(gated, kernel, capabilities) if len(before) == 1 else None
        if banded is not None:
            return Scheduled(banded.before, banded.contraction, after)
        tiled = _tiled(kernel, capabilities)
    else:
        tiled = _tiled(paired.kernel, capabilities, paired.dear)
        packed = [paired.expand(k) for k in tiled.before]
        tiled = Scheduled(packed, paired.expand(tiled.contraction), tiled.after)
    return Scheduled(before + tiled.before, tiled.contraction, tiled.after + after)


def _is_cheaper(paired: Paired, kernel: Kernel, capabilities: Capabilities) -> bool:
    """Whether pairs are worth making. One by one, factors are widened as they are read."""
    widened = frozenset(operand.load.arg for operand in paired.stand_ins.values())
    problems = (Contraction(paired.kernel, capabilities, paired.dear),
                Contraction(kernel, capabilities, widened))
    tiles = [problem.cheapest() for problem in problems]
    prices = [math.inf if tile is None else problem.price(tile)
              for problem, tile in zip(problems, tiles, strict=True)]
    return prices[0] < prices[1]


def _tiled(kernel: Kernel, capabilities: Capabilities, dear: frozenset[int] = frozenset()) -> Scheduled:
    """In the cheapest tile, a long reduction by blocks."""
    kernel, total = _in_blocks(kernel, capabilities, dear)
    problem = Contraction(kernel, capabilities, dear)
    best = problem.cheapest()
    packed: list[Kernel] = []
    if best is not None:
        kernel, packed = (_along_reduction if best.reduces else _across_outputs)(problem, best)
    return Scheduled(packed, kernel, total)


def _in_bands(gated: Kernel, kernel: Kernel, capabilities: Capabilities) -> Scheduled | None:
    """In the cheapest tile, the input of `gated` copied by the tasks; None where `kernel`, whose input is
    padded beforehand, is as fast."""
    problem = Contraction(kernel, capabilities)
    tile = problem.cheapest()
    if tile is None or tile.reduces or _blocks(problem, tile) > 1:
        return None
    slot = len(gated.buffers)  # of the padded input
    band = best_band(gated, problem, tile, slot)
    if band is None:
        return None
    gated = reorder(gated, [a.id for a in kernel.axes if a.kind == "REDUCE"])
    made = copied_in_bands(gated, band, capabilities)
    if made is None:
        return None
    copied, rows = made
    kernel, cut = _in_registers(copied, tile.renamed(band.along, rows))
    columns = cut.outer[0]
    kernel = reorder(kernel, [id for id in cut.outer if axis_of(kernel, id).kind == "LOOP"])
    if band.parts > 1:
        kernel = _divided(kernel, columns, band.parts)
    beside = [x.node for x in problem.packed(tile) if x.node.arg != slot]
    kernel, fills = _with_panels(kernel, _became(problem.kernel, kernel, beside), cut)
    return Scheduled(fills, kernel, [])


def _without_end(kernel: Kernel) -> tuple[Kernel, list[Kernel]]:
    """The sums stored, and a kernel that goes on from them, where that moves much more memory than they do.

    An optimizer's step in the registers of a tile would be long code that reads and writes across memory.
    """
    reduction = reduction_of(kernel)
    outputs = [a for a in kernel.axes if a.kind == "PARALLEL"]
    order = toposort(kernel.stores, lambda n: () if n is reduction else n.src)
    whole_axes = {a.id for a in outputs if a.extent > 1}
    moves = [n for n in order if n.op in (ops.LOAD, ops.STORE)]
    moved = sum(linear(n.src[0]).strides.keys() >= whole_axes for n in moves)
    if moved < _LONG_END:
        return kernel, []
    written = linear(kernel.stores[0].src[0]).strides
    dims = [whole(a) for a in sorted(outputs, key=lambda a: -abs(written.get(a.id, 0)))]
    placed = place(kernel, reduction, dims, "sums")
    return (placed[0], [placed[1]]) if placed is not None else (kernel, [])


# ---- operands that are gated: the input of a padded convolution --------------------------------------------
def padded(kernel: Kernel) -> tuple[list[Kernel], Kernel]:
    """Gated operands copied with zeros around them, so that the inner loop reads without gates."""
    kernel = without_shared_gates(kernel)
    fills: list[Kernel] = []
    for load in [x.node for x in accesses(kernel) if x.node.op is ops.LOAD and len(x.node.src) > 1]:
        dims = gate_dims(kernel, load)
        if dims is None or footprint(dims) > _MOST_PADDING * kernel.buffers[load.arg].size + 4096:
            continue
        placed = place(kernel, load, dims)
        if placed is not None:
            fills.append(placed[0])
            kernel = placed[1]
    return fills, kernel


def without_shared_gates(kernel: Kernel) -> Kernel:
    """A gated product of two operands: that which varies with the gate keeps it; its zeros are multiplied.

    Where the other is infinite this gives NaN, as padding an input by zeros does.
    """
    extents = {a.id: a.extent for a in kernel.axes}

    def rule(n: Node, src: tuple[Node, ...]) -> Node:
        product = n.src[1] if n.op is g.WHERE else n
        pair = [_uncast(s) for s in product.src]
        if product.op is not g.MUL or n.op is not g.WHERE or not _is_zero(n.src[2]) or \
                any(x.op is not ops.LOAD or x.src[1:] != n.src[:1] for x in pair):
            return node(n.op, src, n.arg, n.type)
        gated = {m.arg for m in toposort(n.src[:1]) if m.op is ops.AXIS}
        follows = [gated <= linear(x.src[0]).strides.keys() for x in pair]
        other = pair[follows.index(False)] if False in follows else None
        if True not in follows or (other and not _inside(other, kernel.buffers[other.arg].size, extents)):
            return node(n.op, src, n.arg, n.type)
        if other is None:
            return src[1]
        free = node(ops.LOAD, other.src[:1], other.arg, other.type)
        return substitute([product], {other: free})[0]

    return replace(kernel, stores=rewrite(kernel.stores, rule))


def _is_zero(n: Node) -> bool:
    return n.op is ops.CONST and n.arg.of(n.type) == 0


def _uncast(n: Node) -> Node:
    while n.op is g.CAST:
        n = n.src[0]
    return n


def _inside(load: Node, size: int, extents: dict[int, int]) -> bool:
    """Whether the address lies within the buffer wherever the axes stand."""
    strides, rest, offset = linear(load.src[0])
    reach = [stride * (extents[id] - 1) for id, stride in strides.items()]
    return not rest and offset + sum([min(r, 0) for r in reach]) >= 0 \
        and offset + sum([max(r, 0) for r in reach]) < size


def _nearest_last(kernel: Kernel) -> Kernel:
    """Reduction loops in the order in which operands lie in memory: the shortest steps innermost.

    A loop that is soon over makes way for the longest, if that stays within a page from step to step.
    """
    loads = [x for x in accesses(kernel) if x.node.op is ops.LOAD]

    def step(a: Axis) -> int:
        return max([abs(x.stride(a.id) or 0) * x.itemsize for x in loads])

    order = sorted([a for a in kernel.axes if a.kind == "REDUCE"], key=step, reverse=True)
    longest = max(order, key=lambda a: a.extent)
    if order[-1].extent < _SHORT_LOOP and step(longest) < PAGE:
        order = [*[a for a in order if a is not longest], longest]
    return reorder(kernel, [a.id for a in order])


def _in_blocks(kernel: Kernel, capabilities: Capabilities,
               dear: frozenset[int]) -> tuple[Kernel, list[Kernel]]:
    """Sums over blocks of a reduction whose panels would not stay in cache, and a kernel that adds them."""
    problem = Contraction(kernel, capabilities, dear)
    best = problem.cheapest()
    if best is None:
        return kernel, []
    blocks = _blocks(problem, best)
    if blocks < 2:
        return kernel, []
    cut, blocks = _evenly_cut(problem.reduced, blocks)
    partial, total = split_reduce(kernel, cut.id, -(-cut.extent // blocks))
    return _nearest_last(partial), [total]


def _evenly_cut(axes: list[Axis], blocks: int) -> tuple[Axis, int]:
    """An axis to cut into so many blocks or a few more, which divide it: else the last one has gates."""
    even = [(a, count) for count in range(blocks, 2 * blocks) for a in axes if a.extent % count == 0]
    return even[0] if even else (max(axes, key=lambda a: a.extent), blocks)


def _blocks(problem: Contraction, tile: Tile) -> int:
    """How many blocks a reduction has to be cut into."""
    blocks = -(-problem.panel_bytes(tile) * _CACHE_SHARE // problem.capabilities.cache_bytes)
    return min(blocks, max([a.extent for a in problem.reduced]), problem.length // _SHORTEST_BLOCK)


# ---- applying a tile ---------------------------------------------------------------------------------------
class _Cut(NamedTuple):
    """A tile's axes: outside of it, of vectors first; of its rows; of its lanes."""

    outer: list[int]
    rows: list[int]
    lanes: int


def _in_registers(kernel: Kernel, tile: Tile) -> tuple[Kernel, _Cut]:
    """The axes of outputs cut into tiles: what was a task or a loop is one over tiles."""
    kind = axis_of(kernel, tile.vector).kind
    kernel, columns, lanes = cover(kernel, tile.vector, tile.lanes, kind, "VECTOR")
    cut = _Cut([columns], [], lanes)
    for id, extent in tile.rows:
        kernel, outer, row = cover(kernel, id, extent, axis_of(kernel, id).kind, "TILE")
        cut.outer.append(outer)
        cut.rows.append(row)
    return kernel, cut


def _with_panels(kernel: Kernel, loads: list[Node], cut: _Cut) -> tuple[Kernel, list[Kernel]]:
    """The kernel that reads `loads` from panels, and the kernels that pack these."""
    fills = []
    for load in loads:
        placed = place(kernel, load, _panel(kernel, load, cut))
        if placed is not None:
            fills.append(placed[0])
            kernel = placed[1]
    return kernel, fills


def _across_outputs(problem: Contraction, tile: Tile) -> tuple[Kernel, list[Kernel]]:
    """Vectors of outputs, each row's element the same for all lanes."""
    kernel, cut = _in_registers(problem.kernel, tile)
    # consecutive tasks share the panel of columns, which then stays in cache
    kernel = _fastest_tasks(kernel, *cut.outer)
    own = _became(problem.kernel, kernel, [x.node for x in problem.own(tile)])
    packed = _became(problem.kernel, kernel, [x.node for x in problem.packed(tile)])
    kernel, fills = _with_panels(kernel, packed, cut)
    if own:
        along = cut.outer[1 + [id for id, _ in tile.rows].index(problem.rows_of_task(tile)[0])]
        kernel = _divided(kernel, along, tile.parts)
    for load in own:
        panel = [dim for dim in _panel(kernel, load, cut) if not _is_task(kernel, dim)]
        kernel = place_local(kernel, load, panel) or kernel
    return kernel, fills


def _divided(kernel: Kernel, id: int, parts: int) -> Kernel:
    """The tiles along an axis in `parts` tasks, each of which makes its own copy of what all of them read."""
    tiles = axis_of(kernel, id).extent
    kernel, task, _ = cover(kernel, id, -(-tiles // parts), "PARALLEL", "LOOP")
    stores = [node(n.op, n.src, (n.arg[0], (task, *n.arg[1])), n.type) if n.arg[0] in kernel.local else n
              for n in kernel.stores]
    return replace(kernel, stores=tuple(stores))


def _is_task(kernel: Kernel, dim: Dim) -> bool:
    return axis_of(kernel, dim.terms[0][0]).kind == "PARALLEL"


def _became(before: Kernel, after: Kernel, loads: list[Node]) -> list[Node]:
    """What `loads` of the unsplit kernel have become: splitting keeps their order."""
    stores = [[n for n in k.stores if n.arg[0] not in k.local] for k in (before, after)]
    was, now = [[n for n in toposort(each) if n.op is ops.LOAD] for each in stores]
    return [new for old, new in zip(was, now, strict=True) if old in loads]


def _panel(kernel: Kernel, load: Node, cut: _Cut) -> list[Dim]:
    """Panels in the order in which tiles read them: outputs, then the reduction, then rows, then lanes."""
    used = {n.arg for n in toposort([load]) if n.op is ops.AXIS}
    last = [id for id in (*cut.rows, cut.lanes) if id in used]
    first = [a for a in kernel.axes if a.id in used and a.id not in last]
    ordered = sorted(first, key=lambda a: a.kind == "REDUCE") + [axis_of(kernel, id) for id in last]
    return [whole(a) for a in ordered]


def _along_reduction(problem: Contraction, tile: Tile) -> tuple[Kernel, list[Kernel]]:
    """Vectors of the reduction, each used for a whole row or column of the tile."""
    kernel, _, _ = split(problem.kernel, tile.vector, tile.lanes, "REDUCE", "VECTOR")
    outer = []
    for id, extent in tile.rows:
        kernel, tasks, _ = cover(kernel, id, extent, "PARALLEL", "TILE")
        outer.append(tasks)
    return _fastest_tasks(kernel, *outer), []


def _fastest_tasks(kernel: Kernel, *ids: int) -> Kernel:
    """The PARALLEL axes `ids` last of their kind: they change fastest from one task to the next."""
    others = [a.id for a in kernel.axes if a.kind == "PARALLEL" and a.id not in ids]
    return reorder(kernel, [*others, *ids])
