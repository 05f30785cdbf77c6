"""Register tiles of a contraction: which there are, what each costs, and which operands it wants packed.

A tile of outputs is some rows times some vectors. Along the vector axis one operand is read as vectors, the
other is the same for all lanes; along the rows it is the other way around. The price is in cycles of a core
that does two multiply-adds and two loads at a time.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Final

from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.kernel import Axis, Kernel
from pluggrad.target import Capabilities
from pluggrad.tune.accesses import Access, accesses, fit_lanes, vector_lanes

_LATENCY: Final = 4.0  # cycles until a sum can be added to again
_TASK: Final = 60.0  # cycles to take a task, find its place and start its loops
_VECTOR: Final = 2.0  # a vector of a panel that stays close by, in loads of an element
_DISTANT_VECTOR: Final = 4.0  # the same from the second-level cache
_UNALIGNED: Final = 1.25  # where it may cross a cache line, times as much
_CLOSE: Final = 16 << 10  # bytes that stay in the first-level cache beside other operands
PAGE: Final = 4096  # bytes
_FAR: Final = 8.0  # cycles lost where each step of the reduction takes a row's elements from another page
_FAR_VECTOR: Final = 2.0  # the same for vectors, which take more from it
_FAR_ROW: Final = 2.0  # a row's element in a cache line of its own, in loads of one beside another
_LANE: Final = 2.0  # a lane that is read on its own
_PACK: Final = 1.2  # cycles to pack an element
_TAIL: Final = 1.03  # gates of the last, partial tile: more code, and masks
_REGISTERS: Final = (1, 2, 4, 8)  # vectors side by side
_LARGEST_FOOTPRINT: Final = 2.5  # times the operand: more would not fit into the cache that it fits into
_WORTH_PACKING: Final = 1 << 20  # multiply-adds; below, a launch costs more than slow loads
_REUSED: Final = 6  # tiles that read an operand, from which on packing it pays


@dataclass(frozen=True, slots=True)
class Tile:
    """`lanes` along the axis `vector`, and `rows` of (axis, extent). `reduces`: the vector axis is summed."""

    vector: int
    lanes: int
    rows: tuple[tuple[int, int], ...]
    reduces: bool = False


class Contraction:
    """A kernel that is a contraction, and what a tile of it would cost."""

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

    def price(self, tile: Tile) -> float:
        """Cycles of all cores together, from the slowest core's share."""
        rows = dict(tile.rows)
        registers = -(-tile.lanes // self.width)
        sums = math.prod(rows.values()) * (1 if tile.reduces else registers)
        packed = self.packed(tile)
        loads = sum([self._load_price(x, tile, rows, registers, x in packed) for x in self.loads])
        steps, tiles = self.length, 1
        if tile.reduces:
            steps = steps // self.extents[tile.vector] * -(-self.extents[tile.vector] // tile.lanes)
        elif self.extents[tile.vector] % tile.lanes:
            loads *= _TAIL
        for a in self.outputs:
            size = rows.get(a.id, tile.lanes if a.id == tile.vector else 1)
            tiles *= -(-a.extent // size)
        end = sums * 8.0 if tile.reduces else self._store_price(tile, rows, registers)
        stalls = sum([self._stall(x, tile) for x in self.loads if x not in packed])
        one = steps * (max(sums / 2, loads / 2, _LATENCY) + stalls) + end + _TASK
        cores = self.capabilities.cores
        packing = sum([self._packed_size(x) * _PACK for x in packed])
        return -(-tiles // cores) * cores * one + packing

    def _load_price(self, x: Access, tile: Tile, rows: dict[int, int], registers: int, packed: bool) -> float:
        """Loads of one step of the reduction."""
        count = float(math.prod([extent for id, extent in rows.items() if id in x.strides]))
        if tile.vector not in x.strides:
            far = not packed and any(self._is_far(x, id) for id in rows)
            return count * _FAR_ROW if far else count
        close = self.length * count * tile.lanes * x.itemsize <= _CLOSE
        vectors = count * registers * (_VECTOR if close else _DISTANT_VECTOR)
        if packed:
            return vectors
        if x.stride(tile.vector) == 1:
            return vectors * _UNALIGNED
        return count * tile.lanes * _LANE

    def _stall(self, x: Access, tile: Tile) -> float:
        """Cycles that a step of the reduction waits for memory."""
        if (x.stride(self.reduced[-1].id) or 0) * x.itemsize < PAGE:
            return 0.0
        return _FAR_VECTOR if tile.vector in x.strides else _FAR

    def _store_price(self, tile: Tile, rows: dict[int, int], registers: int) -> float:
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

    def packed(self, tile: Tile) -> list[Access]:
        """Operands that the tile does not read along memory, where that costs more than to pack them."""
        return [] if tile.reduces or self.work < _WORTH_PACKING else [
            x for x in self.loads if self._worth_packing(x, tile)]

    def _worth_packing(self, x: Access, tile: Tile) -> bool:
        if None in x.strides.values() or len(x.node.src) > 1:
            return False
        if self._packed_size(x) > _LARGEST_FOOTPRINT * self.kernel.buffers[x.node.arg].size:
            return False
        if tile.vector in x.strides and x.stride(tile.vector) != 1:
            return True  # or its lanes would be read one by one
        return self._scattered(x, tile) and self._readers(x, tile) >= _REUSED

    def _scattered(self, x: Access, tile: Tile) -> bool:
        """Whether vectors lie apart, or rows or steps of the reduction in a cache line each."""
        if tile.vector in x.strides:
            return self.extents[tile.vector] > tile.lanes
        return any(self._is_far(x, id) for id in (*dict(tile.rows), self.reduced[-1].id))

    def _is_far(self, x: Access, id: int) -> bool:
        return (x.stride(id) or 0) * x.itemsize >= self.capabilities.alignment

    def _readers(self, x: Access, tile: Tile) -> int:
        """How many tiles read the same elements."""
        sizes = {**dict(tile.rows), tile.vector: tile.lanes}
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
