"""Long loops and long graphs: memory stays flat, nothing recurses, nothing slows down."""

from __future__ import annotations

import gc
import time

import numpy as np
import pytest

from pluggrad import GlobalCounters, Tensor, jit, memory_stats
from pluggrad.ir.node import interned_count
from pluggrad.nn import Linear, Sequential, optim

pytestmark = pytest.mark.usefixtures("settled")


def held(device: str) -> int:
    """Bytes that the runtime holds, in use or for reuse."""
    stats = memory_stats()[device]
    return stats["used"] + stats["pooled"]


def test_a_loop_that_realizes_holds_one_buffer():
    x = Tensor([1.0, 2.0], requires_grad=False).realize()
    device, laps = x.device, []
    for _ in range(10):
        begin = time.thread_time()  # of this thread: other work on the machine does not count
        for _ in range(10_000):
            x = (x + 1).realize()
        laps.append((time.thread_time() - begin, memory_stats()[device], interned_count()))
    np.testing.assert_array_equal(x.numpy(), [100_001, 100_002])
    times, stats, nodes = zip(*laps, strict=True)
    assert all(each == stats[0] for each in stats)
    assert nodes[-1] == nodes[0]
    assert min(times[5:]) < 3 * min(times[:5])


def test_a_loop_that_writes_to_its_weights_takes_a_step_each_time():
    x = Tensor.linspace(-1, 1, 50)
    weights = [Tensor([value], requires_grad=True) for value in (0.1, 0.2, 0.3)]
    GlobalCounters.reset()
    nodes = []
    for step in range(40):
        a, b, c = weights
        loss = (a + b * x + c * x * x - x.sin()).square().mean()
        loss.backward()
        with Tensor.no_grad():
            for weight in weights:
                weight -= 0.1 * weight.grad
                weight.grad = None
        if step in (19, 39):
            gc.collect()  # what earlier tests left in cycles may go at any step
            nodes.append(interned_count())
    assert loss.item() < 0.01
    assert GlobalCounters.scheduled < 6
    assert nodes[1] <= nodes[0]


def test_a_loop_from_a_leaf_holds_a_bounded_history():
    x = Tensor([1.0, 2.0])
    device = x.device
    for index in range(3000):
        x = (x + 1).realize()
        if index == 500:
            before = held(device), interned_count()
    assert (held(device), interned_count()) <= (before[0] + 4096, before[1] + 200)


def test_a_chain_of_100_000_nodes_forward_and_backward():
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = x
    for _ in range(50_000):
        y = (y + 1).neg()
    y.sum().backward()
    np.testing.assert_array_equal(y.numpy(), [1, 2])
    np.testing.assert_array_equal(x.grad.numpy(), [1, 1])
    del y
    gc.collect()


def model_and_step(wrap):
    model = Sequential(Linear(4, 8), Tensor.relu, Linear(8, 2))
    optimizer = optim.Adam(model, lr=0.001)

    @wrap
    def step(x, y):
        optimizer.zero_grad()
        loss = model(x).cross_entropy(y)
        loss.backward()
        optimizer.step()
        return loss

    return step


@pytest.mark.parametrize(("wrap", "steps"), [(jit, 10_000), (lambda f: f, 1_000)], ids=["jit", "eager"])
def test_training_keeps_memory_flat(wrap, steps):
    step = model_and_step(wrap)
    x, y = np.ones((8, 4), np.float32), np.zeros(8, np.int32)
    device = step(Tensor(x), Tensor(y)).device
    seen = []
    for index in range(steps):
        loss = step(Tensor(x), Tensor(y))
        if index % (steps // 5) == steps // 10:
            loss.item()
            seen.append((held(device), memory_stats()[device]["used"], interned_count()))
    assert seen == [seen[0]] * len(seen)
    assert loss.item() < 0.7


@pytest.mark.parametrize("kind", ["lazy", "realized", "read"])
def test_a_loop_that_keeps_its_input_does_not_grow(kind):
    """An unmarked leaf stays alive, and every value computed from it could still carry a gradient to it."""
    x = Tensor([1.0, 2.0])
    total = Tensor([0.0, 0.0])
    device, seen = x.device, []
    steps = 10_000 if kind == "realized" else 2_000
    for index in range(steps):
        y = x * 2 + index
        if kind == "realized":
            total = (total * 0.5 + y).realize()
        elif kind == "read":
            y.numpy()
        else:
            total = y
        if index % (steps // 5) == steps // 10:
            seen.append((held(device), interned_count()))
    assert max(memory for memory, _ in seen) == seen[0][0]
    assert max(nodes for _, nodes in seen) <= seen[0][1] + 1000  # the history, up to its limit
    if kind == "realized":
        assert np.isfinite(total.numpy()).all()
