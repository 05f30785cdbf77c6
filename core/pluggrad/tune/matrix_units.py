"""Contractions by matrix units: a group takes a block of outputs, and multiplies panels in memory it shares.

A product of matrices in any transposition, a stack of them, a convolution: what varies with one factor
alone are rows or columns, what varies with both tells products apart, and all that is summed over is one
axis. A task fills a panel of each factor, all items side by side, whatever the function is that finds its
elements; the unit multiplies them. Once it is through, the sums go to shared memory, and the items do with
them what the kernel does.
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product
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
from pluggrad.tune.accesses import position, reduction_of
from pluggrad.tune.actions import axis_of, cover, join_all, reorder, split, split_reduce
from pluggrad.tune.contraction import Scheduled, padded, without_shared_gates
from pluggrad.tune.products import gates_of, multiplied

_LEAST: Final = 1 << 16  # multiply-adds; below, filling panels takes longer than the products
_SHORTEST: Final = 16  # rows, columns and steps; fewer leave most of a unit idle
_BLOCKS: Final = (
    (128, 256), (256, 128), (128, 128), (128, 64), (64, 128), (64, 64), (64, 32), (32, 64), (32, 32))
_GROUP: Final = (128, 256)  # the fewest and the most items of a group
_EDGE: Final = 64.0  # outputs that could be computed while memory brings a step of a row or column
_RUN: Final = 128  # bytes of a panel along the sum
_MOST_STAGES: Final = 4
_FEWEST_STAGES: Final = 3
_THROUGH_REGISTERS: Final = 2  # stages, where nothing is copied, beside those of products under way
_COPIED: Final = 4  # bytes of a row, at least, that is copied
_ROW: Final = 16  # bytes that an item moves at once
_MOST_MOVES: Final = 16  # of those that an item makes for a panel: each is code, and registers
_AT_ONCE: Final = 4  # of the sums that an item works on
_BANKS: Final = 128  # bytes of shared memory that can be reached at once
# outputs that could be computed while an item
_MOVE: Final = 40.0  # loads and stores
_FIND: Final = 240.0  # works out where, and whether, out of quotients and gates
_LINE: Final = 32.0  # and while a core's memory looks up one of a warp's lines
_WARP: Final = 32
_SAMPLE: Final = 8  # of its items
_LINE_BYTES: Final = 128
_PIECE: Final = 8  # of elements, where a unit has operands row by row
_PARTS: Final = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # of a sum that is too long for its outputs
_SHORTEST_PART: Final = 4  # panels
# outputs that could be computed while a core
_ADD: Final = 400.0  # writes and reads a partial sum
_COPY: Final = 200.0  # copies an element to where it has zeros around it
_PHASE: Final = 4e6  # waits for another kernel to be launched


_Terms = list[tuple[Node, int]]  # of a sum, each with its factor


class _Way(NamedTuple):
    """How a panel is filled: along rows, columns or steps (0, 1, 2), across another of them, `width`
    elements at a time. price: of an element, in outputs that could be computed meanwhile."""

    along: int
    across: int
    width: int
    price: float


@dataclass(frozen=True, slots=True)
class _Problem:
    """A contraction whose rows, columns and steps of a panel are an axis each: `ids`.

    before: kernels that fill memory that this one reads. loop: the sum's other axis, around panels. lengths:
    of rows, columns and the sum. sides: which factor of the product is the left one, and which the right.
    end_width: columns that what is done with the sums can do at once.
    """

    before: tuple[Kernel, ...]
    kernel: Kernel
    ids: tuple[int, int, int]
    loop: int
    lengths: tuple[int, int, int]
    sides: tuple[int, int]
    inputs: dtypes.DType
    ways: tuple[_Way, _Way]
    end_width: int

    @property
    def edges(self) -> tuple[float, float]:
        """What a row and a column of a block cost at each step, in outputs."""
        left, right = [max(_EDGE, way.price) for way in self.ways]
        return left, right

    @property
    def copied(self) -> bool:
        """Whether rows of a panel are long enough to be copied while something else is done."""
        return any(way.width * self.inputs.itemsize >= _COPIED for way in self.ways)

    @property
    def steps(self) -> int:
        """Of a panel."""
        return axis_of(self.kernel, self.ids[2]).extent

    @property
    def rounds(self) -> int:
        """Panels of a sum."""
        return axis_of(self.kernel, self.loop).extent

    def value(self, kernel: Kernel, side: int) -> Node:
        """What is multiplied, in the unit's dtype, as a kernel has it."""
        return _narrowest(multiplied(reduction_of(kernel)).src[self.sides[side]])

    def piece(self, unit: MatrixUnit) -> int:
        """Elements of a piece."""
        return unit.piece_bytes // self.inputs.itemsize or _PIECE


