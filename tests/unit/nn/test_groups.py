"""Groups of an optimizer, its state dict, and the optimizers that PyTorch lacks, by their formulas."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import GlobalCounters, Tensor, jit
from pluggrad.errors import StateError, ValueRangeError
from pluggrad.nn import Linear, Sequential, optim
from tests.unit.nn.optimizer_cases import gradients, learning_rate, start

STEPS = 8

# ---- groups --------------------------------------------------------------------------------------


def step_with(optimizer, gradient=1.0):
    for tensor in optimizer.params:
        tensor.grad = Tensor(np.full(tensor.shape, gradient, np.float32))
    optimizer.step()


def test_groups_have_options_of_their_own():
    one, two, three = Tensor([1.0]), Tensor([1.0]), Tensor([1.0])
    optimizer = optim.SGD(
        [{"params": [one, two]}, {"params": three, "lr": 0.5, "momentum": 0.5}], lr=0.1, weight_decay=0.0
    )
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.5]
    for _ in range(2):
        step_with(optimizer)
    np.testing.assert_allclose([one.item(), two.item(), three.item()], [0.8, 0.8, 1 - 0.5 - 0.75], rtol=1e-6)
    assert len(optimizer.velocity) == 1
    assert [id(tensor) for tensor in optimizer.params] == [id(one), id(two), id(three)]


def test_a_model_in_parts():
    model = Sequential(Linear(2, 3), Linear(3, 1))
    optimizer = optim.AdamW([{"params": model[0], "lr": 1e-4}, {"params": model[1]}], lr=1e-2)
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 2]
    assert "lr=0.0001" in repr(optimizer)
    optimizer.lr = 0.5
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]


def test_options_of_groups_reach_captured_steps_and_compile_nothing():
    def run(wrap):
        x = Tensor([1.0, 2.0])
        optimizer = optim.AdamW([x], lr=0.1, weight_decay=0.1)

        def step(scale):
            optimizer.zero_grad()
            loss = (x * x * scale).sum()
            loss.backward()
            optimizer.step()
            return loss

        step, compiled = wrap(step), []
        for index in range(4):
            group = optimizer.param_groups[0]
            group["lr"], group["b1"] = 0.1 / (index + 1), 0.9 - 0.1 * index
            group["weight_decay"] = 0.1 * (index + 1)
            step(Tensor([1.0])).item()
            compiled.append(GlobalCounters.scheduled)
        return x.numpy(), compiled

    (plain, _), (captured, compiled) = run(lambda step: step), run(jit)
    np.testing.assert_allclose(captured, plain, rtol=1e-6)
    assert compiled[1:] == [compiled[1]] * 3


def test_groups_behave_as_dictionaries():
    group = optim.SGD([Tensor([1.0])], lr=0.1, momentum=0.9).param_groups[0]
    assert dict(group)["momentum"] == 0.9
    assert "lr" in group
    assert group.get("b1") is None
    with pytest.raises(KeyError, match="SGD has no option 'b1', but lr, momentum"):
        group["b1"] = 0.5
    with pytest.raises(TypeError, match="cannot be deleted"):
        del group["lr"]
    for name, value in (("lr", -1.0), ("momentum", float("nan"))):
        with pytest.raises(ValueRangeError, match=f"finite {name} of at least 0"):
            group[name] = value
    assert group["lr"] == 0.1


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([{"params": [], "lr": 0.1}], "at least one float tensor"),
        ([{"params": [Tensor([1.0])], "b1": 0.1}], "options of a group among lr, momentum"),
    ],
)
def test_groups_that_are_refused(groups, message):
    with pytest.raises(ValueRangeError, match=message):
        optim.SGD(groups)


def test_a_tensor_in_two_groups():
    x = Tensor([1.0])
    with pytest.raises(ValueRangeError, match="each tensor in one group"):
        optim.SGD([{"params": [x]}, {"params": [x]}])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: optim.SGD(x, momentum=0.9, nesterov=True, dampening=0.1), "no dampening for nesterov"),
        (lambda x: optim.Adam(x, betas=(0.9, 1.0)), "b2 from 0 to below 1"),
        (lambda x: optim.RMSprop(x, alpha=1.5), "alpha from 0 to below 1"),
        (lambda x: optim.Muon(x, adjust_lr_fn="more"), "an adjust_lr_fn among original"),
        (lambda x: optim.Muon([Tensor(1.0)]), "at least one axis"),
        (lambda x: optim.LARS(x, tcoef=-1.0), "finite tcoef"),
        (lambda x: optim.LAMB(x, eps=float("inf")), "finite eps"),
    ],
)
def test_options_that_are_refused(make, message):
    with pytest.raises(ValueRangeError, match=message):
        make([Tensor([1.0])])


# ---- state dicts ---------------------------------------------------------------------------------


def test_a_state_dict_has_everything():
    x, y = Tensor([1.0, 2.0]), Tensor([3.0])
    optimizer = optim.Adam([{"params": x}, {"params": y, "lr": 0.5}], lr=0.1, amsgrad=True)
    step_with(optimizer)
    y.grad = None
    x.grad = Tensor([1.0, 1.0])
    optimizer.step()
    found = optimizer.state_dict()
    assert found["optimizer"] == "Adam"
    assert found["param_groups"][1] == {
        "params": [1], "lr": 0.5, "b1": 0.9, "b2": 0.999, "eps": 1e-8, "weight_decay": 0.0,
        "amsgrad": True, "maximize": False,
    }
    assert {key: row["step"] for key, row in found["state"].items()} == {"0": 2, "1": 1}
    assert set(found["state"]["0"]) == {"step", "m", "v", "largest"}
    assert found["state"]["0"]["m"] is optimizer.m[0]


@pytest.mark.parametrize("name", ["SGD", "Adam", "LAMB"])
def test_a_loaded_state_goes_on_as_the_other_would_have(name):
    options = {"momentum": 0.9} if name == "SGD" else {}
    x, y = Tensor([1.0, -2.0]), Tensor([1.0, -2.0])
    one, other = getattr(optim, name)([x], lr=0.1, **options), getattr(optim, name)([y], lr=0.7, **options)
    step_with(one, 0.5)
    y.assign(x)
    other.load_state_dict(one.state_dict())
    assert other.lr == 0.1
    for gradient in (0.3, -0.2):
        step_with(one, gradient)
        step_with(other, gradient)
        np.testing.assert_array_equal(x.numpy(), y.numpy())
    assert one.state_dict()["state"]["0"]["step"] == other.state_dict()["state"]["0"]["step"] == 3


def test_states_of_others_are_refused_and_nothing_changes():
    x = [Tensor([1.0, 2.0]), Tensor([3.0])]
    optimizer = optim.Adam(x, lr=0.1)
    cases = {
        "not of Adam": optim.SGD(x).state_dict(),
        "no optimizer, param_groups, state": {},
        "2 groups, not 1": optim.Adam([{"params": x[0]}, {"params": x[1]}]).state_dict(),
        "group 0: 1 tensors, not 2": optim.Adam(x[:1]).state_dict(),
        r"tensor 0: m of shape \(1,\), not \(2,\)": optim.Adam(x[::-1]).state_dict(),
        "tensor 0: largest, m, step, v, not m, step, v": optim.Adam(x, amsgrad=True).state_dict(),
    }
    for message, given in cases.items():
        with pytest.raises(StateError, match=message) as caught:
            optimizer.load_state_dict(given)
        assert "Nothing was loaded" in str(caught.value)
    assert optimizer.lr == 0.1


# ---- what PyTorch lacks, in float64 --------------------------------------------------------------


def trajectory(make, dtype="float32"):
    """Values after each step, and the arrays and gradients for a formula."""
    tensors = [Tensor(array, dtype=dtype) for array in start()]
    optimizer = make(tensors)
    first, rows = optimizer.lr, []
    for step in range(STEPS):
        for tensor, gradient in zip(tensors, gradients(step), strict=True):
            tensor.grad = None if gradient is None else Tensor(gradient, dtype=dtype)
        optimizer.lr = learning_rate(step, first)
        optimizer.step()
        rows.append([tensor.numpy() for tensor in tensors])
    return rows


def follow(make, formula):
    """`formula(value, gradient, state, rate)` gives what the optimizer gives."""
    found = trajectory(make)
    first = make([Tensor([1.0])]).lr
    for index, array in enumerate(start()):
        value, kept = array.astype(np.float64), {}
        for step in range(STEPS):
            gradient = gradients(step)[index]
            if gradient is not None:
                value = formula(value, gradient.astype(np.float64), kept, learning_rate(step, first))
            np.testing.assert_allclose(found[step][index], value, rtol=1e-4, atol=2e-6)


def norm(x):
    return np.sqrt((x**2).sum())


@pytest.mark.parametrize("classic", [False, True])
@pytest.mark.parametrize("pre_wd", [False, True])
def test_lars(classic, pre_wd):
    def formula(value, gradient, kept, rate):
        trust = 1.0
        if norm(value) > 0 and norm(gradient) > 0:
            trust = 0.01 * norm(value) / (norm(gradient) + 0.1 * norm(value))
        gradient = gradient + 0.1 * value if pre_wd else gradient
        gradient = gradient * trust * rate if classic else gradient
        kept["v"] = 0.9 * kept.get("v", 0) + gradient
        value = value if pre_wd else value * (1 - rate * 0.1)
        return value - (kept["v"] if classic else kept["v"] * trust * rate)

    options = {"classic": classic, "pre_wd": pre_wd}
    follow(lambda x: optim.LARS(x, lr=0.5, weight_decay=0.1, tcoef=0.01, **options), formula)


def test_classic_momentum():
    def formula(value, gradient, kept, rate):
        kept["v"] = 0.9 * kept.get("v", 0) + rate * (gradient + 0.1 * value)
        return value - kept["v"]

    follow(lambda x: optim.SGD(x, lr=0.1, momentum=0.9, weight_decay=0.1, classic=True), formula)


@pytest.mark.parametrize("adam", [False, True])
def test_lamb(adam):
    def formula(value, gradient, kept, rate):
        kept["t"] = kept.get("t", 0) + 1
        kept["m"] = 0.8 * kept.get("m", 0) + 0.2 * gradient
        kept["v"] = 0.9 * kept.get("v", 0) + 0.1 * gradient**2
        mean, square = kept["m"] / (1 - 0.8 ** kept["t"]), kept["v"] / (1 - 0.9 ** kept["t"])
        direction = mean / (np.sqrt(square) + 1e-3) + 0.1 * value
        long = norm(value) > 0 and norm(direction) > 0
        trust = norm(value) / norm(direction) if long and not adam else 1.0
        return value - rate * trust * direction

    options = {"b1": 0.8, "b2": 0.9, "eps": 1e-3, "weight_decay": 0.1, "adam": adam}
    follow(lambda x: optim.LAMB(x, lr=0.05, **options), formula)


def orthogonal(x, steps, coefficients, eps=1e-7):
    """Newton and Schulz's iteration, on the smaller side."""
    a, b, c = coefficients
    wide = x if x.shape[0] <= x.shape[1] else x.T
    wide = wide / (np.sqrt((wide**2).sum()) + eps)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide if x.shape[0] <= x.shape[1] else wide.T


@pytest.mark.parametrize("nesterov", [False, True])
def test_muon(nesterov):
    def formula(value, gradient, kept, rate):
        kept["v"] = 0.9 * kept.get("v", 0) + gradient
        direction = gradient + 0.9 * kept["v"] if nesterov else kept["v"]
        matrix = direction.reshape(len(direction), -1)
        turned = orthogonal(matrix, 5, (3.4445, -4.775, 2.0315)).reshape(value.shape)
        return value * (1 - rate * 0.1) - rate * turned

    follow(lambda x: optim.Muon(x, lr=0.1, momentum=0.9, nesterov=nesterov), formula)


def test_muon_of_a_matrix_turns_it():
    x = Tensor(np.zeros((6, 4), np.float32))
    optimizer = optim.Muon([x], lr=1.0, weight_decay=0.0, ns_steps=20, ns_coefficients=(1.5, -0.5, 0.0))
    x.grad = Tensor(np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32))
    optimizer.step()
    np.testing.assert_allclose(np.linalg.svd(x.numpy())[1], 1, atol=1e-3)
