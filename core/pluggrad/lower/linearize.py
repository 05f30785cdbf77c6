"""Kernel -> instructions: derives the loop nest.

A node is placed in the outermost block where all loop axes it depends on are bound, so loop-invariant code
leaves loops by construction. A reduction opens its loops in the block where its own free axes are bound.
Loops whose first or last step is partial (HEAD, TAIL) run the full ones without gates, the others with them.
What depends on local memory stays within the loops that change it, and is computed again after a store to it.
Where items of a group share it, they wait for each other in between (barriers.py).
"""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from pluggrad import dtypes
from pluggrad.dtypes import Scalar
from pluggrad.graph import ops as g
from pluggrad.ir.node import Node
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.boxes import BoxCopy
from pluggrad.kernel.index_nodes import INDEX
from pluggrad.kernel.kernel import Kernel, axis, const
from pluggrad.kernel.order import Group, Nest, Step, stores_of
from pluggrad.kernel.reductions import identity
from pluggrad.lower.barriers import Pending
from pluggrad.lower.dependencies import Dependencies
from pluggrad.lower.items import Block, Item, flatten, is_true
from pluggrad.lower.loops import Loops
from pluggrad.lower.matrices import product_of, row_stride
from pluggrad.lower.program import Instr

_SHORTEST_COPY: Final = 4  # bytes of a row that is copied while items do something else


def linearize(kernel: Kernel, steps: Sequence[Step], boxes: Mapping[int, BoxCopy]) -> tuple[Instr, ...]:
    """The instructions of one kernel, whose addresses are split, with its stores in the order of `steps`.
    boxes: those that are copies, by their numbers."""
    return flatten(_Linearizer(kernel, steps, boxes).run())


