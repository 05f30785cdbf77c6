"""backward: which tensors get a gradient, when, and what it says when none does."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import warnings

import numpy as np
import pytest

import pluggrad
from pluggrad import Context, Tensor, no_grad
from pluggrad.errors import GradientError, PluggradWarning
from pluggrad.ir.node import interned_count

pytestmark = pytest.mark.usefixtures("device")


def test_first_day():
    x = Tensor([1.0, 2.0, 3.0])
    (x * 2).sum().backward()
    assert x.grad.numpy().tolist() == [2, 2, 2]


def test_equal_constants_are_leaves_of_their_own():
    x, y = Tensor.ones(3), Tensor.ones(3)
    (x * 2 + y * 3).sum().backward()
    assert x.grad.tolist() == [2, 2, 2]
    assert y.grad.tolist() == [3, 3, 3]


def test_gradients_accumulate_until_reset():
    x = Tensor([1.0, 2.0])
    (x * x).sum().backward()
    (x * 3).sum().backward()
    assert x.grad.tolist() == [5, 7]
    x.grad = None
    (x * 3).sum().backward()
    assert x.grad.tolist() == [3, 3]


def test_marked_tensors_get_all():
    x, w = Tensor([1.0, 2.0]), Tensor([3.0, 4.0], requires_grad=True)
    assert w.requires_grad
    assert not x.requires_grad
    (x * w).sum().backward()
    assert w.grad.tolist() == [1, 2]
    with pytest.warns(PluggradWarning, match=r"requires_grad_\(\).*loss\.gradient\(x\)"):
        assert x.grad is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert x.grad is None


def test_marking_reaches_graphs_that_exist():
    x, w = Tensor([1.0, 2.0]), Tensor([3.0, 4.0])
    loss = (x * w).sum()
    w.requires_grad_()
    loss.backward()
    assert w.grad.tolist() == [1, 2]


def test_a_gradient_for_every_element():
    x = Tensor([1.0, 2.0])
    (x * x).backward(Tensor([1.0, 10.0]))
    assert x.grad.tolist() == [2, 40]


def test_gradient_changes_nothing():
    x, y = Tensor([1.0, 2.0]), Tensor([3.0, 4.0], requires_grad=True)
    hidden = x * y
    loss = (hidden * hidden).sum()
    dx, dh = loss.gradient(x, hidden)
    assert dx.tolist() == [18, 64]
    assert dh.tolist() == [6, 16]
    assert y.grad is None


def test_history_survives_reading_and_realizing():
    x = Tensor([1.0, 2.0])
    hidden = (x * x).realize()
    hidden.numpy()
    print(hidden)
    loss = (hidden * 3).sum().realize()
    loss.item()
    loss.backward()
    assert x.grad.tolist() == [6, 12]
    (dh,) = loss.gradient(hidden)
    assert dh.tolist() == [3, 3]


def test_a_leaf_realized_after_the_graph_was_built():
    x = Tensor.ones(2)
    loss = (x * 3).sum()
    x.realize()
    (loss + (x * x).sum()).backward()
    assert x.grad.tolist() == [5, 5]


def test_views_and_writes_carry_gradients():
    x, value = Tensor([1.0, 2.0, 3.0]), Tensor([5.0])
    y = x * 2
    y[1:2] = value * 3
    (y * y).sum().backward()
    assert x.grad.tolist() == [8, 0, 24]
    assert value.grad.tolist() == [90]


def test_adding_in_place_is_differentiable():
    x = Tensor([1.0, 2.0])
    total = Tensor.zeros(2)
    for _ in range(3):
        total += x * x
    total.sum().backward()
    assert x.grad.tolist() == [6, 12]


def test_an_assigned_leaf_is_a_leaf_anew():
    w = Tensor([1.0, 2.0], requires_grad=True)
    for step in range(3):
        w.grad = None
        (w * w).sum().backward()
        w.assign(w - 0.25 * w.grad)
        assert w.requires_grad
        np.testing.assert_allclose(w.numpy(), np.array([1, 2]) * 0.5 ** (step + 1))


def test_descent_under_no_grad():
    w = Tensor([1.0, 2.0])
    for step in range(3):
        w.grad = None
        (w * w).sum().backward()
        with no_grad():
            w -= 0.25 * w.grad
        np.testing.assert_allclose(w.numpy(), np.array([1, 2]) * 0.5 ** (step + 1))


def test_writing_a_part_of_a_parameter_keeps_it_one():
    w = Tensor([1.0, 2.0], requires_grad=True)
    w[0] = 5
    (w * w).sum().backward()
    assert w.grad.tolist() == [10, 4]


def test_a_chain_of_a_hundred_thousand_nodes():
    x = Tensor([1.0])
    y = x
    for _ in range(100_000):
        y = y + 1
    y.sum().backward()
    assert x.grad.tolist() == [1]


def test_backward_needs_a_scalar():
    with pytest.raises(GradientError, match=r"backward: expected a scalar.*\(2,\).*sum\(\)\.backward\(\)"):
        (Tensor([1.0, 2.0]) * 2).backward()
    with pytest.raises(GradientError, match=r"gradient of shape \(2,\), got \(3,\)"):
        (Tensor([1.0, 2.0]) * 2).backward(Tensor([1.0, 2.0, 3.0]))
    with pytest.raises(GradientError, match="float"):
        Tensor([1, 2]).sum().backward()


def test_nothing_to_differentiate():
    with pytest.raises(GradientError, match=r"nothing to differentiate.*not computed from float tensors"):
        Tensor([1, 2]).float().sum().backward()
    x, y = Tensor([1.0]), Tensor([1.0])
    with Tensor.no_grad():
        frozen = (x * 2).sum()
    with pytest.raises(GradientError, match=r"nothing to differentiate.*no_grad"):
        frozen.backward()
    orphan = (Tensor([1.0]) * 2).sum()
    gc.collect()
    with pytest.raises(GradientError, match="exist no longer"):
        orphan.backward()
    with pytest.raises(GradientError, match="does not depend on target 1"):
        x.sum().gradient(x, y)


def test_history_cut_for_its_depth():
    x = Tensor([1.0])
    y = x
    with Context(HISTORY_LIMIT=3):
        for _ in range(6):
            y = (y * 2).realize()
        with pytest.raises(GradientError, match=r"HISTORY_LIMIT.*requires_grad_\(\)"):
            y.sum().backward()


def test_no_grad():
    x = Tensor([1.0, 2.0])

    @no_grad()
    def frozen(t):
        return t * 2

    (x * frozen(x)).sum().backward()
    assert x.grad.tolist() == [2, 4]
    with no_grad():
        made = Tensor([3.0], requires_grad=True)
        view = x[0]
    (made * view).sum().backward()
    assert made.grad.tolist() == [1]
    assert not np.any([v is x for v in (made, view)])


def test_no_grad_is_of_its_thread():
    x, results = Tensor([1.0]), []

    def differentiate():
        (x * 2).sum().backward()
        results.append(x.grad.tolist())

    with no_grad():
        thread = threading.Thread(target=differentiate)
        thread.start()
        thread.join()
    assert results == [[2]]


def test_detach_and_requires_grad_false():
    x = Tensor([1.0, 2.0])
    (x * x.detach()).sum().backward()
    assert x.grad.tolist() == [1, 2]
    fixed = Tensor([3.0, 3.0], requires_grad=False)
    (x * fixed).sum().backward()
    assert fixed.grad is None
    assert x.grad.tolist() == [4, 5]
    x.requires_grad_(False)
    with pytest.raises(GradientError):
        (x * fixed).sum().backward()


def test_a_computed_tensor_becomes_a_parameter():
    w = (Tensor.ones(2, 3) * 0.5).T.requires_grad_()
    (w * 2).sum().backward()
    assert w.grad.tolist() == [[2, 2]] * 3
    with pytest.raises(GradientError, match="float"):
        Tensor([1]).requires_grad_()


def test_second_order_by_backward():
    x = Tensor([2.0])
    (x**3).sum().backward()
    first, x.grad = x.grad, None
    first.sum().backward()
    assert x.grad.tolist() == [12]


def test_copies_keep_the_mark():
    w = Tensor([1.0, 2.0], requires_grad=True)
    for copied in (pickle.loads(pickle.dumps(w)), copy.deepcopy(w), copy.copy(w)):
        assert copied.tolist() == [1, 2]
        assert copied.requires_grad
        copied[0] = 9
    assert w.tolist() == [1, 2]
    assert pickle.loads(pickle.dumps(Tensor([1, 2], dtype="bfloat16"))).dtype is pluggrad.dtypes.bfloat16


def test_a_gradient_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="grad"):
        Tensor([1.0]).grad = Tensor([1.0, 2.0])


def test_a_loop_that_realizes_keeps_one_buffer():
    x = Tensor([0.0])
    for _ in range(300):
        x = (x + 1).realize()
    gc.collect()
    used = [device["used"] for device in pluggrad.memory_stats().values()]
    for _ in range(3000):
        x = (x + 1).realize()
    gc.collect()
    assert [device["used"] for device in pluggrad.memory_stats().values()] == used
    assert x.item() == 3300


def test_training_with_an_input_that_lives_on_does_not_grow():
    x, w = Tensor([[1.0, 2.0], [3.0, 4.0]]), Tensor([[0.5], [0.5]], requires_grad=True)

    def step():
        w.grad = None
        (x @ w).square().mean().backward()
        w.assign(w - 0.01 * w.grad).realize()

    def measures():
        gc.collect()
        return interned_count(), [device["used"] for device in pluggrad.memory_stats().values()]

    for _ in range(20):
        step()
    before = measures()
    for _ in range(500):
        step()
    assert measures() == before
