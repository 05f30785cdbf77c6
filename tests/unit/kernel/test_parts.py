"""Axes are cut where indices divide them, and only there."""
from __future__ import annotations

import pytest

from pluggrad import dtypes
from pluggrad.graph import build as graph
from pluggrad.graph import ops as g
from pluggrad.graph.types import tensor_type
from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.build import build
from pluggrad.kernel.kernel import Axis, Kernel, axis, const
from pluggrad.kernel.parts import divided
from pluggrad.schedule import schedule
from pluggrad.target import DeviceId
from tests.unit.kernel.kernels import op, read, store, write


def source(slot: int, *shape: int) -> Node:
    return node(g.INPUT, (), slot, tensor_type(shape, dtypes.float32, DeviceId("ref")))


def kernel_of(root: Node) -> Kernel:
    (region,) = schedule([root])
    return build(region).kernel


def quotients(kernel: Kernel) -> list[Node]:
    return [n for n in toposort(kernel.stores) if n.op in (ops.CDIV, ops.CMOD)]


def reading(position: Node, extent: int) -> Kernel:
    value = node(ops.LOAD, (position,), 0, dtypes.float32)
    return Kernel("test", (read(extent), write(extent)), (), (Axis(0, extent, "PARALLEL"),),
                  (store(1, (0,), axis(0), value),))


def quotient(n: Node, divisor: int) -> Node:
    return node(ops.CDIV, (n, const(divisor)), None, dtypes.int64)


def test_a_value_repeated_for_neighbors():
    x, y = source(0, 3, 4), source(1, 6, 8)
    wide = graph.reshape(graph.expand(graph.reshape(x, (3, 1, 4, 1)), (3, 2, 4, 2)), (6, 8))
    kernel = kernel_of(graph.binary(g.MUL, wide, y))
    assert [a.extent for a in kernel.axes] == [3, 2, 4, 2]
    assert not quotients(kernel)


def test_a_reshape_of_stored_memory_divides_nothing():
    kernel = kernel_of(graph.binary(g.ADD, graph.reshape(source(0, 6, 4), (8, 3)), source(1, 8, 3)))
    assert [a.extent for a in kernel.axes] == [8, 3]
    assert not quotients(kernel)


@pytest.mark.parametrize(("position", "expected"), [
    (quotient(axis(0), 4), (6, 4)),
    (quotient(quotient(axis(0), 2), 3), (4, 3, 2)),
    (op("ADD", quotient(axis(0), 12), quotient(axis(0), 3), dtype=dtypes.int64), (2, 4, 3)),
    (node(ops.CMOD, (quotient(axis(0), 2), const(4)), None, dtypes.int64), (3, 4, 2)),
], ids=["one", "nested", "two", "remainder"])
def test_cuts(position, expected):
    assert divided(reading(position, 24), 1) == {0: expected}


@pytest.mark.parametrize("position", [
    quotient(axis(0), 5), quotient(op("ADD", axis(0), const(1), dtype=dtypes.int64), 4), axis(0),
], ids=["not a divisor", "shifted", "plain"])
def test_no_cut(position):
    assert divided(reading(position, 24), 1) == {}


def test_only_the_first_axes_are_cut():
    assert divided(reading(quotient(axis(0), 4), 24), 0) == {}
