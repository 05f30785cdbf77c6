"""State: variables are read through their handles, assigned handles written, nothing held overwritten."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from pluggrad import Tensor, jit, memory_stats
from pluggrad.errors import OutOfMemoryError
from pluggrad.nn import Linear, optim, state
from pluggrad.runtime import realization
from pluggrad.runtime.loaded import LoadedPlan

pytestmark = pytest.mark.usefixtures("device")


def numbers(*values: float) -> Tensor:
    return Tensor([float(value) for value in values])


# ---- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("requires_grad", [True, None, False])
def test_an_assignment_between_calls_is_seen(requires_grad):
    w = Tensor([1.0, 2.0], requires_grad=requires_grad)
    f = jit(lambda x: x * w)
    seen = [f(numbers(1, 1)).numpy()]
    for value in (3.0, 4.0):
        w.assign(numbers(value, value))
        seen.append(f(numbers(1, 1)).numpy())
    w[0] = 9.0
    seen.append(f(numbers(1, 1)).numpy())
    np.testing.assert_array_equal(seen, [[1, 2], [3, 3], [4, 4], [9, 4]])
    assert f.captures == 1


def test_a_state_dict_loaded_between_calls_is_seen():
    model, x = Linear(3, 2), numbers(1, 2, 3)
    answer = jit(lambda x: model(x))
    for _ in range(3):
        state.load_state_dict(model, state.get_state_dict(Linear(3, 2)))
        np.testing.assert_allclose(answer(x).numpy(), model(x).numpy(), rtol=1e-6)
    assert answer.captures == 1


def test_tensors_that_took_a_value_from_another_are_told_apart():
    a, b = Tensor([1], requires_grad=False).realize(), Tensor([2], requires_grad=False).realize()
    a.assign(b)
    f = jit(lambda: a * 10 + b)
    assert f().item() == 22
    b.assign(Tensor([3]))
    assert f().item() == 23
    a.assign(Tensor([4]))
    assert f().item() == 43


def test_a_replaced_tensor():
    w = numbers(1).realize()
    f = jit(lambda x: x + w)
    f(numbers(1))
    w.replace(numbers(1, 2))
    np.testing.assert_array_equal(f(numbers(1)).numpy(), [2, 3])
    w.replace(numbers(7, 8))
    np.testing.assert_array_equal(f(numbers(1)).numpy(), [8, 9])
    assert f.captures == 2


def test_variables_that_are_not_computed_yet():
    Tensor.manual_seed(1)
    w, model = Tensor.rand(3), Linear(3, 3)
    lazy = w * 2

    @jit
    def f(x):
        return model(x) + w + lazy, Tensor.rand(1)

    first, drawn = f(numbers(1, 2, 3))
    values = [w.numpy(), model.weight.numpy()]
    again, other = f(numbers(1, 2, 3))
    np.testing.assert_array_equal(first.numpy(), again.numpy())
    np.testing.assert_array_equal([w.numpy(), *values[1:]][0], values[0])
    np.testing.assert_allclose(again.numpy(), model(numbers(1, 2, 3)).numpy() + 3 * values[0], rtol=1e-6)
    assert drawn.item() != other.item()


def test_what_a_variable_was_computed_from_may_change():
    x = numbers(1).realize()
    doubled, detached = x * 2, x.detach()
    f = jit(lambda: doubled + detached * 10)
    assert f().item() == 12
    x.assign(numbers(100))
    assert f().item() == 12


def test_what_is_assigned_before_the_capture_is_assigned_once():
    w = numbers(1).realize()
    f = jit(lambda x: x + w)
    w.assign(w + 1)
    assert [f(numbers(0)).item() for _ in range(3)] == [2, 2, 2]
    assert w.item() == 2


@pytest.mark.parametrize("read_before", [False, True])
def test_a_view_as_state(read_before):
    w = numbers(1, 2, 3).realize()
    v = w[:2]
    if read_before:
        v.numpy()
    f = jit(lambda: v * 1)
    seen = [f().tolist()]
    for value in (5, 6):
        w.assign(numbers(value, value + 1, 0))
        seen.append(f().tolist())
    assert seen == [[1, 2], [5, 6], [6, 7]]


def test_writing_through_a_view():
    w = numbers(1, 2, 3).realize()
    v = w[:2]

    @jit
    def f():
        v.assign(v + 1)

    for _ in range(3):
        f()
    assert (w.tolist(), v.tolist()) == ([4, 5, 3], [4, 5])


def test_state_on_another_device():
    w = Tensor([1.0], device="ref").realize()
    f = jit(lambda x: x + w.to(x.device))
    assert f(numbers(1)).item() == 2
    w.assign(Tensor([5.0], device="ref"))
    assert f(numbers(1)).item() == 6
    w.to_(numbers(1).device)
    assert f(numbers(2)).item() == 7


# ---- writing -------------------------------------------------------------------------------------


def test_a_function_that_returns_nothing():
    count = Tensor([0]).realize()
    w = numbers(1, 2).realize()

    @jit
    def f(x):
        nonlocal count
        w.assign(w + x)
        count += 1

    for _ in range(4):
        assert f(numbers(1, 1)) is None
    assert (w.tolist(), count.item()) == ([5, 6], 4)


def test_setitem_of_a_variable():
    w = (numbers(1, 2) + 0).realize()

    @jit
    def f(x):
        w[1] = x[0]

    for value in (5.0, 6.0, 7.0):
        f(numbers(value))
    assert w.tolist() == [1, 7]


def test_state_is_overwritten_in_place(device):
    w = Tensor.zeros(100_000).contiguous().realize()

    @jit
    def f():
        w.assign(w + 1)

    f()
    f()
    gc.collect()
    used = memory_stats()[device]["used"]
    where = w.node.arg.storage
    for _ in range(5):
        f()
    assert w.node.arg.storage is where
    assert memory_stats()[device]["used"] == used
    assert w[7].item() == 7


@pytest.mark.parametrize(
    "hold",
    [lambda w: w.detach(), lambda w: w * 1, lambda w: w[:1], lambda w: w.clone(), lambda w: w.sum()],
    ids=["detached", "product", "view-of-a-copy", "clone", "sum"],
)
def test_a_value_that_is_held_is_not_overwritten(hold):
    w = numbers(1, 2).realize()

    @jit
    def f():
        w.assign(w + 1)

    f()
    f()
    held = hold(w.detach())
    f()
    expected = hold(numbers(3, 4))
    np.testing.assert_array_equal(held.numpy(), expected.numpy())
    assert w.tolist() == [4, 5]


def test_tensors_that_swap_and_share():
    a, b = numbers(1).realize(), numbers(2).realize()

    @jit
    def swap():
        before = a.detach()
        a.assign(b)
        b.assign(before)

    @jit
    def share(x):
        y = x + 1
        a.assign(y)
        b.assign(y)
        return y

    for _ in range(3):
        swap()
    assert (a.item(), b.item()) == (2, 1)
    for value in (0.0, 5.0, 6.0):
        y = share(numbers(value))
    a.assign(a + 10)
    assert (a.item(), b.item(), y.item()) == (17, 7, 7)


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_an_argument_that_becomes_state(dtype):
    def numbers(value):
        return Tensor([value], dtype=dtype)

    a = numbers(1).realize()

    @jit
    def f(x):
        a.assign(x)

    first, second = numbers(5).realize(), numbers(6).realize()
    f(first)
    f(second)
    a.assign(a + 1)
    assert (a.item(), second.item(), first.item()) == (7, 6, 5)
    f(first)
    assert a.item() == 5


def test_state_that_is_given_as_an_argument():
    rng = np.random.default_rng(0)
    expected, other = rng.standard_normal((2, 16, 16)).astype(np.float32) / 4
    w = Tensor(expected).realize()

    @jit
    def f(x):
        w.assign(w - x @ x - x.T)

    for argument in (Tensor(other), Tensor(other), w, w, Tensor(other)):
        x = argument.numpy()
        f(argument)
        expected = expected - x @ x - x.T
        np.testing.assert_allclose(w.numpy(), expected, rtol=1e-4, atol=1e-4)
    assert f.captures == 1


def test_two_functions_that_share_state():
    w = numbers(1).realize()

    @jit
    def add():
        w.assign(w + 1)

    @jit
    def double():
        w.assign(w * 2)
        return w

    for _ in range(3):
        add()
        double()
    assert w.item() == 22
    add()
    assert w.item() == 23


# ---- gradients -----------------------------------------------------------------------------------


def test_gradients_accumulate_over_replays():
    p = Tensor([1.0, 2.0], requires_grad=True)
    optimizer = optim.SGD([p], lr=0.0)

    @jit
    def micro(x):
        (p * x).sum().backward()

    for _ in range(2):
        optimizer.zero_grad()
        for count in range(1, 5):
            micro(numbers(1, 3))
            np.testing.assert_array_equal(p.grad.numpy(), [count, 3 * count])
        optimizer.step()
    assert micro.captures == 2  # without a gradient before, and with one


def test_gradients_after_replays_of_several_captures():
    p = Tensor([1.0, 2.0], requires_grad=True)
    optimizer = optim.SGD([p], lr=0.1)

    @jit
    def step(x):
        optimizer.zero_grad()
        (p * x.sum()).sum().backward()
        optimizer.step()

    held = []
    for x, expected in ((numbers(1, 2), 3), (numbers(1), 1), (numbers(2, 2), 4), (numbers(7), 7)):
        step(x)
        held.append((p.grad, expected))
    assert step.captures == 2  # one for each shape: what zero_grad drops does not matter
    for gradient, expected in held:  # a gradient that was kept keeps its values
        np.testing.assert_array_equal(gradient.numpy(), [expected, expected])


def test_gradients_reset_inside():
    p = Tensor([1.0], requires_grad=True)
    optimizer = optim.SGD([p], lr=1.0)

    @jit
    def step(x):
        (p * x).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(3):
        step(numbers(1))
        assert p.grad is None
    assert p.item() == -2


def test_a_gradient_from_before_that_is_not_computed_yet():
    p = Tensor([1.0], requires_grad=True)
    step = jit(lambda x: (p * x).sum().backward())
    (p * 5).sum().backward()
    for count in range(1, 4):
        step(numbers(2))
        assert p.grad.item() == 5 + 2 * count


@pytest.mark.parametrize("make", [
    lambda: Tensor.rand(40, 40, requires_grad=True),
    lambda: Tensor(np.full((40, 40), 0.1, np.float32)).cast("float32").realize(),  # becomes another leaf
], ids=["made", "marked-later"])
def test_a_step_takes_no_memory(device, make, settled):
    """Weights, state and gradients stay where they are, also where the function holds on to its graph."""
    weights = [make() for _ in range(3)]
    optimizer = optim.Adam(weights, lr=0.01)

    @jit
    def step(x):
        optimizer.zero_grad()
        hidden = x
        for weight in weights:
            hidden = (hidden @ weight).tanh()
        loss = (hidden * hidden).mean()
        loss.backward()
        optimizer.step()
        return loss, hidden.sum()

    def places():
        tensors = [*weights, *[w.grad for w in weights], *optimizer.m, *optimizer.v]
        return [id(t.node.arg.storage.block) for t in tensors], memory_stats()[device]["reserved"]

    x = Tensor.ones(8, 40).realize()
    found = []
    for _ in range(6):
        step(x)
        found.append(places())
    assert found[3] == found[4] == found[5]


def test_several_steps_of_an_optimizer_in_one_call():
    def train(wrap):
        p = Tensor([1.0, 2.0], requires_grad=True)
        optimizer = optim.Adam([p], lr=0.1)

        @wrap
        def three(x):
            for _ in range(3):
                optimizer.zero_grad()
                loss = (p * p * x).sum()
                loss.backward()
                optimizer.step()
            return loss

        losses = [three(numbers(1, 2)).item() for _ in range(3)]
        return [*losses, *p.tolist(), *p.grad.tolist()]

    np.testing.assert_allclose(train(jit), train(lambda f: f), rtol=1e-6)


# ---- errors --------------------------------------------------------------------------------------


def test_an_error_while_capturing():
    w, fail = numbers(1).realize(), True

    @jit
    def f(x):
        w.assign(w + 1)
        if fail:
            raise ZeroDivisionError
        return x + w

    with pytest.raises(ZeroDivisionError):
        f(numbers(1))
    assert realization.recorder is None
    assert w.item() == 2
    fail = False
    assert [f(numbers(1)).item() for _ in range(3)] == [4, 5, 6]


def test_memory_that_runs_out_during_a_replay(monkeypatch):
    """Steps that were complete stay, the one that failed did not happen."""
    w = numbers(1).realize()

    @jit
    def f(x):
        w.assign(w + x).realize()
        return w * 2

    for _ in range(2):
        f(numbers(1))
    calls = []
    run = LoadedPlan.run

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise OutOfMemoryError(op="test", expected="memory", got="none")
        return run(*arguments)

    monkeypatch.setattr(LoadedPlan, "run", failing)
    with pytest.raises(OutOfMemoryError):
        f(numbers(1))
    monkeypatch.undo()
    assert w.item() == 4
    assert f(numbers(1)).item() == 10


@pytest.mark.parametrize("name", ["kernel", "host"])
def test_what_was_computed_before_the_capture_does_not_stand_for_its_graph(name):
    """A tensor that holds the same expression of a state keeps its value; a replay computes that of now."""
    function = (lambda x: x * 2) if name == "kernel" else (lambda x: x.inv())
    state = Tensor([[1.0, 0.0], [0.0, 1.0]])
    held = function(state).realize()

    @jit
    def added(x):
        return x + function(state)

    added(held)
    state.assign(Tensor([[4.0, 0.0], [0.0, 4.0]]))
    zeros = Tensor.zeros(2, 2)
    assert added(zeros.contiguous()).numpy()[0, 0] == (8.0 if name == "kernel" else 0.25)
