"""Values that are equal are not the same tensor; writes reach whom they should; scalars compile nothing."""

from __future__ import annotations

import numpy as np

from pluggrad import GlobalCounters, Tensor, jit
from pluggrad.nn import Dropout, optim


def test_equal_leaves_have_their_own_gradients():
    x, y = Tensor.ones(3), Tensor.ones(3)
    (x * 2 + y * 3).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2, 2, 2])
    np.testing.assert_array_equal(y.grad.numpy(), [3, 3, 3])


def test_a_write_through_a_view_reaches_its_base_and_no_saved_value():
    base = Tensor([[1.0, 2.0], [3.0, 4.0]])
    before, doubled, row = base.detach(), base * 2, base[1]
    row[0] = 9.0
    base.T[0, 1] += 1
    np.testing.assert_array_equal(base.numpy(), [[1, 2], [10, 4]])
    np.testing.assert_array_equal(row.numpy(), [10, 4])
    np.testing.assert_array_equal(before.numpy(), [[1, 2], [3, 4]])
    np.testing.assert_array_equal(doubled.numpy(), [[2, 4], [6, 8]])


def test_a_write_does_not_reach_a_value_saved_for_a_gradient():
    x = Tensor([1.0, 2.0], requires_grad=True)
    factor = Tensor([3.0, 4.0], requires_grad=False).realize()
    product = (x * factor).sum().realize()
    factor[:] = 0.0
    factor.realize()
    product.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [3, 4])


def test_constants_share_a_kernel():
    x = Tensor.rand(1000).realize()
    (x * 0.37).realize()
    GlobalCounters.reset()
    result = (x * 0.38).numpy()
    assert (GlobalCounters.scheduled, GlobalCounters.compiled, GlobalCounters.plan_hits) == (0, 0, 1)
    np.testing.assert_array_equal(result, x.numpy() * np.float32(0.38))


def test_learning_rate_and_dropout_change_under_jit(monkeypatch):
    monkeypatch.setattr(Tensor, "training", True)
    w = Tensor.zeros(64, requires_grad=True)
    optimizer, layer = optim.SGD([w], lr=1.0), Dropout(0.5)

    @jit
    def step(x):
        optimizer.zero_grad()
        layer(x * w).sum().backward()
        optimizer.step()

    x, masks = Tensor.ones(64).realize(), []
    for lr in (1.0, 0.5, 0.25):
        before = w.numpy()
        optimizer.lr = lr
        step(x)
        change = before - w.numpy()
        assert set(change) == {0, 2 * lr}  # what dropout keeps, it doubles
        masks.append(change > 0)
    assert step.captures == 1
    assert (masks[0] != masks[1]).any()
    assert (masks[1] != masks[2]).any()
