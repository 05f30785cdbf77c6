"""function: called once for each kind of call; what it gives is a graph like any other."""

from __future__ import annotations

import numpy as np
import pytest

import pluggrad
from pluggrad import Tensor, Variable, function, grad, jit, manual_seed, nn, vmap
from pluggrad.errors import TransformError

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


def counted(f):
    calls = []

    @function
    def traced(*args, **kwargs):
        calls.append(1)
        return f(*args, **kwargs)

    return traced, calls


def test_it_is_called_once_for_each_kind_of_call(device):
    f, calls = counted(lambda x, factor: {"y": (x * factor).sin(), "n": factor})
    for shift in (0.0, 1.0):
        found = f(Tensor(X + shift), 2)
        assert np.allclose(found["y"].numpy(), np.sin((X + shift) * 2), atol=1e-6)
        assert found["n"] == 2
    assert len(calls) == f.traces == 1
    f(Tensor(X), 3)
    f(Tensor(X[:2]), 3)
    f(Tensor(X.astype(np.float64)), 3)
    assert len(calls) == 4
    with Tensor.train():
        f(Tensor(X), 3)
    with pluggrad.no_grad():
        f(Tensor(X), 3)
    assert len(calls) == 6


def test_weights_are_looked_up_at_each_call(device):
    model = nn.Linear(4, 2)
    f, calls = counted(lambda x: model(x).relu())
    for _ in range(3):
        y = f(Tensor(X))
        assert np.allclose(y.numpy(), model(Tensor(X)).relu().numpy(), atol=1e-6)
        y.sum().backward()
        assert np.allclose(model.bias.grad.numpy(), (y.numpy() > 0).sum(0), atol=1e-6)
        model.bias.grad = None
        model.weight.assign(model.weight * -1)
    assert len(calls) == 1
    model.weight.replace(Tensor.ones(5, 4))
    model.bias.replace(Tensor.zeros(5))
    assert f(Tensor(X)).shape == (3, 5)
    assert len(calls) == 2


def test_a_model_as_an_argument_and_a_method():
    class Model:
        def __init__(self, scale):
            self.weight = Tensor([scale])

        @function
        def forward(self, x):
            return x * self.weight

    a, b = Model(2.0), Model(3.0)
    apply = function(lambda model, x: x * model.weight)
    for _ in range(2):
        assert [m.forward(Tensor([1.0])).item() for m in (a, b)] == [2, 3]
        assert [apply(m, Tensor([1.0])).item() for m in (a, b)] == [2, 3]
    a.weight.assign(Tensor([7.0]))
    assert a.forward(Tensor([1.0])).item() == 7


def test_transformations_see_through_it():
    f, calls = counted(lambda x: (x * x * x).sum())
    with pluggrad.device("ref"):
        for _ in range(2):
            assert np.allclose(grad(f)(Tensor(X)).numpy(), 3 * X**2)
            assert np.allclose(vmap(grad(f))(Tensor(X)).numpy(), 3 * X**2)
            assert np.allclose(grad(lambda x: grad(f)(x).sum())(Tensor(X)).numpy(), 6 * X)
            assert np.allclose(function(grad(f))(Tensor(X)).numpy(), 3 * X**2)
            assert np.allclose(f(f(Tensor(X)).reshape(1, 1).expand(3, 4)).item(), 12 * (X**3).sum() ** 3)
    assert len(calls) == 2  # of a matrix, and of a row inside vmap


def test_under_jit(device):
    f, calls = counted(lambda x, n: x + Tensor.rand(4) * n)
    step = jit(lambda x, n: f(x, n))
    manual_seed(5)
    found = [step(Tensor(X), Variable("n", 1, 9).bind(n)).numpy() for n in (1, 2, 3)]
    manual_seed(5)
    for n, got in zip((1, 2, 3), found, strict=True):
        assert np.allclose(got, X + Tensor.rand(4).numpy() * n, atol=1e-6)
    assert len(calls) == 1


def test_random_numbers_are_drawn_anew(device):
    f = function(lambda x: x + Tensor.rand(4))
    manual_seed(1)
    found = [f(Tensor(X)).numpy() for _ in range(3)]
    manual_seed(1)
    assert all(np.allclose(got, X + Tensor.rand(4).numpy()) for got in found)
    different = vmap(f, randomness="different")(Tensor(X)).numpy() - X
    assert len(np.unique(different)) == 12


def test_variables_and_numbers_are_part_of_the_kind():
    f, calls = counted(lambda x, n: x * n)
    n = Variable("n", 0, 9)
    assert [f(Tensor([1.0]), n.bind(i)).item() for i in (2, 3, 2)] == [2, 3, 2]
    assert len(calls) == 2


KEPT = Tensor(X)


@pytest.mark.parametrize(("body", "text"), [
    (lambda x: x * x.sum().item(), "function: expected no value to be read"),
    (lambda x: x.sum().backward(), "in a function that function calls"),
    (lambda x: KEPT.assign(x), "an assignment to a tensor of shape"),
], ids=["item", "backward", "assign"])
def test_errors(body, text):
    with pytest.raises(TransformError, match=text):
        function(body)(Tensor(X))
    assert np.array_equal(KEPT.numpy(), X)
