"""What a matrix unit multiplies of a contraction, and how panels of its factors are filled.

What varies with one factor alone are rows or columns, what varies with both tells products apart, and all
that is summed over are steps.
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from pluggrad import dtypes
from pluggrad.graph import ops as g
from pluggrad.ir.node import Node
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.free import free_axes
from pluggrad.kernel.index_nodes import linear
from pluggrad.kernel.kernel import Kernel, axis
from pluggrad.target import MatrixUnit
from pluggrad.tune.accesses import position, reduction_of
from pluggrad.tune.actions import axis_of, join_all, split, split_reduce
from pluggrad.tune.boxed import in_boxes, runs_along
from pluggrad.tune.products import multiplied, narrowest
from pluggrad.tune.quotients import join_in_order, part_of

_EDGE: Final = 64.0  # outputs that could be computed while memory brings a step of a row or column
_RUN: Final = 128  # bytes of a panel along the sum
_COPIED: Final = 4  # bytes of a row, at least, that is copied
ROW: Final = 16  # bytes that an item moves at once
# outputs that could be computed while an item
_MOVE: Final = 40.0  # loads and stores
_FIND: Final = 240.0  # works out where, and whether, out of quotients and gates
_LINE: Final = 32.0  # and while a core's memory looks up one of a warp's lines
_WARP: Final = 32
_SAMPLE: Final = 8  # of its items
_LINE_BYTES: Final = 128
_PIECE: Final = 8  # of elements, where a unit has operands row by row


class Way(NamedTuple):
    """How a panel is filled: along rows, columns or steps (0, 1, 2), across another of them, `width`
    elements at a time. price: of an element, in outputs that could be computed meanwhile."""

    along: int
    across: int
    width: int
    price: float


@dataclass(frozen=True, slots=True)
class Problem:
    """A contraction whose rows, columns and steps of a panel are an axis each: `ids`.

    before: kernels that fill memory that this one reads. loop: the sum's other axis, around panels. lengths:
    of rows, columns and the sum. sides: which factor of the product is the left one, and which the right.
    end_width: columns that what is done with the sums can do at once. span: elements of a span, where panels
    are boxes that an engine copies (0: items fill them).
    """

    before: tuple[Kernel, ...]
    kernel: Kernel
    ids: tuple[int, int, int]
    loop: int
    lengths: tuple[int, int, int]
    sides: tuple[int, int]
    inputs: dtypes.DType
    ways: tuple[Way, Way]
    end_width: int
    span: int = 0

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
        return narrowest(multiplied(reduction_of(kernel)).src[self.sides[side]])

    def piece(self, unit: MatrixUnit) -> int:
        """Elements of a piece."""
        return self.span or unit.piece_bytes // self.inputs.itemsize or _PIECE


def problems_of(kernel: Kernel, unit: MatrixUnit, before: Sequence[Kernel] = ()) -> list[Problem]:
    """A contraction with its axes joined, for panels of some steps along one of the sum's axes or all; the
    first is for panels that are boxes, if they may be.

    before: what fills memory that it reads.
    """
    sides = sides_of(kernel)
    assert sides is not None
    (rows, columns, steps), most = sides.axes, _RUN // dtypes.by_name(unit.inputs).itemsize
    kernel, row = join_in_order(kernel, rows)
    kernel, column = join_in_order(kernel, columns)
    boxed = _cut_in_boxes(kernel, (row, column), steps, unit)
    found = [_of_boxes(_problem(boxed, (row, column), sides.order, tuple(before)))] if boxed else []
    return found + [_problem(cut, (row, column), sides.order, tuple(before))
                    for count in (most, most // 2) for cut in _cuts(kernel, steps, count)]


def _cut_in_boxes(kernel: Kernel, outputs: tuple[int, int], steps: Sequence[int],
                  unit: MatrixUnit) -> _Cut | None:
    """Blocks of a span each, where a unit has an engine that copies both factors."""
    if unit.engine is None:
        return None
    whole, step = join_in_order(kernel, steps)
    boxed = in_boxes(whole, (*outputs, step), unit.engine)
    span = unit.engine.span_bytes // dtypes.by_name(unit.inputs).itemsize
    return None if boxed is None else _Cut(boxed, step, None, span)


def _of_boxes(problem: Problem) -> Problem:
    """With panels that no item fills, each along the axis along which its factor lies."""
    span, ways = problem.steps, []
    for own in (0, 1):
        along = 2 if runs_along(problem.value(problem.kernel, own), problem.ids[2]) else own
        ways.append(Way(along, own + 2 - along, span, 0.0))
    return replace(problem, span=span, ways=(ways[0], ways[1]))


def in_parts(problem: Problem, rounds: int) -> tuple[Problem, Kernel]:
    """Sums of so many panels each, to memory, and the kernel that adds those up."""
    kernel, total = split_reduce(problem.kernel, problem.loop, rounds)
    loop, = {a.id for a in kernel.axes if a.kind == "REDUCE"}
    end = _end_width(kernel, problem.ids[1])
    return replace(problem, kernel=kernel, loop=loop, end_width=end), total


# ---- rows, columns, steps ----------------------------------------------------------------------------------
class Sides(NamedTuple):
    """Which factor is the left one and which the right, and the axes of rows, columns and steps."""

    order: tuple[int, int]
    axes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def sides_of(kernel: Kernel) -> Sides | None:
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
    alike = narrowest(factors[0]).type is narrowest(factors[1]).type
    if not plain or not alike or not set(reduction.arg[1]) <= first & second:
        return None
    own = [tuple([a.id for a in kernel.axes if a.extent > 1 and a.id in ids])
           for ids in (first - second, second - first)]
    if not own[0] or not own[1]:
        return None
    written = linear(kernel.stores[0].src[0]).strides
    steps = [min([abs(written.get(id, 0)) or math.inf for id in ids]) for ids in own]
    order = (0, 1) if steps[1] <= steps[0] else (1, 0)
    return Sides(order, (own[order[0]], own[order[1]], reduction.arg[1]))


class _Cut(NamedTuple):
    """A kernel whose sum is one axis, `axis`; or cut into blocks of `steps`, around which `loop` runs."""

    kernel: Kernel
    axis: int
    loop: int | None
    steps: int


def _cuts(kernel: Kernel, ids: Sequence[int], steps: int) -> Iterator[_Cut]:
    """Ways to cut a sum. If blocks lie along one of its axes, only the loop around them has quotients."""
    whole, joined = join_in_order(kernel, ids)
    yield _Cut(whole, joined, None, steps)
    for id in ids:
        if len(ids) > 1 and axis_of(kernel, id).extent % steps == 0:
            cut, outer, inner = split(kernel, id, steps, "REDUCE", "MATRIX")
            cut, loop = join_all(cut, [*[other for other in ids if other != id], outer])
            yield _Cut(cut, inner, loop.id, steps)


def _problem(cut: _Cut, outputs: tuple[int, int], sides: tuple[int, int],
             before: tuple[Kernel, ...]) -> Problem:
    kernel, ids = cut.kernel, (*outputs, cut.axis)
    lengths = [axis_of(kernel, id).extent for id in ids]
    factors = [narrowest(multiplied(reduction_of(kernel)).src[side]) for side in sides]
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
    return Problem(before, kernel, ids, loop, (lengths[0], lengths[1], lengths[2]), sides, inputs,
                    (ways[0], ways[1]), end)


def _end_width(kernel: Kernel, columns: int) -> int:
    """Columns that a kernel's stores can do at once."""
    extent = axis_of(kernel, columns).extent
    return min(_width(kernel.stores, columns, extent, reduction_of(kernel)), ROW // 4)


def _way(value: Node, ids: Sequence[int], lengths: Sequence[int], along: int, across: int) -> Way:
    """A panel filled along one axis by items side by side, each going on across it."""
    size = value.type.itemsize
    width = min(_width([value], ids[along], lengths[along]), ROW // size)
    loads = [n for n in toposort([value]) if n.op is ops.LOAD]
    places = range(0, min(_SAMPLE * width, lengths[along]), width)
    lines = max([len({position(load.src[0], {ids[along]: at}) * size // _LINE_BYTES for at in places})
                 for load in loads], default=1)
    lines *= _WARP // _SAMPLE if lines > 1 else 1
    found = _FIND if _is_found(value, ids[across], in_sum=across == 2) else 0.0
    return Way(along, across, width, max(_MOVE + found, _LINE * lines) / width)


def _is_found(value: Node, id: int, *, in_sum: bool) -> bool:
    """Whether the places of a value along an axis have to be worked out each: by quotients, which go on with
    the sum if they are of its steps, or by gates."""
    loads = [n for n in toposort([value]) if n.op is ops.LOAD]
    indices = [n for load in loads for n in linear(load.src[0]).rest] if in_sum else []
    return axis(id) in toposort([*indices, *[gate for load in loads for gate in load.src[1:]]])


def _width(values: Sequence[Node], id: int, extent: int, without: Node | None = None) -> int:
    """Neighbors along an axis that all accesses find side by side, or at one place, at multiples of that
    many."""
    width = math.gcd(extent, ROW)
    for n in toposort(values, lambda n: () if n is without else n.src):
        if n.op not in (ops.LOAD, ops.STORE):
            continue
        strides, rest, offset = linear(n.src[0])
        gates = n.src[1:] if n.op is ops.LOAD else n.src[2:]
        step = strides.pop(id, 0)
        for part, factor in [(part_of(term), factor) for term, factor in rest.items()]:
            if part.of is axis(id):
                width = math.gcd(width, part.divisor if part.divisor > 1 else part.limit)
                step += factor if part.divisor == 1 else 0
            elif axis(id) in toposort([part.of]):
                return 1
        if step not in (0, 1) or axis(id) in toposort(gates):
            return 1
        if step:
            others = [factor for term, factor in rest.items() if part_of(term)[:2] != (axis(id), 1)]
            width = math.gcd(width, offset, *strides.values(), *others)
    return width
