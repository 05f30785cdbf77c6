"""grad, value_and_grad, vjp, jvp, jacobian, hessian: against formulas, finite differences and each other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

import pluggrad
from pluggrad import Tensor, grad, hessian, jacobian, jit, jvp, nn, value_and_grad, vjp, vmap
from pluggrad.errors import GradientError, TransformError, ValueRangeError

RNG = np.random.default_rng(3)
X, Y = RNG.uniform(-1, 1, 4), RNG.uniform(-1, 1, 4)
A = RNG.uniform(-1, 1, (3, 4))
x, y, matrix = [Tensor(array, device="ref") for array in (X, Y, A)]


@pytest.fixture(autouse=True)
def _on_the_reference_device():
    with pluggrad.device("ref"):
        yield


@pytest.fixture
def data():
    """X, Y and A on the default device."""
    return Tensor(X), Tensor(Y), Tensor(A)


def mixed(x, y):
    """R4 x R4 -> R3, smooth and not linear in anything."""
    return ((Tensor(A) @ x.sin()) * (x * y).exp().sum()).tanh()


def differences(function, *arrays, position=0, step=1e-6):
    """The Jacobian by central differences."""
    columns = []
    for place in np.ndindex(arrays[position].shape):
        sides = []
        for sign in (1, -1):
            moved = [a.copy() for a in arrays]
            moved[position][place] += sign * step
            sides.append(function(*map(Tensor, moved)).numpy())
        columns.append((sides[0] - sides[1]) / (2 * step))
    shape = columns[0].shape
    return np.stack(columns, -1).reshape(*shape, *arrays[position].shape)


# ---- grad ----------------------------------------------------------------------------------------------


def test_grad(data):
    x, y, _ = data
    assert np.allclose(grad(lambda x: (x.sin() * x).sum())(x).numpy(), np.sin(X) + X * np.cos(X))
    both = grad(lambda x, y: (x * x * y).sum(), argnums=(0, 1))(x, y)
    assert np.allclose(both[0].numpy(), 2 * X * Y)
    assert np.allclose(both[1].numpy(), X * X)
    assert np.allclose(grad(lambda x, y: (x * x * y).sum(), argnums=-1)(x, y).numpy(), X * X)


def test_grad_of_grad_of_grad():
    third = grad(grad(grad(lambda v: v**4 + v.sin())))
    assert np.allclose(third(Tensor(0.7)).item(), 24 * 0.7 - np.cos(0.7))


def test_a_closure_over_an_argument_is_another_variable(data):
    x, *_ = data
    assert np.allclose(grad(lambda v: (v * x).sum())(x).numpy(), X)
    inner = grad(lambda u: grad(lambda v: (u * v * v).sum())(u).sum())  # d/du of 2uu
    assert np.allclose(inner(x).numpy(), 4 * X)


def test_value_and_aux(data):
    x, *_ = data
    def function(x):
        return (x * x).sum(), {"double": x * 2, "n": 3}

    (value, aux), slope = value_and_grad(function, has_aux=True)(x)
    assert np.allclose(value.item(), (X * X).sum())
    assert np.allclose(slope.numpy(), 2 * X)
    assert np.allclose(aux["double"].numpy(), 2 * X)
    assert aux["n"] == 3
    slope, aux = grad(lambda x: (x.sum(), "text"), has_aux=True)(x)
    assert aux == "text"


class Point(NamedTuple):
    a: Tensor
    b: Tensor


def test_nested_arguments(data):
    x, y, _ = data
    found = grad(lambda p: (p["xy"].a * p["xy"].b).sum() + (p["rest"][0] * 2).sum())(
        {"xy": Point(x, y), "rest": [Tensor(X), Tensor([1, 2]), "text"]})
    assert isinstance(found["xy"], Point)
    assert np.allclose(found["xy"].a.numpy(), Y)
    assert np.allclose(found["rest"][0].numpy(), 2)
    assert found["rest"][1] is None
    assert found["rest"][2] == "text"


def test_a_module_as_an_argument():
    model = nn.Linear(4, 2)
    found = grad(lambda model, x: (model(x) ** 2).sum())(model, Tensor(X.astype(np.float32)))
    expected = ((model(Tensor(X.astype(np.float32))) ** 2).sum()).gradient(model.weight, model.bias)
    assert type(found) is nn.Linear
    assert found is not model
    assert np.allclose(found.weight.numpy(), expected[0].numpy())
    assert np.allclose(found.bias.numpy(), expected[1].numpy())


def test_what_the_result_does_not_depend_on_has_gradient_zero(data):
    x, y, _ = data
    assert grad(lambda x, y: (y * y).sum())(x, y).tolist() == [0] * 4


def test_no_grad_outside_and_inside(data):
    x, *_ = data
    with pluggrad.no_grad():
        found = grad(lambda x: (x * x).sum())(x)
    assert np.allclose(found.numpy(), 2 * X)
    assert np.allclose(grad(lambda x: (x * pluggrad.no_grad()(lambda v: v * v)(x)).sum())(x).numpy(), X * X)


def test_realizing_inside_keeps_the_gradient(data):
    x, *_ = data

    def function(x):
        half = (x * x).realize()
        assert half.numpy().shape == (4,)
        return (half * x.realize()).sum()

    assert np.allclose(grad(function)(x).numpy(), 3 * X**2)


def test_a_value_can_be_read_inside(data):
    x, *_ = data
    assert np.allclose(grad(lambda x: x.sum() * (2 if x.sum().item() > -9 else 3))(x).numpy(), 2)


def test_leaves_of_the_caller_are_left_alone(data):
    x, *_ = data
    value, _ = value_and_grad(lambda x: (x * x).sum())(x)
    assert x.grad is None
    value.backward()
    assert np.allclose(x.grad.numpy(), 2 * X)


# ---- products ------------------------------------------------------------------------------------------


def test_vjp(data):
    x, y, _ = data
    value, pull_back = vjp(mixed, x, y)
    g = np.array([1.0, -2.0, 0.5])
    by_x, by_y = pull_back(Tensor(g))
    assert np.allclose(value.numpy(), mixed(x, y).numpy())
    assert np.allclose(by_x.numpy(), g @ differences(mixed, X, Y), atol=1e-8)
    assert np.allclose(by_y.numpy(), g @ differences(mixed, X, Y, position=1), atol=1e-8)
    assert np.allclose(pull_back(Tensor(2 * g))[0].numpy(), 2 * by_x.numpy())


def test_vjp_of_several_results(data):
    x, y, _ = data
    value, pull_back, aux = vjp(lambda x, y: ({"a": x * y, "b": [x.sum(), x]}, 5), x, y, has_aux=True)
    assert aux == 5
    by_x, by_y = pull_back({"a": Tensor(np.ones(4)), "b": [2.0, Tensor(np.full(4, 3.0))]})
    assert np.allclose(by_x.numpy(), Y + 2 + 3)
    assert np.allclose(by_y.numpy(), X)
    assert np.allclose(value["b"][1].numpy(), X)


def test_jvp(data):
    x, y, _ = data
    value, tangent = jvp(mixed, (x, y), (Tensor(Y), Tensor(X)))
    expected = differences(mixed, X, Y) @ Y + differences(mixed, X, Y, position=1) @ X
    assert np.allclose(value.numpy(), mixed(x, y).numpy())
    assert np.allclose(tangent.numpy(), expected, atol=1e-8)


@pytest.mark.parametrize("function", [
    lambda x: x.sort()[0], lambda x: x.cumsum(0), lambda x: x.max() * x, lambda x: x.softmax(0),
    lambda x: x.reshape(2, 2).pad(((1, 0), (0, 1))).sum(0), lambda x: x[Tensor([2, 0, 2])] ** 2,
    lambda x: x.abs().sqrt(), lambda x: (x > 0).where(x, x * x), lambda x: x.prod() * x, lambda x: x.clone()],
    ids=["sort", "cumsum", "max", "softmax", "pad", "gather", "sqrt", "where", "prod", "identity"])
def test_both_modes_agree(function):
    """<g, J t> by jvp is <J' g, t> by vjp."""
    value, tangent = jvp(function, (x,), (y,))
    g = Tensor(RNG.uniform(-1, 1, value.shape))
    (gradient,) = vjp(function, x)[1](g)
    assert np.allclose((tangent * g).sum().item(), (gradient * y).sum().item(), rtol=1e-12)


