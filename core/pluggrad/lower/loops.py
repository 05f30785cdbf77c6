"""The open blocks of a kernel while its instructions are placed, and the loops that open them."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from itertools import pairwise

from pluggrad import dtypes
from pluggrad.errors import InternalError
from pluggrad.ir.node import Node
from pluggrad.kernel.index_nodes import INDEX
from pluggrad.kernel.kernel import Axis, Kernel, axis
from pluggrad.lower.dependencies import Dependencies
from pluggrad.lower.items import Block, Item


class Loops:
    """Blocks from the task's to the innermost, and what holds in them.

    full: gates that are true where the innermost block is. item: the index of the work item, where a group
    runs a task.
    """

    def __init__(self, kernel: Kernel, nodes: Dependencies) -> None:
        self.kernel, self.nodes, self.axes = kernel, nodes, nodes.axes
        self.full: set[Node] = set()
        self.blocks: list[Block] = []
        self.floor = 0  # nothing is placed in blocks below this one
        self.items = frozenset(a.id for a in kernel.axes if a.kind == "ITEM")
        self.item: Item | None = None

    # ---- blocks --------------------------------------------------------------------------------------------
    def _bound(self) -> frozenset[int]:
        return self.blocks[-1].bound if self.blocks else frozenset()

    def _append(self, level: int, item: Item) -> Item:
        self.blocks[level].items.append(item)
        return item

    def _level(self, n: Node) -> int:
        """The outermost block that `n` may be computed in."""
        loops, reads, floor = self.nodes.loops[n], self.nodes.reads.get(n), self.floor
        if reads:
            floor = max([floor, *[i for i, block in enumerate(self.blocks) if block.fills & reads]])
        for level in range(floor, len(self.blocks)):
            if loops <= self.blocks[level].bound:
                return level
        raise InternalError(f"kernel {self.kernel.name}: loop axes {sorted(loops)} are not open")

    def _found(self, n: Node) -> Item | None:
        for block in self.blocks:
            item = block.memo.get(n)
            if item is not None:
                return item
        return None

    def _forget(self, filled: AbstractSet[int]) -> None:
        """What was computed from local buffers that change."""
        if not filled:
            return
        for block in self.blocks:
            block.memo = {n: item for n, item in block.memo.items()
                          if filled.isdisjoint(self.nodes.reads.get(n, ()))}

    def _take_up(self, block: Block) -> None:
        """Put what the innermost block has into the one around it, as it stands."""
        self.blocks.pop()
        self.blocks[-1].items += block.items
        block.items = []

    # ---- tasks, loops --------------------------------------------------------------------------------------
    def _task(self, emit: Callable[[], None]) -> list[Item]:
        """What a task does: full steps of its own axes without gates, partial ones with them."""
        parallel = [a for a in self.kernel.axes if a.kind == "PARALLEL"]
        root = Block(frozenset(a.id for a in parallel) | self.items)
        self.blocks.append(root)
        self._decode_task(parallel)
        if self.items:
            self.item = self._append(0, Item("ITEM", INDEX))
            root.memo |= {axis(id): self.item for id in self.items}
        tails = [t for a in parallel for t in self.nodes.tails.get(a.id, []) if _full_steps(t) > 0]
        if not tails:
            emit()
            return root.items
        fullness: Item | None = None
        for id, steps in dict.fromkeys((t.arg[0], _full_steps(t)) for t in tails):
            index = root.memo[axis(id)]
            limit = self._append(0, Item("CONST", INDEX, arg=steps))
            test = self._append(0, Item("LT", dtypes.bool_, (index, limit)))
            if fullness is not None:
                test = self._append(0, Item("AND", dtypes.bool_, (fullness, test)))
            fullness = test
        assert fullness is not None
        self.floor = 1
        self.full = set(tails)
        body = self._inside(root.bound, emit)
        self.full = set()
        otherwise = self._inside(root.bound, emit)
        self._append(0, Item("IF", None, (fullness,), body=body, otherwise=otherwise))
        return root.items

    def _inside(self, bound: frozenset[int], emit: Callable[[], None]) -> list[Item]:
        """Emit into a block of its own."""
        self.blocks.append(Block(bound))
        emit()
        return self.blocks.pop().items

    def _decode_task(self, parallel: list[Axis]) -> None:
        """The last PARALLEL axis runs fastest."""
        memo = self.blocks[0].memo
        if not parallel:
            return
        rest = self._append(0, Item("TASK", INDEX))
        for a in reversed(parallel[1:]):
            extent = self._append(0, Item("CONST", INDEX, arg=a.extent))
            memo[axis(a.id)] = self._append(0, Item("CMOD", INDEX, (rest, extent)))
            rest = self._append(0, Item("CDIV", INDEX, (rest, extent)))
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
        heads, tails = self.nodes.heads.get(current, []), self.nodes.tails.get(current, [])
        first, whole = int(bool(heads)), min([extent, *map(_full_steps, tails)])

        def run(counter: Item, held: list[Node]) -> list[Item]:
            before = set(self.full)
            self.full |= set(held)
            self.blocks.append(Block(bound, memo={axis(current): counter}, fills=fills))
            self._loop_nest(deeper, emit, fills)
            self.full = before
            return self.blocks.pop().items

        for start, stop in pairwise(sorted({0, first, whole, extent})):
            held = [*(heads if start >= first else []), *(tails if stop <= whole else [])]
            if stop - start == 1 or self.axes[current].kind == "UNROLL":
                for position in range(start, stop):
                    counter = self._append(level, Item("CONST", INDEX, arg=position))
                    self.blocks[level].items.extend(run(counter, held))
            else:
                loop = Item("LOOP", None, arg=(start, stop))
                loop.body = run(loop, held)
                self._append(level, loop)

    def _ordered(self, ids: Iterable[int]) -> list[int]:
        wanted = set(ids)
        return [a.id for a in self.kernel.axes if a.id in wanted]


def _full_steps(tail: Node) -> int:
    """At how many positions of its outer axis, from the first, a TAIL holds throughout."""
    _, factor, extent = tail.arg
    return int(extent // factor)
