"""Sums of products of bfloat16, two at a time, for devices that have an instruction for it (DOT2).

Both operands become uint32 that hold two neighbors along the reduction. While a tile is chosen and applied,
each is a load of a stand-in, a buffer that nobody has; `expand` puts the two elements that make a pair in its
place. So panels hold pairs, and what nobody packs is paired where it is read.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from pluggrad import dtypes
from pluggrad.graph import ops as g
from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import rewrite, substitute
from pluggrad.kernel import ops
from pluggrad.kernel.index_nodes import linear, weighted_sum
from pluggrad.kernel.kernel import Axis, BufferParam, Kernel, axis, cast, const
from pluggrad.target import Capabilities
from pluggrad.tune.accesses import reduction_of

_LEAST_STEPS: Final = 16  # of a reduction; a shorter one has as much to do around its products


@dataclass(frozen=True, slots=True)
class StandIn:
    """What stands for the pairs of one operand: `value`, a bfloat16, and its `load`, with the element `step`
    further on as the second."""

    value: Node
    load: Node
    step: int

    @property
    def as_it_lies(self) -> bool:
        """Whether memory holds the pairs already."""
        return self.value is self.load and self.step == 1

    def pair(self, index: Node, gate: tuple[Node, ...]) -> Node:
        """The pair at `index`; zeros where the gate is false."""
        first, second = [self._bits(at, gate) for at in (index, weighted_sum([(index, 1)], self.step))]
        upper = node(g.SHL, (second, const(16, dtypes.uint32)), None, dtypes.uint32)
        return node(g.OR, (first, upper), None, dtypes.uint32)

    def _bits(self, index: Node, gate: tuple[Node, ...]) -> Node:
        loaded = node(ops.LOAD, (index, *gate), self.load.arg, self.load.type)
        value = substitute([self.value], {self.load: loaded})[0]
        return cast(node(g.BITCAST, (value,), None, dtypes.uint16), dtypes.uint32)


@dataclass(frozen=True, slots=True)
class Paired:
    """A contraction by pairs, whose buffers `stand_ins` have to be expanded wherever they are loaded."""

    kernel: Kernel
    stand_ins: dict[int, StandIn]

    @property
    def dear(self) -> frozenset[int]:
        """The stand-ins that take arithmetic to read."""
        return frozenset(slot for slot, operand in self.stand_ins.items() if not operand.as_it_lies)

    def expand(self, kernel: Kernel) -> Kernel:
        """Pairs made of what is in memory."""
        def rule(n: Node, src: tuple[Node, ...]) -> Node:
            if n.op is ops.LOAD and n.arg in self.stand_ins:
                return self.stand_ins[n.arg].pair(src[0], src[1:])
            return node(n.op, src, n.arg, n.type)

        return replace(kernel, stores=rewrite(kernel.stores, rule))


def in_pairs(kernel: Kernel, capabilities: Capabilities) -> Paired | None:
    """A contraction with half the steps along its longest reduction; an odd last one is added behind.

    None where the device has no DOT2, or the factors are not both bfloat16 that were loaded without a gate.
    """
    if not capabilities.pairs:
        return None
    reduction = reduction_of(kernel)
    name, ids = reduction.arg
    loads = [_bfloat16(factor) for factor in reduction.src[0].src]
    if name != "ADD" or reduction.src[0].op is not g.MUL or None in loads:
        return None
    values = [factor.src[0] for factor in reduction.src[0].src]
    found = [linear(load.src[0]) for load in loads if load is not None]
    along = max([a for a in kernel.axes if a.id in ids], key=lambda a: a.extent)
    if along.extent < _LEAST_STEPS or any(at.rest or not at.strides.get(along.id) for at in found):
        return None
    half = Axis(max([a.id for a in kernel.axes]) + 1, along.extent // 2, "REDUCE")
    stand_ins, buffers, pairs = dict[int, StandIn](), list(kernel.buffers), []
    for value, load, at in zip(values, loads, found, strict=True):
        assert load is not None
        twice = {axis(id): stride for id, stride in at.strides.items() if id != along.id}
        twice[axis(half.id)] = 2 * at.strides[along.id]
        pairs.append(node(ops.LOAD, (weighted_sum(twice.items(), at.offset),), len(buffers), dtypes.uint32))
        stand_ins[len(buffers)] = StandIn(value, load, at.strides[along.id])
        buffers.append(BufferParam(dtypes.uint32, kernel.buffers[load.arg].size, "in"))
    product = node(ops.DOT2, (const(0, dtypes.float32), *pairs), None, dtypes.float32)
    bound = tuple([half.id if id == along.id else id for id in ids])
    total = node(ops.REDUCE, (product,), (name, bound), dtypes.float32)
    if along.extent % 2:
        total = node(g.ADD, (total, _last(reduction, along)), None, dtypes.float32)
    axes = tuple([half if a is along else a for a in kernel.axes])
    stores = substitute(kernel.stores, {reduction: total})
    return Paired(replace(kernel, buffers=tuple(buffers), axes=axes, stores=tuple(stores)), stand_ins)


def _bfloat16(factor: Node) -> Node | None:
    """The ungated load that a float32 factor widens, by way of bfloat16; None if it is anything else."""
    if factor.op is not g.CAST or (factor.type, factor.src[0].type) != (dtypes.float32, dtypes.bfloat16):
        return None
    load = factor.src[0]
    while load.op is g.CAST:
        load = load.src[0]
    return load if load.op is ops.LOAD and len(load.src) == 1 else None


def _last(reduction: Node, along: Axis) -> Node:
    """What the last step along an axis adds: over the other axes it is a sum of its own."""
    product = substitute(reduction.src, {axis(along.id): const(along.extent - 1)})[0]
    others = tuple([id for id in reduction.arg[1] if id != along.id])
    return node(ops.REDUCE, (product,), ("ADD", others), reduction.type) if others else product
