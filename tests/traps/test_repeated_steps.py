"""Steps that come again: what is kept of the first ones must show in nothing but time."""
from __future__ import annotations

import copy

import numpy as np
import pytest

import pluggrad
from pluggrad import GlobalCounters, Tensor
from pluggrad.autograd import repeated
from pluggrad.errors import KernelFault
from pluggrad.graph.template import CALL
from pluggrad.ir.node import interned_count
from pluggrad.ir.walk import toposort
from pluggrad.nn import optim
from pluggrad.nn.optim import optimizer as optimizers
from pluggrad.runtime import expansions, realization

pytestmark = pytest.mark.usefixtures("device")
X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
Y = np.array([[0], [1], [1], [0]], np.float32)
STEPS = 7


def start() -> list[Tensor]:
    return [Tensor(array).realize() for array in (X, Y, [[0.3], [-0.2]], [0.1])]


def loss_of(x: Tensor, y: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return (((x @ w + b).sigmoid() - y) ** 2).mean()


def trained(make, step, change=lambda optimizer, number: None) -> np.ndarray:
    x, y, w, b = start()
    optimizer = make([w, b])
    for number in range(STEPS):
        change(optimizer, number)
        loss_of(x, y, w, b).backward()
        step(optimizer)
        optimizer.zero_grad()
    return np.concatenate([w.numpy().ravel(), b.numpy()])


def seen(optimizer: optim.Optimizer) -> None:
    """A step on gradients that somebody looked at, its graphs shown to everybody."""
    assert all(param.grad is not None for param in optimizer.params)
    Tensor.realize(*optimizer.schedule_step())


def switch(optimizer: optim.Optimizer, number: int) -> None:
    optimizer.param_groups[0].update(lr=0.1 / (number + 1), weight_decay=0.01 * (number % 3 == 2))


@pytest.mark.parametrize("change", [lambda optimizer, number: None, switch], ids=["constant", "changing"])
@pytest.mark.parametrize("make", [lambda p: optim.Adam(p, lr=0.1), lambda p: optim.SGD(p, 0.1, momentum=0.9)],
                         ids=["adam", "momentum"])
def test_the_numbers_are_those_of_steps_that_keep_nothing(make, change):
    np.testing.assert_array_equal(trained(make, lambda o: o.step(), change), trained(make, seen, change))


def test_the_plan_is_that_of_the_first_step():
    trained(lambda p: optim.Adam(p, lr=0.1), seen)
    before = GlobalCounters.scheduled, GlobalCounters.plan_disk_hits
    trained(lambda p: optim.Adam(p, lr=0.1), lambda o: o.step())
    assert (GlobalCounters.scheduled, GlobalCounters.plan_disk_hits) == before


def stepping(step):
    """Adam on two tensors after a few steps, and what takes the next one and tells what it wrote over."""
    x, y, w, b = start()
    optimizer = optim.Adam([w, b], lr=0.1)

    def go() -> list[bool]:
        before = [t.node.arg.storage for t in (w, b, *optimizer.m, *optimizer.v)]
        loss_of(x, y, w, b).backward()
        step(optimizer)
        optimizer.zero_grad()
        after = [t.node.arg.storage for t in (w, b, *optimizer.m, *optimizer.v)]
        return [old is new for old, new in zip(before, after, strict=True)]

    for _ in range(4):
        go()
    return go


def test_a_known_step_is_neither_differentiated_nor_expanded(monkeypatch):
    short = stepping(lambda optimizer: optimizer.step())
    for module, name in ((repeated, "gradients"), (repeated, "trace"), (expansions, "expand")):
        monkeypatch.setattr(module, name, None)
    short()


def test_what_is_written_over_is_the_same():
    over = stepping(lambda optimizer: optimizer.step())()
    assert over == stepping(seen)()
    assert sum(over) >= 5


def test_gradients_are_read_added_up_and_differentiated():
    for _ in range(4):
        w = Tensor([1.0, 2.0], requires_grad=True)
        (w * w * w).sum().backward()
        assert not any(n.op is CALL for n in toposort([w.grad.node]))
        np.testing.assert_allclose(w.grad.numpy(), [3, 12])
        (w * w * w).sum().backward()
        np.testing.assert_allclose(w.grad.numpy(), [6, 24])
        np.testing.assert_allclose(w.grad.sum().gradient(w)[0].numpy(), [12, 24])


def test_a_gradient_that_nobody_read_is_copied():
    for _ in range(4):
        w = Tensor([1.0, 2.0], requires_grad=True)
        (w * w).sum().backward()
    assert copy.deepcopy(w).grad.tolist() == [2, 4]


def test_constants_of_the_function_count():
    w = Tensor([1.0, 2.0], requires_grad=True).realize()
    optimizer = optim.SGD([w], lr=0.1)
    expected = np.array([1, 2], np.float32)
    for factor in (0.1, 0.1, 0.1, 0.3, 0.1, 0.2, 0.2, 0.2):  # 0.1 is the learning rate as well
        ((w * w) * factor).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        expected = expected - np.float32(0.1) * (2 * np.float32(factor) * expected)
        np.testing.assert_allclose(w.numpy(), expected, rtol=1e-5)


def test_readings_that_are_equal_at_first():
    w = Tensor([1.0, 2.0], requires_grad=True).realize()
    optimizer = optim.SGD([w], lr=0.25)
    expected = np.array([1, 2], np.float32)
    for lr in (0.25, 0.25, 0.25, 0.5, 0.25):
        w.grad = Tensor([1.0, 1.0])
        optimizer.lr = 0.25
        optimizer.schedule_step()
        w.grad = Tensor([1.0, 1.0])
        optimizer.lr = lr
        optimizer.step()
        expected = expected - np.float32(0.25 + lr)
        np.testing.assert_array_equal(w.numpy(), expected)


def test_who_gets_a_gradient_is_found_anew():
    for number in range(6):
        w, v = Tensor([1.0]), Tensor([2.0])
        if number % 2:
            w.requires_grad_()
        product = (w * v).sum()
        if number == 4:
            del v
        product.backward()
        assert w.grad.tolist() == [2]
        if number in (0, 2):
            assert v.grad.tolist() == [1]
        elif number != 4:
            with pytest.warns(pluggrad.errors.PluggradWarning, match="marked"):
                assert v.grad is None


def test_a_step_that_fails_leaves_tensors_and_gradients(monkeypatch):
    x, y, w, b = start()
    optimizer = optim.Adam([w, b], lr=0.1)
    for _ in range(4):
        optimizer.zero_grad()
        loss_of(x, y, w, b).backward()
        optimizer.step()
    before = w.numpy()
    optimizer.zero_grad()
    loss_of(x, y, w, b).backward()

    def fail(*args: object) -> None:
        raise KernelFault("stopped")

    with monkeypatch.context() as broken:
        broken.setattr(realization, "execute", fail)
        with pytest.raises(KernelFault, match="stopped"):
            optimizer.step()
    np.testing.assert_array_equal(w.numpy(), before)
    expected, = loss_of(x, y, w, b).gradient(w)
    np.testing.assert_allclose(w.grad.numpy(), expected.numpy(), rtol=1e-6)
    optimizer.step()
    assert not np.array_equal(w.numpy(), before)


def test_an_update_that_cannot_be_built_leaves_the_gradient(monkeypatch):
    x, y, w, b = start()
    optimizer = optim.SGD([w, b], lr=0.1)
    for _ in range(4):
        loss_of(x, y, w, b).backward()
        optimizer.step()
        optimizer.zero_grad()
    expected, = loss_of(x, y, w, b).gradient(w)
    loss_of(x, y, w, b).backward()
    optimizer.param_groups[0]["weight_decay"] = 0.1  # another update, which has to be built
    with monkeypatch.context() as broken:
        broken.setattr(optim.SGD, "_update", None)
        with pytest.raises(TypeError):
            optimizer.step()
    np.testing.assert_allclose(w.grad.numpy(), expected.numpy(), rtol=1e-6)


def test_what_is_kept_does_not_grow(settled):
    w = Tensor([1.0, 2.0], requires_grad=True).realize()
    optimizer = optim.SGD([w], lr=0.1, momentum=0.9)
    counts = []
    for number in range(40):
        (w * (number + 0.37)).sum().backward()  # another structure each time
        optimizer.step()
        optimizer.zero_grad()
        counts.append((interned_count(), len(expansions._expansions)))
    assert counts[20] == counts[39]


def test_loading_a_state_does_not_add_up():
    w = Tensor([1.0, 2.0], requires_grad=True).realize()
    optimizer = optim.Adam([w], lr=0.1)
    kept = []
    for _ in range(6):
        optimizer.load_state_dict(optimizer.state_dict())
        (w * w).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        kept.append(len(optimizers._updates[optimizer]._numbers))
    assert kept[1] == kept[5]


def test_a_loop_of_new_graphs_is_left_alone_for_a_while(monkeypatch):
    w = Tensor([1.0, 2.0], requires_grad=True).realize()
    optimizer = optim.SGD([w], lr=0.1)
    expanding, calls = expansions.expand, []
    monkeypatch.setattr(expansions, "expand", lambda roots: calls.append(1) or expanding(roots))

    def steps(count: int, factor) -> int:
        before = len(calls)
        for number in range(count):
            (w * factor(number)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        return len(calls) - before

    assert steps(100, lambda number: number + 0.53) == expansions._PATIENCE
    assert 0 < steps(300, lambda number: 0.53) < 5
    assert steps(10, lambda number: 0.53) == 0
    assert expansions.pay()
