"""Reductions over one axis whose elements are made of contractions, block by block of that axis.

A task takes a vector of rows. For each block of the reduced axis it computes the contractions into local
memory, from tiles in registers, and then what the reductions gain by it, which it keeps there as well. No
element of the contractions reaches memory. What a block adds is up to the schedule (online.py, weighted.py).
"""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pluggrad.dtypes import DType
from pluggrad.graph import ops as g
from pluggrad.ir.node import Node, Op, node
from pluggrad.ir.walk import substitute, toposort
from pluggrad.kernel import ops
from pluggrad.kernel.free import free_axes
from pluggrad.kernel.index_nodes import linear, weighted_sum
from pluggrad.kernel.kernel import Axis, AxisKind, BufferParam, Kernel, axis, const
from pluggrad.kernel.reductions import identity
from pluggrad.shape.index import row_major
from pluggrad.target import Capabilities
from pluggrad.tune.accesses import vector_lanes
from pluggrad.tune.actions import axis_of, bind, cover, split

_REGISTERS: Final = (4, 2, 1)  # vectors of rows that a task takes, the first of least waste that fits
_BLOCK: Final = 64  # steps of the reduced axis whose elements are in local memory
_TRANSPOSED: Final = 16  # elements of a row that are packed at a time, through registers


@dataclass(frozen=True, slots=True)
class BlockAxes:
    """lanes: of rows, a VECTOR. blocks and step: of the reduced axis. tile: steps computed side by side.
    columns: the LOOP and TILE axes of each further operand."""

    lanes: int
    blocks: int
    step: int
    tile: int
    columns: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class State:
    """The local buffer of a sum, its position within there, rows apart, and the axes that make that up."""

    slot: int
    position: Node | None
    loops: tuple[int, ...]


