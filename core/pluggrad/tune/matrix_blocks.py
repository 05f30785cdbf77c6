"""A contraction by a matrix unit, block by block: a group fills panels of both factors and multiplies them.

All its items fill a panel side by side. Once the unit is through, the sums go to shared memory, and the items
do with them what the kernel does.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Final, NamedTuple

from pluggrad import dtypes
from pluggrad.graph import ops as g
from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import rewrite, substitute, toposort
from pluggrad.kernel import ops
from pluggrad.kernel.boxes import bounds
from pluggrad.kernel.index_nodes import INDEX, weighted_sum
from pluggrad.kernel.kernel import Axis, AxisKind, BufferParam, Kernel, axis, cast, const
from pluggrad.target import MatrixUnit
from pluggrad.tune.accesses import position, reduction_of
from pluggrad.tune.actions import cover, reorder
from pluggrad.tune.panels import ROW, Problem, Way
from pluggrad.tune.products import product_and_gates

_AT_ONCE: Final = 4  # of the sums that an item works on
BANKS: Final = 128  # bytes of shared memory that can be reached at once

_Terms = list[tuple[Node, int]]  # of a sum, each with its factor


class Block(NamedTuple):
    """What a task computes, how many steps of the sum its panels hold, and the items of its group. parts:
    into how many tasks a sum is cut."""

    rows: int
    columns: int
    steps: int
    stages: int
    group: int
    parts: int = 1


class Applied:
    """The kernel of one block, in the making. Of three axes each, the first are rows, then columns, then
    steps."""

    def __init__(self, problem: Problem, block: Block, unit: MatrixUnit) -> None:
        self.problem, self.block, self.unit = problem, block, unit
        self.extents = block.rows, block.columns, block.steps
        cut, row_tasks, rows = cover(problem.kernel, problem.ids[0], block.rows, "PARALLEL", "MATRIX")
        cut, column_tasks, columns = cover(cut, problem.ids[1], block.columns, "PARALLEL", "MATRIX")
        self.boxes = [_in_bounds(problem.value(cut, side)) for side in (0, 1)] if problem.span else []
        cut = replace(cut, stores=rewrite(cut.stores, _compared))
        others = [a.id for a in cut.axes if a.kind == "PARALLEL" and a.id not in (row_tasks, column_tasks)]
        self.cut = reorder(cut, [*others, row_tasks, column_tasks])
        self.inner = rows, columns, problem.ids[2]
        self.tasks = tuple([a.id for a in self.cut.axes if a.kind == "PARALLEL"])
        self.axes, self.buffers = list[Axis](), list(problem.kernel.buffers)
        # what is no whole number of pieces is none along which a panel runs
        self.pieces = [min(problem.piece(unit), extent) for extent in self.extents]
        self.item = self._new(block.group, "ITEM")
        # two axes each: along one of them pieces of a panel follow each other
        self.of_unit = [(self._new(extent // piece, "MATRIX"), self._new(piece, "MATRIX"))
                        for extent, piece in zip(self.extents, self.pieces, strict=True)]

    def kernel(self) -> Kernel:
        """Fills of both panels, the product, and what becomes of the sums."""
        panel = self._boxed if self.boxes else self._panel
        (fill, left), (other_fill, right) = panel(0), panel(1)
        total = node(ops.REDUCE, (node(g.MUL, (left, right), None, dtypes.float32),),
                     ("ADD", (self.problem.loop, *self.of_unit[2])), dtypes.float32)
        stride = self.block.columns + ROW // 4  # each row begins in other banks
        slot = self._local(dtypes.float32, self.block.rows * stride, 1)
        where = weighted_sum([*self._along(0, stride), *self._along(1, 1)])
        stored = node(ops.STORE, (where, total), (slot, (*self.tasks, *self.of_unit[0], *self.of_unit[1])),
                      dtypes.float32)
        ends = self._ends(slot, stride)
        kept = [a for a in self.cut.axes if a.id not in self.inner]
        return replace(self.cut, buffers=tuple(self.buffers), axes=(*kept, *self.axes),
                       stores=(fill, other_fill, stored, *ends))

    def _new(self, extent: int, kind: AxisKind) -> int:
        id = max([a.id for a in (*self.cut.axes, *self.axes)]) + 1
        self.axes.append(Axis(id, extent, kind))
        return id

    def _local(self, dtype: dtypes.DType, size: int, stages: int) -> int:
        kept = max(min(self.unit.in_flight, stages - 2), 0)
        self.buffers.append(BufferParam(dtype, size, "local", stages=stages, kept=kept))
        return len(self.buffers) - 1

    def _along(self, which: int, stride: int) -> _Terms:
        """Positions that the unit takes along rows, columns or steps, at a stride."""
        outer, inner = self.of_unit[which]
        return [(axis(outer), stride * self.pieces[which]), (axis(inner), stride)]

    def _panel(self, side: int) -> tuple[Node, Node]:
        """The store that fills the panel of a factor, and the factor as it is read there."""
        value, way = self.problem.value(self.cut, side), self.problem.ways[side]
        dtype, run, count = value.type, self.extents[way.along], self.extents[way.across]
        piece = self.pieces[way.along]
        if self.unit.piece_bytes:  # so many columns of pieces, apart so that neighbors are in other banks
            gap = max(piece, BANKS // dtype.itemsize * piece // run)
            leading, stride = count * piece + gap, piece
        else:
            leading, stride = piece, run + piece
        slot = self._local(dtype, max(leading * run // piece, stride * count), self.block.stages)
        spread = self._spread(run, count, way.width, every=True)
        if value.op is not ops.LOAD:  # what is computed from zeros may be none
            for gate in product_and_gates(reduction_of(self.cut))[1]:
                value = node(g.WHERE, (gate, value, const(0, dtype)), None, dtype)
        place = weighted_sum([*_in_pieces(spread.along, piece, leading), (spread.across, stride)])
        moved, = spread.moved([value], self.inner[way.along], self.inner[way.across])
        fill = node(ops.STORE, (place, moved), (slot, (*self.tasks, self.problem.loop, *spread.axes)), dtype)
        return fill, self._read(slot, dtype, way, leading, stride)

    def _boxed(self, side: int) -> tuple[Node, Node]:
        """The same, of a panel that an engine copies: spans of pieces, without gaps."""
        value, way, span = self.boxes[side], self.problem.ways[side], self.problem.span
        run, count = self.extents[way.along], self.extents[way.across]
        slot = self._local(value.type, run * count, self.block.stages)
        ids = [self._new(extent, "BOX") for extent in (run // span, count, span)]
        spans, across, within = map(axis, ids)
        there = {axis(self.inner[way.along]): weighted_sum([(spans, span), (within, 1)]),
                 axis(self.inner[way.across]): across}
        moved, = substitute([value], there)
        place = weighted_sum([(spans, span * count), (across, span), (within, 1)])
        fill = node(ops.STORE, (place, moved), (slot, (*self.tasks, self.problem.loop, *ids)), value.type)
        return fill, self._read(slot, value.type, way, span * count, span)

    def _read(self, slot: int, dtype: dtypes.DType, way: Way, leading: int, stride: int) -> Node:
        """A factor as the unit reads it from a panel."""
        outer, inner = self.of_unit[way.along]
        at = weighted_sum([(axis(outer), leading), (axis(inner), 1), *self._along(way.across, stride)])
        return cast(node(ops.LOAD, (at,), slot, dtype), dtypes.float32)

    def _ends(self, slot: int, stride: int) -> list[Node]:
        """The kernel's stores, of sums that are in memory."""
        rows, columns, _ = [axis(id) for id in self.inner]
        reduction = reduction_of(self.cut)
        summed = node(ops.LOAD, (weighted_sum([(rows, stride), (columns, 1)]),), slot, dtypes.float32)
        block, width = self.block, self.problem.end_width
        spread = self._spread(block.columns, block.rows, width, every=False)
        ends = spread.moved(substitute(self.cut.stores, {reduction: summed}), columns.arg, rows.arg)
        outside = [[id for id in end.arg[1] if id not in self.inner] for end in ends]
        return [node(ops.STORE, end.src, (end.arg[0], (*ids, *spread.axes)), end.type)
                for end, ids in zip(ends, outside, strict=True)]

    def _spread(self, run: int, count: int, width: int, *, every: bool) -> _Spread:
        """`run` places along memory by `count` across it, divided among the items: `width` neighbors each,
        then the next item. `every`: all of it is in flight at once."""
        group = self.block.group
        width = max(min(width, run * count // group), 1)
        side = min(run // width, group)  # items side by side
        loops, steps = run // width // side, -(-count * side // group)
        item, axes = axis(self.item), [self.item]
        along, across = _Terms(), _Terms()
        if side < group:
            across.append((node(ops.CDIV, (item, const(side)), None, INDEX), 1))
            item = node(ops.CMOD, (item, const(side)), None, INDEX)
        along.append((item, width))
        at_once = steps if every else min(steps, _AT_ONCE)
        for extent, factor, kind, terms in (
                (steps // at_once, at_once * group // side, "LOOP", across),
                (at_once, group // side, "TILE", across),
                (loops, side * width, "TILE" if every else "LOOP", along), (width, 1, "VECTOR", along)):
            if extent > 1:
                axes.append(self._new(extent, kind))  # type: ignore[arg-type]  # one of those literals
                terms.append((axis(axes[-1]), factor))
        return _Spread(along, weighted_sum(across), axes, width > 1)


class _Spread(NamedTuple):
    """Where the items of a group come to along memory, as terms of a sum, and across it; over which axes.
    in_rows: the last of the terms, and of the axes, are neighbors in a row."""

    along: _Terms
    across: Node
    axes: list[int]
    in_rows: bool

    def moved(self, nodes: Sequence[Node], along: int, across: int) -> tuple[Node, ...]:
        """What nodes come to there, of which two axes are told. A row is accessed from where its first
        element is, if it is."""
        there = {axis(along): weighted_sum(self.along), axis(across): self.across}
        if not self.in_rows:
            return substitute(nodes, there)
        (neighbor, _), start = self.along[-1], there | {axis(along): weighted_sum(self.along[:-1])}

        def accessed(n: Node, value: Sequence[Node]) -> Node:
            index, *gates = substitute([n.src[0], *n.src[1 + len(value):]], start)
            step = position(n.src[0], {along: 1}) - position(n.src[0], {})
            return node(n.op, (weighted_sum([(index, 1), (neighbor, step)] if step else [(index, 1)]),
                               *value, *gates), n.arg, n.type)

        order = toposort(nodes, lambda n: () if n.op is ops.LOAD else n.src)
        there |= {n: accessed(n, ()) for n in order if n.op is ops.LOAD}
        values = substitute([n.src[1] if n.op is ops.STORE else n for n in nodes], there)
        return tuple([accessed(n, [value]) if n.op is ops.STORE else value
                      for n, value in zip(nodes, values, strict=True)])


def _in_pieces(terms: _Terms, piece: int, leading: int) -> _Terms:
    """A position in a panel of columns of pieces, `leading` elements from one to the next."""
    found = _Terms()
    for part, factor in terms:
        if factor % piece == 0:
            found.append((part, factor // piece * leading))
        elif factor < terms[0][1]:  # within what an item moves at once
            found.append((part, 1))
        else:
            count = const(piece // factor)
            found += [(node(ops.CDIV, (part, count), None, INDEX), leading),
                      (node(ops.CMOD, (part, count), None, INDEX), factor)]
    return found


def _in_bounds(load: Node) -> Node:
    """A load of a box without what its bounds say, too: that splits left a last part shorter."""
    left = [bound for bound in bounds(load.src[1]) if bound.op is not ops.TAIL]
    gate = reduce(lambda x, y: node(g.AND, (x, y), None, dtypes.bool_), left)
    return node(ops.LOAD, (load.src[0], gate), load.arg, load.type)


def _compared(n: Node, src: tuple[Node, ...]) -> Node:
    """A TAIL as the comparison that it is: all tasks run the same code."""
    if n.op is ops.TAIL:
        return node(g.LT, (src[0], const(n.arg[2])), None, dtypes.bool_)
    return node(n.op, src, n.arg, n.type)
