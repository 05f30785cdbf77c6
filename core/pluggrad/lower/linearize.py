"""Kernel -> instructions: derives the loop nest.

A node is placed in the outermost block where all loop axes it depends on are bound, so loop-invariant code
leaves loops by construction. A reduction opens its loops in the block where its own free axes are bound.
Loops whose first or last step is partial (HEAD, TAIL) run the full ones without gates, the others with them.
What depends on local memory stays within the loops that change it, and is computed again after a store to it.
Where items of a group share it, they wait for each other in between (barriers.py).
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

from pluggrad import dtypes
from pluggrad.dtypes import DType, Scalar
from pluggrad.errors import InternalError
from pluggrad.graph import ops as g
from pluggrad.ir.node import Node
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.index_nodes import INDEX
from pluggrad.kernel.kernel import Axis, Kernel, axis, const
from pluggrad.kernel.order import Group, Nest, Step, groups_of, stores_of
from pluggrad.kernel.reductions import identity
from pluggrad.lower.barriers import Pending
from pluggrad.lower.matrices import product_of, row_stride
from pluggrad.lower.program import Instr


@dataclass(eq=False, slots=True)
class _Item:
    """An instruction whose operands are items; a block holds its own items."""

    op: str
    dtype: DType | None
    src: tuple[_Item, ...] = ()
    arg: Any = None
    axes: tuple[int, ...] = ()
    body: list[_Item] | None = None
    otherwise: list[_Item] | None = None


@dataclass(eq=False, slots=True)
class _Block:
    """An open block: loop axes bound here and further out, its items, and which nodes they compute.

    fills: local buffers that its loop stores to.
    """

    bound: frozenset[int]
    items: list[_Item] = field(default_factory=list)
    memo: dict[Node, _Item] = field(default_factory=dict)
    fills: frozenset[int] = frozenset()


def linearize(kernel: Kernel, steps: Sequence[Step]) -> tuple[Instr, ...]:
    """The instructions of one kernel, whose addresses are split, with its stores in the order of `steps`."""
    return _flatten(_Linearizer(kernel, steps).run())


class _Linearizer:
    def __init__(self, kernel: Kernel, steps: Sequence[Step]) -> None:
        self.kernel, self.steps = kernel, steps
        self.axes = {a.id: a for a in kernel.axes}
        self.order = toposort(kernel.stores)
        self.loops: dict[Node, frozenset[int]] = {}
        self.registers: dict[Node, tuple[int, ...]] = {}
        self.depth: dict[Node, int] = {}  # reductions within reductions
        self.local = kernel.local.keys()
        self.reads: dict[Node, frozenset[int]] = {}  # local buffers that a node depends on
        self.tails: dict[int, list[Node]] = {}
        self.heads: dict[int, list[Node]] = {}
        self.full: set[Node] = set()
        self.blocks: list[_Block] = []
        self.floor = 0  # nothing is placed in blocks below this one
        self.running: dict[tuple[Node, _Block], _Item] = {}  # accumulators, by the block around the loop
        self.items = frozenset(a.id for a in kernel.axes if a.kind == "ITEM")
        self.item: _Item | None = None  # the index of the work item
        self.pending = Pending()
        self.stage: _Item | None = None  # of local buffers that have several
        self.by_unit = any(a.kind == "MATRIX" for a in kernel.axes)
        self.filled: dict[int, list[list[Node]]] = {}  # stores, by the REDUCE axis of their loop
        for group in [group for step in steps for group in groups_of(step)]:
            if group.within is not None:
                stores = [kernel.stores[number] for number in group.stores]
                self.filled.setdefault(group.within, []).append(stores)
        for n in self.order:
            self._dependencies(n)
        self.groups = self._grouped(self.order)

    def _dependencies(self, n: Node) -> None:
        loops = frozenset().union(*[self.loops[s] for s in n.src])
        registers = set().union(*[self.registers[s] for s in n.src])
        if n.op is ops.AXIS and self._is_register(n.arg):
            registers = {n.arg}
        elif n.op is ops.AXIS:
            loops = frozenset({n.arg})
        elif n.op is ops.TAIL and not self._is_register(n.arg[0]):
            loops = loops | {n.arg[0]}
            self.tails.setdefault(n.arg[0], []).append(n)
        elif n.op is ops.HEAD and not self._is_register(n.arg):
            loops = loops | {n.arg}
            self.heads.setdefault(n.arg, []).append(n)
        elif n.op in (ops.LOAD, ops.STORE) and n.arg[1] is not None:
            registers |= {id for id, _ in n.arg[1]}
        elif n.op in (ops.SCAN, ops.TALLY):
            loops = loops | {n.arg[1]}
        elif n.op is ops.REDUCE:
            loops, registers = loops - set(n.arg[1]), registers - set(n.arg[1])
        self.loops[n], self.registers[n] = loops, tuple(sorted(registers))
        self.depth[n] = max([self.depth[s] for s in n.src], default=0) + (n.op is ops.REDUCE)
        if self.local:
            loaded = {n.arg[0]} & self.local if n.op is ops.LOAD else frozenset[int]()
            reads = frozenset(loaded).union(*[self.reads[s] for s in n.src])
            bound = [id for id in n.arg[1] if id in self.filled] if n.op is ops.REDUCE else []
            self.reads[n] = reads.difference(*map(self._filled_along, bound))

    def _filled_along(self, id: int) -> frozenset[int]:
        """The local buffers that are stored to at each step of a reduction's loop."""
        return frozenset([store.arg[0] for stores in self.filled[id] for store in stores])

    def _group(self, n: Node) -> tuple[Any, ...]:
        """Equal for reductions that can share their loops."""
        return n.arg[1], self.loops[n], self.depth[n], self.reads.get(n)

    def _grouped(self, nodes: Iterable[Node]) -> dict[tuple[Any, ...], list[Node]]:
        groups: dict[tuple[Any, ...], list[Node]] = {}
        for n in nodes:
            if n.op is ops.REDUCE:
                groups.setdefault(self._group(n), []).append(n)
        return groups

    def _is_register(self, id: int) -> bool:
        return self.axes[id].in_registers

    # ---- blocks --------------------------------------------------------------------------------------------
    def _bound(self) -> frozenset[int]:
        return self.blocks[-1].bound if self.blocks else frozenset()

    def _append(self, level: int, item: _Item) -> _Item:
        self.blocks[level].items.append(item)
        return item

    def _level(self, n: Node) -> int:
        """The outermost block that `n` may be computed in."""
        loops, reads, floor = self.loops[n], self.reads.get(n), self.floor
        if reads:
            floor = max([floor, *[i for i, block in enumerate(self.blocks) if block.fills & reads]])
        for level in range(floor, len(self.blocks)):
            if loops <= self.blocks[level].bound:
                return level
        raise InternalError(f"kernel {self.kernel.name}: loop axes {sorted(loops)} are not open")

    def _found(self, n: Node) -> _Item | None:
        for block in self.blocks:
            item = block.memo.get(n)
            if item is not None:
                return item
        return None

    def run(self) -> list[_Item]:
        parallel = [a for a in self.kernel.axes if a.kind == "PARALLEL"]
        root = _Block(frozenset(a.id for a in parallel) | self.items)
        self.blocks.append(root)
        self._decode_task(parallel)
        if self.items:
            self.item = self._append(0, _Item("ITEM", INDEX))
            root.memo |= {axis(id): self.item for id in self.items}
        tails = [t for a in parallel for t in self.tails.get(a.id, []) if _full_steps(t) > 0]
        if not tails:
            self._stores()
            return root.items
        fullness: _Item | None = None
        for id, steps in dict.fromkeys((t.arg[0], _full_steps(t)) for t in tails):
            index = root.memo[axis(id)]
            limit = self._append(0, _Item("CONST", INDEX, arg=steps))
            test = self._append(0, _Item("LT", dtypes.bool_, (index, limit)))
            if fullness is not None:
                test = self._append(0, _Item("AND", dtypes.bool_, (fullness, test)))
            fullness = test
        assert fullness is not None
        self.floor = 1
        self.full = set(tails)
        body = self._inside(root.bound, self._stores)
        self.full = set()
        otherwise = self._inside(root.bound, self._stores)
        self._append(0, _Item("IF", None, (fullness,), body=body, otherwise=otherwise))
        return root.items

    def _inside(self, bound: frozenset[int], emit: Callable[[], None]) -> list[_Item]:
        """Emit into a block of its own."""
        self.blocks.append(_Block(bound))
        emit()
        return self.blocks.pop().items

    def _decode_task(self, parallel: list[Axis]) -> None:
        """The last PARALLEL axis runs fastest."""
        memo = self.blocks[0].memo
        if not parallel:
            return
        rest = self._append(0, _Item("TASK", INDEX))
        for a in reversed(parallel[1:]):
            extent = self._append(0, _Item("CONST", INDEX, arg=a.extent))
            memo[axis(a.id)] = self._append(0, _Item("CMOD", INDEX, (rest, extent)))
            rest = self._append(0, _Item("CDIV", INDEX, (rest, extent)))
        memo[axis(parallel[0].id)] = rest

    def _loop_nest(self, ids: list[int], emit: Callable[[], None],
                   fills: frozenset[int] = frozenset()) -> None:
        """Open loops over `ids`, outermost first, and emit inside; the full steps between those with gates.

        A single step needs no loop, and those of an UNROLL axis are to have none. fills: local buffers that
        are stored to inside.
        """
        if not ids:
            emit()
            return
        current, deeper = ids[0], ids[1:]
        extent, bound, level = self.axes[current].extent, self._bound() | {current}, len(self.blocks) - 1
        heads, tails = self.heads.get(current, []), self.tails.get(current, [])
        first, whole = int(bool(heads)), min([extent, *map(_full_steps, tails)])

        def run(counter: _Item, held: list[Node]) -> list[_Item]:
            before = set(self.full)
            self.full |= set(held)
            self.blocks.append(_Block(bound, memo={axis(current): counter}, fills=fills))
            self._loop_nest(deeper, emit, fills)
            self.full = before
            return self.blocks.pop().items

        for start, stop in pairwise(sorted({0, first, whole, extent})):
            held = [*(heads if start >= first else []), *(tails if stop <= whole else [])]
            if stop - start == 1 or self.axes[current].kind == "UNROLL":
                for position in range(start, stop):
                    counter = self._append(level, _Item("CONST", INDEX, arg=position))
                    self.blocks[level].items.extend(run(counter, held))
            else:
                loop = _Item("LOOP", None, arg=(start, stop))
                loop.body = run(loop, held)
                self._append(level, loop)

    def _ordered(self, ids: Iterable[int]) -> list[int]:
        wanted = set(ids)
        return [a.id for a in self.kernel.axes if a.id in wanted]

    def _stores(self) -> None:
        self._run(self.steps)

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
        return Pending(frozenset[int]().union(*[self.reads[store] for store in stores]),
                       frozenset([store.arg[0] for store in stores]) & self.local)

    def _barrier(self) -> None:
        if self.items:
            self._append(len(self.blocks) - 1, _Item("BARRIER", None))
        self.pending = Pending()

    def _run_where_stored(self, nest: Nest) -> None:
        """One position of a loop; nothing is computed where the gate that all of its stores have is false."""
        gate = self._gate_of_all(nest)
        if gate is None:
            self._run(nest.steps)
            return
        condition, before, pending = self._emit(gate), set(self.full), self.pending
        self.full.add(gate)
        self.blocks.append(_Block(self._bound(), fills=nest.fills))
        self._run(nest.steps)
        self.full, body = before, self.blocks.pop().items
        self.pending = self.pending.also(pending)
        self._append(len(self.blocks) - 1, _Item("IF", None, (condition,), body=body))

    def _gate_of_all(self, nest: Nest) -> Node | None:
        """The gate that all stores of a loop share, if it is one for all that a position of the loop does."""
        stores = [self.kernel.stores[number] for number in stores_of(nest)]
        gates = {store.src[2] if len(store.src) > 2 else None for store in stores}
        gate = gates.pop()
        if not self.local or gates or gate is None or gate.op in (ops.TAIL, ops.HEAD) or gate in self.full:
            return None
        alike = not self.registers[gate] and self.items.isdisjoint(self.loops[gate])
        return gate if alike and self.loops[gate] <= self._bound() else None

    def _store_all(self, stores: list[Node]) -> None:
        """Every value is computed before the first is written: a kernel may overwrite what it reads."""
        self._store_computed(stores, self._computed(stores))

    def _computed(self, stores: Sequence[Node]) -> list[list[_Item]]:
        """The operands of stores."""
        if self.local:  # what later stores reduce may not be in memory yet
            self.groups = self._grouped(toposort(stores))
        needed = [(*store.src[:2], *[s for s in store.src[2:] if s not in self.full]) for store in stores]
        return [[self._emit(s) for s in sources] for sources in needed]

    def _store_computed(self, stores: Sequence[Node], computed: Sequence[list[_Item]]) -> None:
        stored = frozenset([store.arg[0] for store in stores]) & self.local
        if self.local and any(stored & self.reads[s] for store in stores for s in store.src):
            self._barrier()  # until all items have read what is stored over
        for store, items in zip(stores, computed, strict=True):
            self._store(store, items)
        self._forget(stored)

    def _forget(self, filled: AbstractSet[int]) -> None:
        """What was computed from local buffers that change."""
        if not filled:
            return
        for block in self.blocks:
            block.memo = {n: item for n, item in block.memo.items()
                          if filled.isdisjoint(self.reads.get(n, ()))}

    def _store(self, store: Node, items: list[_Item]) -> None:
        buffer, strides, axes, *combine = store.arg
        if len(items) == 3 and _is_true(items[2]):
            items.pop()
        level, registers = len(self.blocks) - 1, self.registers[store]
        items[0] = self._staged(buffer, items[0], level)
        if items[1].op == "MMA_ACC":
            stride = row_stride(store, items[1].arg, self.axes)
            self._barrier()  # what is stored takes the place of what others may still multiply
            self._append(level, _Item("MMA_STORE", None, (items[1], items[0]), (buffer, stride)))
            return
        if self.by_unit and self.kernel.buffers[buffer].stages > 1 and items[1].op == "LOAD":
            self._copy(items[0], items[1], (buffer, strides), registers)
            return
        if self.item is not None and self.items.isdisjoint(axes):
            self._by_first_item(level, items)
        if combine:  # with what is there now, after all that was stored before
            index, value, *gate = items
            there = _Item("LOAD", store.type, (index, *gate), (buffer, strides), registers)
            combined = _Item(combine[0], store.type, (self._append(level, there), value), axes=registers)
            items[1] = self._append(level, combined)
        self._append(level, _Item("STORE", None, tuple(items), (buffer, strides), registers))

    def _staged(self, buffer: int, index: _Item, level: int) -> _Item:
        """Where the present stage of a local buffer has what is at `index`, for a block."""
        param = self.kernel.buffers[buffer]
        if param.stages == 1 or self.stage is None:
            return index
        size = self._append(level, _Item("CONST", INDEX, arg=param.size))
        start = self._append(level, _Item("MUL", INDEX, (self.stage, size)))
        return self._append(level, _Item("ADD", INDEX, (index, start), axes=index.axes))

    def _copy(self, index: _Item, load: _Item, to: tuple[Any, ...], registers: tuple[int, ...]) -> None:
        """To local memory what was loaded for nothing else."""
        for block in self.blocks:
            block.items = [item for item in block.items if item is not load]
            block.memo = {n: item for n, item in block.memo.items() if item is not load}
        copy = _Item("COPY", None, (index, *load.src), (*to, *load.arg), registers)
        self._append(len(self.blocks) - 1, copy)

    def _by_first_item(self, level: int, items: list[_Item]) -> None:
        """Gate a store of what all work items have, so that one of them writes it."""
        assert self.item is not None
        one = self._append(level, _Item("CONST", INDEX, arg=1))
        gate = self._append(level, _Item("LT", dtypes.bool_, (self.item, one)))
        for other in items[2:]:
            gate = self._append(level, _Item("AND", dtypes.bool_, (gate, other), axes=other.axes))
        items[2:] = [gate]

    # ---- expressions ---------------------------------------------------------------------------------------
    def _emit(self, goal: Node) -> _Item:
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
            self._emit_reductions([m for m in self.groups[self._group(n)] if self._found(m) is None])
            return
        level = self._level(n)
        if n.op is ops.SCAN:
            self.blocks[level].memo[n] = self._run_on(n, level)
            return
        src = tuple([self._operand(s) for s in n.src])
        self.blocks[level].memo[n] = self._instruction(n, src, level)

    def _operand(self, n: Node) -> _Item:
        item = self._found(n)
        assert item is not None, n
        return item

    def _instruction(self, n: Node, src: tuple[_Item, ...], level: int) -> _Item:
        registers = self.registers[n]
        if n.op is ops.AXIS:
            return self._append(level, _Item("LANE", INDEX, arg=n.arg, axes=registers))
        if n.op is ops.CONST:
            return self._append(level, _Item("CONST", n.type, arg=n.arg.of(n.type)))
        if n.op in (ops.LOAD, ops.TALLY) and len(src) == 2 and _is_true(src[1]):
            src = src[:1]
        if n.op is ops.LOAD:
            src = (self._staged(n.arg[0], src[0], level), *src[1:])
        if n.op is ops.TALLY:
            return self._append(level, _Item("LOAD", n.type, src, (n.arg[0], ()), registers))
        if n in self.full:
            return self._append(level, _Item("CONST", dtypes.bool_, arg=True))
        if n.op is ops.HEAD:
            start = self._append(level, _Item("CONST", INDEX, arg=0))
            return self._append(level, _Item("LE", dtypes.bool_, (start, src[0]), axes=registers))
        if n.op is ops.TAIL:
            limit = self._append(level, _Item("CONST", INDEX, arg=n.arg[2]))
            return self._append(level, _Item("LT", dtypes.bool_, (src[0], limit), axes=registers))
        if n.op is g.AND and n.type is dtypes.bool_ and (_is_true(src[0]) or _is_true(src[1])):
            return src[1] if _is_true(src[0]) else src[0]
        if n.op is g.WHERE and _is_true(src[0]):
            return src[1]
        return self._append(level, _Item(n.op.name, n.type, src, n.arg, registers))

    def _run_on(self, n: Node, level: int) -> _Item:
        """One step of a SCAN. Its accumulator starts before the loop, and serves full and partial steps."""
        name, id = n.arg
        outside = next(i for i, block in enumerate(self.blocks) if id in block.bound) - 1
        acc = self.running.get((n, self.blocks[outside]))
        if acc is None:
            start = self._append(outside, _Item("CONST", n.type, arg=_neutral(n)))
            acc = self._append(outside, _Item("ACC", n.type, (start,), axes=self.registers[n]))
            self.running[n, self.blocks[outside]] = acc
        total = self._append(level, _Item(name, n.type, (acc, self._operand(n.src[0])), axes=acc.axes))
        self._append(level, _Item("SET", None, (acc, total), axes=acc.axes))
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
            start = self._append(level, _Item("CONST", n.type, arg=_neutral(n)))
            registers = {*self.registers[n.src[0]], *[id for id in axes if self._is_register(id)]}
            acc = _Item("ACC", n.type, (start,), axes=tuple(sorted(registers)))
            accumulators.append(self._append(level, acc))

        def accumulate() -> None:
            for n, acc in zip(group, accumulators, strict=True):
                total = self._one_more(n, acc)
                inner = len(self.blocks) - 1
                self._append(inner, _Item("SET", None, (acc, total), axes=acc.axes))

        loops = [id for id in axes if not self._is_register(id) and id not in self.items]
        self._reduce_in(self._ordered(loops), accumulate)
        for n, acc in zip(group, accumulators, strict=True):
            result, reduced = acc, tuple([id for id in acc.axes if id in axes])
            if reduced:
                result = _Item("HREDUCE", n.type, (acc,), (n.arg[0], reduced), self.registers[n])
                self._append(level, result)
            if not self.items.isdisjoint(axes):
                result = self._append(level, _Item("GREDUCE", n.type, (result,), n.arg[0], self.registers[n]))
            self.blocks[level].memo[n] = result
        self.blocks += deeper

    def _multiply(self, n: Node, level: int) -> None:
        """A sum of products by a matrix unit; the group holds the sums until they are stored."""
        tile, *loads = product_of(n, self.axes)
        sums = self._append(level, _Item("MMA_ACC", n.type, arg=tile))

        def accumulate() -> None:
            level = len(self.blocks) - 1
            indices = [self._staged(load.arg[0], self._emit(load.src[0]), level) for load in loads]
            self._append(level, _Item("MMA", None, (sums, *indices), tile))

        self._reduce_in(self._ordered([id for id in n.arg[1] if not self._is_register(id)]), accumulate)
        self.blocks[level].memo[n] = sums

    def _reduce_in(self, ids: list[int], accumulate: Callable[[], None]) -> None:
        """The loops of a reduction, outermost first, with the stores that are made in them."""
        at = next((i for i, id in enumerate(ids) if id in self.filled), None)
        if at is None:
            self._loop_nest(ids, accumulate)
            return
        stages = max([self.kernel.buffers[slot].stages for slot in self._filled_along(ids[at])])
        if stages > 1:
            inner = partial(self._reduce_in, ids[at + 1:], accumulate)
            ahead = self._fill_ahead if self.by_unit else self._load_ahead
            self._loop_nest(ids[:at], partial(ahead, ids[at], stages, inner))
            return

        def fill() -> None:
            groups = self.groups
            for stores in self.filled[ids[at]]:
                self._barrier()  # until all have read what the step before has stored
                self._store_all(stores)
            self._barrier()
            self.groups = groups
            self._reduce_in(ids[at + 1:], accumulate)

        self._loop_nest(ids[:at + 1], fill, self._filled_along(ids[at]))

    def _fill_ahead(self, id: int, stages: int, accumulate: Callable[[], None]) -> None:
        """The loop over an axis, with what is stored in it stored `stages - 1` steps before it is read.

        What a step reads has come when all items have waited for their copies, and for each other; then
        they have also read what the next one to be stored takes the place of.
        """
        level, extent, fills = len(self.blocks) - 1, self.axes[id].extent, self._filled_along(id)
        self._barrier()
        for step in range(stages - 1):
            if step < extent:
                position = self._append(level, _Item("CONST", INDEX, arg=step))
                filling = self._filling(id, position, position)
                self.blocks[level].items.extend(filling)
            self._append(level, _Item("COMMIT", None))
        loop = _Item("LOOP", None, arg=(0, extent))
        self.blocks.append(_Block(self._bound(), fills=fills))
        self._append(level + 1, _Item("WAIT", None, arg=stages - 2))
        self._barrier()
        count, ahead, limit = [self._append(level + 1, _Item("CONST", INDEX, arg=value))
                               for value in (stages, stages - 1, extent)]
        position = self._append(level + 1, _Item("ADD", INDEX, (loop, ahead)))
        within = self._append(level + 1, _Item("LT", dtypes.bool_, (position, limit)))
        stage = self._append(level + 1, _Item("CMOD", INDEX, (position, count)))
        self._append(level + 1, _Item("IF", None, (within,), body=self._filling(id, position, stage)))
        self._append(level + 1, _Item("COMMIT", None))
        self.blocks[-1].bound |= {id}
        self.blocks[-1].memo[axis(id)] = loop
        self.stage = self._append(level + 1, _Item("CMOD", INDEX, (loop, count)))
        accumulate()
        self.stage, self.pending = None, Pending(reads=fills)
        loop.body = self.blocks.pop().items
        self._append(level, loop)

    def _load_ahead(self, id: int, stages: int, accumulate: Callable[[], None]) -> None:
        """The same through registers: what is stored after a step has been on its way meanwhile.

        The last steps load and store once more what nobody reads.
        """
        level, extent, fills = len(self.blocks) - 1, self.axes[id].extent, self._filled_along(id)
        self._barrier()
        for step in range(min(stages - 1, extent)):
            position = self._append(level, _Item("CONST", INDEX, arg=step))
            self.blocks[level].items += self._filling(id, position, position)
        loop = _Item("LOOP", None, arg=(0, extent))
        self.blocks.append(_Block(self._bound(), fills=fills))
        self._barrier()
        count, ahead, last = [self._append(level + 1, _Item("CONST", INDEX, arg=value))
                              for value in (stages, stages - 1, extent - 1)]
        later = self._append(level + 1, _Item("ADD", INDEX, (loop, ahead)))
        position = self._append(level + 1, _Item("MIN", INDEX, (later, last)))
        groups, stage = self.groups, self._append(level + 1, _Item("CMOD", INDEX, (later, count)))
        block = _Block(self._bound() | {id}, memo={axis(id): position}, fills=fills)
        self.blocks.append(block)
        computed = [(stores, self._computed(stores)) for stores in self.filled[id]]
        self._take_up(block)
        self.groups = groups
        self.blocks[-1].bound |= {id}
        self.blocks[-1].memo[axis(id)] = loop
        self.stage = self._append(level + 1, _Item("CMOD", INDEX, (loop, count)))
        accumulate()
        self.stage = stage
        self.blocks.append(block)
        for stores, items in computed:
            self._store_computed(stores, items)
        self._take_up(block)
        self.stage, self.pending = None, Pending(fills, fills)
        loop.body = self.blocks.pop().items
        self._append(level, loop)

    def _take_up(self, block: _Block) -> None:
        """Put what the innermost block has into the one around it, as it stands."""
        self.blocks.pop()
        self.blocks[-1].items += block.items
        block.items = []

    def _filling(self, id: int, position: _Item, stage: _Item) -> list[_Item]:
        """What is stored in the loop over an axis at one position, to a stage."""
        groups, self.stage, fills = self.groups, stage, self._filled_along(id)
        self.blocks.append(_Block(self._bound() | {id}, memo={axis(id): position}, fills=fills))
        for stores in self.filled[id]:
            self._store_all(stores)
        self.groups, self.stage = groups, None
        return self.blocks.pop().items

    def _one_more(self, n: Node, acc: _Item) -> _Item:
        """The accumulator of a reduction combined with its value at one step."""
        value = n.src[0]
        if value.op is g.WHERE and value.src[0] in self.full:
            value = value.src[1]
        if n.arg[0] == "ADD" and _adds_to_zero(value):
            pairs = tuple([self._emit(s) for s in value.src[1:]])
            return self._append(len(self.blocks) - 1, _Item("DOT2", n.type, (acc, *pairs), axes=acc.axes))
        combined = (acc, self._emit(value))
        return self._append(len(self.blocks) - 1, _Item(n.arg[0], n.type, combined, axes=acc.axes))


