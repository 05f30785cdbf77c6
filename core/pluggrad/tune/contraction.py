"""Schedules of contractions: reductions whose operands are shared between outputs, as in a matmul.

A register tile of outputs is some rows times some vectors. Along the vector axis one operand is read as
vectors, the other is the same for all lanes; along the rows it is the other way around. Every candidate has a
price in cycles of a core that does two multiply-adds and two loads at a time, and the cheapest is taken. An
operand that the tile does not read along memory is packed beforehand into panels that it does.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Final

from pluggrad.graph import ops as g
from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import rewrite, toposort
from pluggrad.kernel import ops
from pluggrad.kernel.index_nodes import linear
from pluggrad.kernel.kernel import Axis, Kernel
from pluggrad.target import Capabilities
from pluggrad.tune.accesses import Access, accesses, fit_lanes, vector_lanes
from pluggrad.tune.actions import axis_of, reorder, split
from pluggrad.tune.place import Dim, footprint, gate_dims, place, whole

_LATENCY: Final = 4.0  # cycles until a sum can be added to again
_TASK: Final = 60.0  # cycles to take a task, find its place and start its loops
_VECTOR: Final = 2.0  # a vector from the second-level cache, in loads from the first
_UNALIGNED: Final = 2.5  # the same where it may cross a cache line
_PACK: Final = 0.6  # cycles to pack an element
_GATHER: Final = 1.0  # cycles for a lane that is read on its own
_TAIL: Final = 1.03  # gates of the last, partial tile: more code, and masks
_REGISTERS: Final = (1, 2, 4, 8)  # vectors side by side
_LARGEST_FOOTPRINT: Final = 2.5  # times the operand: more would not fit into the cache that it fits into
_MOST_PADDING: Final = 5.0  # the same with zeros around; gates in the inner loop cost more
_WORTH_PACKING: Final = 1 << 20  # multiply-adds; below, a launch costs more than slow loads
_REUSED: Final = 6  # tiles that read an operand, from which on packing it pays


def is_contraction(kernel: Kernel, reductions: list[Node]) -> bool:
    """One reduction whose loads each miss some axis of the outputs."""
    if len(reductions) != 1 or any(a.kind == "LOOP" for a in kernel.axes):
        return False
    reduced = set(reductions[0].arg[1])
    outputs = {a.id for a in kernel.axes if a.kind == "PARALLEL" and a.extent > 1}
    loads = [x for x in accesses(kernel) if x.node.op is ops.LOAD and reduced & set(x.strides)]
    return len(loads) >= 2 and any(outputs - set(x.strides) for x in loads)


def tune_contraction(kernel: Kernel, capabilities: Capabilities) -> tuple[list[Kernel], Kernel]:
    """Kernels that pack operands, still to be scheduled, and the contraction, scheduled."""
    if not capabilities.vector_bytes:
        return [], kernel
    fills, kernel = _padded(kernel)
    problem = _Problem(kernel, capabilities)
    best = min(problem.candidates(), key=problem.price, default=None)
    if best is None:
        return fills, kernel
    kernel, packed = (_along_reduction if best.reduces else _across_outputs)(problem, best)
    return fills + packed, kernel


# ---- operands that are gated: the input of a padded convolution --------------------------------------------
def _padded(kernel: Kernel) -> tuple[list[Kernel], Kernel]:
    """Gated operands copied with zeros around them, so that the inner loop reads without gates."""
    kernel = _without_shared_gates(kernel)
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


def _without_shared_gates(kernel: Kernel) -> Kernel:
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
        return rewrite([product], lambda m, s: free if m is other else node(m.op, s, m.arg, m.type))[0]

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


# ---- candidates and their price ----------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Tile:
    """`lanes` along the axis `vector`, and `rows` of (axis, extent). `reduces`: the vector axis is summed."""

    vector: int
    lanes: int
    rows: tuple[tuple[int, int], ...]
    reduces: bool = False


class _Problem:
    """A contraction, and what a tile of it would cost."""

    def __init__(self, kernel: Kernel, capabilities: Capabilities) -> None:
        self.kernel, self.capabilities = kernel, capabilities
        reduction = next(n for n in toposort(kernel.stores) if n.op is ops.REDUCE)
        self.reduced = [a for a in kernel.axes if a.id in reduction.arg[1]]
        self.outputs = [a for a in kernel.axes if a.kind == "PARALLEL" and a.extent > 1]
        self.extents = {a.id: a.extent for a in kernel.axes}
        ids = {a.id for a in self.reduced}
        found = accesses(kernel)
        self.loads = [x for x in found if x.node.op is ops.LOAD and ids & x.strides.keys()]
        self.stores = [x for x in found if x.node.op is ops.STORE]
        self.width = vector_lanes(kernel, capabilities, 1)
        self.length = math.prod([a.extent for a in self.reduced])
        self.work = self.length * math.prod([a.extent for a in self.outputs])

    @cached_property
    def shared(self) -> list[Axis]:
        """Output axes that some operand does not vary over, largest first: tiling them uses it again."""
        axes = [a for a in self.outputs if any(a.id not in x.strides for x in self.loads)]
        return sorted(axes, key=lambda a: (-a.extent, a.id))[:4]

    def candidates(self) -> Iterator[_Tile]:
        """Tiles that fit the registers."""
        for vector in self.shared or self.outputs:
            seen = set()
            for registers in _REGISTERS:
                lanes = fit_lanes(registers * self.width, vector.extent)
                if lanes in seen or lanes < 2:
                    continue
                seen.add(lanes)
                used = max(lanes // self.width, 1)
                room = (self.capabilities.vector_registers - used - 1) // used
                for rows in self._rows(room, vector.id):
                    yield _Tile(vector.id, lanes, rows)
        along = [a for a in self.reduced if all(x.stride(a.id) in (0, 1) for x in self.loads)]
        for vector in [a for a in along if any(x.stride(a.id) == 1 for x in self.loads)]:
            lanes = fit_lanes(self.width, vector.extent)
            if lanes > 1:
                for rows in self._rows(min(self.capabilities.vector_registers // 2, 16), vector.id):
                    yield _Tile(vector.id, lanes, rows, reduces=True)

    def _rows(self, room: int, vector: int) -> Iterator[tuple[tuple[int, int], ...]]:
        """No rows, rows along one axis, and along two: all of a short one, or evenly of both."""
        yield ()
        axes = [a for a in self.shared if a.id != vector]
        for a in axes:
            for extent in _evenly(a.extent, room):
                yield ((a.id, extent),)
        for a, b in combinations(axes, 2):
            for first in _evenly(b.extent, max(room // 2, 1)):
                for second in _evenly(a.extent, room // first)[:1]:
                    yield ((a.id, second), (b.id, first))

    def price(self, tile: _Tile) -> float:
        """Cycles of all cores together, from the slowest core's share."""
        rows = dict(tile.rows)
        registers = -(-tile.lanes // self.width)
        sums = math.prod(rows.values()) * (1 if tile.reduces else registers)
        loads = sum([self._load_price(x, tile, rows, registers) for x in self.loads])
        steps, tiles = self.length, 1
        if tile.reduces:
            steps = steps // self.extents[tile.vector] * -(-self.extents[tile.vector] // tile.lanes)
        elif self.extents[tile.vector] % tile.lanes:
            loads *= _TAIL
        for a in self.outputs:
            size = rows.get(a.id, tile.lanes if a.id == tile.vector else 1)
            tiles *= -(-a.extent // size)
        end = sums * 8.0 if tile.reduces else self._store_price(tile, rows, registers)
        one = steps * max(sums / 2, loads / 2, _LATENCY) + end + _TASK
        cores = self.capabilities.cores
        packing = sum([self._packed_size(x) * _PACK for x in self.packed(tile)])
        return -(-tiles // cores) * cores * one + packing

    def _load_price(self, x: Access, tile: _Tile, rows: dict[int, int], registers: int) -> float:
        """Loads of one step of the reduction."""
        count = float(math.prod([extent for id, extent in rows.items() if id in x.strides]))
        if tile.vector not in x.strides:
            return count
        if x in self.packed(tile):
            return count * registers * _VECTOR
        if x.stride(tile.vector) == 1:
            return count * registers * _UNALIGNED
        return count * tile.lanes * 2 * _GATHER

    def _store_price(self, tile: _Tile, rows: dict[int, int], registers: int) -> float:
        """Cycles to store the tile: along memory, transposed in registers, or lane by lane."""
        count = math.prod(rows.values()) * registers
        total = 0.0
        for x in self.stores:
            if x.stride(tile.vector) == 1:
                total += count
            elif any(x.stride(id) == 1 for id in rows):
                total += count * 0.5 * self.width
            else:
                total += count * 2.0 * self.width
        return total

    def packed(self, tile: _Tile) -> list[Access]:
        """Operands that the tile does not read along memory and that many tiles share."""
        if tile.reduces or self.work < _WORTH_PACKING:
            return []
        rows = dict(tile.rows)
        return [x for x in self.loads
                if self._reads_badly(x, tile, rows) and self._readers(x, tile, rows) >= _REUSED
                and self._packed_size(x) <= _LARGEST_FOOTPRINT * self.kernel.buffers[x.node.arg].size]

    def _reads_badly(self, x: Access, tile: _Tile, rows: dict[int, int]) -> bool:
        if None in x.strides.values() or len(x.node.src) > 1:
            return False
        if tile.vector in x.strides:
            return self.extents[tile.vector] > tile.lanes or x.stride(tile.vector) != 1
        far = self.capabilities.alignment // x.itemsize  # each row, or each step, in a cache line of its own
        return any((x.stride(id) or 0) >= far for id in (*rows, self.reduced[-1].id))

    def _readers(self, x: Access, tile: _Tile, rows: dict[int, int]) -> int:
        """How many tiles read the same elements."""
        sizes = {**rows, tile.vector: tile.lanes}
        others = [a for a in self.outputs if a.id not in x.strides]
        return math.prod([-(-a.extent // sizes.get(a.id, 1)) for a in others])

    def _packed_size(self, x: Access) -> int:
        return math.prod([self.extents[id] for id in x.strides])


def _evenly(extent: int, most: int) -> list[int]:
    """Tiles of at most `most` that cut `extent` into nearly equal parts, for a few numbers of parts."""
    if most < 2 or extent < 2:
        return []
    fewest = -(-extent // most)
    return list(dict.fromkeys(-(-extent // parts) for parts in range(fewest, fewest + 4)))


# ---- applying a tile ---------------------------------------------------------------------------------------
def _across_outputs(problem: _Problem, tile: _Tile) -> tuple[Kernel, list[Kernel]]:
    """Vectors of outputs, each row's element the same for all lanes."""
    packed = [x.node for x in problem.packed(tile)]
    kernel, columns, lanes = split(problem.kernel, tile.vector, tile.lanes, "PARALLEL", "VECTOR")
    outer = [columns]
    inner = []
    for id, extent in tile.rows:
        kernel, tasks, row = split(kernel, id, extent, "PARALLEL", "TILE")
        outer.append(tasks)
        inner.append(row)
    # consecutive tasks share the panel of columns, which then stays in cache
    kernel = _fastest_tasks(kernel, *outer)
    fills = []
    for load in _matching(problem.kernel, kernel, packed):
        panel = _panel(kernel, load, inner, lanes)
        placed = place(kernel, load, panel)
        if placed is not None:
            fills.append(placed[0])
            kernel = placed[1]
    return kernel, fills


def _matching(before: Kernel, after: Kernel, loads: list[Node]) -> list[Node]:
    """The loads of a split kernel that `loads` of the unsplit one have become: those of the same buffers."""
    buffers = {load.arg for load in loads}
    kept = [n for n in toposort(before.stores) if n.op is ops.LOAD and n not in loads]
    alone = buffers - {n.arg for n in kept}
    return [n for n in toposort(after.stores) if n.op is ops.LOAD and n.arg in alone]


def _panel(kernel: Kernel, load: Node, rows: list[int], lanes: int) -> list[Dim]:
    """Panels in the order in which tiles read them: outputs, then the reduction, then rows, then lanes."""
    used = {n.arg for n in toposort([load]) if n.op is ops.AXIS}
    last = [id for id in (*rows, lanes) if id in used]
    first = [a for a in kernel.axes if a.id in used and a.id not in last]
    ordered = sorted(first, key=lambda a: a.kind == "REDUCE") + [axis_of(kernel, id) for id in last]
    return [whole(a) for a in ordered]


def _along_reduction(problem: _Problem, tile: _Tile) -> tuple[Kernel, list[Kernel]]:
    """Vectors of the reduction, each used for a whole row or column of the tile."""
    kernel, _, _ = split(problem.kernel, tile.vector, tile.lanes, "REDUCE", "VECTOR")
    outer = []
    for id, extent in tile.rows:
        kernel, tasks, _ = split(kernel, id, extent, "PARALLEL", "TILE")
        outer.append(tasks)
    return _fastest_tasks(kernel, *outer), []


def _fastest_tasks(kernel: Kernel, *ids: int) -> Kernel:
    """The PARALLEL axes `ids` last of their kind: they change fastest from one task to the next."""
    others = [a.id for a in kernel.axes if a.kind == "PARALLEL" and a.id not in ids]
    return reorder(kernel, [*others, *ids])
