"""Attention by `online`: reductions over one axis that depend on each other take one pass, block by block.

What they reduce is made of a contraction, such as scores of queries and keys. A task takes a vector of rows:
for each block of the reduced axis it computes the contraction into local memory, takes the maximum on to the
block, corrects the sums so far by exp(old maximum - new maximum), and adds what the block brings, as sums and
as products with a further operand. No element of the contraction reaches memory.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pluggrad import dtypes
from pluggrad.graph import ops as g
from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import substitute, toposort
from pluggrad.kernel import ops
from pluggrad.kernel.kernel import Axis, Kernel, axis, const
from pluggrad.kernel.reductions import identity
from pluggrad.target import Capabilities
from pluggrad.tune.actions import axis_of, share_axis
from pluggrad.tune.blockwise import Blockwise, State, fitted, op, unrounded, where


def tune_online(kernel: Kernel, capabilities: Capabilities) -> Kernel | None:
    """The kernel in one pass over its blocks; None if it is no such chain, or memory is short."""
    if not capabilities.online:
        return None
    joined = _joined(kernel)
    if joined is None:
        return None
    return fitted(*joined, capabilities, lambda cut, axes: _Online(cut, axes).kernel())


# ---- what is looked for ------------------------------------------------------------------------------------
def _joined(kernel: Kernel) -> tuple[Kernel, Axis] | None:
    """The kernel with all reductions of its chain over one axis, so that what they have in common is one
    value; None where there is no maximum of a contraction among them."""
    reductions = [n for n in toposort(kernel.stores) if n.op is ops.REDUCE]
    first = next((n for n in reductions if n.arg[0] == "MAX" and _reduces(n.src[0])), None)
    if first is None:
        return None
    chain = [n for n in reductions if _reduces(n.src[0])]
    if any(len(n.arg[1]) > 1 for n in chain):
        return None
    target = axis_of(kernel, first.arg[1][0])
    for id in dict.fromkeys([n.arg[1][0] for n in chain]):
        if axis_of(kernel, id).extent != target.extent:
            return None
        if id != target.id:
            kernel = share_axis(kernel, id, target.id)
    return kernel, target


def _reduces(n: Node) -> bool:
    return any(m.op is ops.REDUCE for m in toposort([n]))


@dataclass(frozen=True, slots=True)
class _Sum:
    """A sum over the chain's axis of exp(scores - reference) * `inner`; `times` and `divided` are outside."""

    node: Node
    reference: Node
    inner: tuple[Node, ...]
    times: tuple[Node, ...]
    divided: tuple[Node, ...]


class _Online(Blockwise):

    def _parsed(self, n: Node, maximum: Node) -> _Sum | None:
        """A sum, if one of its factors is the exponential of the scores less what is the same for a row."""
        inner: list[Node] = []
        times: list[Node] = []
        divided: list[Node] = []
        references: list[Node] = []
        stack = [self._summand(n)]
        while stack:
            factor = stack.pop()
            if not self.free[factor] & {self.axes.blocks, self.axes.step}:
                times.append(factor)
            elif factor.op is g.MUL:
                stack += factor.src
            elif unrounded(factor) is not factor and maximum in toposort([factor]):
                stack.append(unrounded(factor))  # weights that nobody reads from memory, or by a unit
            elif factor.op is g.DIV and not self.free[factor.src[1]] & {self.axes.blocks, self.axes.step}:
                stack.append(factor.src[0])
                divided.append(factor.src[1])
            elif factor.op is g.EXP and self._is_shifted(factor.src[0], maximum):
                references.append(factor.src[0].src[1])
            else:
                inner.append(factor)
        dependent = any(m in self.chain for m in toposort(inner))
        if n.arg[0] != "ADD" or len(references) != 1 or dependent or n.type is not maximum.type:
            return None
        return _Sum(n, references[0], tuple(inner), tuple(times), tuple(divided))

    def _is_shifted(self, n: Node, maximum: Node) -> bool:
        """Whether it is the scores less something that is the same for all of a row."""
        return n.op is g.SUB and n.src[0] is self._summand(maximum) \
            and not self.free[n.src[1]] & {self.axes.blocks, self.axes.step}

    def kernel(self) -> Kernel | None:
        """The stores in their order; None where a reduction is not of the chain's form."""
        maximum, *others = self.chain
        sums = [s for s in [self._parsed(n, maximum) for n in others] if s is not None]
        if maximum.arg[0] != "MAX" or len(sums) < len(others):
            return None
        self.gate = self._reached(self._summand(maximum))
        of, block = maximum.type, self.extents[self.axes.step]
        largest, newer, correction = [self._local(of, self.width) for _ in range(3)]
        weights = self._local(of, block * self.width)
        states = [self._state(s.node) for s in sums]
        self._store(largest, self._row(), const(identity("MAX", of), of))
        for state in states:
            self._store(state.slot, self._row(state.position), const(0, of), *state.loops)
        self._computed(self._packed(self._summand(maximum)), weights)
        blocks, step = self.axes.blocks, axis(self.axes.step)
        old, new = self._load(largest), self._load(newer)
        found = self._total("MAX", self._load(weights, step))
        self._store(newer, self._row(), op(g.MAX, old, found), blocks)
        self._store(correction, self._row(), _correction(old, new), blocks)
        each = self._axis(block, "LOOP")
        grown = op(g.EXP, op(g.SUB, self._load(weights, axis(each)), _finite(new)))
        self._store(weights, self._row(axis(each)), grown, blocks, each)
        for s, state in zip(sums, states, strict=True):
            product = self._load(weights, step)
            for factor in s.inner:
                product = op(g.MUL, product, factor)
            before = op(g.MUL, self._load(state.slot, state.position), self._load(correction))
            total = op(g.ADD, before, self._total("ADD", product))
            self._store(state.slot, self._row(state.position), total, blocks, *state.loops)
        self._store(largest, self._row(), new, blocks)
        return self._finish(self._results(maximum, old, sums, states))

    def _results(self, maximum: Node, largest: Node, sums: Sequence[_Sum],
                 states: Sequence[State]) -> dict[Node, Node]:
        """The reductions, from what the last block has left."""
        given = {maximum: largest}
        for s, state in zip(sums, states, strict=True):
            value = self._load(state.slot, state.position)
            if s.reference is not _finite(maximum):
                value = op(g.MUL, value, op(g.EXP, op(g.SUB, _finite(maximum), s.reference)))
            for factor in s.times:
                value = op(g.MUL, value, factor)
            for divisor in s.divided:
                value = op(g.DIV, value, divisor)
            given[s.node], = substitute([value], given)
        return given


def _is_least(n: Node) -> Node:
    return node(g.EQ, (n, const(identity("MAX", n.type), n.type)), None, dtypes.bool_)


def _finite(largest: Node) -> Node:
    """What scores are shifted by: 0 while there is nothing but -inf, from which nothing may be subtracted."""
    return where(_is_least(largest), const(0, largest.type), largest)


def _correction(old: Node, new: Node) -> Node:
    """What sums are multiplied by as the maximum grows; 1 before there was any."""
    return where(_is_least(old), const(1, old.type), op(g.EXP, op(g.SUB, old, new)))