def fitted(kernel: Kernel, reduced: Axis, capabilities: Capabilities,
           write: Callable[[Kernel, BlockAxes], Kernel | None]) -> Kernel | None:
    """What `write` makes of the kernel with its axes cut; None where it makes nothing, or memory is short."""
    found = _roles(kernel, reduced)
    if found is None:
        return None
    rows, width = found[0].extent, vector_lanes(kernel, capabilities, 1)
    for registers in sorted(_REGISTERS, key=lambda n: -(-rows // (n * width)) * n):
        made = write(*_cut(kernel, reduced, *found, registers, capabilities))
        if made is None or made.local_bytes <= capabilities.local_bytes:
            return made
    return None


def nests_reductions(kernel: Kernel) -> bool:
    """Whether a reduction reduces what others give at each of its steps."""
    order = toposort(kernel.stores)
    free = free_axes(order)
    return any(not free[inner].isdisjoint(n.arg[1]) for n in order if n.op is ops.REDUCE
               for inner in toposort(n.src) if inner.op is ops.REDUCE)


def one_by_one(kernel: Kernel) -> list[Kernel]:
    """A kernel for each store, whose loops are tasks."""
    kernel = bind(kernel, "PARALLEL", *[a.id for a in kernel.axes if a.kind == "LOOP"])
    return [replace(kernel, stores=(store,), axes=tuple([
        a for a in kernel.axes if a.kind != "PARALLEL" or a.id in store.arg[1]])) for store in kernel.stores]


def _roles(kernel: Kernel, reduced: Axis) -> tuple[Axis, list[Axis]] | None:
    """The axis of rows that a task takes as lanes, and those of the further operands, one each."""
    order = toposort(kernel.stores)
    free = free_axes(order)
    scores = [n for n in order if n.op is ops.REDUCE and reduced.id in free[n]]
    if not scores or any(n.op in (ops.SCAN, ops.TALLY) for n in order):
        return None
    mine = frozenset[int]().union(*[free[n] for n in scores])
    columns = [a for a in kernel.axes if a.kind in ("PARALLEL", "LOOP") and a.extent > 1 and a.id not in mine]
    apart = {a.id for a in columns}
    reads = toposort([n for n in order if n.op is ops.REDUCE])
    others = [free[n] for n in reads if n.op is ops.LOAD and apart & free[n]]
    rows = [a for a in kernel.axes if a.kind == "PARALLEL" and a.extent > 1 and a.id in mine
            and not any(a.id in axes for axes in others)]
    if not rows or any(len(apart & free[store]) > 1 for store in kernel.stores):
        return None
    return max(rows, key=lambda a: a.extent), columns


def _cut(kernel: Kernel, reduced: Axis, rows: Axis, columns: Sequence[Axis], registers: int,
         capabilities: Capabilities) -> tuple[Kernel, BlockAxes]:
    """The axes cut into what tasks, blocks and tiles take."""
    width = vector_lanes(kernel, capabilities, 1)
    room = (capabilities.vector_registers - registers - 1) // registers
    kernel, _, lanes = cover(kernel, rows.id, registers * width, "PARALLEL", "VECTOR")
    tile = max(room, 1)
    block = min(-(-_BLOCK // tile), -(-reduced.extent // tile)) * tile
    kernel, blocks, step = split(kernel, reduced.id, block, "LOOP", "REDUCE")
    tiles: list[tuple[int, int]] = []
    for each in columns:
        kernel, outer, inner = cover(kernel, each.id, _even(each.extent, room), "LOOP", "TILE")
        tiles.append((outer, inner))
    return kernel, BlockAxes(lanes, blocks, step, tile, tuple(tiles))


def _even(extent: int, most: int) -> int:
    """The tile of at most `most` that divides best."""
    return min(range(max(most, 1), 0, -1), key=lambda tile: (-(-extent // tile) * tile, -tile))


class Blockwise:
    """One kernel while it is being written."""

    def __init__(self, kernel: Kernel, axes: BlockAxes) -> None:
        self.origin, self.axes = kernel, axes
        self.extents = {a.id: a.extent for a in kernel.axes}
        self.parallel = tuple([a.id for a in kernel.axes if a.kind == "PARALLEL"])
        order = toposort(kernel.stores)
        self.free = free_axes(order)
        self.chain = [n for n in order if n.op is ops.REDUCE and n.arg[1] == (axes.blocks, axes.step)]
        self.tail = next((n for n in order if n.op is ops.TAIL and n.arg[0] == axes.blocks), None)
        self.width = self.extents[axes.lanes]
        self.taken = max(self.extents) + 1
        self.buffers = list(kernel.buffers)
        self.added: list[Axis] = []
        self.stores: list[Node] = []
        self.gate: Node | None = None  # false for blocks that add nothing

    def _summand(self, n: Node) -> Node:
        """What a reduction reduces, without what stands for it beyond the end of the axis."""
        value = n.src[0]
        return value.src[1] if value.op is g.WHERE and value.src[0] is self.tail else value

    def _reached(self, scores: Node) -> Node | None:
        """Whether a block has any scores but -inf, where positions alone decide that; None where they do not.

        A comparison of what rises with positions holds somewhere if it holds for the least and the greatest.
        """
        if scores.op is not g.WHERE or scores.src[0].op not in (g.LE, g.LT) \
                or scores.src[2] is not const(identity("MAX", scores.type), scores.type) \
                or not all(map(_rises, toposort(scores.src[0].src))):
            return None
        condition, moving = scores.src[0], (self.axes.step, self.axes.lanes)
        least, = substitute(condition.src[:1], {axis(id): const(0) for id in moving})
        greatest, = substitute(condition.src[1:], {axis(id): const(self.extents[id] - 1) for id in moving})
        return node(condition.op, (least, greatest), None, condition.type)

    # ---- the parts of the one to be ------------------------------------------------------------------------
    def _local(self, dtype: DType, size: int) -> int:
        self.buffers.append(BufferParam(dtype, size, "local"))
        return len(self.buffers) - 1

    def _axis(self, extent: int, kind: AxisKind) -> int:
        self.added.append(Axis(self.taken, extent, kind))
        self.taken += 1
        return self.added[-1].id

    def _row(self, position: Node | None = None) -> Node:
        """The index of the task's rows in local memory, at a position of what lies around them."""
        lanes = axis(self.axes.lanes)
        return lanes if position is None else weighted_sum([(position, self.width), (lanes, 1)])

    def _store(self, slot: int, index: Node, value: Node, *loops: int) -> None:
        ids = (*self.parallel, *loops, self.axes.lanes)
        gate = () if self.gate is None or self.axes.blocks not in loops else (self.gate,)
        self.stores.append(node(ops.STORE, (index, value, *gate), (slot, ids), value.type))

    def _load(self, slot: int, position: Node | None = None) -> Node:
        return node(ops.LOAD, (self._row(position),), slot, self.buffers[slot].dtype)

    def _total(self, name: str, value: Node) -> Node:
        """Reduced over a block, and no further than the axis goes."""
        nothing = const(identity(name, value.type), value.type)
        value = value if self.tail is None else where(self.tail, value, nothing)
        return node(ops.REDUCE, (value,), (name, (self.axes.step,)), value.type)

    def _state(self, total: Node) -> State:
        """Where a sum is kept from block to block."""
        columns = next((pair for pair in self.axes.columns if pair[1] in self.free[total]), None)
        if columns is None:
            return State(self._local(total.type, self.width), None, ())
        outer, inner = columns
        position = weighted_sum([(axis(outer), self.extents[inner]), (axis(inner), 1)])
        rows = self.extents[outer] * self.extents[inner]
        return State(self._local(total.type, rows * self.width), position, (outer, inner))

    def _computed(self, contraction: Node, slot: int) -> None:
        """A block of a contraction, or what is made of it, from tiles in registers."""
        outer = self._axis(self.extents[self.axes.step] // self.axes.tile, "LOOP")
        inner = self._axis(self.axes.tile, "TILE")
        position = weighted_sum([(axis(outer), self.axes.tile), (axis(inner), 1)])
        value, = substitute([contraction], {axis(self.axes.step): position})
        self._store(slot, self._row(position), value, self.axes.blocks, outer, inner)

    def _packed(self, contraction: Node) -> Node:
        """The contraction with what it reads of a task's rows packed before all blocks, rows as lanes."""
        packed = {}
        inside = toposort([n.src[0] for n in toposort([contraction]) if n.op is ops.REDUCE])
        for load in [n for n in inside if n.op is ops.LOAD]:
            strides = linear(load.src[0]).strides
            summed = [id for id in self.extents if id in self.free[load] and id not in self.parallel
                      and id != self.axes.lanes]
            if strides.get(self.axes.lanes, 0) in (0, 1) or {self.axes.blocks, self.axes.step} & {*summed}:
                continue
            packed[load] = self._pack(load, summed)
        return substitute([contraction], packed)[0]

    def _pack(self, load: Node, summed: Sequence[int]) -> Node:
        """Store what is loaded along the axes that a contraction sums up, the last in steps of a tile."""
        slot = self._local(load.type, math.prod([self.extents[id] for id in summed]) * self.width)
        moved: dict[Node, Node] = {}
        loops: list[int] = []
        for id in summed:
            extent = self.extents[id]
            if id == summed[-1] and extent % _TRANSPOSED == 0:
                outer, inner = self._axis(extent // _TRANSPOSED, "LOOP"), self._axis(_TRANSPOSED, "TILE")
                moved[axis(id)] = weighted_sum([(axis(outer), _TRANSPOSED), (axis(inner), 1)])
                loops += [outer, inner]
            else:
                loops.append(self._axis(extent, "LOOP"))
                moved[axis(id)] = axis(loops[-1])
        value, = substitute([load], moved)
        self._store(slot, self._row(self._along(summed, moved)), value, *loops)
        return self._load(slot, self._along(summed, {}))

    def _along(self, ids: Sequence[int], moved: Mapping[Node, Node]) -> Node:
        """The row-major position along some axes."""
        strides = row_major(tuple([self.extents[id] for id in ids]))
        return weighted_sum([(moved.get(axis(id), axis(id)), stride)
                             for id, stride in zip(ids, strides, strict=True)])

    def _finish(self, given: Mapping[Node, Node]) -> Kernel:
        """The kernel's own stores, from what the last block has left, and its axes in order."""
        for store in substitute(self.origin.stores, given):
            used = free_axes(toposort([store]))[store]
            ids = [id for id in store.arg[1] if id in used or id in (*self.parallel, self.axes.lanes)]
            arg = (store.arg[0], tuple(ids), *store.arg[2:])
            self.stores.append(node(ops.STORE, store.src, arg, store.type))
        return self._made()

    def _made(self) -> Kernel:
        """The stores over their axes: tasks, then the loop over blocks around all others."""
        first = [a for a in self.origin.axes if a.kind == "PARALLEL"]
        around = [axis_of(self.origin, self.axes.blocks)]
        others = [a for a in self.origin.axes if a not in first and a not in around]
        return replace(self.origin, buffers=tuple(self.buffers), axes=(*first, *around, *others, *self.added),
                       stores=tuple(self.stores))


def _rises(n: Node) -> bool:
    """Whether what is made of axes never falls as one of them rises."""
    if n.op is g.MUL:
        return n.src[1].op is ops.CONST and n.src[1].arg.bits >= 0
    return n.op in (ops.AXIS, ops.CONST, g.ADD, g.MIN, g.CAST) and n.type.kind in "iu"


def op(op: Op, *sources: Node) -> Node:
    return node(op, sources, None, sources[-1].type)


def unrounded(n: Node) -> Node:
    """The value that `n` is near, as another float dtype has it; else `n` itself."""
    if n.op is not g.CAST or n.src[0].op is not g.CAST or not n.src[0].type.is_float:
        return n
    value, = n.src[0].src
    return value if value.type is n.type else n


def where(condition: Node, yes: Node, no: Node) -> Node:
    return node(g.WHERE, (condition, yes, no), None, no.type)