def test_jvp_of_what_is_not_differentiable_or_constant():
    value, tangent = jvp(lambda x, n: (x.floor(), n + 1, Tensor(Y)), (x, Tensor([1, 2])), (y, None))
    assert tangent[0].tolist() == [0] * 4
    assert tangent[2].tolist() == [0] * 4
    assert value[1].tolist() == [2, 3]


def test_jvp_of_jvp():
    second = jvp(lambda x: jvp(lambda v: v**3, (x,), (y,))[1], (x,), (y,))[1]
    assert np.allclose(second.numpy(), 6 * X * Y * Y)


def test_jvp_and_vmap_of_custom_rules():
    @pluggrad.custom_vjp
    def f(x):
        return x.exp()

    f.defvjp(lambda x: (f(x), x), lambda x, g: (2 * g * x.exp(),))
    assert np.allclose(jvp(f, (x,), (y,))[1].numpy(), 2 * np.exp(X) * Y)
    assert np.allclose(vmap(grad(f))(x).numpy(), 2 * np.exp(X))
    clipped = pluggrad.custom_vjp(lambda x: x * 1)
    clipped.defvjp(lambda x: (x * 1, None), lambda saved, g: (g.clip(-1, 1),))
    with pytest.raises(GradientError, match="linear in the gradient"):
        jvp(clipped, (x,), (y,))