class _Linearizer(Loops):
    def __init__(self, kernel: Kernel, steps: Sequence[Step], boxes: Mapping[int, BoxCopy]) -> None:
        positions = [n for copy in boxes.values() for n in (copy.place, *copy.starts)]
        super().__init__(kernel, Dependencies(kernel, steps, positions))
        self.boxes = {kernel.stores[at]: (number, copy) for number, (at, copy) in enumerate(boxes.items())}
        self.steps = steps
        self.local = kernel.local.keys()
        self.running: dict[tuple[Node, Block], Item] = {}  # accumulators, by the block around the loop
        self.pending = Pending()
        self.stage: Item | None = None  # of local buffers that have several
        self.by_unit = any(a.kind == "MATRIX" for a in kernel.axes)
        self.in_batches = self.by_unit and not boxes  # what items copy, they wait for
        self.groups = self.nodes.grouped(self.nodes.order)

    def run(self) -> list[Item]:
        return self._task(lambda: self._run(self.steps))

    # ---- stores --------------------------------------------------------------------------------------------
    def _run(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if isinstance(step, Group) and step.within is not None:
                continue
            touches = self._touched(step)
            if self.pending.conflicts(touches):
                self._barrier()
            if isinstance(step, Nest):
                self.pending = self.pending.also(touches)  # the end of the loop is before its beginning, too
                self._forget(step.fills)
                self._loop_nest([step.axis], partial(self._run_where_stored, step), step.fills)
            else:
                self._store_all([self.kernel.stores[number] for number in step.stores])
            self.pending = self.pending.also(touches)

    def _touched(self, step: Step) -> Pending:
        """The local buffers that a step reads and stores to."""
        if not self.items or not self.local:
            return Pending()
        stores = [self.kernel.stores[number] for number in stores_of(step)]
        return Pending(frozenset[int]().union(*[self.nodes.reads[store] for store in stores]),
                       frozenset([store.arg[0] for store in stores]) & self.local)

    def _barrier(self) -> None:
        if self.items:
            self._append(len(self.blocks) - 1, Item("BARRIER", None))
        self.pending = Pending()

    def _run_where_stored(self, nest: Nest) -> None:
        """One position of a loop; nothing is computed where the gate that all of its stores have is false."""
        gate = self._gate_of_all(nest)
        if gate is None:
            self._run(nest.steps)
            return
        condition, before, pending = self._emit(gate), set(self.full), self.pending
        self.full.add(gate)
        self.blocks.append(Block(self._bound(), fills=nest.fills))
        self._run(nest.steps)
        self.full, body = before, self.blocks.pop().items
        self.pending = self.pending.also(pending)
        self._append(len(self.blocks) - 1, Item("IF", None, (condition,), body=body))

    def _gate_of_all(self, nest: Nest) -> Node | None:
        """The gate that all stores of a loop share, if it is one for all that a position of the loop does."""
        stores = [self.kernel.stores[number] for number in stores_of(nest)]
        gates = {store.src[2] if len(store.src) > 2 else None for store in stores}
        gate = gates.pop()
        if not self.local or gates or gate is None or gate.op in (ops.TAIL, ops.HEAD) or gate in self.full:
            return None
        alike = not self.nodes.registers[gate] and self.items.isdisjoint(self.nodes.loops[gate])
        return gate if alike and self.nodes.loops[gate] <= self._bound() else None

    def _store_all(self, stores: list[Node]) -> None:
        """Every value is computed before the first is written: a kernel may overwrite what it reads."""
        if stores[0] in self.boxes:
            for store in stores:
                self._copy_box(store)
            return
        self._store_computed(stores, self._computed(stores))

    def _computed(self, stores: Sequence[Node]) -> list[list[Item]]:
        """The operands of stores."""
        if self.local:  # what later stores reduce may not be in memory yet
            self.groups = self.nodes.grouped(toposort(stores))
        needed = [(*store.src[:2], *[s for s in store.src[2:] if s not in self.full]) for store in stores]
        return [[self._emit(s) for s in sources] for sources in needed]

    def _store_computed(self, stores: Sequence[Node], computed: Sequence[list[Item]]) -> None:
        stored = frozenset([store.arg[0] for store in stores]) & self.local
        if self.local and any(stored & self.nodes.reads[s] for store in stores for s in store.src):
            self._barrier()  # until all items have read what is stored over
        for store, items in zip(stores, computed, strict=True):
            self._store(store, items)
        self._forget(stored)

    def _store(self, store: Node, items: list[Item]) -> None:
        buffer, strides, axes, *combine = store.arg
        if len(items) == 3 and is_true(items[2]):
            items.pop()
        level, registers = len(self.blocks) - 1, self.nodes.registers[store]
        items[0] = self._staged(buffer, items[0], level)
        if items[1].op == "MMA_ACC":
            stride = row_stride(store, items[1].arg, self.axes)
            self._barrier()  # what is stored takes the place of what others may still multiply
            self._append(level, Item("MMA_STORE", None, (items[1], items[0]), (buffer, stride)))
            return
        if self.kernel.buffers[buffer].stages > 1 and self._is_copied(store):
            self._copy(items[0], items[1], (buffer, strides), registers)
            return
        if self.item is not None and self.items.isdisjoint(axes):
            self._by_first_item(level, items)
        if combine:  # with what is there now, after all that was stored before
            index, value, *gate = items
            there = Item("LOAD", store.type, (index, *gate), (buffer, strides), registers)
            combined = Item(combine[0], store.type, (self._append(level, there), value), axes=registers)
            items[1] = self._append(level, combined)
        self._append(level, Item("STORE", None, tuple(items), (buffer, strides), registers))

    def _staged(self, buffer: int, index: Item, level: int) -> Item:
        """Where the present stage of a local buffer has what is at `index`, for a block."""
        param = self.kernel.buffers[buffer]
        if param.stages == 1 or self.stage is None:
            return index
        size = self._append(level, Item("CONST", INDEX, arg=param.size))
        start = self._append(level, Item("MUL", INDEX, (self.stage, size)))
        return self._append(level, Item("ADD", INDEX, (index, start), axes=index.axes))

    def _is_copied(self, store: Node) -> bool:
        """Whether a store brings a matrix unit what was loaded for nothing else, in rows long enough for a
        copy that nobody waits for, or as a box."""
        if store in self.boxes:
            return True
        lanes = math.prod([self.axes[id].extent for id in self.nodes.registers[store]
                           if self.axes[id].kind == "VECTOR"])
        row: int = lanes * store.type.itemsize
        return self.by_unit and store.src[1].op is ops.LOAD and row >= _SHORTEST_COPY

    def _copy(self, index: Item, load: Item, to: tuple[Any, ...], registers: tuple[int, ...]) -> None:
        """To local memory what was loaded for nothing else."""
        for block in self.blocks:
            block.items = [item for item in block.items if item is not load]
            block.memo = {n: item for n, item in block.memo.items() if item is not load}
        copy = Item("COPY", None, (index, *load.src), (*to, *load.arg), registers)
        self._append(len(self.blocks) - 1, copy)

    def _copy_box(self, store: Node) -> None:
        """A store as the copy of a box, of the stage of the step at hand."""
        number, copy = self.boxes[store]
        level, (target, _, axes) = len(self.blocks) - 1, store.arg
        step = next(self._emit(axis(id)) for id in axes if self.axes[id].kind == "REDUCE")
        starts = [self._emit(start) for start in copy.starts]
        index = self._staged(target, self._emit(copy.place), level)
        stages = self.kernel.buffers[target].stages
        self._append(level, Item("COPY_BOX", None, (step, index, *starts), (target, number, stages)))

    def _by_first_item(self, level: int, items: list[Item]) -> None:
        """Gate a store of what all work items have, so that one of them writes it."""
        assert self.item is not None
        one = self._append(level, Item("CONST", INDEX, arg=1))
        gate = self._append(level, Item("LT", dtypes.bool_, (self.item, one)))
        for other in items[2:]:
            gate = self._append(level, Item("AND", dtypes.bool_, (gate, other), axes=other.axes))
        items[2:] = [gate]

    # ---- expressions ---------------------------------------------------------------------------------------
    def _emit(self, goal: Node) -> Item:
        """Emit what `goal` needs and is not computed yet; the body of a reduction is emitted with it."""
        found = self._found(goal)
        if found is not None:
            return found

        def missing(n: Node) -> tuple[Node, ...]:
            return () if n.op is ops.REDUCE or self._found(n) is not None else n.src

        for n in toposort([goal], missing):
            if self._found(n) is None:
                self._emit_one(n)
        return self._operand(goal)

    def _emit_one(self, n: Node) -> None:
        if n.op is ops.REDUCE:
            self._emit_reductions([m for m in self.groups[self.nodes.group(n)] if self._found(m) is None])
            return
        level = self._level(n)
        if n.op is ops.SCAN:
            self.blocks[level].memo[n] = self._run_on(n, level)
            return
        src = tuple([self._operand(s) for s in n.src])
        self.blocks[level].memo[n] = self._instruction(n, src, level)

    def _operand(self, n: Node) -> Item:
        item = self._found(n)
        assert item is not None, n
        return item

    def _instruction(self, n: Node, src: tuple[Item, ...], level: int) -> Item:
        registers = self.nodes.registers[n]
        if n.op is ops.AXIS:
            return self._append(level, Item("LANE", INDEX, arg=n.arg, axes=registers))
        if n.op is ops.CONST:
            return self._append(level, Item("CONST", n.type, arg=n.arg.of(n.type)))
        if n.op in (ops.LOAD, ops.TALLY) and len(src) == 2 and is_true(src[1]):
            src = src[:1]
        if n.op is ops.LOAD:
            src = (self._staged(n.arg[0], src[0], level), *src[1:])
        if n.op is ops.PREFETCH:
            self._append(level, Item("PREFETCH", None, src[1:], n.arg, registers))
            return src[0]
        if n.op is ops.TALLY:
            return self._append(level, Item("LOAD", n.type, src, (n.arg[0], ()), registers))
        if n in self.full:
            return self._append(level, Item("CONST", dtypes.bool_, arg=True))
        if n.op is ops.HEAD:
            start = self._append(level, Item("CONST", INDEX, arg=0))
            return self._append(level, Item("LE", dtypes.bool_, (start, src[0]), axes=registers))
        if n.op is ops.TAIL:
            limit = self._append(level, Item("CONST", INDEX, arg=n.arg[2]))
            return self._append(level, Item("LT", dtypes.bool_, (src[0], limit), axes=registers))
        if n.op is g.AND and n.type is dtypes.bool_ and (is_true(src[0]) or is_true(src[1])):
            return src[1] if is_true(src[0]) else src[0]
        if n.op is g.WHERE and is_true(src[0]):
            return src[1]
        return self._append(level, Item(n.op.name, n.type, src, n.arg, registers))

    def _run_on(self, n: Node, level: int) -> Item:
        """One step of a SCAN. Its accumulator starts before the loop, and serves full and partial steps."""
        name, id = n.arg
        outside = next(i for i, block in enumerate(self.blocks) if id in block.bound) - 1
        acc = self.running.get((n, self.blocks[outside]))
        if acc is None:
            start = self._append(outside, Item("CONST", n.type, arg=_neutral(n)))
            acc = self._append(outside, Item("ACC", n.type, (start,), axes=self.nodes.registers[n]))
            self.running[n, self.blocks[outside]] = acc
        total = self._append(level, Item(name, n.type, (acc, self._operand(n.src[0])), axes=acc.axes))
        self._append(level, Item("SET", None, (acc, total), axes=acc.axes))
        return total

    def _emit_reductions(self, group: list[Node]) -> None:
        """All reductions over the same loops at once, each with an accumulator over its registers."""
        axes, level = group[0].arg[1], self._level(group[0])
        deeper, self.blocks = self.blocks[level + 1:], self.blocks[:level + 1]
        if any(self.axes[id].kind == "MATRIX" for id in axes):
            self._multiply(group[0], level)
            self.blocks += deeper
            return
        accumulators = []
        for n in group:
            start = self._append(level, Item("CONST", n.type, arg=_neutral(n)))
            registers = {*self.nodes.registers[n.src[0]], *[id for id in axes if self.nodes.is_register(id)]}
            acc = Item("ACC", n.type, (start,), axes=tuple(sorted(registers)))
            accumulators.append(self._append(level, acc))

        def accumulate() -> None:
            for n, acc in zip(group, accumulators, strict=True):
                total = self._one_more(n, acc)
                inner = len(self.blocks) - 1
                self._append(inner, Item("SET", None, (acc, total), axes=acc.axes))

        loops = [id for id in axes if not self.nodes.is_register(id) and id not in self.items]
        self._reduce_in(self._ordered(loops), accumulate)
        for n, acc in zip(group, accumulators, strict=True):
            result, reduced = acc, tuple([id for id in acc.axes if id in axes])
            if reduced:
                result = Item("HREDUCE", n.type, (acc,), (n.arg[0], reduced), self.nodes.registers[n])
                self._append(level, result)
            if not self.items.isdisjoint(axes):
                combined = Item("GREDUCE", n.type, (result,), n.arg[0], self.nodes.registers[n])
                result = self._append(level, combined)
            self.blocks[level].memo[n] = result
        self.blocks += deeper

    def _multiply(self, n: Node, level: int) -> None:
        """A sum of products by a matrix unit; the group holds the sums until they are stored."""
        tile, *loads = product_of(n, self.axes)
        tile = tile._replace(in_flight=min([self.kernel.buffers[load.arg[0]].kept for load in loads]))
        sums = self._append(level, Item("MMA_ACC", n.type, arg=tile))

        def accumulate() -> None:
            level = len(self.blocks) - 1
            indices = [self._staged(load.arg[0], self._emit(load.src[0]), level) for load in loads]
            self._append(level, Item("MMA", None, (sums, *indices), tile))

        self._reduce_in(self._ordered([id for id in n.arg[1] if not self.nodes.is_register(id)]), accumulate)
        self.blocks[level].memo[n] = sums

    def _reduce_in(self, ids: list[int], accumulate: Callable[[], None]) -> None:
        """The loops of a reduction, outermost first, with the stores that are made in them."""
        at = next((i for i, id in enumerate(ids) if id in self.nodes.filled), None)
        if at is None:
            self._loop_nest(ids, accumulate)
            return
        filled = [self.kernel.buffers[slot] for slot in self.nodes.filled_along(ids[at])]
        stages, kept = max([param.stages for param in filled]), max([param.kept for param in filled])
        if stages > 1 or self.boxes:
            inner = partial(self._reduce_in, ids[at + 1:], accumulate)
            self._loop_nest(ids[:at], partial(self._loop_ahead, ids[at], stages, kept, inner))
            return

        def fill() -> None:
            groups = self.groups
            for stores in self.nodes.filled[ids[at]]:
                self._barrier()  # until all have read what the step before has stored
                self._store_all(stores)
            self._barrier()
            self.groups = groups
            self._reduce_in(ids[at + 1:], accumulate)

        self._loop_nest(ids[:at + 1], fill, self.nodes.filled_along(ids[at]))

    def _loop_ahead(self, id: int, stages: int, kept: int, accumulate: Callable[[], None]) -> None:
        """The loop over an axis; what is stored in it is stored `stages - 1 - kept` steps before it is read.

        What a step reads has come when all items have waited for their copies, and for each other; then
        they have also read what the next one to be stored takes the place of, but for `kept` products. What
        is not copied is on its way to registers meanwhile. Boxes are waited for behind those of a later
        step: when an engine copies, only the place has to be free.
        """
        distance, filled, fills = stages - 1 - kept, self.nodes.filled[id], self.nodes.filled_along(id)
        level, extent = len(self.blocks) - 1, self.axes[id].extent
        if self.boxes:
            arrivals = stages, sum([len(stores) for stores in filled])
            self._append(level, Item("ARRIVALS", None, arg=arrivals))
        self._barrier()
        for step in range(distance):
            if step < extent:
                position = self._append(level, Item("CONST", INDEX, arg=step))
                self.blocks[level].items += self._filling(filled, id, position, position)
            self._commit(level)
        loop = Item("LOOP", None, arg=(0, extent))
        self.blocks.append(Block(self._bound(), fills=fills))
        if self.in_batches:
            self._append(level + 1, Item("WAIT", None, arg=distance - 1))
        self._barrier()
        numbers = (stages, distance, extent) if self.by_unit else (stages, distance)
        count, ahead, *end = [self._append(level + 1, Item("CONST", INDEX, arg=value)) for value in numbers]
        position = self._append(level + 1, Item("ADD", INDEX, (loop, ahead)))
        within = [self._append(level + 1, Item("LT", dtypes.bool_, (position, limit))) for limit in end]
        stage = self._append(level + 1, Item("CMOD", INDEX, (position, count)))
        copied, others = self._by_way(filled)
        if copied:
            body = self._filling(copied, id, position, stage)
            self._append(level + 1, Item("IF", None, tuple(within), body=body))
        self._commit(level + 1)
        if self.boxes:
            self._append(level + 1, Item("WAIT_BOX", None, (loop,), stages))
        store = self._loading(others, id, position, stage) if others else None
        self.blocks[-1].bound |= {id}
        self.blocks[-1].memo[axis(id)] = loop
        self.stage = self._append(level + 1, Item("CMOD", INDEX, (loop, count)))
        accumulate()
        self.stage, self.pending = None, Pending(reads=fills)
        if store is not None:
            store()
            self.pending = Pending(fills, fills)
        loop.body = self.blocks.pop().items
        self._append(level, loop)

    def _commit(self, level: int) -> None:
        """Make a batch of the copies since the last one, where there may be any."""
        if self.in_batches:
            self._append(level, Item("COMMIT", None))

    def _by_way(self, groups: Sequence[list[Node]]) -> tuple[list[list[Node]], list[list[Node]]]:
        """Stores that are copied, and those that go through registers."""
        found = tuple([[[store for store in stores if self._is_copied(store) is way] for stores in groups]
                       for way in (True, False)])
        copied, others = [[stores for stores in each if stores] for each in found]
        return copied, others

    def _loading(self, groups: Sequence[list[Node]], id: int, position: Item, stage: Item,
                 ) -> Callable[[], None]:
        """Load what is stored at a position of a loop, or once more at the last one beyond it, where nobody
        reads it; returns what stores it to a stage."""
        level, fills, before = len(self.blocks) - 1, self.nodes.filled_along(id), self.groups
        last = self._append(level, Item("CONST", INDEX, arg=self.axes[id].extent - 1))
        position = self._append(level, Item("MIN", INDEX, (position, last)))
        block = Block(self._bound() | {id}, memo={axis(id): position}, fills=fills)
        self.blocks.append(block)
        computed = [(stores, self._computed(stores)) for stores in groups]
        self._take_up(block)
        self.groups = before

        def store() -> None:
            self.stage = stage
            self.blocks.append(block)
            for stores, items in computed:
                self._store_computed(stores, items)
            self._take_up(block)
            self.stage = None

        return store

    def _filling(self, stored: Sequence[list[Node]], id: int, position: Item, stage: Item) -> list[Item]:
        """What is stored in the loop over an axis at one position, to a stage."""
        groups, self.stage, fills = self.groups, stage, self.nodes.filled_along(id)
        self.blocks.append(Block(self._bound() | {id}, memo={axis(id): position}, fills=fills))
        for stores in stored:
            self._store_all(stores)
        self.groups, self.stage = groups, None
        return self.blocks.pop().items

    def _one_more(self, n: Node, acc: Item) -> Item:
        """The accumulator of a reduction combined with its value at one step."""
        value = n.src[0]
        if value.op is g.WHERE and value.src[0] in self.full:
            value = value.src[1]
        if n.arg[0] == "ADD" and _adds_to_zero(value):
            pairs = tuple([self._emit(s) for s in value.src[1:]])
            return self._append(len(self.blocks) - 1, Item("DOT2", n.type, (acc, *pairs), axes=acc.axes))
        combined = (acc, self._emit(value))
        return self._append(len(self.blocks) - 1, Item(n.arg[0], n.type, combined, axes=acc.axes))


def _adds_to_zero(n: Node) -> bool:
    """Whether this is a DOT2 that may as well add to the sum it belongs to."""
    return n.op is ops.DOT2 and n.src[0].op is ops.CONST and n.src[0].arg.bits == 0


def _neutral(n: Node) -> Scalar:
    """What the accumulator of a REDUCE or SCAN starts with."""
    return const(identity(n.arg[0], n.type), n.type).arg.of(n.type)  # type: ignore[no-any-return]
