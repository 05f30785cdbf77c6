"""Sums weighted by what contractions give, element by element, computed again: the gradients of attention.

For each block of the summed axis a task computes the contractions, one after another, into local memory,
makes the weights of them, and adds the block's products with the further operands to its sums: the gradients
of keys and of values are of the same scores.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce

from pluggrad.graph import ops as g
from pluggrad.ir.node import Node
from pluggrad.ir.walk import substitute, toposort
from pluggrad.kernel import ops
from pluggrad.kernel.free import free_axes
from pluggrad.kernel.kernel import Axis, Kernel, axis, const
from pluggrad.target import Capabilities
from pluggrad.tune.actions import axis_of
from pluggrad.tune.blockwise import BlockAxes, Blockwise, State, fitted, op, unrounded


def tune_weighted(kernel: Kernel, capabilities: Capabilities) -> Kernel | None:
    """The kernel block by block; None if it has no such sums, or memory is short."""
    summed = _summed(kernel) if capabilities.online else None
    if summed is None:
        return None
    return fitted(kernel, summed, capabilities, lambda cut, axes: _Weighted(cut, axes).kernel())


def _summed(kernel: Kernel) -> Axis | None:
    """The axis of all sums of what contractions along another axis give, if it is one."""
    order = toposort(kernel.stores)
    reductions = [n for n in order if n.op is ops.REDUCE]
    outer = [n for n in reductions if any(m.op is ops.REDUCE for m in toposort(n.src))]
    inner = [n for n in reductions if n not in outer]
    if len({n.arg for n in outer}) != 1 or len({n.type for n in reductions}) != 1 or len(outer[0].arg[1]) > 1:
        return None
    id, = outer[0].arg[1]
    free = free_axes(order)
    fits = all(n.arg[0] == "ADD" for n in reductions) and all(id in free[n] for n in inner) \
        and not any(n in outer for total in outer for n in toposort(total.src))
    return axis_of(kernel, id) if fits else None


@dataclass(frozen=True, slots=True)
class _Total:
    """A sum, as the factors of what it adds up: `weight`, which is made of `contractions`, and the others.

    slot: the local buffer that holds the block's weights.
    """

    node: Node
    weight: Node
    contractions: frozenset[Node]
    others: tuple[Node, ...]
    slot: int = -1


class _Weighted(Blockwise):
    """`totals`: the sums. `contractions`: what they are made of."""

    def __init__(self, kernel: Kernel, axes: BlockAxes) -> None:
        super().__init__(kernel, axes)
        inside = toposort([source for n in self.chain for source in n.src])
        self.contractions = [n for n in inside if n.op is ops.REDUCE]

    def kernel(self) -> Kernel:
        """The stores in their order."""
        of, block = self.chain[0].type, self.extents[self.axes.step]
        slots = {n: self._local(of, block * self.width) for n in self.contractions}
        totals = self._in_place([self._factored(n) for n in self.chain], slots)
        shifted = [n.src[0].src[0] for total in totals for n in _multiplied(total.weight)
                   if n.op is g.EXP and n.src[0].op is g.SUB]
        self.gate = next(filter(None, map(self._reached, shifted)), None)
        states = [self._state(total.node) for total in totals]
        for state in states:
            self._store(state.slot, self._row(state.position), const(0, of), *state.loops)
        near = [self._packed(contraction) for contraction in self.contractions]
        for contraction, slot in zip(near, slots.values(), strict=True):
            self._computed(contraction, slot)
        self._weigh(totals, slots)
        for total, state in zip(totals, states, strict=True):
            self._add(total, state)
        return self._finish({total.node: self._load(state.slot, state.position)
                             for total, state in zip(totals, states, strict=True)})

    def _factored(self, total: Node) -> _Total:
        weights: list[Node] = []
        others: list[Node] = []
        stack = [self._summand(total)]
        columns = frozenset([id for pair in self.axes.columns for id in pair])
        while stack:
            factor = stack.pop()
            if factor.op is g.MUL and columns & self.free[factor]:
                stack += factor.src
            else:
                (others if columns & self.free[factor] else weights).append(factor)
        weight = reduce(partial(op, g.MUL), weights)
        made_of = frozenset([n for n in toposort([weight]) if n in self.contractions])
        return _Total(total, weight, made_of, tuple(others))

    def _in_place(self, totals: Sequence[_Total], slots: Mapping[Node, int]) -> list[_Total]:
        """The totals in an order in which each one's weights take the place of a contraction that no later
        one needs, where there is one."""
        placed = list[_Total]()
        left = sorted(totals, key=lambda total: -len(total.contractions))
        while left:
            total = left.pop(0)
            needed = frozenset[Node]().union(*[other.contractions for other in left])
            taken = {other.slot for other in placed}
            free = [slots[n] for n in self.contractions if n not in needed and slots[n] not in taken]
            slot = free[0] if free else self._local(total.node.type, self.buffers[min(slots.values())].size)
            placed.append(replace(total, slot=slot))
        return placed

    def _weigh(self, totals: Sequence[_Total], slots: Mapping[Node, int]) -> None:
        """The weights of a block, from its contractions: all of an element before the first is stored."""
        each = self._axis(self.extents[self.axes.step], "LOOP")
        given = {n: self._load(slot, axis(each)) for n, slot in slots.items()}
        weights = substitute([total.weight for total in totals], {**given, axis(self.axes.step): axis(each)})
        for total, weight in zip(totals, weights, strict=True):
            self._store(total.slot, self._row(axis(each)), weight, self.axes.blocks, each)

    def _add(self, total: _Total, state: State) -> None:
        """What a block adds to a sum, in loops of its own: its registers are no other sum's."""
        product = self._load(total.slot, axis(self.axes.step))
        for factor in total.others:
            product = op(g.MUL, product, factor)
        value = op(g.ADD, self._load(state.slot, state.position), self._total("ADD", product))
        own = [self._axis(self.extents[id], "TILE" if i else "LOOP") for i, id in enumerate(state.loops)]
        moved = {axis(id): axis(new) for id, new in zip(state.loops, own, strict=True)}
        row, value = substitute([self._row(state.position), value], moved)
        self._store(state.slot, row, value, self.axes.blocks, *own)


def _multiplied(product: Node) -> list[Node]:
    """The factors of a product, rounded or not, down to those that are none."""
    found: list[Node] = []
    stack = [product]
    while stack:
        n = unrounded(stack.pop())
        if n.op is g.MUL:
            stack += n.src
        else:
            found.append(n)
    return found