class _Block(NamedTuple):
    """What a task computes, how many steps of the sum its panels hold, and the items of its group. parts:
    into how many tasks a sum is cut."""

    rows: int
    columns: int
    steps: int
    stages: int
    group: int
    parts: int = 1


def multiply_matrices(kernel: Kernel, capabilities: Capabilities) -> Scheduled | None:
    """The contraction by a matrix unit, or None where there is none for it, or it is too small."""
    unit = _unit(without_shared_gates(kernel), capabilities)
    if unit is None:
        return None
    before, ungated = padded(kernel)
    problems = _problems(without_shared_gates(kernel), unit)
    problems += _problems(ungated, unit, before) if before else []
    found = _best_block(problems, unit, capabilities)
    if found is None:
        return None
    problem, block = found
    total: list[Kernel] = []
    if block.parts > 1:
        problem, *total = _partial(problem, -(-problem.rounds // block.parts))
    return Scheduled(list(problem.before), _Applied(problem, block, unit).kernel(), total)


def _unit(kernel: Kernel, capabilities: Capabilities) -> MatrixUnit | None:
    """The unit for a contraction that is large enough."""
    sides = _sides(kernel)
    if sides is None or capabilities.max_group < _GROUP[0] or not capabilities.scratch_bytes:
        return None
    inputs = _narrowest(multiplied(reduction_of(kernel)).src[0]).type.name
    if inputs == MATMUL_PRECISION.value == "float32":
        return None
    extents = {a.id: a.extent for a in kernel.axes}
    shortest = min([math.prod([extents[id] for id in ids]) for ids in sides.axes])
    if shortest < _SHORTEST or math.prod(extents.values()) < _LEAST:
        return None
    return capabilities.matrix_unit(inputs)


def _problems(kernel: Kernel, unit: MatrixUnit, before: Sequence[Kernel] = ()) -> list[_Problem]:
    """A contraction with its axes joined, for panels of some steps along one of the sum's axes or all.

    before: what fills memory that it reads.
    """
    sides = _sides(kernel)
    assert sides is not None
    (rows, columns, steps), most = sides.axes, _RUN // dtypes.by_name(unit.inputs).itemsize
    kernel, row = _joined(kernel, rows)
    kernel, column = _joined(kernel, columns)
    return [_problem(cut, (row, column), sides.order, tuple(before))
            for count in (most, most // 2) for cut in _cuts(kernel, steps, count)]


def _partial(problem: _Problem, rounds: int) -> tuple[_Problem, Kernel]:
    """Sums of so many panels each, to memory, and the kernel that adds those up."""
    kernel, total = split_reduce(problem.kernel, problem.loop, rounds)
    loop, = {a.id for a in kernel.axes if a.kind == "REDUCE"}
    end = _end_width(kernel, problem.ids[1])
    return replace(problem, kernel=kernel, loop=loop, end_width=end), total


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
    """An address in which quotients and remainders that follow each other are one."""
    if n.op not in (ops.LOAD, ops.STORE):
        return node(n.op, src, n.arg, n.type)
    strides, rest, offset = linear(src[0])
    parts = {_part(part): factor for part, factor in rest.items()}
    while (pair := next(_following(parts), None)) is not None:
        low, high = pair
        factor, _ = parts.pop(low), parts.pop(high)
        parts[_Part(low.of, low.divisor, high.limit and low.limit * high.limit)] = factor
    terms = [*[(axis(id), stride) for id, stride in strides.items()],
             *[(part.node, factor) for part, factor in parts.items()]]
    return node(n.op, (weighted_sum(terms, offset), *src[1:]), n.arg, n.type)


class _Part(NamedTuple):
    """of // divisor, % limit if it is not 0."""

    of: Node
    divisor: int
    limit: int

    @property
    def node(self) -> Node:
        """As index arithmetic."""
        found = self.of
        for op, by in ((ops.CDIV, self.divisor), (ops.CMOD, self.limit)):
            found = found if by == (op is ops.CDIV) else node(op, (found, const(by)), None, INDEX)
        return found


def _part(n: Node) -> _Part:
    """A term of an index, as a part of what it divides."""
    limit = divisor = 0
    if n.op is ops.CMOD:
        n, limit = n.src[0], n.src[1].arg.bits
    while n.op is ops.CDIV:
        n, divisor = n.src[0], max(divisor, 1) * n.src[1].arg.bits
    return _Part(n, max(divisor, 1), limit)


def _following(parts: Mapping[_Part, int]) -> Iterator[tuple[_Part, _Part]]:
    """Pairs of neighboring parts that count on."""
    for low, high in permutations(parts, 2):
        if low.limit and low.of is high.of and high.divisor == low.divisor * low.limit \
                and parts[high] == parts[low] * low.limit:
            yield low, high


class _Cut(NamedTuple):
    """A kernel whose sum is one axis, `axis`; or cut into blocks of `steps`, around which `loop` runs."""

    kernel: Kernel
    axis: int
    loop: int | None
    steps: int


def _cuts(kernel: Kernel, ids: Sequence[int], steps: int) -> Iterator[_Cut]:
    """Ways to cut a sum. If blocks lie along one of its axes, only the loop around them has quotients."""
    whole, joined = _joined(kernel, ids)
    yield _Cut(whole, joined, None, steps)
    for id in ids:
        if len(ids) > 1 and axis_of(kernel, id).extent % steps == 0:
            cut, outer, inner = split(kernel, id, steps, "REDUCE", "MATRIX")
            cut, loop = join_all(cut, [*[other for other in ids if other != id], outer])
            yield _Cut(cut, inner, loop.id, steps)


def _problem(cut: _Cut, outputs: tuple[int, int], sides: tuple[int, int],
             before: tuple[Kernel, ...]) -> _Problem:
    kernel, ids = cut.kernel, (*outputs, cut.axis)
    lengths = [axis_of(kernel, id).extent for id in ids]
    factors = [_narrowest(multiplied(reduction_of(kernel)).src[side]) for side in sides]
    inputs, ways = factors[0].type, []
    for own, value in enumerate(factors):
        # a unit turns around what is in halves, and nothing wider
        found = [_way(value, ids, lengths, along, own + 2 - along)
                 for along in ((2, own) if inputs.itemsize == 2 else (2,))]
        ways.append(min(found, key=lambda way: way.price))
    loop, end = cut.loop, _end_width(kernel, ids[1])
    if loop is None:
        kernel, loop, inner = split(kernel, cut.axis, cut.steps, "REDUCE", "MATRIX")
        ids = (*outputs, inner)
    else:
        lengths[2] *= axis_of(kernel, loop).extent
    return _Problem(before, kernel, ids, loop, (lengths[0], lengths[1], lengths[2]), sides, inputs,
                    (ways[0], ways[1]), end)


def _end_width(kernel: Kernel, columns: int) -> int:
    """Columns that a kernel's stores can do at once."""
    extent = axis_of(kernel, columns).extent
    return min(_width(kernel.stores, columns, extent, reduction_of(kernel)), _ROW // 4)


def _way(value: Node, ids: Sequence[int], lengths: Sequence[int], along: int, across: int) -> _Way:
    """A panel filled along one axis by items side by side, each going on across it."""
    size = value.type.itemsize
    width = min(_width([value], ids[along], lengths[along]), _ROW // size)
    loads = [n for n in toposort([value]) if n.op is ops.LOAD]
    places = range(0, min(_SAMPLE * width, lengths[along]), width)
    lines = max([len({position(load.src[0], {ids[along]: at}) * size // _LINE_BYTES for at in places})
                 for load in loads], default=1)
    lines *= _WARP // _SAMPLE if lines > 1 else 1
    found = _FIND if _is_found(value, ids[across], in_sum=across == 2) else 0.0
    return _Way(along, across, width, max(_MOVE + found, _LINE * lines) / width)


def _is_found(value: Node, id: int, *, in_sum: bool) -> bool:
    """Whether the places of a value along an axis have to be worked out each: by quotients, which go on with
    the sum if they are of its steps, or by gates."""
    loads = [n for n in toposort([value]) if n.op is ops.LOAD]
    indices = [n for load in loads for n in linear(load.src[0]).rest] if in_sum else []
    return axis(id) in toposort([*indices, *[gate for load in loads for gate in load.src[1:]]])


def _width(values: Sequence[Node], id: int, extent: int, without: Node | None = None) -> int:
    """Neighbors along an axis that all accesses find side by side, or at one place, at multiples of that
    many."""
    width = math.gcd(extent, _ROW)
    for n in toposort(values, lambda n: () if n is without else n.src):
        if n.op not in (ops.LOAD, ops.STORE):
            continue
        strides, rest, offset = linear(n.src[0])
        gates = n.src[1:] if n.op is ops.LOAD else n.src[2:]
        step = strides.pop(id, 0)
        for part, factor in [(_part(term), factor) for term, factor in rest.items()]:
            if part.of is axis(id):
                width = math.gcd(width, part.divisor if part.divisor > 1 else part.limit)
                step += factor if part.divisor == 1 else 0
            elif axis(id) in toposort([part.of]):
                return 1
        if step not in (0, 1) or axis(id) in toposort(gates):
            return 1
        if step:
            others = [factor for term, factor in rest.items() if _part(term)[:2] != (axis(id), 1)]
            width = math.gcd(width, offset, *strides.values(), *others)
    return width


# ---- which block of outputs --------------------------------------------------------------------------------
def _best_block(problems: Sequence[_Problem], unit: MatrixUnit,
                capabilities: Capabilities) -> tuple[_Problem, _Block] | None:
    rows, columns, _ = problems[0].lengths
    others = problems[0].kernel.tasks // (rows * columns)

    def tasks(block: _Block) -> int:
        return others * -(-rows // block.rows) * -(-columns // block.columns) * block.parts

    def price(found: tuple[_Problem, _Block]) -> float:
        problem, block = found
        edges = sum([edge * extent for edge, extent in zip(problem.edges, block[:2], strict=True)])
        steps = -(-problem.rounds // block.parts) * problem.steps
        moved = [_ADD * others * rows * columns * block.parts] if block.parts > 1 else []
        moved += [_COPY * fill.tasks for fill in problem.before]
        more = sum([_PHASE + each / capabilities.cores for each in moved])
        return -(-tasks(block) // capabilities.cores) * (block.rows * block.columns + edges) * steps + more

    def parts(problem: _Problem, block: _Block) -> int:
        """The most that a sum may be cut into."""
        return problem.rounds // _SHORTEST_PART if 2 * tasks(block) <= capabilities.cores else 1

    found = [(problem, block) for problem in problems for block in _blocks(problem, unit, capabilities)]
    found += [(problem, block._replace(parts=count)) for problem, block in found for count in _PARTS
              if count <= parts(problem, block)]
    return min(found, key=price, default=None)


def _blocks(problem: _Problem, unit: MatrixUnit, capabilities: Capabilities) -> Iterator[_Block]:
    """Blocks whose sums fit the registers, and whose panels the shared memory: several stages of them,
    where copies are made while products are."""
    size, limit, steps = problem.inputs.itemsize, capabilities.scratch_bytes, problem.steps
    wanted, most = _stages(problem, unit, capabilities), min(_GROUP[1], capabilities.max_group)
    for (rows, columns), least in product(_BLOCKS, _GROUP):
        group = min(max(rows * columns // unit.sums_per_item, least), most)
        tile = group // unit.items * unit.rows * unit.columns
        if rows % unit.rows or columns % unit.columns or rows * columns % tile \
                or rows * columns > group * unit.sums_per_item or 4 * rows * (columns + _ROW) > limit:
            continue
        room = limit // ((rows + columns) * steps * size + 2 * _BANKS * _ROW)
        moves = [extent * steps // (group * way.width)
                 for extent, way in zip((rows, columns), problem.ways, strict=True)]
        if room >= min(wanted, _FEWEST_STAGES) and max(moves) <= _MOST_MOVES:
            yield _Block(rows, columns, steps, min(wanted, room), group)


def _stages(problem: _Problem, unit: MatrixUnit, capabilities: Capabilities) -> int:
    """Halves, or more parts, of panels: some are filled while another is multiplied."""
    if not capabilities.copies_ahead:
        return 1
    most = _MOST_STAGES if problem.copied else _THROUGH_REGISTERS + unit.in_flight
    return min(most, problem.rounds)


# ---- applying it -------------------------------------------------------------------------------------------
class _Applied:
    """The kernel of one block, in the making. Of three axes each, the first are rows, then columns, then
    steps."""

    def __init__(self, problem: _Problem, block: _Block, unit: MatrixUnit) -> None:
        self.problem, self.block, self.unit = problem, block, unit
        self.extents = block.rows, block.columns, block.steps
        cut, row_tasks, rows = cover(problem.kernel, problem.ids[0], block.rows, "PARALLEL", "MATRIX")
        cut, column_tasks, columns = cover(cut, problem.ids[1], block.columns, "PARALLEL", "MATRIX")
        cut = replace(cut, stores=rewrite(cut.stores, _compared))
        others = [a.id for a in cut.axes if a.kind == "PARALLEL" and a.id not in (row_tasks, column_tasks)]
        self.cut = reorder(cut, [*others, row_tasks, column_tasks])
        self.inner = rows, columns, problem.ids[2]
        self.tasks = tuple([a.id for a in self.cut.axes if a.kind == "PARALLEL"])
        self.axes, self.buffers = list[Axis](), list(problem.kernel.buffers)
        self.piece = problem.piece(unit)
        self.item = self._new(block.group, "ITEM")
        # two axes each: along one of them pieces of a panel follow each other
        self.of_unit = [(self._new(extent // self.piece, "MATRIX"), self._new(self.piece, "MATRIX"))
                        for extent in self.extents]

    def kernel(self) -> Kernel:
        """Fills of both panels, the product, and what becomes of the sums."""
        (fill, left), (other_fill, right) = self._panel(0), self._panel(1)
        total = node(ops.REDUCE, (node(g.MUL, (left, right), None, dtypes.float32),),
                     ("ADD", (self.problem.loop, *self.of_unit[2])), dtypes.float32)
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
        spread = self._spread(run, count, way.width, every=True)
        if value.op is not ops.LOAD:  # what is computed from zeros may be none
            for gate in gates_of(reduction_of(self.cut)):
                value = node(g.WHERE, (gate, value, const(0, dtype)), None, dtype)
        place = weighted_sum([*_in_pieces(spread.along, piece, leading), (spread.across, stride)])
        moved, = spread.moved([value], self.inner[way.along], self.inner[way.across])
        fill = node(ops.STORE, (place, moved), (slot, (*self.tasks, self.problem.loop, *spread.axes)), dtype)
        outer, inner = self.of_unit[way.along]
        at = weighted_sum([(axis(outer), leading), (axis(inner), 1), *self._along(way.across, stride)])
        return fill, cast(node(ops.LOAD, (at,), slot, dtype), dtypes.float32)

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


def _compared(n: Node, src: tuple[Node, ...]) -> Node:
    """A TAIL as the comparison that it is: all tasks run the same code."""
    if n.op is ops.TAIL:
        return node(g.LT, (src[0], const(n.arg[2])), None, dtypes.bool_)
    return node(n.op, src, n.arg, n.type)