# ---- Jacobians -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [2, 9], ids=["backwards", "forwards"])
def test_jacobian(device, rows):
    weights = RNG.uniform(-1, 1, (rows, 4))

    def function(x):
        return (Tensor(weights) * x.sin()).sum(1) * x.sum()

    found = jacobian(function)(Tensor(X))
    assert found.shape == (rows, 4)
    assert np.allclose(found.numpy(), differences(function, X), atol=1e-7)


def test_jacobian_of_nested_results():
    found = jacobian(lambda x, y: {"a": x * y, "b": (x.sum(), y.reshape(2, 2))}, argnums=(0, 1))(x, y)
    assert np.allclose(found["a"][0].numpy(), np.diag(Y))
    assert np.allclose(found["b"][0][0].numpy(), 1)
    assert found["b"][0][1].tolist() == [0] * 4
    assert np.allclose(found["b"][1][1].numpy(), np.eye(4).reshape(2, 2, 4))


def test_hessian():
    def function(x, y):
        return (mixed(x, y) ** 2).sum()

    found = hessian(function)(x, y).numpy()
    assert np.allclose(found, found.T)
    assert np.allclose(found, differences(grad(function), X, Y), atol=1e-6)
    blocks = hessian(function, argnums=(0, 1))(x, y)
    assert np.allclose(blocks[0][1].numpy(), blocks[1][0].numpy().T)
    value, aux = hessian(lambda x: ((x**3).sum(), "aux"), has_aux=True)(x)
    assert np.allclose(value.numpy(), np.diag(6 * X))
    assert aux == "aux"


# ---- together ------------------------------------------------------------------------------------------


def test_compositions_agree():
    rows = Tensor(A)

    def f(x):
        return (x.sin() * x).sum()

    expected = np.sin(A) + A * np.cos(A)
    assert np.allclose(vmap(grad(f))(rows).numpy(), expected)
    assert np.allclose(grad(lambda m: vmap(f)(m).sum())(rows).numpy(), expected)
    assert np.allclose(jit(vmap(grad(f)))(rows).numpy(), expected)
    assert np.allclose(vmap(grad(jit(f)))(rows).numpy(), expected)
    assert np.allclose(jit(vmap(jit(grad(jit(f)))))(rows).numpy(), expected)
    assert np.allclose(vmap(jacobian(f))(rows).numpy(), expected)
    diagonals = np.stack([np.diag(2 * np.cos(row) - row * np.sin(row)) for row in A])
    assert np.allclose(vmap(hessian(f))(rows).numpy(), diagonals)
    tangents = vmap(lambda x, t: jvp(f, (x,), (t,))[1], in_axes=(0, None))(rows, y)
    assert np.allclose(tangents.numpy(), expected @ Y)


def test_a_captured_hessian_is_replayed(device):
    captured = jit(hessian(lambda x: (x**3).sum() + x[0] * x[1]))
    for shift in range(3):
        expected = np.diag(6 * (X + shift))
        expected[0, 1] = expected[1, 0] = 1
        assert np.allclose(captured(Tensor(X + shift)).numpy(), expected, atol=1e-5)
    assert captured.captures == 1


# ---- errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda: grad(lambda x: x * 2)(x), GradientError, "a function that returns one float"),
    (lambda: grad(lambda x: (x.sum(), 1))(x), GradientError, "has_aux=True"),
    (lambda: grad(lambda x: x.sum(), has_aux=True)(x), GradientError, r"the pair \(value, aux\)"),
    (lambda: grad(lambda x: x.sum())(Tensor([1, 2])), GradientError, "float tensors in argument 0, got int"),
    (lambda: grad(lambda x: x.sum())(3.0), GradientError, "got float"),
    (lambda: grad(lambda x: x.sum(), argnums=1)(x), ValueRangeError, "argnums that number 1 arguments"),
    (lambda: grad(lambda x: x.sum().backward())(x), TransformError, "in a function that grad calls"),
    (lambda: grad(lambda x: x.assign(x * 2).sum())(x), TransformError, "does not write to its arguments"),
    (lambda: grad(lambda x: set_first(x).sum())(x), TransformError, r"x = x.clone\(\)"),
    (lambda: grad(lambda x: set_first(x.reshape(2, 2)).sum())(x), TransformError, r"x = x.clone\(\)"),
    (lambda: vjp(lambda x: x, x)[1](Tensor(A)), GradientError, r"a tensor of shape \(4,\), got \(3, 4\)"),
    (lambda: vjp(lambda x: (x, x), x)[1](x), GradientError, "a cotangent for each of 2 results"),
    (lambda: jvp(lambda x: x, x, x), GradientError, "a tuple of arguments"),
    (lambda: jvp(lambda x: x, (x,), (matrix,)), GradientError, r"a tensor of shape \(4,\)"),
    (lambda: jacobian(lambda x: x.argmax())(x), GradientError, "a function that returns float tensors"),
], ids=range(15))
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()


def set_first(x):
    x[0] = 1.0
    return x


def test_writing_to_a_copy_is_fine():
    assert grad(lambda x: (set_first(x.clone()) * 2).sum())(x).tolist() == [0, 2, 2, 2]
