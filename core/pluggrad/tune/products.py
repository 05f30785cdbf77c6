"""A contraction as a product of two matrices: what it multiplies, over rows, columns and steps of the sum.

However many axes a matmul, a convolution or a gradient has: those of one factor alone are its rows, those of
the other alone its columns, those summed over its steps. Each kind is joined to one; the rest are batches.
"""
from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from pluggrad.graph import ops as g
from pluggrad.ir.node import Node
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.free import free_axes
from pluggrad.kernel.index_nodes import linear
from pluggrad.kernel.kernel import Axis, Kernel
from pluggrad.tune.accesses import accesses, reduction_of
from pluggrad.tune.actions import join_all
from pluggrad.tune.contraction import without_shared_gates


class Product(NamedTuple):
    """`reduction` sums left * right over `steps`; left varies over `rows`, right over `columns`. Memory of
    the result runs along columns, if it runs along either."""

    kernel: Kernel
    rows: Axis
    columns: Axis
    steps: Axis

    @property
    def reduction(self) -> Node:
        """The sum."""
        return reduction_of(self.kernel)

    @property
    def factors(self) -> tuple[Node, Node]:
        """Left and right, as they are multiplied; what gates the last steps is in their loads, too."""
        product = multiplied(self.reduction)
        free = free_axes(toposort([product]))
        first, second = product.src
        return (first, second) if self.rows.id in free[first] else (second, first)

    @property
    def batches(self) -> int:
        """How many products of matrices the kernel computes."""
        return self.kernel.tasks // (self.rows.extent * self.columns.extent)


def multiplied(reduction: Node) -> Node:
    """The product that is summed up, without the gates of last steps."""
    return product_and_gates(reduction)[0]


def narrowest(factor: Node) -> Node:
    """A factor before it is widened."""
    return factor.src[0] if factor.op is g.CAST and factor.src[0].type.is_float else factor


def product_and_gates(reduction: Node) -> tuple[Node, list[Node]]:
    """The product that is summed up, and the gates of last steps around it."""
    gates, value = [], reduction.src[0]
    while value.op is g.WHERE:
        gates.append(value.src[0])
        value = value.src[1]
    return value, gates


def as_product(kernel: Kernel) -> Product | None:
    """The kernel with its axes joined; None where its sum is not one of products of such factors."""
    kernel = without_shared_gates(kernel)
    reduction = reduction_of(kernel)
    if reduction.arg[0] != "ADD" or reduction.src[0].op is not g.MUL:
        return None
    free = free_axes(toposort([reduction]))
    left, right = [free[factor] for factor in reduction.src[0].src]
    outputs = {a.id for a in kernel.axes if a.kind == "PARALLEL" and a.extent > 1}
    rows, columns = (left - right) & outputs, (right - left) & outputs
    if not rows or not columns:
        return None
    written = linear(kernel.stores[0].src[0]).strides
    if any(written.get(id) == 1 for id in rows):
        rows, columns = columns, rows
    kernel, row = _joined(kernel, rows, written)
    kernel, column = _joined(kernel, columns, written)
    kernel, step = _joined(kernel, reduction.arg[1], _farthest(kernel))
    return Product(kernel, row, column, step)


def _farthest(kernel: Kernel) -> dict[int, int]:
    """By axis the longest stride of a load."""
    steps: dict[int, int] = {}
    for x in accesses(kernel):
        for id, stride in x.strides.items():
            if x.node.op is ops.LOAD:
                steps[id] = max(steps.get(id, 0), abs(stride or 0))
    return steps


def _joined(kernel: Kernel, ids: Collection[int], steps: dict[int, int]) -> tuple[Kernel, Axis]:
    """One axis in the place of several, that of the shortest steps innermost."""
    return join_all(kernel, sorted(ids, key=lambda id: -abs(steps.get(id, 0))))
