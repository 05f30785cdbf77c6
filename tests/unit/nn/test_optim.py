"""Optimizers: PyTorch's numbers step by step, and what they promise beside them."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest

from pluggrad import GlobalCounters, Tensor, dtypes, jit
from pluggrad.errors import ShapeError, ValueRangeError
from pluggrad.nn import Linear, Sequential, optim, state
from tests.unit.nn.optimizer_cases import CASES, STEPS, Case, gradients, learning_rate, start

REFERENCES = np.load(Path(__file__).parents[2] / "data" / "optimizers.npz")
TOLERANCE = {"rtol": 2e-6, "atol": 2e-7}


def trajectory(case: Case, dtype: str = "float32", device: str | None = None) -> np.ndarray:
    tensors = [Tensor(array, dtype=dtype, device=device) for array in start()]
    optimizer = getattr(optim, case.optimizer)(tensors, **case.options)
    first = optimizer.lr
    rows = []
    for step in range(STEPS):
        for tensor, gradient in zip(tensors, gradients(step), strict=True):
            tensor.grad = None if gradient is None else Tensor(gradient, dtype=dtype, device=device)
        optimizer.lr = learning_rate(step, first)
        optimizer.step()
        rows.append(np.concatenate([tensor.numpy().ravel() for tensor in tensors]))
    return np.stack(rows)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_numbers_of_pytorch(case, device_name):
    np.testing.assert_allclose(trajectory(case, device=device_name), REFERENCES[case.name], **TOLERANCE)


@pytest.mark.torch
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_numbers_of_pytorch_now(case):
    from tests.data import make_optimizers

    np.testing.assert_allclose(trajectory(case), np.stack(make_optimizers.trajectory(case)), **TOLERANCE)


def test_double_precision_is_kept():
    case = next(case for case in CASES if case.name == "adam")
    result = trajectory(case, "float64")
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, REFERENCES["adam"], rtol=1e-5, atol=1e-6)


def test_half_precision_keeps_float32_averages():
    x = Tensor([1.0, 2.0], dtype="float16")
    optimizer = optim.Adam([x], lr=0.5)
    assert {each.dtype for each in (*optimizer.m, *optimizer.v)} == {dtypes.float32}
    x.grad = Tensor([1e-4, 1.0], dtype="float16")  # its square is no float16
    optimizer.step()
    assert x.dtype is dtypes.float16
    np.testing.assert_allclose(x.numpy(), [0.5, 1.5], atol=1e-3)


# ---- what may be optimized -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: model,
        lambda model: [model],
        lambda model: state.get_parameters(model),
        lambda model: iter(model.parameters()),
        lambda model: {"a": [model.weight], "b": model.bias},
        lambda model: [model, model.weight],
    ],
)
def test_modules_and_lists_alike(wrap):
    model = Linear(2, 3)
    optimizer = optim.SGD(wrap(model))
    assert {id(tensor) for tensor in optimizer.params} == {id(model.weight), id(model.bias)}
    assert len(optimizer.params) == 2


def test_what_is_given_is_marked():
    x = Tensor([1.0, 2.0])
    optim.SGD([x])
    assert x.requires_grad


def test_integer_tensors_are_left_alone():
    model = {"w": Tensor([1.0, 2.0]), "count": Tensor([3])}
    assert [id(tensor) for tensor in optim.SGD(model).params] == [id(model["w"])]


def test_frozen_tensors_are_no_parameters():
    model = Linear(2, 3)
    model.weight.requires_grad_(False)
    for given in (model, [model], model.parameters(), state.get_parameters(model)):
        assert [id(tensor) for tensor in optim.SGD(given).params] == [id(model.bias)]
    for copied in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert [id(tensor) for tensor in optim.SGD(copied).params] == [id(copied.bias)]


def test_computed_tensors_become_leaves():
    x = Tensor([1.0, 2.0]) * 3
    optimizer = optim.SGD([x], lr=1.0)
    (x * Tensor([1.0, 2.0])).sum().backward()
    optimizer.step()
    np.testing.assert_array_equal(x.numpy(), [2, 4])


@pytest.mark.parametrize("params", [[], [Tensor([1, 2])], object(), lambda x: x])
def test_nothing_to_optimize(params):
    with pytest.raises(ValueRangeError, match="Adam: expected at least one float tensor"):
        optim.Adam(params)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("SGD", {"lr": -1.0}, "lr of at least 0, got -1.0"),
        ("SGD", {"lr": float("nan")}, "finite lr"),
        ("SGD", {"momentum": -0.1}, "momentum"),
        ("SGD", {"nesterov": True}, "momentum above 0"),
        ("Adam", {"b1": 1.0}, "b1 from 0 to below 1"),
        ("Adam", {"eps": -1e-8}, "eps"),
        ("AdamW", {"weight_decay": -0.1}, "AdamW: expected a finite weight_decay"),
    ],
)
def test_options_out_of_range(name, options, message):
    with pytest.raises(ValueRangeError, match=message):
        getattr(optim, name)([Tensor([1.0])], **options)


def test_a_bad_learning_rate_leaves_the_old_one():
    optimizer = optim.SGD([Tensor([1.0])], lr=0.5)
    with pytest.raises(ValueRangeError):
        optimizer.lr = -1
    assert optimizer.lr == 0.5


def test_a_gradient_of_another_shape():
    x = Tensor([1.0, 2.0])
    optimizer = optim.SGD([x])
    with pytest.raises(ShapeError, match=r"expected a gradient of shape \(2,\), got \(3,\)"):
        x.grad = Tensor([1.0, 2.0, 3.0])
    optimizer.step()
    np.testing.assert_array_equal(x.numpy(), [1, 2])


# ---- steps ---------------------------------------------------------------------------------------


def loss_of(model, x):
    return (model(x) ** 2).mean()


@pytest.mark.parametrize("training", [False, True])
def test_an_optimizer_made_after_backward(training, monkeypatch):
    monkeypatch.setattr(Tensor, "training", training)
    model, x = Linear(3, 2), Tensor([[1.0, 2.0, 3.0]])
    before = model.weight.numpy().copy()
    loss_of(model, x).backward()
    gradient = model.weight.grad.numpy().copy()
    optim.SGD(model, lr=0.5).step()
    np.testing.assert_allclose(model.weight.numpy(), before - 0.5 * gradient, rtol=1e-6)


def test_step_without_any_gradient():
    x = Tensor([1.0, 2.0])
    optim.Adam([x]).step()
    np.testing.assert_array_equal(x.numpy(), [1, 2])


def test_zero_grad():
    x = Tensor([1.0, 2.0])
    optimizer = optim.SGD([x])
    (x * x).sum().backward()
    assert x.grad is not None
    optimizer.zero_grad()
    assert x.grad is None


def test_a_step_cuts_the_graph_of_the_parameters():
    x = Tensor([1.0, 2.0])
    optimizer = optim.SGD([x], lr=0.1)
    for _ in range(3):
        (x * x).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    (x * x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * x.numpy(), rtol=1e-6)


def test_schedule_step_computes_nothing_itself():
    x = Tensor([1.0, 2.0])
    optimizer = optim.Adam([x], lr=0.1)
    (x * x).sum().backward()
    changed = optimizer.schedule_step()
    assert [id(tensor) for tensor in changed] == [id(t) for t in (x, optimizer.m[0], optimizer.v[0], x.grad)]
    Tensor.realize(*changed)
    np.testing.assert_allclose(x.numpy(), [0.9, 1.9], rtol=1e-5)


def test_an_old_value_that_was_kept_is_not_overwritten():
    x = Tensor([1.0, 2.0])
    optimizer = optim.SGD([x], lr=1.0)
    kept = x.detach().clone()
    doubled = x * 2
    x.grad = Tensor([1.0, 1.0])
    optimizer.step()
    np.testing.assert_array_equal(x.numpy(), [0, 1])
    np.testing.assert_array_equal(kept.numpy(), [1, 2])
    np.testing.assert_array_equal(doubled.numpy(), [2, 4])


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_learning(name):
    Tensor.manual_seed(1)
    generator = np.random.default_rng(0)
    x = generator.standard_normal((64, 3)).astype(np.float32)
    y = Tensor(x @ np.array([[1.0], [-2.0], [0.5]], np.float32) + 0.25)
    model = Sequential(Linear(3, 1))
    optimizer = getattr(optim, name)(model, lr=0.1)
    for _ in range(150):
        loss = ((model(Tensor(x)) - y) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-2


# ---- captured steps ------------------------------------------------------------------------------


def losses(wrap, name, **options):
    """The losses of a run whose learning rate falls, and the weights after it."""
    Tensor.manual_seed(2)
    generator = np.random.default_rng(1)
    x, y = Tensor(generator.standard_normal((16, 4)).astype(np.float32)), Tensor(np.arange(16) % 3)
    model = Sequential(Linear(4, 8), Tensor.tanh, Linear(8, 3))
    optimizer = getattr(optim, name)(model, **options)

    def step(inputs: Tensor, labels: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = model(inputs).cross_entropy(labels)
        loss.backward()
        optimizer.step()
        return loss

    step, found = wrap(step), []
    for index in range(8):
        optimizer.lr = 0.2 / (1 + index)
        found.append(step(x, y).item())
    return found, [tensor.numpy() for tensor in state.get_parameters(model)]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", {}),
        ("SGD", {"momentum": 0.9, "nesterov": True}),
        ("Adam", {}),
        ("AdamW", {"weight_decay": 0.1}),
        ("LAMB", {"weight_decay": 0.1}),
        ("Muon", {}),
        ("Adagrad", {"lr_decay": 0.5}),
    ],
)
def test_a_captured_step_counts_and_reads_the_learning_rate(name, options):
    plain, captured = losses(lambda step: step, name, **options), losses(jit, name, **options)
    np.testing.assert_allclose(captured[0], plain[0], rtol=1e-5)
    for one, other in zip(captured[1], plain[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_captured_step_for_some_of_the_tensors():
    def run(wrap):
        x, y = Tensor([1.0, 2.0]), Tensor([3.0])
        optimizer = optim.Adam([x, y], lr=0.1)

        def step(scale: Tensor) -> Tensor:
            optimizer.zero_grad()
            loss = (x * x * scale).sum()
            loss.backward()
            optimizer.step()
            return loss

        (x.sum() + y.sum()).backward()
        optimizer.step()
        step = wrap(step)
        for scale in (1.0, 2.0, 3.0, 4.0):
            step(Tensor([scale]))
        optimizer.zero_grad()
        (x.sum() + y.sum()).backward()
        optimizer.step()
        return x.numpy(), y.numpy()

    for one, other in zip(run(jit), run(lambda step: step), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_learning_rate_compiles_nothing():
    x = Tensor([1.0, 2.0])
    optimizer = optim.AdamW([x], lr=0.1)
    scheduled = []
    for index in range(6):
        optimizer.zero_grad()
        (x * x).sum().backward()
        optimizer.lr = 0.01 * (index + 1)
        optimizer.step()
        scheduled.append(GlobalCounters.scheduled)
    assert scheduled[1:] == [scheduled[1]] * 5


def test_they_show_their_options():
    x = [Tensor([1.0])]
    assert repr(optim.SGD(x, lr=0.1)) == (
        "SGD(1 tensors, lr=0.1, momentum=0.0, weight_decay=0.0, dampening=0.0, nesterov=False, "
        "classic=False, maximize=False)"
    )
    assert repr(optim.AdamW(x)) == (
        "AdamW(1 tensors, lr=0.001, b1=0.9, b2=0.999, eps=1e-08, weight_decay=0.01, amsgrad=False, "
        "maximize=False)"
    )


def test_a_tensor_without_a_gradient_takes_no_step_and_the_others_count_on():
    """Adam's correction of its averages depends on the count of each tensor."""
    slopes = [0.5, -2.0, 1.0]
    pair, alone = [[Tensor([1.0]) for _ in range(count)] for count in (2, 1)]
    together, single = optim.Adam(pair, lr=0.1), optim.Adam(alone, lr=0.1)
    for step, slope in enumerate(slopes):
        for tensor in (*pair, *alone):
            tensor.grad = Tensor([slope])
        if step == 2:
            pair[1].grad = None
        together.step()
        single.step()
    assert pair[0].tolist() == alone[0].tolist()
    assert [count.value for count in together._counts] == [3, 2]


def test_a_step_that_fails_leaves_the_counts_together(monkeypatch):
    pair = [Tensor([1.0]), Tensor([2.0])]
    optimizer = optim.Adam(pair, lr=0.1)
    for tensor in pair:
        tensor.grad = Tensor([1.0])
    optimizer.step()
    pair[1].grad = None

    def fail(*tensors: Tensor) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(Tensor, "realize", fail)
        with pytest.raises(MemoryError):
            optimizer.step()
    assert optimizer._counts[0] is optimizer._counts[1]
    assert optimizer._counts[0].value == 1
