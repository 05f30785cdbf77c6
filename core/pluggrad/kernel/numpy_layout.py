"""Kernels in NumPy's arrays: which dimension an axis is, and where in a run the interpreter is."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np

from pluggrad.dtypes import Scalar
from pluggrad.errors import InternalError
from pluggrad.ir.node import Node
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.free import free_axes
from pluggrad.kernel.index_nodes import Linear, linear
from pluggrad.kernel.kernel import Kernel
from pluggrad.kernel.numpy_ops import Array

Range = tuple[int, int]


@dataclass(slots=True)
class Frame:
    """The buffers and values of one run, and the range of positions along each dimension at present."""

    buffers: Sequence[Array]
    values: Sequence[Scalar]
    ranges: Sequence[Range]

    def at(self, dimension: int, position: int) -> Frame:
        """The same, at one position along a dimension."""
        ranges = list(self.ranges)
        ranges[dimension] = position, position + 1
        return Frame(self.buffers, self.values, ranges)


class Layout:
    """Which dimension an axis is, which axes each node depends on, and which nodes become arrays at all."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.ids = [axis.id for axis in kernel.axes]
        self.extents = [axis.extent for axis in kernel.axes]
        self.dimension = {axis.id: i for i, axis in enumerate(kernel.axes)}
        self.ones = (1,) * max(1, len(self.ids))  # a kernel without axes computes in arrays too
        self.parallel = frozenset([a.id for a in kernel.axes if a.kind == "PARALLEL"])
        self.local = kernel.local
        order = toposort(kernel.stores)
        self.free = free_axes(order, self.local)
        self.strided = _strided(kernel, order, self.free)
        self.order = toposort(kernel.stores, self.operands)

    def operands(self, node: Node) -> tuple[Node, ...]:
        """The sources that are needed as arrays: not an index that is a stride along each axis, nor a product
        that a contraction sums up."""
        if node in self.strided:
            return node.src[1:]
        return node.src[0].src if self.contracts(node) else node.src

    def contracts(self, node: Node) -> bool:
        """A sum of products whose factors range over different axes: matmul, convolution."""
        if node.op is not ops.REDUCE or node.arg[0] != "ADD" or node.src[0].op.name != "MUL":
            return False
        if node.type.kind == "b" or (node.type.is_float and node.type.itemsize < 4):
            return False  # narrow products are rounded one by one
        left, right = [self.free[factor] for factor in node.src[0].src]
        return left != right and left & right >= set(node.arg[1])

    def shape(self, axes: AbstractSet[int], ranges: Sequence[Range]) -> tuple[int, ...]:
        """The shape of a node that depends on `axes`."""
        shape = list(self.ones)
        for axis in axes:
            start, stop = ranges[self.dimension[axis]]
            shape[self.dimension[axis]] = stop - start
        return tuple(shape)

    def places(self, frame: Frame, index: Array, node: Node, slot: int) -> Array:
        """Where elements lie: in local memory, in the copy of each task, and of each step of a reduction that
        stores there anew."""
        if slot not in self.local:
            return _inside(index, frame.buffers[slot].size, node)
        size = self.kernel.buffers[slot].size
        offset, step = np.zeros(self.ones, np.int64), size
        for dimension in sorted([self.dimension[id] for id in self.local[slot]]):
            start, stop = frame.ranges[dimension]
            shape = [-1 if i == dimension else 1 for i in range(len(self.ones))]
            offset = offset + step * np.arange(stop - start).reshape(shape)
            step *= stop - start
        return _inside(index, size, node) + offset


def _strided(kernel: Kernel, order: Sequence[Node], free: Mapping[Node, frozenset[int]],
             ) -> dict[Node, Linear]:
    """The loads and stores that are views of their buffer: no gate, a stride along each axis, all inside."""
    extents = {axis.id: axis.extent for axis in kernel.axes}
    found: dict[Node, Linear] = {}
    for node in order:
        if node.op not in (ops.LOAD, ops.STORE):
            continue
        slot, gate = (node.arg, node.src[1:]) if node.op is ops.LOAD else (node.arg[0], node.src[2:])
        if slot in kernel.local:
            continue
        axes = free[node.src[0]] if node.op is ops.LOAD else node.arg[1]
        position = linear(node.src[0])
        combines = node.op is ops.STORE and len(node.arg) > 2
        if gate or combines or position.rest or any(extents[axis] == 0 for axis in axes):
            continue
        reach = [stride * (extents[axis] - 1) for axis, stride in position.strides.items()]
        low = position.offset + sum(r for r in reach if r < 0)
        high = position.offset + sum(r for r in reach if r > 0)
        if low >= 0 and high < kernel.buffers[slot].size:
            found[node] = position
    return found


def _inside(index: Array, size: int, node: Node) -> Array:
    """`index` itself; NumPy would count a negative one from the end."""
    if index.size and (index.min() < 0 or index.max() >= size):
        raise InternalError(op=f"{node.op.name.lower()} of buffer {node.arg}",
                            expected=f"0 <= index < {size}", got=f"{index.min()} to {index.max()}")
    return index
