"""Attention by `online`: reductions over one axis that depend on each other take one pass, block by block.

What they reduce is made of a contraction, such as scores of queries and keys. A task takes a vector of rows:
for each block of the reduced axis it computes the contraction into local memory, takes the maximum on to the
block, corrects the sums so far by exp(old maximum - new maximum), and adds what the block brings, as sums and
as products with a further operand. No element of the contraction reaches memory.
"""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pluggrad import dtypes
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
from pluggrad.tune.actions import axis_of, cover, share_axis, split

_REGISTERS: Final = (4, 2, 1)  # vectors of rows that a task takes, the first of least waste that fits
_BLOCK: Final = 64  # steps of the reduced axis between two corrections
_TRANSPOSED: Final = 16  # elements of a row that are packed at a time, through registers


def tune_online(kernel: Kernel, capabilities: Capabilities) -> Kernel | None:
    """The kernel in one pass over its blocks; None if it is no such chain, or memory is short."""
    if not capabilities.online:
        return None
    joined = _joined(kernel)
    if joined is None:
        return None
    kernel, reduced = joined
    roles = _roles(kernel, reduced)
    if roles is None:
        return None
    rows, width = roles[0].extent, vector_lanes(kernel, capabilities, 1)
    for registers in sorted(_REGISTERS, key=lambda n: -(-rows // (n * width)) * n):
        made = _Online(*_cut(kernel, reduced, *roles, registers, capabilities)).kernel()
        if made is None or made.local_bytes <= capabilities.local_bytes:
            return made
    return None


# ---- what is looked for ------------------------------------------------------------------------------------
def _joined(kernel: Kernel) -> tuple[Kernel, Axis] | None:
    """The kernel with all reductions of its chain over one axis, so that what they have in common is one
    value; None where there is no maximum of a contraction among them."""
    reductions = [n for n in toposort(kernel.stores) if n.op is ops.REDUCE]
    first = next((n for n in reductions if n.arg[0] == "MAX" and _reduces(n.src[0])), None)
    if first is None or any(a.kind == "LOOP" for a in kernel.axes):
        return None
    chain = [n for n in reductions if _reduces(n.src[0])]
    if any(len(n.arg[1]) > 1 for n in chain):
        return None
    target = axis_of(kernel, first.arg[1][0])
    for id in dict.fromkeys([n.arg[1][0] for n in chain]):
        if axis_of(kernel, id).extent != target.extent:
            return None
        if id != target.id:
            kernel = share_axis(kernel, id, target.id)
    return kernel, target


def _reduces(n: Node) -> bool:
    return any(m.op is ops.REDUCE for m in toposort([n]))


def _roles(kernel: Kernel, reduced: Axis) -> tuple[Axis, Axis | None] | None:
    """The axis of rows that a task takes as lanes, and the one of the further operand, if there is one."""
    order = toposort(kernel.stores)
    free = free_axes(order)
    scores = [n for n in order if n.op is ops.REDUCE and reduced.id in free[n]]
    if not scores:
        return None
    mine = frozenset[int]().union(*[free[n] for n in scores])
    outputs = [a for a in kernel.axes if a.kind == "PARALLEL" and a.extent > 1]
    columns = [a for a in outputs if a.id not in mine]
    reads = toposort([n for n in order if n.op is ops.REDUCE])
    others = [free[n] for n in reads if n.op is ops.LOAD and columns and columns[0].id in free[n]]
    rows = [a for a in outputs if a.id in mine and not any(a.id in axes for axes in others)]
    if not rows or len(columns) > 1:
        return None
    return max(rows, key=lambda a: a.extent), columns[0] if columns else None


def _cut(kernel: Kernel, reduced: Axis, rows: Axis, columns: Axis | None, registers: int,
         capabilities: Capabilities) -> tuple[Kernel, _Axes]:
    """The axes cut into what tasks, blocks and tiles take."""
    width = vector_lanes(kernel, capabilities, 1)
    room = (capabilities.vector_registers - registers - 1) // registers
    kernel, _, lanes = cover(kernel, rows.id, registers * width, "PARALLEL", "VECTOR")
    tile = max(room, 1)
    block = min(-(-_BLOCK // tile), -(-reduced.extent // tile)) * tile
    kernel, blocks, step = split(kernel, reduced.id, block, "LOOP", "REDUCE")
    tiles: tuple[int, int] | None = None
    if columns is not None:
        kernel, outer, inner = cover(kernel, columns.id, _even(columns.extent, room), "LOOP", "TILE")
        tiles = outer, inner
    return kernel, _Axes(lanes, blocks, step, tile, tiles)


def _even(extent: int, most: int) -> int:
    """The tile of at most `most` that divides best."""
    return min(range(max(most, 1), 0, -1), key=lambda tile: (-(-extent // tile) * tile, -tile))


@dataclass(frozen=True, slots=True)
class _Axes:
    """lanes: of rows, a VECTOR. blocks and step: of the reduced axis. tile: steps computed side by side.
    columns: the LOOP and TILE axes of the further operand."""

    lanes: int
    blocks: int
    step: int
    tile: int
    columns: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class _Sum:
    """A sum over the chain's axis of exp(scores - reference) * `inner`; `times` and `divided` are outside."""

    node: Node
    reference: Node
    inner: tuple[Node, ...]
    times: tuple[Node, ...]
    divided: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class _State:
    """The local buffer of a sum, its position within there, rows apart, and the axes that make that up."""

    slot: int
    position: Node | None
    loops: tuple[int, ...]


class _Online:
    """One kernel while it is being written."""

    def __init__(self, kernel: Kernel, axes: _Axes) -> None:
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

    # ---- the parts of the kernel that is there -------------------------------------------------------------
    def _summand(self, n: Node) -> Node:
        """What a reduction reduces, without what stands for it beyond the end of the axis."""
        value = n.src[0]
        return value.src[1] if value.op is g.WHERE and value.src[0] is self.tail else value

    def _parsed(self, n: Node, maximum: Node) -> _Sum | None:
        """A sum, if one of its factors is the exponential of the scores less what is the same for a row."""
        inner: list[Node] = []
        times: list[Node] = []
        divided: list[Node] = []
        references: list[Node] = []
        stack = [self._summand(n)]
        while stack:
            factor = stack.pop()
            if not self.free[factor] & {self.axes.blocks, self.axes.step}:
                times.append(factor)
            elif factor.op is g.MUL:
                stack += factor.src
            elif factor.op is g.DIV and not self.free[factor.src[1]] & {self.axes.blocks, self.axes.step}:
                stack.append(factor.src[0])
                divided.append(factor.src[1])
            elif factor.op is g.EXP and self._is_shifted(factor.src[0], maximum):
                references.append(factor.src[0].src[1])
            else:
                inner.append(factor)
        dependent = any(m in self.chain for m in toposort(inner))
        if n.arg[0] != "ADD" or len(references) != 1 or dependent or n.type is not maximum.type:
            return None
        return _Sum(n, references[0], tuple(inner), tuple(times), tuple(divided))

    def _is_shifted(self, n: Node, maximum: Node) -> bool:
        """Whether it is the scores less something that is the same for all of a row."""
        return n.op is g.SUB and n.src[0] is self._summand(maximum) \
            and not self.free[n.src[1]] & {self.axes.blocks, self.axes.step}

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
        self.stores.append(node(ops.STORE, (index, value), (slot, ids), value.type))

    def _load(self, slot: int, position: Node | None = None) -> Node:
        return node(ops.LOAD, (self._row(position),), slot, self.buffers[slot].dtype)

    def _total(self, name: str, value: Node) -> Node:
        """Reduced over a block, and no further than the axis goes."""
        nothing = const(identity(name, value.type), value.type)
        value = value if self.tail is None else _where(self.tail, value, nothing)
        return node(ops.REDUCE, (value,), (name, (self.axes.step,)), value.type)

    def kernel(self) -> Kernel | None:
        """The stores in their order; None where a reduction is not of the chain's form."""
        maximum, *others = self.chain
        sums = [s for s in [self._parsed(n, maximum) for n in others] if s is not None]
        if maximum.arg[0] != "MAX" or len(sums) < len(others):
            return None
        of, block = maximum.type, self.extents[self.axes.step]
        largest, newer, correction = [self._local(of, self.width) for _ in range(3)]
        weights = self._local(of, block * self.width)
        states = [self._state(s) for s in sums]
        self._store(largest, self._row(), const(identity("MAX", of), of))
        for state in states:
            self._store(state.slot, self._row(state.position), const(0, of), *state.loops)
        self._scores(maximum, weights)
        blocks, step = self.axes.blocks, axis(self.axes.step)
        old, new = self._load(largest), self._load(newer)
        found = self._total("MAX", self._load(weights, step))
        self._store(newer, self._row(), _op(g.MAX, old, found), blocks)
        self._store(correction, self._row(), _correction(old, new), blocks)
        each = self._axis(block, "LOOP")
        grown = _op(g.EXP, _op(g.SUB, self._load(weights, axis(each)), _finite(new)))
        self._store(weights, self._row(axis(each)), grown, blocks, each)
        for s, state in zip(sums, states, strict=True):
            product = self._load(weights, step)
            for factor in s.inner:
                product = _op(g.MUL, product, factor)
            before = _op(g.MUL, self._load(state.slot, state.position), self._load(correction))
            total = _op(g.ADD, before, self._total("ADD", product))
            self._store(state.slot, self._row(state.position), total, blocks, *state.loops)
        self._store(largest, self._row(), new, blocks)
        self._finish(maximum, old, sums, states)
        return self._made()

    def _state(self, s: _Sum) -> _State:
        """Where a sum is kept from block to block."""
        columns = [id for id in self.axes.columns or () if id in self.free[s.node]]
        if not columns:
            return _State(self._local(s.node.type, self.width), None, ())
        outer, inner = columns
        position = weighted_sum([(axis(outer), self.extents[inner]), (axis(inner), 1)])
        rows = self.extents[outer] * self.extents[inner]
        return _State(self._local(s.node.type, rows * self.width), position, (outer, inner))

    def _scores(self, maximum: Node, weights: int) -> None:
        """A block of what the maximum is of, from tiles in registers."""
        packed = self._packed(maximum)
        outer = self._axis(self.extents[self.axes.step] // self.axes.tile, "LOOP")
        inner = self._axis(self.axes.tile, "TILE")
        position = weighted_sum([(axis(outer), self.axes.tile), (axis(inner), 1)])
        value, = substitute([self._summand(maximum)], {**packed, axis(self.axes.step): position})
        self._store(weights, self._row(position), value, self.axes.blocks, outer, inner)

    def _packed(self, maximum: Node) -> dict[Node, Node]:
        """What the contraction reads of a task's rows, and the loads of it packed, with rows as lanes."""
        packed = {}
        inside = toposort([n.src[0] for n in toposort([self._summand(maximum)]) if n.op is ops.REDUCE])
        for load in [n for n in inside if n.op is ops.LOAD]:
            strides = linear(load.src[0]).strides
            summed = [id for id in self.extents if id in self.free[load] and id not in self.parallel
                      and id != self.axes.lanes]
            if strides.get(self.axes.lanes, 0) in (0, 1) or {self.axes.blocks, self.axes.step} & {*summed}:
                continue
            packed[load] = self._pack(load, summed)
        return packed

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

    def _finish(self, maximum: Node, largest: Node, sums: Sequence[_Sum], states: Sequence[_State]) -> None:
        """The kernel's own stores, from what the last block has left."""
        given = {maximum: largest}
        for s, state in zip(sums, states, strict=True):
            value = self._load(state.slot, state.position)
            if s.reference is not _finite(maximum):
                value = _op(g.MUL, value, _op(g.EXP, _op(g.SUB, _finite(maximum), s.reference)))
            for factor in s.times:
                value = _op(g.MUL, value, factor)
            for divisor in s.divided:
                value = _op(g.DIV, value, divisor)
            given[s.node], = substitute([value], given)
        for store in substitute(self.origin.stores, given):
            used = free_axes(toposort([store]))[store]
            ids = [id for id in store.arg[1] if id in used or id in (*self.parallel, self.axes.lanes)]
            arg = (store.arg[0], tuple(ids), *store.arg[2:])
            self.stores.append(node(ops.STORE, store.src, arg, store.type))

    def _made(self) -> Kernel:
        """The stores over their axes: tasks, then the loop over blocks around all others."""
        first = [a for a in self.origin.axes if a.kind == "PARALLEL"]
        around = [axis_of(self.origin, self.axes.blocks)]
        others = [a for a in self.origin.axes if a not in first and a not in around]
        return replace(self.origin, buffers=tuple(self.buffers), axes=(*first, *around, *others, *self.added),
                       stores=tuple(self.stores))


def _op(op: Op, *sources: Node) -> Node:
    return node(op, sources, None, sources[-1].type)


def _where(condition: Node, yes: Node, no: Node) -> Node:
    return node(g.WHERE, (condition, yes, no), None, no.type)


def _is_least(n: Node) -> Node:
    return node(g.EQ, (n, const(identity("MAX", n.type), n.type)), None, dtypes.bool_)


def _finite(largest: Node) -> Node:
    """What scores are shifted by: 0 while there is nothing but -inf, from which nothing may be subtracted."""
    return _where(_is_least(largest), const(0, largest.type), largest)


def _correction(old: Node, new: Node) -> Node:
    """What sums are multiplied by as the maximum grows; 1 before there was any."""
    return _where(_is_least(old), const(1, old.type), _op(g.EXP, _op(g.SUB, old, new)))
