"""Gradient rules of one's own: values, higher orders, several outputs, jit, and what is refused."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import pluggrad
from pluggrad import Tensor
from pluggrad.errors import GradientError
from pluggrad.ir.node import interned_count
from pluggrad.testing.gradcheck import gradcheck

X = np.array([0.3, -1.2, 2.0])
Y = np.array([1.5, 0.7, -0.4])


def doubled_slope(function, slope):
    """A function whose gradient is `slope` times two, by a rule."""

    @pluggrad.custom_vjp
    def f(x):
        return function(x)

    f.defvjp(lambda x: (f(x), x), lambda x, g: (2 * g * slope(x),))
    return f


sine = doubled_slope(Tensor.sin, Tensor.cos)


@pluggrad.custom_vjp
def polar(x, y):
    return {"r": (x * x + y * y).sqrt(), "product": x * y}


def _polar_forward(x, y):
    out = polar(x, y)
    return out, (x, y, out["r"])


def _polar_backward(saved, g):
    x, y, r = saved
    return g["r"] * x / r + g["product"] * y, g["r"] * y / r + g["product"] * x


polar.defvjp(_polar_forward, _polar_backward)


def test_the_rule_is_the_gradient(device):
    x = Tensor(X)
    assert np.allclose(sine(x).numpy(), np.sin(X))
    sine(x).sum().backward()
    assert np.allclose(x.grad.numpy(), 2 * np.cos(X), atol=1e-6)


def test_second_order_goes_through_the_rule():
    x = Tensor(X, dtype="float64")
    (first,) = sine(x).sum().gradient(x)
    (second,) = first.sum().gradient(x)
    assert np.allclose(second.numpy(), -2 * np.sin(X))


def test_an_output_that_is_saved_has_the_rule_s_gradient_again():
    @pluggrad.custom_vjp
    def f(x):
        return x.exp()

    def forward(x):
        y = f(x)
        return y, y

    f.defvjp(forward, lambda y, g: (2 * g * y,))
    x = Tensor(X, dtype="float64")
    (first,) = f(x).sum().gradient(x)
    (second,) = first.sum().gradient(x)
    assert np.allclose(second.numpy(), 4 * np.exp(X))


def test_several_outputs_meet_in_one_call_of_the_rule():
    calls = []

    @pluggrad.custom_vjp
    def f(x):
        return x * 2, x * 3

    f.defvjp(lambda x: (f(x), None), lambda saved, g: calls.append(g) or (g[0] * 2 + g[1] * 3,))
    x = Tensor([1.0, 2.0])
    a, b = f(x)
    (gradient,) = (a * b).sum().gradient(x)
    assert np.allclose(gradient.numpy(), [12, 24])
    assert len(calls) == 1
    (gradient,) = a.sum().gradient(x)  # the other output: zeros
    assert np.allclose(gradient.numpy(), 2)


@pytest.mark.parametrize("key", ["r", "product"])
def test_against_finite_differences(key):
    gradcheck(lambda x, y: polar(x, y)[key] ** 2, [X, Y], order=2, device="ref")


def test_nested_arguments_and_plain_values():
    @pluggrad.custom_vjp
    def f(parts, factor):
        return parts["a"] * parts["b"][0] * factor

    def backward(saved, g):
        parts, factor = saved
        return {"a": g * parts["b"][0] * factor, "b": [g * parts["a"] * factor, None]}, None

    f.defvjp(lambda parts, factor: (f(parts, factor), (parts, factor)), backward)
    a, b, n = Tensor(X), Tensor(Y), Tensor([1, 2, 3])
    found = f({"a": a, "b": [b, n]}, 3.0).sum().gradient(a, b)
    assert np.allclose(found[0].numpy(), 3 * Y)
    assert np.allclose(found[1].numpy(), 3 * X)


def test_nondiff_argnums_come_first():
    scaled = pluggrad.custom_vjp(lambda n, x: x * n, nondiff_argnums=(0,))
    scaled.defvjp(lambda n, x: (x * n, None), lambda n, saved, g: (g * n * 10,))
    x = Tensor(X)
    assert np.allclose(scaled(2.0, x).sum().gradient(x)[0].numpy(), 20)


def test_integers_get_no_gradient():
    @pluggrad.custom_vjp
    def rows(table, index):
        return table[index], index + 1

    def backward(saved, g):
        assert g[1] is None
        return Tensor.zeros(4, 2).scatter(0, saved.reshape(-1, 1).expand(-1, 2), g[0]), None

    rows.defvjp(lambda table, index: (rows(table, index), index), backward)
    table = Tensor(np.arange(8.0, dtype=np.float32).reshape(4, 2))
    (gradient,) = rows(table, Tensor([3, 1]))[0].sum().gradient(table)
    assert gradient.tolist() == [[0, 0], [1, 1], [0, 0], [1, 1]]


def test_a_stored_input_returned_as_it_is_keeps_the_rule(device):
    flip = doubled_slope(lambda x: x, lambda x: -0.5)
    x = Tensor(X).realize()
    y = flip(x).realize()
    assert np.allclose((y * Tensor(Y)).sum().gradient(x)[0].numpy(), -Y)
    assert np.allclose((x * Tensor(Y)).sum().gradient(x)[0].numpy(), Y)


def test_no_grad_calls_the_function_alone():
    f = pluggrad.custom_vjp(lambda x: x * 2)
    f.defvjp(lambda x: pytest.fail("called"), lambda saved, g: pytest.fail("called"))
    with pluggrad.no_grad():
        assert np.allclose(f(Tensor(X)).numpy(), 2 * X)


def test_inside_a_captured_function(device):
    weight = Tensor(Y, requires_grad=True)

    @pluggrad.jit
    def step(x):
        return sine(x * weight).sum().gradient(x, weight)

    for shift in (0.0, 1.0, 2.0):
        x = X + shift
        found = step(Tensor(x))
        assert np.allclose(found[0].numpy(), 2 * np.cos(x * Y) * Y, atol=1e-5)
        assert np.allclose(found[1].numpy(), 2 * np.cos(x * Y) * x, atol=1e-5)


def test_nothing_is_left_behind():
    def once():
        x = Tensor(X)
        sine(x).sum().gradient(x)[0].numpy()

    once()
    gc.collect()
    before = interned_count()
    gc.disable()  # no reference cycle may keep a graph alive
    try:
        for _ in range(3):
            once()
        assert interned_count() == before
    finally:
        gc.enable()


def test_errors():
    x = Tensor(X)
    unfinished = pluggrad.custom_vjp(lambda x: x)
    with pytest.raises(GradientError, match=r"defvjp\(forward, backward\) first"):
        unfinished(x)
    with pytest.raises(GradientError, match="arguments by position"):
        sine(x=x)
    cases = {
        "the pair": (lambda x: x, lambda saved, g: (g,)),
        "1 gradients, one for each argument": (lambda x: (x, None), lambda saved, g: (g, g)),
        "a gradient with 1 tensors": (lambda x: (x, None), lambda saved, g: ([g, g],)),
        r"floats of shape \(3,\)": (lambda x: (x, None), lambda saved, g: (g.sum(),)),
    }
    for text, (forward, backward) in cases.items():
        f = pluggrad.custom_vjp(lambda x: x)
        f.defvjp(forward, backward)
        with pytest.raises(GradientError, match=text):
            f(x).sum().gradient(x)


def test_a_rule_whose_arguments_are_the_same_for_a_batch_that_its_function_finds():
    c = Tensor(X)

    def of(row):
        @pluggrad.custom_vjp
        def scaled(c):
            return c * row

        scaled.defvjp(lambda c: (scaled(c), None), lambda _, g: (3 * g,))
        return scaled(c)

    made = pluggrad.vmap(of)(Tensor(np.stack([X, Y])))
    np.testing.assert_allclose(made.numpy(), [X * X, X * Y], rtol=1e-6)
    (made * Tensor([[1.0], [10.0]])).sum().backward()
    np.testing.assert_allclose(c.grad.numpy(), [33.0] * 3)
