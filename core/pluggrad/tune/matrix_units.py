"""Contractions by matrix units: a group takes a block of outputs, and multiplies panels in memory it shares.

A product of matrices in any transposition, a stack of them, a convolution: what varies with one factor
alone are rows or columns, what varies with both tells products apart, and all that is summed over is one
axis. A task fills a panel of each factor, all items side by side, whatever the function is that finds its
elements; the unit multiplies them. Once it is through, the sums go to shared memory, and the items do with
them what the kernel does.
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from pluggrad import dtypes
from pluggrad.config import MATMUL_PRECISION
from pluggrad.graph import ops as g
from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import rewrite, substitute, toposort
from pluggrad.kernel import ops
from pluggrad.kernel.free import free_axes
from pluggrad.kernel.index_nodes import INDEX, linear, weighted_sum
from pluggrad.kernel.kernel import Axis, AxisKind, BufferParam, Kernel, axis, cast, const
from pluggrad.target import Capabilities, MatrixUnit
from pluggrad.tune.accesses import reduction_of
from pluggrad.tune.actions import axis_of, cover, join_all, reorder, split
from pluggrad.tune.products import multiplied

_LEAST: Final = 1 << 16  # multiply-adds; below, filling panels takes longer than the products
_SHORTEST: Final = 16  # rows, columns and steps; fewer leave most of a unit idle
_BLOCKS: Final = (
    (128, 256), (256, 128), (128, 128), (128, 64), (64, 128), (64, 64), (64, 32), (32, 64), (32, 32))
_GROUP: Final = (128, 256)  # the fewest and the most items of a group
_EDGE: Final = 64.0  # outputs that could be computed while a row or column of a block is fetched
_RUN: Final = 128  # bytes of a panel along the sum
_MOST_STAGES: Final = 4
_FEWEST_STAGES: Final = 3
_ROW: Final = 16  # bytes that an item moves at once
_MOST_MOVES: Final = 16  # of those that an item makes for a panel: each is code, and registers
_AT_ONCE: Final = 4  # of the sums that an item works on
_BANKS: Final = 128  # bytes of shared memory that can be reached at once
_PIECE: Final = 8  # of elements, where a unit has operands row by row


_Terms = list[tuple[Node, int]]  # of a sum, each with its factor


class _Way(NamedTuple):
    """How a panel is filled: along rows, columns or steps (0, 1, 2), across another of them, `width`
    elements at a time."""

    along: int
    across: int
    width: int


@dataclass(frozen=True, slots=True)
class _Problem:
    """A contraction whose rows, columns and steps are an axis each: `ids`, of `lengths`.

    sides: which factor of the product is the left one, and which the right. end_width: columns that what is
    done with the sums can do at once.
    """

    ids: tuple[int, int, int]
    lengths: tuple[int, int, int]
    sides: tuple[int, int]
    inputs: dtypes.DType
    ways: tuple[_Way, _Way]
    end_width: int

    def value(self, kernel: Kernel, side: int) -> Node:
        """What is multiplied, in the unit's dtype, as a kernel has it."""
        return _narrowest(multiplied(reduction_of(kernel)).src[self.sides[side]])

    def piece(self, unit: MatrixUnit) -> int:
        """Elements of a piece."""
        return unit.piece_bytes // self.inputs.itemsize or _PIECE


@dataclass(frozen=True, slots=True)
class _Block:
    """What a task computes, how many steps of the sum its panels hold, and the items of its group."""

    rows: int
    columns: int
    steps: int
    stages: int
    group: int


def multiply_matrices(kernel: Kernel, capabilities: Capabilities) -> Kernel | None:
    """The contraction by a matrix unit, or None where there is none for it, or it is too small."""
    sides = _sides(kernel)
    if sides is None or capabilities.max_group < _GROUP[0] or not capabilities.scratch_bytes:
        return None
    inputs = _narrowest(multiplied(reduction_of(kernel)).src[0]).type.name
    if inputs == MATMUL_PRECISION.value == "float32":
        return None
    unit = capabilities.matrix_unit(inputs)
    extents = {a.id: a.extent for a in kernel.axes}
    shortest = min([math.prod([extents[id] for id in ids]) for ids in sides.axes])
    if unit is None or shortest < _SHORTEST or math.prod(extents.values()) < _LEAST:
        return None
    ids = []
    for own in sides.axes:
        kernel, id = _joined(kernel, own)
        ids.append(id)
    problem = _problem(kernel, (ids[0], ids[1], ids[2]), sides.order, unit)
    block = _best_block(kernel, problem, unit, capabilities)
    return None if block is None else _Applied(kernel, problem, block, unit).kernel()


