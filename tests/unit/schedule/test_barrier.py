"""A BARRIER: another kernel for the same work, later."""

from __future__ import annotations

from pluggrad import dtypes
from pluggrad.graph import build, ops
from pluggrad.graph.types import tensor_type
from pluggrad.ir.node import Node, node
from pluggrad.schedule import schedule
from pluggrad.target import DeviceId

HERE = DeviceId("here")


def slot(number: int, *shape: int) -> Node:
    return node(ops.INPUT, (), number, tensor_type(shape, dtypes.float32, HERE))


def row_sums(x: Node) -> Node:
    return build.reduce(ops.SUM, build.unary(ops.EXP, x), 1)


def test_what_follows_a_barrier_is_computed_again_after_what_it_waits_for() -> None:
    x = slot(0, 64, 64)
    first = row_sums(x)
    middle = build.reduce(ops.SUM, build.unary(ops.SIN, first), 0)
    again = row_sums(build.barrier(x, middle))
    regions = schedule([middle, build.binary(ops.MUL, again, middle)])
    place = {member.root: i for i, region in enumerate(regions) for member in region.members}
    assert first in place
    assert again in place
    assert place[first] <= place[middle] < place[again]


def test_a_barrier_on_a_leaf_costs_nothing() -> None:
    x, y = slot(0, 64), slot(1, 64)
    plain = schedule([build.binary(ops.ADD, x, y)])
    barred = schedule([build.binary(ops.ADD, build.barrier(x, y), y)])
    assert [len(region.members) for region in barred] == [len(region.members) for region in plain] == [1]
    assert barred[0].reads == (y, x) or barred[0].reads == (x, y)


def test_what_is_waited_for_alone_is_not_stored_for_that() -> None:
    x, y = slot(0, 64), slot(1, 64)
    after = build.unary(ops.EXP, y)  # elementwise: nothing in memory to wait for but y, an input
    regions = schedule([build.binary(ops.ADD, build.barrier(x, after), x)])
    assert [member.root.op for region in regions for member in region.members] == [ops.ADD]
