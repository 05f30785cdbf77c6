"""Contractions by matrix units: a group takes a block of outputs, and multiplies panels in memory it shares.

A product of matrices in any transposition, a stack of them, a convolution: what varies with one factor
alone are rows or columns, what varies with both tells products apart, and all that is summed over is one
axis (panels.py). A task fills a panel of each factor, whatever the function is that finds its elements, and
the unit multiplies them (matrix_blocks.py).
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Final

from pluggrad.config import MATMUL_PRECISION
from pluggrad.kernel.kernel import Kernel
from pluggrad.target import Capabilities, MatrixUnit
from pluggrad.tune.accesses import reduction_of
from pluggrad.tune.contraction import Scheduled, padded, without_shared_gates
from pluggrad.tune.matrix_blocks import BANKS, Applied, Block
from pluggrad.tune.panels import ROW, Problem, in_parts, problems_of, sides_of
from pluggrad.tune.products import multiplied, narrowest

_LEAST: Final = 1 << 16  # multiply-adds; below, filling panels takes longer than the products
_SHORTEST: Final = 16  # rows, columns and steps; fewer leave most of a unit idle
_BLOCKS: Final = (
    (128, 256), (256, 128), (128, 128), (128, 64), (64, 128), (64, 64), (64, 32), (32, 64), (32, 32))
_GROUP: Final = (128, 256)  # the fewest and the most items of a group
_MOST_STAGES: Final = 4
_FEWEST_STAGES: Final = 3
_THROUGH_REGISTERS: Final = 2  # stages, where nothing is copied, beside those of products under way
_MOST_MOVES: Final = 16  # of ROW bytes, that an item makes for a panel: each is code, and registers
_PARTS: Final = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # of a sum that is too long for its outputs
_SHORTEST_PART: Final = 4  # panels
_WITH_ENGINE: Final = 0.9  # of the time, where no item has panels to fill
# outputs that could be computed while a core
_ADD: Final = 400.0  # writes and reads a partial sum
_COPY: Final = 200.0  # copies an element to where it has zeros around it
_PHASE: Final = 4e6  # waits for another kernel to be launched


def multiply_matrices(kernel: Kernel, capabilities: Capabilities) -> Scheduled | None:
    """The contraction by a matrix unit, or None where there is none for it, or it is too small."""
    kernel = without_shared_gates(kernel)
    unit = _unit(kernel, capabilities)
    if unit is None:
        return None
    before, ungated = padded(kernel)
    problems = problems_of(kernel, unit)
    problems += problems_of(ungated, unit, before) if before else []
    found = _best_block(problems, unit, capabilities)
    if found is None:
        return None
    problem, block = found
    total: list[Kernel] = []
    if block.parts > 1:
        problem, *total = in_parts(problem, -(-problem.rounds // block.parts))
    return Scheduled(list(problem.before), Applied(problem, block, unit).kernel(), total)


def _unit(kernel: Kernel, capabilities: Capabilities) -> MatrixUnit | None:
    """The unit for a contraction that is large enough."""
    sides = sides_of(kernel)
    if sides is None or capabilities.max_group < _GROUP[0] or not capabilities.scratch_bytes:
        return None
    inputs = narrowest(multiplied(reduction_of(kernel)).src[0]).type.name
    if inputs == MATMUL_PRECISION.value == "float32":
        return None
    extents = {a.id: a.extent for a in kernel.axes}
    shortest = min([math.prod([extents[id] for id in ids]) for ids in sides.axes])
    if shortest < _SHORTEST or math.prod(extents.values()) < _LEAST:
        return None
    return capabilities.matrix_unit(inputs)


# ---- which block of outputs --------------------------------------------------------------------------------
def _best_block(problems: Sequence[Problem], unit: MatrixUnit,
                capabilities: Capabilities) -> tuple[Problem, Block] | None:
    rows, columns, _ = problems[0].lengths
    others = problems[0].kernel.tasks // (rows * columns)

    def tasks(block: Block) -> int:
        return others * -(-rows // block.rows) * -(-columns // block.columns) * block.parts

    def price(found: tuple[Problem, Block]) -> float:
        problem, block = found
        edges = sum([edge * extent for edge, extent in zip(problem.edges, block[:2], strict=True)])
        steps = -(-problem.rounds // block.parts) * problem.steps
        moved = [_ADD * others * rows * columns * block.parts] if block.parts > 1 else []
        moved += [_COPY * fill.tasks for fill in problem.before]
        more = sum([_PHASE + each / capabilities.cores for each in moved])
        share = _WITH_ENGINE if problem.span else 1.0
        outputs = block.rows * block.columns + edges
        return -(-tasks(block) // capabilities.cores) * outputs * steps * share + more

    def parts(problem: Problem, block: Block) -> int:
        """The most that a sum may be cut into."""
        return problem.rounds // _SHORTEST_PART if 2 * tasks(block) <= capabilities.cores else 1

    found = [(problem, block) for problem in problems for block in _blocks(problem, unit, capabilities)]
    found += [(problem, block._replace(parts=count)) for problem, block in found for count in _PARTS
              if count <= parts(problem, block)]
    return min(found, key=price, default=None)


def _blocks(problem: Problem, unit: MatrixUnit, capabilities: Capabilities) -> Iterator[Block]:
    """Blocks whose sums fit the registers, and whose panels the shared memory: several stages of them,
    where copies are made while products are."""
    size, limit, steps = problem.inputs.itemsize, capabilities.scratch_bytes, problem.steps
    wanted, most = _stages(problem, unit, capabilities), min(_GROUP[1], capabilities.max_group)
    for (rows, columns), least in product(_BLOCKS, _GROUP):
        group = min(max(rows * columns // unit.sums_per_item, least), most)
        tile = group // unit.items * unit.rows * unit.columns
        if rows % unit.rows or columns % unit.columns or rows * columns % tile \
                or rows * columns > group * unit.sums_per_item or 4 * rows * (columns + ROW) > limit:
            continue
        if problem.span and not _in_spans(problem, (rows, columns), unit):
            continue
        room = limit // ((rows + columns) * steps * size + 2 * BANKS * ROW)
        moves = [extent * steps // (group * way.width)
                 for extent, way in zip((rows, columns), problem.ways, strict=True)]
        if room >= min(wanted, _FEWEST_STAGES) and (problem.span or max(moves) <= _MOST_MOVES):
            yield Block(rows, columns, steps, min(wanted, room), group)


def _in_spans(problem: Problem, extents: Sequence[int], unit: MatrixUnit) -> bool:
    """Whether panels of a block are whole spans, and none longer than the unit's engine copies."""
    sizes, most = (*extents, problem.steps), unit.engine.most if unit.engine else 0
    return all(sizes[way.along] % problem.span == 0 and sizes[way.across] <= most for way in problem.ways)


def _stages(problem: Problem, unit: MatrixUnit, capabilities: Capabilities) -> int:
    """Halves, or more parts, of panels: some are filled while another is multiplied."""
    if not capabilities.copies_ahead:
        return 1
    most = _MOST_STAGES if problem.copied else _THROUGH_REGISTERS + unit.in_flight
    return min(most, problem.rounds)