# ---- what is multiplied ------------------------------------------------------------------------------------
class _Sides(NamedTuple):
    """Which factor is the left one and which the right, and the axes of rows, columns and steps."""

    order: tuple[int, int]
    axes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def _sides(kernel: Kernel) -> _Sides | None:
    """Of a sum of products whose factors are of one dtype; the result runs along columns, if along either."""
    reduction = reduction_of(kernel)
    if reduction.arg[0] != "ADD" or reduction.src[0].op is not g.MUL or reduction.type is not dtypes.float32:
        return None
    free = free_axes(toposort(kernel.stores))
    factors = reduction.src[0].src
    first, second = [free[factor] for factor in factors]
    outputs = {a.id for a in kernel.axes if a.kind == "PARALLEL"}
    plain = all(len(store.arg) == 2 and free[reduction] <= set(store.arg[1]) <= outputs
                for store in kernel.stores)
    alike = _narrowest(factors[0]).type is _narrowest(factors[1]).type
    if not plain or not alike or not set(reduction.arg[1]) <= first & second:
        return None
    own = [tuple([a.id for a in kernel.axes if a.extent > 1 and a.id in ids])
           for ids in (first - second, second - first)]
    if not own[0] or not own[1]:
        return None
    written = linear(kernel.stores[0].src[0]).strides
    steps = [min([abs(written.get(id, 0)) or math.inf for id in ids]) for ids in own]
    order = (0, 1) if steps[1] <= steps[0] else (1, 0)
    return _Sides(order, (own[order[0]], own[order[1]], reduction.arg[1]))


def _narrowest(factor: Node) -> Node:
    return factor.src[0] if factor.op is g.CAST and factor.src[0].type.is_float else factor


def _joined(kernel: Kernel, ids: Sequence[int]) -> tuple[Kernel, int]:
    """Axes as one, in the order in which they stand."""
    kernel, joined = join_all(kernel, [a.id for a in kernel.axes if a.id in ids])
    if len(ids) > 1:
        kernel = replace(kernel, stores=rewrite(kernel.stores, _rejoined))
    return kernel, joined.id


def _rejoined(n: Node, src: tuple[Node, ...]) -> Node:
    """An address in which quotient and remainder of a joined axis add up to the axis."""
    if n.op not in (ops.LOAD, ops.STORE):
        return node(n.op, src, n.arg, n.type)
    strides, rest, offset = linear(src[0])
    for part, factor in list(rest.items()):
        quotient = node(ops.CDIV, part.src, None, INDEX) if part.op is ops.CMOD else None
        if quotient in rest and rest[quotient] == factor * part.src[1].arg.bits:
            del rest[quotient], rest[part]
            rest[part.src[0]] = factor
    terms = [*[(axis(id), stride) for id, stride in strides.items()], *rest.items()]
    return node(n.op, (weighted_sum(terms, offset), *src[1:]), n.arg, n.type)


