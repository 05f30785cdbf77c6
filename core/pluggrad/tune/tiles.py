"""Register tiles of a contraction: which there are, what each costs, and which operands it wants packed.

A tile of outputs is some rows times some vectors. Along the vector axis one operand is read as vectors, the
other is the same for all lanes; along the rows it is the other way around. The price is in cycles of a core
that does two multiply-adds and two loads at a time.

An operand is packed by the team, once, or by each task: a task takes a panel of columns then, copies it to
memory of its own, which stays in the second-level cache, and runs over many tiles of rows.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Final

from pluggrad.kernel import ops
from pluggrad.kernel.kernel import Axis, Kernel
from pluggrad.target import Capabilities
from pluggrad.tune.accesses import Access, accesses, fit_lanes, reduction_of, vector_lanes

_LATENCY: Final = 4.0  # cycles until a sum can be added to again
_TASK: Final = 60.0  # cycles to take a task, find its place and start its loops
_NEAR: Final = 16 << 10  # bytes that stay in the first-level cache beside other operands
# by distance: in the first-level cache, in the second, beyond
_VECTOR: Final = (1.0, 2.0, 6.0)  # a vector, in loads of an element
_STALL: Final = (0.0, 3.0, 8.0)  # cycles lost where each step of the reduction is in a cache line of its own
_PAGE_STALL: Final = (0.0, 8.0, 8.0)  # in a page of its own
_UNALIGNED: Final = 1.25  # a vector that may cross a cache line, times as much
_WAYS: Final = 8  # lines that a first-level cache holds of addresses a page apart
_FAR_ROW: Final = 2.0  # an element of one row of more than those, in loads of one beside another
_LANE: Final = 2.0  # a lane that is read on its own
_DEAR: Final = 4.0  # two elements made one, in loads
_PACK: Final = 1.2  # cycles to pack an element
_COPY: Final = 0.3  # where it lies as panels want it
_COPY_ROW: Final = 8.0  # cycles for each place where it starts anew
_FETCH: Final = 5.0  # cycles to fetch an element that another core has just packed
_MOST_FETCHED: Final = 100_000.0  # cycles; from a longer queue elements come faster
_LAST: Final = 0.3  # of a task: how long cores wait for the last one
_CHUNKS: Final = 8  # that a core's share of tasks is handed out in
_PARTS: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # of the rows
_MASKED: Final = 1.5  # a vector longer than its axis, times as much
PAGE: Final = 4096  # bytes
_REGISTERS: Final = (1, 2, 4, 8)  # vectors side by side
_LARGEST_FOOTPRINT: Final = 2.5  # times the operand: more would not fit into the cache that it fits into
_WORTH_PACKING: Final = 1 << 20  # multiply-adds; below, a launch costs more than slow loads


@dataclass(frozen=True, slots=True)
class Tile:
    """`lanes` along the axis `vector`, and `rows` of (axis, extent). `reduces`: the vector axis is summed.

    parts: into how many tasks the rows of a panel are divided, each of which packs it; 0: a task is a tile.
    """

    vector: int
    lanes: int
    rows: tuple[tuple[int, int], ...]
    reduces: bool = False
    parts: int = 0

    def renamed(self, id: int, new: int) -> Tile:
        """The tile with axis `id` called `new`."""
        rows = tuple([(new if each == id else each, extent) for each, extent in self.rows])
        return replace(self, vector=new if self.vector == id else self.vector, rows=rows)


class Contraction:
    """A kernel that is a contraction, and what a tile of it would cost.

    dear: buffers whose elements are computed where they are loaded, unless they are packed.
    """

    def __init__(self, kernel: Kernel, capabilities: Capabilities,
                 dear: frozenset[int] = frozenset()) -> None:
        self.kernel, self.capabilities, self.dear = kernel, capabilities, dear
        reduction = reduction_of(kernel)
        self.reduced = [a for a in kernel.axes if a.id in reduction.arg[1]]
        self.outputs = [a for a in kernel.axes if a.kind == "PARALLEL" and a.extent > 1]
        self.extents = {a.id: a.extent for a in kernel.axes}
        self.reduced_ids = ids = {a.id for a in self.reduced}
        found = accesses(kernel)
        self.loads = [x for x in found if x.node.op is ops.LOAD and ids & x.strides.keys()]
        self.stores = [x for x in found if x.node.op is ops.STORE]
        self.width = vector_lanes(kernel, capabilities, 1)
        self.line = capabilities.alignment
        self.length = math.prod([a.extent for a in self.reduced])
        self.work = self.length * math.prod([a.extent for a in self.outputs])

    @cached_property
    def shared(self) -> list[Axis]:
        """Output axes that some operand does not vary over, largest first: tiling them uses it again."""
        axes = [a for a in self.outputs if any(a.id not in x.strides for x in self.loads)]
        return sorted(axes, key=lambda a: (-a.extent, a.id))[:4]

    def candidates(self) -> Iterator[Tile]:
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
                    yield Tile(vector.id, lanes, rows)
        along = [a for a in self.reduced if all(x.stride(a.id) in (0, 1) for x in self.loads)]
        for vector in [a for a in along if any(x.stride(a.id) == 1 for x in self.loads)]:
            lanes = fit_lanes(self.width, vector.extent)
            if lanes > 1:
                for rows in self._rows(min(self.capabilities.vector_registers // 2, 16), vector.id):
                    yield Tile(vector.id, lanes, rows, reduces=True)

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

    def cheapest(self) -> Tile | None:
        """The tile to take; None where no axis is worth lanes."""
        tiles = [with_parts for tile in self.candidates() for with_parts in self._divided(tile)]
        return min(tiles, key=self.price, default=None)

    def panel_bytes(self, tile: Tile) -> int:
        """Memory of the panels that one tile reads from end to end."""
        return sum([self._panel(x, tile) * x.itemsize for x in self.packed(tile)])

    def price(self, tile: Tile) -> float:
        """Cycles of all cores together, from the slowest core's share."""
        packed, own = self.packed(tile), self.own(tile)
        one, cores = self._tile_cycles(tile, [*packed, *own]), self.capabilities.cores
        before = sum([self._packing_cycles(x, tile) for x in packed])
        if tile.parts:
            return before + self._divided_cycles(tile, one, own, tile.parts)
        tiles = self._tiles(tile)
        last = max(1, tiles // (_CHUNKS * cores)) * _LAST
        return before + (-(-tiles // cores) + last) * cores * one

    def _tile_cycles(self, tile: Tile, packed: list[Access]) -> float:
        sums = math.prod([extent for _, extent in tile.rows]) * (1 if tile.reduces else self._registers(tile))
        loads = sum([self._loads(x, tile, x in packed) for x in self.loads])
        stalls = sum([self._stall(x, tile) for x in self.loads if x not in packed])
        if sums + self._held(tile) >= self.capabilities.vector_registers:
            loads += sums  # without a register for it a vector is loaded by each multiply-add
        steps = self.length
        if tile.reduces:
            steps = steps // self.extents[tile.vector] * -(-self.extents[tile.vector] // tile.lanes)
        elif self.extents[tile.vector] < tile.lanes:
            loads *= _MASKED
        end = sums * 8.0 if tile.reduces else self._store_cycles(tile)
        # units that are both nearly busy get in each other's way
        busy = math.sqrt(math.hypot((sums / 2)**2, (loads / 2)**2))
        return steps * (max(busy, _LATENCY) + stalls) + end + _TASK

    def _held(self, tile: Tile) -> int:
        """Vectors of operands that a step uses for several rows."""
        if tile.reduces:
            return 0
        counts = [math.prod([extent for id, extent in tile.rows if id in x.strides])
                  for x in self.loads if tile.vector in x.strides]
        return max(counts, default=0) * self._registers(tile)

    def _divided(self, tile: Tile) -> Iterator[Tile]:
        """The tile by itself, and in tasks that pack for themselves."""
        yield tile
        divided = replace(tile, parts=1)
        own = self.own(divided)
        if own:
            one = self._tile_cycles(tile, [*self.packed(divided), *own])
            yield replace(tile, parts=min(_PARTS, key=lambda p: self._divided_cycles(tile, one, own, p)))

    def _divided_cycles(self, tile: Tile, one: float, own: list[Access], parts: int) -> float:
        id, extent = self.rows_of_task(tile)
        tiles = -(-self.extents[id] // extent)
        tasks = self._tiles(tile) // tiles * min(parts, tiles)
        copy = sum([self._panel(x, tile) * (_COPY + _COPY_ROW / tile.lanes) for x in own])
        task = -(-tiles // parts) * one + copy
        return self.price_of_tasks(tasks, task)

    def price_of_tasks(self, tasks: int, one: float) -> float:
        """Cycles of all cores together for so many tasks."""
        cores = self.capabilities.cores
        return (-(-tasks // cores) + _LAST) * cores * one

    def prices_beside(self, slot: int, tile: Tile) -> tuple[float, float]:
        """Cycles of all cores to pack operands but that in buffer `slot`, which tasks have at hand, and those
        of a tile then."""
        packed = [x for x in self.packed(tile) if x.node.arg != slot]
        return sum([self._packing_cycles(x, tile) for x in packed]), self._tile_cycles(tile, packed)

    def padding_cycles(self, size: int) -> float:
        """Cycles of all cores to copy an operand of so many elements with its padding."""
        return size * _PACK + self._fetching_cycles(size)

    def rows_of_task(self, tile: Tile) -> tuple[int, int]:
        """The (axis, extent) of a tile's rows along which a task goes from tile to tile."""
        return max(tile.rows, key=lambda row: self.extents[row[0]] // row[1])

    def _registers(self, tile: Tile) -> int:
        return -(-tile.lanes // self.width)

    def _tiles(self, tile: Tile) -> int:
        sizes = dict(tile.rows) if tile.reduces else {**dict(tile.rows), tile.vector: tile.lanes}
        return math.prod([-(-a.extent // sizes.get(a.id, 1)) for a in self.outputs])

    def _distance(self, nbytes: float) -> int:
        """Where so many bytes stay from one tile to the next."""
        return 0 if nbytes <= _NEAR else 1 if nbytes <= self.capabilities.cache_bytes / 2 else 2

    def _loads(self, x: Access, tile: Tile, packed: bool) -> float:
        """Loads of elements that reading an operand costs in one step of the reduction."""
        rows = [id for id, _ in tile.rows if id in x.strides]
        count = float(math.prod([extent for id, extent in tile.rows if id in x.strides]))
        if x.node.arg in self.dear and not packed:
            count *= _DEAR
        if tile.vector not in x.strides:
            return count * _FAR_ROW if not packed and self._crowded(x, rows, count) else count
        vectors = _VECTOR[self._distance(self.length * count * tile.lanes * x.itemsize)]
        if packed:
            return count * self._registers(tile) * vectors
        if x.stride(tile.vector) == 1:
            return count * self._registers(tile) * vectors * _UNALIGNED
        return count * tile.lanes * _LANE

    def _matrix(self, x: Access) -> int:
        """Elements of an operand that tiles read again and again: of one product among many."""
        return math.prod([self.extents[id] for id in x.strides if any(id not in y.strides for y in self.loads)
                          or id in self.reduced_ids])

    def _crowded(self, x: Access, rows: list[int], count: float) -> bool:
        """Whether rows that lie alike in their pages drive each other out of the first-level cache."""
        steps = [(x.stride(id) or 0) * x.itemsize for id in rows]
        apart = max([math.gcd(step, PAGE) for step in steps if step], default=0)
        return apart >= self.line and count * apart > _WAYS * PAGE

    def _stall(self, x: Access, tile: Tile) -> float:
        """Cycles that a step of the reduction waits for an operand that is not packed."""
        step = (x.stride(self.reduced[-1].id) or 0) * x.itemsize
        across = tile.vector in x.strides
        distance = self._distance(self._matrix(x) * x.itemsize if across else self.length * self.line)
        stall = _PAGE_STALL[distance] if step >= PAGE else _STALL[distance] if step >= self.line else 0.0
        return stall / 4 if across else stall  # vectors use most of what they wait for

    def _store_cycles(self, tile: Tile) -> float:
        """To store the tile: along memory, transposed in registers, or lane by lane."""
        count = math.prod([extent for _, extent in tile.rows]) * self._registers(tile)
        total = 0.0
        for x in self.stores:
            if x.stride(tile.vector) == 1:
                total += count
            elif any(x.stride(id) == 1 for id, _ in tile.rows):
                total += count * 0.5 * self.width
            else:
                total += count * 2.0 * self.width
        return total

    def packed(self, tile: Tile) -> list[Access]:
        """Operands that cost more to read as they lie than to pack into panels."""
        if tile.reduces or self.work < _WORTH_PACKING:
            return []
        own = self.own(tile)
        return [x for x in self.loads if x not in own and self._can_be_packed(x) and self._gain(x, tile) > 0]

    def own(self, tile: Tile) -> list[Access]:
        """Operands of which each task packs the panel that it reads."""
        if not tile.parts or tile.reduces or not tile.rows:
            return []
        along, _ = self.rows_of_task(tile)
        vectors = [x for x in self.loads if x.stride(tile.vector) == 1 and along not in x.strides
                   and self._can_be_packed(x)]
        room = sum([self._panel(x, tile) * x.itemsize for x in vectors])
        return vectors if room <= self.capabilities.local_bytes else []

    def _panel(self, x: Access, tile: Tile) -> int:
        """Elements of an operand that one tile reads."""
        sizes = {**dict(tile.rows), tile.vector: tile.lanes}
        sizes |= {a.id: a.extent for a in self.reduced}
        return math.prod([sizes.get(id, 1) for id in x.strides])

    def _can_be_packed(self, x: Access) -> bool:
        if None in x.strides.values() or any(gate.op is not ops.TAIL for gate in x.node.src[1:]):
            return False
        return self._packed_size(x) <= int(_LARGEST_FOOTPRINT * self.kernel.buffers[x.node.arg].size)

    def _gain(self, x: Access, tile: Tile) -> float:
        """Cycles that packing an operand spares."""
        loads = self._loads(x, tile, packed=False) - self._loads(x, tile, packed=True)
        spared = (loads / 2 + self._stall(x, tile)) * self.length * self._tiles(tile)
        return spared - self._packing_cycles(x, tile)

    def _packing_cycles(self, x: Access, tile: Tile) -> float:
        """Of all cores, until each has what the team packed. Short rows of memory fill no vector."""
        size = self._packed_size(x)
        run = min([extent for id, extent in tile.rows if x.stride(id) == 1], default=self.width)
        return size * _PACK * max(self.width / run, 1) + self._fetching_cycles(size)

    def _fetching_cycles(self, size: int) -> float:
        return min(size * _FETCH, _MOST_FETCHED * self.capabilities.cores)

    def _packed_size(self, x: Access) -> int:
        return math.prod([self.extents[id] for id in x.strides])


def _evenly(extent: int, most: int) -> list[int]:
    """Tiles of at most `most` that cut `extent` into nearly equal parts: a few, and those that a cache keeps
    wherever their rows lie."""
    if most < 2 or extent < 2:
        return []
    fewest = -(-extent // most)
    parts = [*range(fewest, fewest + 4), -(-extent // _WAYS)]
    return list(dict.fromkeys(-(-extent // p) for p in parts if p >= fewest))