def _adds_to_zero(n: Node) -> bool:
    """Whether this is a DOT2 that may as well add to the sum it belongs to."""
    return n.op is ops.DOT2 and n.src[0].op is ops.CONST and n.src[0].arg.bits == 0


def _neutral(n: Node) -> Scalar:
    """What the accumulator of a REDUCE or SCAN starts with."""
    return const(identity(n.arg[0], n.type), n.type).arg.of(n.type)  # type: ignore[no-any-return]


def _full_steps(tail: Node) -> int:
    """At how many positions of its outer axis, from the first, a TAIL holds throughout."""
    _, factor, extent = tail.arg
    return int(extent // factor)


def _is_true(item: _Item) -> bool:
    return item.op == "CONST" and item.dtype is dtypes.bool_ and item.arg is True


def _flatten(items: list[_Item]) -> tuple[Instr, ...]:
    """Number the items and close the blocks."""
    out: list[Instr] = []
    number: dict[_Item, int] = {}

    def add(item: _Item) -> None:
        number[item] = len(out)
        out.append(Instr(item.op, item.dtype, tuple([number[s] for s in item.src]), item.arg, item.axes))
        if item.body is None:
            return
        for inner in item.body:
            add(inner)
        if item.otherwise is not None:
            out.append(Instr("ELSE", None))
            for inner in item.otherwise:
                add(inner)
        out.append(Instr("END", None))

    for item in items:
        add(item)
    return tuple(out)