def _problem(kernel: Kernel, ids: tuple[int, int, int], sides: tuple[int, int], unit: MatrixUnit) -> _Problem:
    lengths = [axis_of(kernel, id).extent for id in ids]
    factors = [_narrowest(multiplied(reduction_of(kernel)).src[side]) for side in sides]
    inputs = factors[0].type
    ways = []
    for own, value in enumerate(factors):
        # a unit turns around what is in halves, and nothing wider
        along_sum = inputs.itemsize > 2 or _step(value, ids[2]) <= _step(value, ids[own])
        along, across = (2, own) if along_sum else (own, 2)
        width = min(_width([value], ids[along], lengths[along]), _ROW // inputs.itemsize)
        ways.append(_Way(along, across, width))
    total = reduction_of(kernel)
    end = min(_width(kernel.stores, ids[1], lengths[1], total), _ROW // 4)
    return _Problem(ids, (lengths[0], lengths[1], lengths[2]), sides, inputs, (ways[0], ways[1]), end)


def _step(value: Node, id: int) -> float:
    """How far neighbors along an axis lie apart in memory, in elements."""
    found = [linear(n.src[0]).strides.get(id, 0) for n in toposort([value]) if n.op is ops.LOAD]
    return min([abs(stride) for stride in found if stride], default=math.inf)


def _width(values: Sequence[Node], id: int, extent: int, without: Node | None = None) -> int:
    """Neighbors along an axis that all accesses find side by side, or at one place, at multiples of that
    many."""
    width = math.gcd(extent, _ROW)
    for n in toposort(values, lambda n: () if n is without else n.src):
        if n.op not in (ops.LOAD, ops.STORE):
            continue
        strides, rest, offset = linear(n.src[0])
        gates = n.src[1:] if n.op is ops.LOAD else n.src[2:]
        if strides.get(id, 0) not in (0, 1) or axis(id) in toposort([*rest, *gates]):
            return 1
        if strides.get(id):
            others = [stride for other, stride in strides.items() if other != id]
            width = math.gcd(width, offset, *others, *rest.values())
    return width


# ---- which block of outputs --------------------------------------------------------------------------------
def _best_block(kernel: Kernel, problem: _Problem, unit: MatrixUnit,
                capabilities: Capabilities) -> _Block | None:
    rows, columns, _ = problem.lengths
    others = kernel.tasks // (rows * columns)

    def price(block: _Block) -> float:
        tasks = others * -(-rows // block.rows) * -(-columns // block.columns)
        one = block.rows * block.columns + _EDGE * (block.rows + block.columns)
        return -(-tasks // capabilities.cores) * one

    return min(_blocks(problem, unit, capabilities), key=price, default=None)


def _blocks(problem: _Problem, unit: MatrixUnit, capabilities: Capabilities) -> Iterator[_Block]:
    """Blocks whose sums fit the registers, and whose panels the shared memory: several stages of them,
    where copies are made while products are."""
    size, limit = problem.inputs.itemsize, capabilities.scratch_bytes
    for rows, columns in _BLOCKS:
        group = min(max(rows * columns // unit.sums_per_item, _GROUP[0]), _GROUP[1], capabilities.max_group)
        tile = group // unit.items * unit.rows * unit.columns
        if rows % unit.rows or columns % unit.columns or rows * columns % tile \
                or rows * columns > group * unit.sums_per_item or 4 * rows * (columns + _ROW) > limit:
            continue
        for steps in (_RUN // size, _RUN // size // 2):
            stages = min(_MOST_STAGES, -(-problem.lengths[2] // steps)) if capabilities.copies_ahead else 1
            room = limit // ((rows + columns) * steps * size + 2 * _BANKS * _ROW)
            moves = [extent * steps // (group * way.width)
                     for extent, way in zip((rows, columns), problem.ways, strict=True)]
            if room >= min(stages, _FEWEST_STAGES) and max(moves) <= _MOST_MOVES:
                yield _Block(rows, columns, steps, min(stages, room), group)
                break


# ---- applying it -------------------------------------------------------------------------------------------
class _Applied:
    """The kernel of one block, in the making. Of three axes each, the first are rows, then columns, then
    steps."""

    def __init__(self, kernel: Kernel, problem: _Problem, block: _Block, unit: MatrixUnit) -> None:
        self.problem, self.block, self.unit = problem, block, unit
        self.extents = block.rows, block.columns, block.steps
        cut, row_tasks, rows = cover(kernel, problem.ids[0], block.rows, "PARALLEL", "MATRIX")
        cut, column_tasks, columns = cover(cut, problem.ids[1], block.columns, "PARALLEL", "MATRIX")
        cut, self.loop, steps = split(cut, problem.ids[2], block.steps, "REDUCE", "MATRIX")
        cut = replace(cut, stores=rewrite(cut.stores, _compared))
        others = [a.id for a in cut.axes if a.kind == "PARALLEL" and a.id not in (row_tasks, column_tasks)]
        self.cut, self.inner = reorder(cut, [*others, row_tasks, column_tasks]), (rows, columns, steps)
        self.tasks = tuple([a.id for a in self.cut.axes if a.kind == "PARALLEL"])
        self.axes, self.buffers = list[Axis](), list(kernel.buffers)
        self.piece = problem.piece(unit)
        self.item = self._new(block.group, "ITEM")
        # two axes each: along one of them pieces of a panel follow each other
        self.of_unit = [(self._new(extent // self.piece, "MATRIX"), self._new(self.piece, "MATRIX"))
                        for extent in self.extents]

    def kernel(self) -> Kernel:
        """Fills of both panels, the product, and what becomes of the sums."""
        (fill, left), (other_fill, right) = self._panel(0), self._panel(1)
        total = node(ops.REDUCE, (node(g.MUL, (left, right), None, dtypes.float32),),
                     ("ADD", (self.loop, *self.of_unit[2])), dtypes.float32)
        stride = self.block.columns + _ROW // 4  # each row begins in other banks
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
        return [(axis(outer), stride * self.piece), (axis(inner), stride)]

    def _panel(self, side: int) -> tuple[Node, Node]:
        """The store that fills the panel of a factor, and the factor as it is read there."""
        value, way = self.problem.value(self.cut, side), self.problem.ways[side]
        dtype, piece, run, count = value.type, self.piece, self.extents[way.along], self.extents[way.across]
        if self.unit.piece_bytes:  # so many columns of pieces, apart so that neighbors are in other banks
            gap = max(piece, _BANKS // dtype.itemsize * piece // run)
            leading, stride = count * piece + gap, piece
        else:
            leading, stride = piece, run + piece
        slot = self._local(dtype, max(leading * run // piece, stride * count), self.block.stages)
        terms, other, axes = self._spread(run, count, way.width, every=True)
        moved = {axis(self.inner[way.along]): weighted_sum(terms), axis(self.inner[way.across]): other}
        length, steps = self.problem.lengths[2], self.inner[2]
        if value.op is not ops.LOAD and length % self.block.steps:  # what is computed from zeros may be none
            at = weighted_sum([(axis(self.loop), self.block.steps), (axis(steps), 1)])
            within = node(g.LT, (at, const(length)), None, dtypes.bool_)
            value = node(g.WHERE, (within, value, const(0, dtype)), None, dtype)
        place = weighted_sum([*_in_pieces(terms, piece, leading), (other, stride)])
        ranged = (*self.tasks, self.loop, *axes)
        fill = node(ops.STORE, (place, substitute([value], moved)[0]), (slot, ranged), dtype)
        outer, inner = self.of_unit[way.along]
        at = weighted_sum([(axis(outer), leading), (axis(inner), 1), *self._along(way.across, stride)])
        return fill, cast(node(ops.LOAD, (at,), slot, dtype), dtypes.float32)

    def _ends(self, slot: int, stride: int) -> list[Node]:
        """The kernel's stores, of sums that are in memory."""
        rows, columns, _ = [axis(id) for id in self.inner]
        reduction = reduction_of(self.cut)
        summed = node(ops.LOAD, (weighted_sum([(rows, stride), (columns, 1)]),), slot, dtypes.float32)
        block, width = self.block, self.problem.end_width
        terms, row, axes = self._spread(block.columns, block.rows, width, every=False)
        ends = substitute(self.cut.stores, {reduction: summed})
        ends = substitute(ends, {rows: row, columns: weighted_sum(terms)})
        outside = [[id for id in end.arg[1] if id not in self.inner] for end in ends]
        return [node(ops.STORE, end.src, (end.arg[0], (*ids, *axes)), end.type)
                for end, ids in zip(ends, outside, strict=True)]

    def _spread(self, run: int, count: int, width: int, *,
                every: bool) -> tuple[_Terms, Node, list[int]]:
        """Where along memory (as terms of a sum) and across it the items of a group come to, and the axes of
        that: `width` neighbors each, then the next item. `every`: all of it is in flight at once.
        """
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
        return along, weighted_sum(across), axes


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


def _compared(n: Node, src: tuple[Node, ...]) -> Node:
    """A TAIL as the comparison that it is: all tasks run the same code."""
    if n.op is ops.TAIL:
        return node(g.LT, (src[0], const(n.arg[2])), None, dtypes.bool_)
    return node(n.op, src, n.arg, n.type)
