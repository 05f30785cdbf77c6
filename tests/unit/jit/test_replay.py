"""Replays equal eager calls: arguments of every form, results of every form, fresh each time."""

from __future__ import annotations

from collections import OrderedDict, namedtuple

import numpy as np
import pytest

from pluggrad import Context, GlobalCounters, Tensor, jit, memory_stats
from pluggrad.errors import JitError
from pluggrad.nn import Dropout, Linear, Sequential, optim, state

pytestmark = pytest.mark.usefixtures("device")
Pair = namedtuple("Pair", "left right")
OPTIMIZERS = {
    "sgd": lambda model: optim.SGD(model, lr=0.1),
    "momentum": lambda model: optim.SGD(model, lr=0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda model: optim.SGD(model, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda model: optim.Adam(model, lr=0.05),
    "adamw": lambda model: optim.AdamW(model, lr=0.05, weight_decay=0.1),
}


def numbers(*values: float) -> Tensor:
    return Tensor([float(value) for value in values])


# ---- training ------------------------------------------------------------------------------------


def training(wrap, name):
    """Losses, weights and gradients of six steps with dropout, a falling learning rate, two batch sizes."""
    Tensor.manual_seed(3)
    generator = np.random.default_rng(1)
    model = Sequential(Linear(5, 7), Tensor.relu, Dropout(0.3), Linear(7, 3))
    optimizer = OPTIMIZERS[name](model)

    @wrap
    def step(x, y):
        optimizer.zero_grad()
        loss = model(x).cross_entropy(y)
        loss.backward()
        optimizer.step()
        return loss

    losses = []
    for index in range(6):
        size = 8 if index % 3 else 6
        optimizer.lr = 0.1 / (1 + index)
        x = Tensor(generator.standard_normal((size, 5)).astype(np.float32))
        losses.append(step(x, Tensor(np.arange(size) % 3)).item())
    parameters = state.get_parameters(model)
    return [losses, *[p.numpy() for p in parameters], *[p.grad.numpy() for p in parameters]]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_equals_eager(monkeypatch, name):
    monkeypatch.setattr(Tensor, "training", True)
    for captured, plain in zip(training(jit, name), training(lambda f: f, name), strict=True):
        np.testing.assert_allclose(captured, plain, rtol=2e-5, atol=1e-6)


def test_a_replay_schedules_and_compiles_nothing():
    x = numbers(1, 2).realize()
    optimizer = optim.Adam([x], lr=0.1)

    @jit
    def step(scale):
        optimizer.zero_grad()
        (x * x * scale).sum().backward()
        optimizer.step()

    step(numbers(1))
    GlobalCounters.reset()
    for index in range(3):
        optimizer.lr = 0.2 + index
        step(numbers(2))
    assert (GlobalCounters.scheduled, GlobalCounters.compiled) == (0, 0)


# ---- arguments -----------------------------------------------------------------------------------


def test_arguments_in_containers():
    @jit
    def total(batch, *rest, scale=1, extra=None):
        result = batch["x"] + batch["pair"].left * 2 + batch["pair"].right * 3
        for each in rest:
            result = result + each[0]
        return result * scale + (extra["deep"][0][0] if extra else 0)

    for index in range(3):
        one = float(index)
        batch = {"x": numbers(one), "pair": Pair(numbers(one), numbers(1))}
        assert total(batch, [numbers(1)], (numbers(one),)).item() == 4 * one + 4
        assert total(batch, scale=2, extra={"deep": ((numbers(one),),)}).item() == 2 * (3 * one + 3) + one
    assert total.captures == 2


def test_a_mapping_stays_what_it_is():
    class Batch(dict):
        def __getattr__(self, name):
            return self[name]

    @jit
    def double(batch):
        return OrderedDict(y=batch.x * 2)

    for index in range(3):
        result = double(Batch(x=numbers(index)))
        assert type(result) is OrderedDict
        assert result["y"].item() == 2 * index


@pytest.mark.parametrize(
    "make",
    [
        lambda: numbers(1, 2, 3, 4),
        lambda: numbers(0.5, 1, 1.5, 2) * 2,
        lambda: numbers(4, 3, 2, 1)[::-1],
        lambda: numbers(0, 1, 2, 3, 4)[1:],
        lambda: Tensor([[1.0, 3.0], [2.0, 4.0]]).T.reshape(4),
        lambda: Tensor.arange(1, 5).cast("float32"),
        lambda: numbers(1, 2, 3, 4).detach(),
    ],
    ids=["stored", "lazy", "flipped", "slice", "transposed", "cast", "detached"],
)
def test_any_tensor_is_an_argument(make):
    @jit
    def f(x):
        return x * 10, x.sum()

    for _ in range(3):
        product, total = f(make())
        np.testing.assert_array_equal(product.numpy(), [10, 20, 30, 40])
        assert total.item() == 10


def test_repeated_elements_as_an_argument():
    double = jit(lambda x: x * 2)
    for _ in range(3):
        np.testing.assert_array_equal(double(Tensor.ones(1).expand(3)).numpy(), [2, 2, 2])
        np.testing.assert_array_equal(double(numbers(5).expand(3)).numpy(), [10, 10, 10])


def test_no_axes_and_no_elements():
    @jit
    def f(x, empty):
        return x + 1, empty * 2, empty.sum(), empty.reshape(3, 0)

    for index in range(3):
        one, none, total, turned = f(Tensor(float(index)), Tensor.zeros(0, 3))
        assert (one.item(), none.shape, total.item(), turned.shape) == (index + 1, (0, 3), 0, (3, 0))


def test_an_argument_without_a_hash_that_is_no_tensor():
    with pytest.raises(JitError, match=r"got ndarray. Make arrays tensors"):
        jit(lambda x: x)(np.ones(3))


def test_negative_zero_is_another_argument():
    divide = jit(lambda x, y: x / y)
    assert divide(numbers(1), 0.0).item() == np.inf
    assert divide(numbers(1), -0.0).item() == -np.inf


def test_writing_to_an_argument_writes_to_the_one_given():
    @jit
    def f(x):
        x[0] = 7.0
        return x.sum()

    a, b = numbers(1, 1).realize(), numbers(10, 10).realize()
    assert [f(a).item(), f(b).item(), f(b).item()] == [8, 17, 17]
    np.testing.assert_array_equal(a.numpy(), [7, 1])
    np.testing.assert_array_equal(b.numpy(), [7, 10])


def test_writing_to_a_view_given_as_an_argument():
    @jit
    def f(x):
        x.assign(x + 1)

    a = numbers(1, 5, 9).realize()
    for _ in range(3):
        f(a[1:])
    np.testing.assert_array_equal(a.numpy(), [1, 8, 12])


def test_an_argument_that_is_also_a_variable():
    w = numbers(1, 2).realize()
    f = jit(lambda x: x + w)
    np.testing.assert_array_equal(f(w).numpy(), [2, 4])
    np.testing.assert_array_equal(f(numbers(0, 0)).numpy(), [1, 2])


def test_the_gradient_of_an_argument_goes_to_the_one_given():
    @jit
    def f(x):
        (x * x).sum().backward()
        return x.grad

    for value in (1.0, 2.0, 3.0):
        x = Tensor([value], requires_grad=True)
        assert f(x).item() == 2 * value
        assert x.grad.item() == 2 * value


def test_arguments_from_another_device():
    f = jit(lambda x, like: x.to(like.device) + like)
    for value in (1.0, 2.0, 3.0):
        assert f(Tensor([value], device="ref"), numbers(1)).item() == value + 1


# ---- results -------------------------------------------------------------------------------------


def test_results_of_every_form():
    w = numbers(3).realize()

    @jit
    def f(x):
        y = x * 2
        return x, w, numbers(1, 2), Tensor(0.25), y, y, None, 5, {"a": [y[0]], "b": Pair(x, "text")}

    for value in (0.0, 1.0, 2.0):
        x, same, constant, scalar, y, again, nothing, five, rest = f(numbers(value))
        assert (x.item(), same.item(), constant.tolist(), scalar.item()) == (value, 3, [1, 2], 0.25)
        assert (y.item(), again.item(), nothing, five) == (2 * value, 2 * value, None, 5)
        assert rest["a"][0].shape == ()
        assert (rest["a"][0].item(), rest["b"].left.item(), rest["b"].right) == (2 * value, value, "text")


def test_results_are_fresh():
    w = numbers(1, 2).realize()

    @jit
    def f(x):
        w.assign(w + x)
        return w, x, w * 2, numbers(9, 9)

    kept = []
    for index in range(4):
        results = f(numbers(index, index))
        kept.append((results, [each.numpy() for each in results]))
        for tensors, values in kept:
            for tensor, value in zip(tensors, values, strict=True):
                np.testing.assert_array_equal(tensor.numpy(), value)


def test_writing_to_a_result_changes_nothing_else():
    w, x = numbers(1, 2).realize(), numbers(5, 5).realize()
    f = jit(lambda x: (w, x, numbers(3, 4)))
    for _ in range(3):
        for result, expected in zip(f(x), ([1, 2], [5, 5], [3, 4]), strict=True):
            np.testing.assert_array_equal(result.numpy(), expected)
            result.assign(numbers(0, 0)).realize()
    np.testing.assert_array_equal(w.numpy(), [1, 2])
    np.testing.assert_array_equal(x.numpy(), [5, 5])


def test_a_view_of_what_is_assigned_as_the_result():
    w = numbers(1, 2).realize()

    @jit
    def f():
        w.assign(w + 1)
        return w[0]

    assert [f().item() for _ in range(4)] == [2, 3, 4, 5]


def test_values_realized_inside():
    w = numbers(1).realize()

    @jit
    def f(x):
        w.assign(w + x).realize()
        y = (w * 2).realize()
        w.assign(w + 1)
        return y

    assert [f(numbers(1)).item() for _ in range(4)] == [4, 8, 12, 16]
    assert w.item() == 9


def test_jit_inside_jit():
    w = numbers(1).realize()

    @jit
    def inner(x):
        w.assign(w + x)
        return x * 2

    outer = jit(lambda x: inner(x) + inner(x))
    for _ in range(3):
        assert outer(numbers(1)).item() == 4
    assert w.item() == 7
    assert (inner.captures, outer.captures) == (0, 1)
    assert inner(numbers(3)).item() == 6
    assert w.item() == 10


# ---- random numbers ------------------------------------------------------------------------------


def test_draws_advance_as_eager_ones_do():
    def draw(x):
        return Tensor.rand(3) + x, Tensor.randint(4, high=100), Tensor.randn(2)

    streams = []
    for call in (draw, jit(draw)):
        Tensor.manual_seed(7)
        rows = []
        for _ in range(4):
            rows.append(np.concatenate([part.numpy() for part in call(numbers(0, 0, 0))]))
            rows.append(Tensor.rand(5).numpy())  # and eager draws go on between them
        streams.append(rows)
    for plain, captured in zip(*streams, strict=True):
        np.testing.assert_array_equal(captured, plain)
    assert not np.array_equal(streams[0][0], streams[0][2])


def test_seeding_reaches_captured_draws():
    draw = jit(lambda: Tensor.rand(4))
    draw()
    rows = []
    for _ in range(2):
        Tensor.manual_seed(5)
        rows.append(draw().numpy())
    Tensor.manual_seed(5)
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(rows[0], Tensor.rand(4).numpy())


def test_seeding_inside_is_refused():
    @jit
    def f():
        Tensor.manual_seed(1)
        return Tensor.rand(2)

    with pytest.raises(JitError, match="manual_seed: expected a call outside"):
        f()


# ---- memory of results that were dropped -----------------------------------------------------------

HOLDS = {
    "tensor": lambda result: result,
    "view": lambda result: result[1:],
    "graph": lambda result: result * 1,
    "detached": lambda result: result.detach(),
    "array": lambda result: np.from_dlpack(result),
    "leaf": lambda result: result.requires_grad_(),
}


@pytest.mark.parametrize("name", HOLDS)
def test_what_still_refers_to_a_result_keeps_its_value(name):
    f = jit(lambda x: x + 1)
    f(numbers(0, 0))
    for value in range(1, 5):
        held = [HOLDS[name](f(numbers(value + i, 5))) for i in range(3)]
        f(numbers(100, 100))
        for i, each in enumerate(held):
            array = each if isinstance(each, np.ndarray) else each.numpy()
            np.testing.assert_array_equal(array, [value + i + 1, 6][-len(array):])


def test_a_dropped_result_that_was_written_to():
    f = jit(lambda x: x + 1)
    for value in range(4):
        result = f(numbers(value))
        assert result.item() == value + 1
        result.assign(numbers(50))
        result.realize()
    kept = f(numbers(1))
    other = f(numbers(2))
    assert (kept.item(), other.item()) == (2, 3)


def test_a_result_that_is_the_next_argument():
    f = jit(lambda x: x * 2)
    x = numbers(1)
    for _ in range(10):
        x = f(x)
    assert x.item() == 1024


def test_dropped_results_are_computed_in_the_same_memory(device, settled):
    f = jit(lambda x: (x + 1, x.sum()))
    x = numbers(1, 2, 3).realize()
    f(x)
    f(x)
    used = memory_stats()[device]["used"]
    places = {id(f(x)[0].node.arg.storage.block) for _ in range(5)}
    assert len(places) == 1
    assert memory_stats()[device]["used"] == used


def test_the_memory_of_temporaries_is_given_back(device, settled):
    f = jit(lambda x: x.sum())  # in two phases where vectors are
    x = Tensor(np.ones(1 << 16, np.float32)).realize()
    f(x)
    f(x)
    used, kernels = memory_stats()[device]["used"], GlobalCounters.kernels
    assert [f(x).item() for _ in range(5)] == [1 << 16] * 5
    assert memory_stats()[device]["used"] == used
    assert GlobalCounters.kernels > kernels


def test_a_result_that_is_held_until_the_next_is_there_gives_way_to_the_one_after(device, settled):
    f = jit(lambda x, y: x + y)
    x, y = numbers(1, 2, 3).realize(), numbers(4, 5, 6).realize()
    result = f(x, y)
    result = f(x, y)
    result = f(x, y)
    used, places = memory_stats()[device]["used"], set()
    for value in range(6):
        result = f(x, numbers(value, 0, 0).realize())
        assert result.tolist() == [1 + value, 2, 3]
        places.add(id(result.node.arg.storage.block))
    assert len(places) == 2
    assert memory_stats()[device]["used"] == used


def test_captured_data_and_numbers_are_there_at_every_replay():
    data, kept = numbers(10, 20), []
    f = jit(lambda x: ((x + data) * 0.37, x - data))
    for value in range(5):
        first, second = f(numbers(value, value))
        kept.append((value, first, second))
    for value, first, second in kept:
        np.testing.assert_allclose(first.numpy(), np.float32([value + 10, value + 20]) * np.float32(0.37))
        np.testing.assert_array_equal(second.numpy(), [value - 10, value - 20])


def test_a_replay_that_somebody_looks_at_gives_the_same():
    f = jit(lambda x: x + 1)
    x = numbers(1, 2)
    plain = [f(x).tolist() for _ in range(4)]
    with Context(SYNC=1):
        f(x)
        watched = [f(x).tolist() for _ in range(2)]
    assert plain + watched == [[2, 3]] * 6
    assert f(x).tolist() == [2, 3]
