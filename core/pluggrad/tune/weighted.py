"""Sums weighted by what contractions give, element by element, computed again: the gradients of attention.

For each block of the summed axis a task computes the contractions, one after another, into local memory,
makes the weights of them, and adds the block's products with the further operand to its sums.
"""
from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce

from pluggrad.graph import ops as g
from pluggrad.ir.node import Node
from pluggrad.ir.walk import substitute, toposort
from pluggrad.kernel import ops
from pluggrad.kernel.free import free_axes
from pluggrad.kernel.kernel import Axis, Kernel, axis, const
from pluggrad.target import Capabilities
from pluggrad.tune.actions import axis_of
from pluggrad.tune.blockwise import BlockAxes, Blockwise, fitted, op


def tune_weighted(kernel: Kernel, capabilities: Capabilities) -> Kernel | None:
    """The kernel block by block; None if it is no such sum, or memory is short."""
    if not capabilities.online or any(a.kind == "LOOP" for a in kernel.axes):
        return None
    summed = _summed(kernel)
    if summed is None:
        return None
    return fitted(kernel, summed, capabilities, lambda cut, axes: _Weighted(cut, axes).kernel())


def _summed(kernel: Kernel) -> Axis | None:
    """The axis of the only sum of what contractions along another axis give."""
    order = toposort(kernel.stores)
    reductions = [n for n in order if n.op is ops.REDUCE]
    outer = [n for n in reductions if any(m.op is ops.REDUCE for m in toposort(n.src))]
    if len(outer) != 1 or outer[0].arg[0] != "ADD" or len(outer[0].arg[1]) > 1:
        return None
    id, = outer[0].arg[1]
    free = free_axes(order)
    inner = [n for n in reductions if n is not outer[0]]
    fits = all(n.arg[0] == "ADD" and id in free[n] and n.type is outer[0].type for n in inner)
    return axis_of(kernel, id) if fits else None


class _Weighted(Blockwise):
    """`total`: the sum. `contractions`: what it is made of."""

    def __init__(self, kernel: Kernel, axes: BlockAxes) -> None:
        super().__init__(kernel, axes)
        self.total, = self.chain
        self.contractions = [n for n in toposort(self.total.src) if n.op is ops.REDUCE]

    def kernel(self) -> Kernel:
        """The stores in their order."""
        of, block = self.total.type, self.extents[self.axes.step]
        weights, others = self._factors()
        shifted = [n.src[0].src[0] for n in _multiplied(weights) if n.op is g.EXP and n.src[0].op is g.SUB]
        self.gate = next(filter(None, map(self._reached, shifted)), None)
        slots = [self._local(of, block * self.width) for _ in self.contractions]
        state = self._state(self.total)
        self._store(state.slot, self._row(state.position), const(0, of), *state.loops)
        near = [self._packed(contraction) for contraction in self.contractions]
        for contraction, slot in zip(near, slots, strict=True):
            self._computed(contraction, slot)
        blocks, step, each = self.axes.blocks, axis(self.axes.step), self._axis(block, "LOOP")
        computed = {n: self._load(slot, axis(each)) for n, slot in zip(self.contractions, slots, strict=True)}
        weight, = substitute([reduce(partial(op, g.MUL), weights)], {**computed, step: axis(each)})
        self._store(slots[0], self._row(axis(each)), weight, blocks, each)
        product = self._load(slots[0], step)
        for factor in others:
            product = op(g.MUL, product, factor)
        total = op(g.ADD, self._load(state.slot, state.position), self._total("ADD", product))
        self._store(state.slot, self._row(state.position), total, blocks, *state.loops)
        return self._finish({self.total: self._load(state.slot, state.position)})

    def _factors(self) -> tuple[list[Node], list[Node]]:
        """What is summed, as factors: those that depend on contractions, and the others."""
        weights: list[Node] = []
        others: list[Node] = []
        stack = [self._summand(self.total)]
        columns = frozenset(self.axes.columns or ())
        while stack:
            factor = stack.pop()
            if factor.op is g.MUL and columns & self.free[factor]:
                stack += factor.src
            else:
                (others if columns & self.free[factor] else weights).append(factor)
        return weights, others


def _multiplied(factors: Sequence[Node]) -> list[Node]:
    """The factors of a product, down to those that are none."""
    found: list[Node] = []
    stack = list(factors)
    while stack:
        n = stack.pop()
        if n.op is g.MUL:
            stack += n.src
        else:
            found.append(n)
    return found
