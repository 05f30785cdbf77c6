"""Products in register tiles out of panels that a group of work items shares.

A group takes a block of the result, and each of its items a tile of the block, in registers. The group goes
along the sum a few steps at a time: its items copy what these need of both factors to local memory, side by
side as it lies in memory, and then multiply from there.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

from pluggrad.graph import ops as g
from pluggrad.ir.node import Node, Op, node
from pluggrad.ir.walk import substitute, toposort
from pluggrad.kernel import ops
from pluggrad.kernel.index_nodes import INDEX, linear, weighted_sum
from pluggrad.kernel.kernel import Axis, AxisKind, BufferParam, Kernel, axis, const
from pluggrad.target import Capabilities
from pluggrad.tune.accesses import position, vector_lanes
from pluggrad.tune.actions import axis_of, bind, cover, join, reorder, split, split_reduce
from pluggrad.tune.contraction import Scheduled
from pluggrad.tune.products import Product, as_product

_TILES: Final = (8, 4, 2)  # rows, and columns, of an item's tile
_STAGES: Final = 2  # of panels: one is on its way while the other is multiplied
_RUN: Final = 4  # rows of a tile that are neighbors
_LARGEST_GROUP: Final = 256
_LEAST_WORK: Final = 1 << 15  # multiply-adds; below, items that take an output each have done before
# in the time that a core takes for one multiply-add of each of its lanes
_LANES: Final = 128  # of a core
_FETCH: Final = 1.0  # to read an element of a panel, for each item that does
_FILL: Final = 2.0  # to copy an element of a panel
_BLOCK: Final = 400.0  # to wait for memory and for each other, once a block of steps
_TASK: Final = 2000.0  # to start and to end
_PHASE: Final = 8000.0  # to launch another kernel
_ADD: Final = 0.5  # to write a partial sum and to read it again
_FILLED: Final = 256  # items that keep a core busy
_PARTS: Final = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # of a sum that is too long for its outputs
_SHORTEST_PART: Final = 128  # steps
_ENOUGH: Final = 4  # tasks for each core


@dataclass(frozen=True, slots=True)
class Block:
    """What a group computes: `rows` by `columns` of the result, `steps` of the sum at a time; an item takes
    `tile` of it. parts: into how many the sum is cut, each a task's."""

    rows: int
    columns: int
    steps: int
    tile: tuple[int, int]
    parts: int = 1

    @property
    def grid(self) -> tuple[int, int]:
        """Work items along rows and along columns."""
        return self.rows // self.tile[0], self.columns // self.tile[1]

    @property
    def group(self) -> int:
        """Work items."""
        return math.prod(self.grid)


