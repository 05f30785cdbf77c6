"""Selecting and scattering across stages: old versions, replays, writing in place, what it must not cost."""
from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, jit
from pluggrad.cli.stages import run_stages
from pluggrad.ir.passes import Trace
from pluggrad.runtime.normalize import normalize
from pluggrad.runtime.sessions import session

pytestmark = pytest.mark.usefixtures("device")


def plan_of(*tensors: Tensor):
    nodes = [t.node for t in tensors]
    target = session(nodes[0].device).target
    return run_stages(normalize(nodes), [None] * len(nodes), target, Trace()).plan


def test_what_was_read_before_a_write_keeps_the_old_version():
    x = Tensor(np.zeros((4, 2), np.float32), requires_grad=False).realize()
    index = Tensor([1, 3])
    before, view = x[index], x[1]
    x[index] = 5
    after = x[index]
    x[index[:1]] = 7
    assert before.tolist() == [[0, 0], [0, 0]]
    assert after.tolist() == [[5, 5], [5, 5]]
    assert view.tolist() == [7, 7]
    assert x.tolist() == [[0, 0], [7, 7], [0, 0], [5, 5]]


def test_a_write_may_read_what_it_overwrites():
    data = np.arange(6, dtype=np.float32)
    x = Tensor(data, requires_grad=False).realize()
    order = np.array([3, 0, 5, 1, 2, 4])
    x[Tensor(order)] = x  # every element is read before any is written
    expected = np.empty_like(data)
    expected[order] = data
    assert x.tolist() == expected.tolist()
    places = Tensor(np.array([1, 2, 3, 4, 5, 0]), requires_grad=False).realize()
    places[places] = places + 10
    expected = np.array([1, 2, 3, 4, 5, 0])
    expected[expected.copy()] = expected + 10
    assert places.tolist() == expected.tolist()


def test_the_last_of_equal_indices_wins():
    count = 1000
    x = Tensor(np.zeros((3, 40), np.float32), requires_grad=False)
    x[Tensor(np.arange(count) % 2)] = Tensor(np.arange(count * 40, dtype=np.float32).reshape(count, 40))
    np.testing.assert_array_equal(x.numpy()[1], np.arange(40) + (count - 1) * 40)
    np.testing.assert_array_equal(x.numpy()[0], np.arange(40) + (count - 2) * 40)


def test_replays_follow_indices_and_add_in_place():
    counts = Tensor(np.zeros(5, np.float32), requires_grad=False).realize()

    @jit
    def tally(index, weight):
        counts.assign(counts.scatter_add(0, index, weight))
        return counts[index]

    expected = np.zeros(5, np.float32)
    for step in range(6):
        index = np.array([step % 5, 2, 2])
        np.add.at(expected, index, np.float32([1, 2, step]))
        seen = tally(Tensor(index), Tensor(np.float32([1, 2, step])))
        np.testing.assert_array_equal(seen.numpy(), expected[index])
    assert tally.captures == 1
    np.testing.assert_array_equal(counts.numpy(), expected)


def test_scattering_goes_in_place_where_nobody_sees_the_old_version():
    x = Tensor(np.zeros(1000, np.float32), requires_grad=False).realize()
    memory = x.node.arg.storage
    x[Tensor([1, 2])] = 3
    x.realize()
    assert x.node.arg.storage is memory
    kept = x.detach()
    x[Tensor([2, 4])] = 4
    x.realize()
    assert x.node.arg.storage is not memory
    assert kept[:5].tolist() == [0, 3, 3, 0, 0]
    assert x[:5].tolist() == [0, 3, 4, 0, 4]


def test_sums_of_halves_are_rounded_once():
    ones = Tensor(np.ones(5000, np.float16))
    total = Tensor(np.zeros(1, np.float16)).scatter_add(0, Tensor(np.zeros(5000, np.int64)), ones)
    assert total.item() == 5000  # in half precision a sum stops at 2048


def test_nothing_repeated_is_stored():
    index, x = Tensor(np.zeros(64, np.int64)), Tensor(np.zeros((100, 32), np.float32))
    expanded = x.reshape(100, 1, 32).expand(100, 64, 32)
    plan = plan_of(expanded.gather(0, index.reshape(1, 64, 1).expand(1, 64, 32)))
    assert len(plan.commands) == 1
    assert plan.arena_bytes == 0


def test_a_computed_table_is_stored_where_it_is_small_and_not_where_it_is_large():
    table = Tensor(np.zeros(1000, np.float32))
    many, few = [Tensor(np.zeros(n, np.int64)) for n in (1 << 16, 10)]
    assert len(plan_of(table.sin()[many]).commands) == 2
    assert len(plan_of(table.sin()[few]).commands) == 1


def test_following_pointers_costs_a_kernel_a_step():
    steps = 12
    p = expected = np.random.default_rng(0).permutation(100)
    p = Tensor(p)
    for _ in range(steps):
        p, expected = p[p], expected[expected]
    plan = plan_of(p)
    assert len(plan.commands) == steps
    assert all(sum(b.role == "in" for b in kernel.buffers) == 1 for kernel in plan.kernels)
    np.testing.assert_array_equal(p.numpy(), expected)


def test_the_gradient_of_rows_costs_what_the_rows_and_the_table_cost():
    weight, index = Tensor(np.zeros((3000, 16), np.float32)), Tensor(np.zeros(2000, np.int64))
    rows = index.embedding(weight)
    (gradient,) = rows.sum().gradient(weight)
    elements = []
    for kernel in plan_of(gradient).kernels:
        size = 1
        for axis in kernel.axes:
            size *= axis.extent
        elements.append(size)
    assert max(elements) <= 3000 * 16


def test_masks_are_written_without_being_counted():
    x = Tensor(np.arange(6, dtype=np.float32))

    @jit  # reading a value would raise
    def clipped(x):
        y = x * 1
        y[y > 3] = 0
        return y

    assert clipped(x).tolist() == [0, 1, 2, 3, 0, 0]


def test_gradients_through_repeated_and_overwritten_places():
    x = Tensor(np.arange(4, dtype=np.float32))
    y = x * 1
    y[Tensor([0, 0])] = x[2:] * 10
    (gradient,) = (y * Tensor([1.0, 2.0, 3.0, 4.0])).sum().gradient(x)
    assert gradient.tolist() == [0, 2, 3, 4 + 10]  # x[2] was written over by x[3]