def tune_in_group_tiles(kernel: Kernel, capabilities: Capabilities) -> Scheduled | None:
    """The product in the cheapest block; None where it is none, or too small for one."""
    found = as_product(kernel) if capabilities.scratch_bytes else None
    if found is None:
        return None
    blocks = [*_blocks(found, capabilities)]
    if not blocks:
        return None
    prices = {block: _price(found, block, capabilities) for block in blocks}
    best = min(blocks, key=prices.__getitem__)
    total: list[Kernel] = []
    if best.parts > 1:
        steps = found.steps
        chunk = -(-steps.extent // (best.parts * best.steps)) * best.steps
        partial, *total = split_reduce(found.kernel, steps.id, chunk)
        inner = next(a for a in partial.axes if a.kind == "REDUCE")
        found = found._replace(kernel=partial, steps=inner)
    return Scheduled([], _Tiled(found, best, capabilities).kernel(), total)


# ---- which block -------------------------------------------------------------------------------------------
def _blocks(found: Product, capabilities: Capabilities) -> Iterator[Block]:
    """Blocks that fit the result, the group, its memory and the registers of an item."""
    lanes = vector_lanes(found.kernel, capabilities, 1)
    work = found.kernel.tasks * found.steps.extent
    largest = 1 << min(capabilities.max_group, _LARGEST_GROUP).bit_length() - 1
    size = max([factor.type.itemsize for factor in found.factors])
    registers = capabilities.vector_registers * max(capabilities.vector_bytes, 4) // max(size, 4)
    for group, tile in product((largest, largest // 2, largest // 4), product(_TILES, _TILES)):
        if group < 1 or work < _LEAST_WORK or tile[1] % lanes:
            continue
        for across in [1 << n for n in range(group.bit_length()) if group <= 4 << 2 * n <= 16 * group]:
            rows, columns = group // across * tile[0], across * tile[1]
            for steps in (16, 8):
                block = Block(rows, columns, steps, tile)
                copied = (rows + columns) * steps
                if rows <= found.rows.extent and columns <= found.columns.extent \
                        and min(rows, columns) * steps % group == 0 and steps <= found.steps.extent \
                        and _STAGES * (copied + 2 * lanes * steps) * size <= capabilities.scratch_bytes \
                        and math.prod(tile) + sum(tile) + copied // group <= registers:
                    yield block
                    most = min(found.steps.extent // _SHORTEST_PART,
                               _ENOUGH * capabilities.cores // _tasks(found, block))
                    yield from [replace(block, parts=parts) for parts in _PARTS if parts <= most]


def _tasks(found: Product, block: Block) -> int:
    down, across = -(-found.rows.extent // block.rows), -(-found.columns.extent // block.columns)
    return found.batches * down * across


def _price(found: Product, block: Block, capabilities: Capabilities) -> float:
    """The time until the last core is done."""
    waves = -(-_tasks(found, block) * block.parts // capabilities.cores)
    rounds = -(-found.steps.extent // (block.steps * block.parts))
    item = block.steps * (math.prod(block.tile) + _FETCH * sum(block.tile))
    copied = (block.rows + block.columns) * block.steps
    one = rounds * ((item * block.group + _FILL * copied) / _LANES)
    one *= max(1.0, _FILLED / (block.group * waves))  # too few items to hide what each waits for
    wait = (rounds * _BLOCK + _TASK) / min(waves, 2)  # the groups of a core wait in turn
    outputs = found.kernel.tasks * (block.parts if block.parts > 1 else 0)
    more = _PHASE * (block.parts > 1) + _ADD * outputs / capabilities.cores
    return waves * (one + wait) + more


# ---- applying it -------------------------------------------------------------------------------------------
class _Tiled:
    """The kernel of one block while it is being written."""

    def __init__(self, found: Product, block: Block, capabilities: Capabilities) -> None:
        self.found, self.block = found, block
        self.lanes = vector_lanes(found.kernel, capabilities, 1)
        self.stages = _STAGES if found.steps.extent > block.steps else 1
        self.added: list[Axis] = []

    def kernel(self) -> Kernel:
        """Axes cut, panels placed, tiles bound to items and registers."""
        block, (down, across) = self.block, self.block.grid
        kernel, tasks, row = cover(self.found.kernel, self.found.rows.id, block.rows, "PARALLEL", "LOOP")
        kernel, more, column = cover(kernel, self.found.columns.id, block.columns, "PARALLEL", "LOOP")
        kernel, blocks, step = split(kernel, self.found.steps.id, block.steps, "REDUCE", "REDUCE")
        kernel = self._with_panels(kernel, (row, column), (blocks, step))
        kernel, item = self._tile(kernel, row, down, min(_RUN, block.tile[0]), "TILE")
        kernel, other = self._tile(kernel, column, across, self.lanes, "VECTOR")
        kernel, _ = join(kernel, item, other)
        kernel = reorder(kernel, [blocks, step])
        batches = [a.id for a in kernel.axes if a.kind == "PARALLEL" and a.id not in (tasks, more)]
        return reorder(kernel, [*batches, tasks, more])

    def _tile(self, kernel: Kernel, id: int, items: int, run: int, kind: AxisKind) -> tuple[Kernel, int]:
        """A block's rows or columns: runs of neighbors for each item, and one run after another across items,
        so that items beside each other read neighbors. Returns the axis of the items, too."""
        if axis_of(kernel, id).extent > items * run:
            kernel, _, id = split(kernel, id, items * run, "TILE", "LOOP")
        if run > 1:
            kernel, id, _ = split(kernel, id, run, "LOOP", kind)
        return bind(kernel, "ITEM", id), id

    def _with_panels(self, kernel: Kernel, outputs: tuple[int, int], steps: tuple[int, int]) -> Kernel:
        """Both factors copied to local memory, block by block, and multiplied from there."""
        blocks, step = steps
        found = self.found._replace(kernel=kernel, rows=axis_of(kernel, outputs[0]))
        reduction = found.reduction
        buffers, fills, loads = [*kernel.buffers], list[Node](), list[Node]()
        self.added = list(kernel.axes)
        for id, factor in zip(outputs, found.factors, strict=True):
            value, gate = _gated(reduction, factor)
            extent, along_sum = axis_of(kernel, id).extent, _distance(value, step) < _distance(value, id)
            width = extent + (self.lanes if along_sum else 0)  # stored across: not all in one bank
            copy = self._copied(value, gate, (id, step), (extent, self.block.steps), along_sum)
            index = weighted_sum([(copy.step, width), (copy.output, 1)])
            ranged = (*[a.id for a in kernel.axes if a.kind == "PARALLEL"], blocks, *copy.axes)
            fills.append(node(ops.STORE, (index, copy.value), (len(buffers), ranged), value.type))
            place = weighted_sum([(axis(step), width), (axis(id), 1)])
            loads.append(node(ops.LOAD, (place,), len(buffers), value.type))
            size = width * self.block.steps
            buffers.append(BufferParam(value.type, size, "local", stages=self.stages))
        multiplied = node(g.MUL, tuple(loads), None, loads[0].type)
        summed = node(ops.REDUCE, (multiplied,), reduction.arg, reduction.type)
        stores = substitute(kernel.stores, {reduction: summed})
        return Kernel(kernel.name, tuple(buffers), kernel.values, tuple(self.added), (*fills, *stores))

    def _copied(self, value: Node, gate: Node | None, ids: tuple[int, int], extents: tuple[int, int],
                along_sum: bool) -> _Copy:
        """A panel divided among all items, neighbors in memory to items side by side. ids, extents: of the
        outputs, and of the steps; along_sum: memory runs along those."""
        group, turn = self.block.group, -1 if along_sum else 1
        (fast, slow), (length, count) = ids[::turn], extents[::turn]
        lanes = self._lanes(value, gate, fast, length * count // group)
        length //= lanes
        item = axis(self._axis(group, "ITEM"))
        if length <= group:  # items on several lines at once
            lines = group // length
            along = [(_op(ops.CMOD, item, length), lanes)]
            across = [(_op(ops.CDIV, item, length), 1), (self._register(count // lines), lines)]
        else:
            along = [(item, lanes), (self._register(length // group), group * lanes)]
            across = [(self._register(count), 1)]
        if lanes > 1:
            vector = axis(self._axis(lanes, "VECTOR"))
            along.append((vector, 1))
        at = {axis(fast): weighted_sum(along), axis(slow): weighted_sum(across)}
        output, step = [at[axis(id)] for id in ids]
        moved, = substitute([value], at)
        if gate is not None and lanes > 1:  # which holds for all lanes or none
            each, = substitute([gate], at)
            moved, = substitute([moved], {each: substitute([each], {vector: const(0)})[0]})
        used = [n.arg for n in toposort([output, step]) if n.op is ops.AXIS]
        return _Copy(moved, output, step, tuple(used))

    def _lanes(self, value: Node, gate: Node | None, fast: int, each: int) -> int:
        """Lanes that an item copies at once: where memory runs along them, and rows begin as vectors do."""
        lanes = self.lanes
        if gate is not None and _reaches(gate, fast):
            lanes = math.gcd(lanes, gate.src[1].arg.bits)
        for load in [n for n in toposort([value]) if n.op is ops.LOAD]:
            strides, rest, offset = linear(load.src[0])
            gates = [n for n in load.src[1:] if n is not gate]
            if strides.get(fast) != 1 or any(_reaches(n, fast) for n in (*rest, *gates)):
                return 1
            apart = [stride for id, stride in strides.items() if id != fast]
            lanes = math.gcd(lanes, each, offset, *apart, *rest.values())
        return lanes

    def _register(self, extent: int) -> Node:
        return axis(self._axis(extent, "TILE")) if extent > 1 else const(0)

    def _axis(self, extent: int, kind: AxisKind) -> int:
        self.added.append(Axis(max([a.id for a in self.added]) + 1, extent, kind))
        return self.added[-1].id


@dataclass(frozen=True, slots=True)
class _Copy:
    """What an item copies to a panel, to which output and step of it, over which axes."""

    value: Node
    output: Node
    step: Node
    axes: tuple[int, ...]


def _op(op: Op, position: Node, by: int) -> Node:
    return node(op, (position, const(by)), None, INDEX)


def _gated(reduction: Node, factor: Node) -> tuple[Node, Node | None]:
    """A factor that is 0 beyond the last step, and the gate that sees to it, by a comparison at each step."""
    value = reduction.src[0]
    if value.op is not g.WHERE:
        return factor, None
    tail = value.src[0]
    gate = node(g.LT, (tail.src[0], const(tail.arg[2])), None, tail.type)
    factor, = substitute([factor], {tail: gate})
    if all(n.op in (ops.LOAD, g.CAST) for n in _chain(factor)):
        return factor, gate  # nothing is loaded there, which is 0
    return node(g.WHERE, (gate, factor, const(0, factor.type)), None, factor.type), gate


def _chain(n: Node) -> Iterator[Node]:
    """What is made of one operand after another, up to what is loaded."""
    yield n
    if n.op is not ops.LOAD and n.src:
        yield from _chain(n.src[0])


def _reaches(n: Node, id: int) -> bool:
    return any(m.op is ops.AXIS and m.arg == id for m in toposort([n]))


def _distance(value: Node, id: int) -> float:
    """How far apart a value's loads at the first two positions of an axis are."""
    apart = []
    for load in [n for n in toposort([value]) if n.op is ops.LOAD and _reaches(n.src[0], id)]:
        first, second = [position(load.src[0], {id: at}) for at in (0, 1)]
        apart.append(abs(second - first))
    return max(apart, default=math.inf)
