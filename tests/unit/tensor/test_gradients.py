"""Gradients of elementwise methods on every device, against formulas: dtypes, odd shapes, views."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from pluggrad import Tensor, dtypes

pytestmark = pytest.mark.usefixtures("device")

LN2, LN10 = np.log(2), np.log(10)
# name -> (slope, low, high)
SLOPES = {
    "neg": (lambda x: np.full_like(x, -1), -3, 3),
    "abs": (np.sign, -3, 3),
    "square": (lambda x: 2 * x, -3, 3),
    "sqrt": (lambda x: 0.5 / np.sqrt(x), 0.2, 3),
    "rsqrt": (lambda x: -0.5 * x**-1.5, 0.2, 3),
    "reciprocal": (lambda x: -1 / x**2, 0.3, 3),
    "exp": (np.exp, -3, 3),
    "exp2": (lambda x: LN2 * 2**x, -3, 3),
    "expm1": (np.exp, -3, 3),
    "log": (lambda x: 1 / x, 0.2, 3),
    "log2": (lambda x: 1 / x / LN2, 0.2, 3),
    "log10": (lambda x: 1 / x / LN10, 0.2, 3),
    "log1p": (lambda x: 1 / (1 + x), -0.5, 3),
    "sin": (np.cos, -9, 9),
    "cos": (lambda x: -np.sin(x), -9, 9),
    "tan": (lambda x: np.cos(x) ** -2, -1, 1),
    "asin": (lambda x: 1 / np.sqrt(1 - x * x), -0.9, 0.9),
    "acos": (lambda x: -1 / np.sqrt(1 - x * x), -0.9, 0.9),
    "atan": (lambda x: 1 / (1 + x * x), -5, 5),
    "sinh": (np.cosh, -3, 3),
    "cosh": (np.sinh, -3, 3),
    "tanh": (lambda x: 1 - np.tanh(x) ** 2, -2, 2),
    "asinh": (lambda x: 1 / np.sqrt(1 + x * x), -5, 5),
    "acosh": (lambda x: 1 / np.sqrt(x * x - 1), 1.2, 5),
    "atanh": (lambda x: 1 / (1 - x * x), -0.9, 0.9),
    "erf": (lambda x: 2 / np.sqrt(np.pi) * np.exp(-x * x), -2, 2),
    "relu": (lambda x: x > 0, -3, 3),
    "relu6": (lambda x: (x > 0) & (x < 6), -3, 8),
    "hardtanh": (lambda x: abs(x) < 1, -3, 3),
    "leaky_relu": (lambda x: np.where(x > 0, 1, 0.01), -3, 3),
    "elu": (lambda x: np.where(x > 0, 1, np.exp(x)), -3, 3),
    "sigmoid": (lambda x: expit(x) * expit(-x), -4, 4),
    "logsigmoid": (lambda x: expit(-x), -4, 4),
    "softplus": (expit, -4, 4),
    "softsign": (lambda x: (1 + abs(x)) ** -2, -3, 3),
    "silu": (lambda x: expit(x) * (1 + x * expit(-x)), -4, 4),
}
TOLERANCE = {dtypes.float16: 2e-2, dtypes.bfloat16: 1e-1, dtypes.float32: 2e-5, dtypes.float64: 1e-11}


def spread(shape, low, high):
    return np.random.default_rng(1).uniform(low, high, shape)


def weighted(shape):
    return np.random.default_rng(2).uniform(0.5, 1.5, shape)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", SLOPES)
def test_dtypes(name, dtype):
    slope, low, high = SLOPES[name]
    x = Tensor(spread(29, low, high), dtype=dtype)
    weights = Tensor(weighted(29), dtype=dtype, requires_grad=False)
    (getattr(x, name)() * weights).sum().backward()
    exact = [each.cast("float64").numpy() for each in (x.detach(), weights)]
    assert x.grad.dtype is dtype
    actual, tolerance = x.grad.cast("float64").numpy(), TOLERANCE[dtype]
    np.testing.assert_allclose(actual, slope(exact[0]) * exact[1], tolerance, tolerance)


@pytest.mark.parametrize("shape", [(), (1,), (0,), (7,), (13, 17), (2, 0, 3), (2, 3, 5, 1), (1009,)])
def test_shapes(shape):
    values, weights = spread(shape, -2, 2), weighted(shape)
    x = Tensor(values)
    ((x.sin() * x).tanh() * Tensor(weights, requires_grad=False)).sum().backward()
    product = np.sin(values) * values
    slope = (1 - np.tanh(product) ** 2) * (np.cos(values) * values + np.sin(values))
    assert x.grad.shape == shape
    np.testing.assert_allclose(x.grad.numpy(), slope * weights, 1e-11, 1e-11)


# a view of a tensor of shape (7, 13), and the same of an array
VIEWS = {
    "transposed": (lambda x: x.T, lambda a: a.T),
    "every second row backwards": (lambda x: x[1::2].flip(0), lambda a: a[1::2][::-1]),
    "a column": (lambda x: x[:, 5], lambda a: a[:, 5]),
    "reversed columns": (lambda x: x[:, ::-3], lambda a: a[:, ::-3]),
    "reshaped transpose": (lambda x: x.T.reshape(7, 13), lambda a: a.T.reshape(7, 13)),
    "nothing": (lambda x: x[3:3], lambda a: a[3:3]),
}


@pytest.mark.parametrize("view", VIEWS)
def test_views(view):
    of_tensor, of_array = VIEWS[view]
    values = spread((7, 13), -2, 2)
    x = Tensor(values)
    part = of_array(values)
    weights = weighted(part.shape)
    (of_tensor(x).exp() * Tensor(weights, requires_grad=False)).sum().backward()
    expected, places = np.zeros(values.size), of_array(np.arange(values.size).reshape(values.shape))
    expected[places] = np.exp(part) * weights
    np.testing.assert_allclose(x.grad.numpy(), expected.reshape(values.shape), 1e-11)


# name -> the slopes in both operands
PAIRS = {
    "add": (lambda x, y: 1, lambda x, y: 1),
    "sub": (lambda x, y: 1, lambda x, y: -1),
    "mul": (lambda x, y: y, lambda x, y: x),
    "div": (lambda x, y: 1 / y, lambda x, y: -x / y**2),
    "pow": (lambda x, y: y * x ** (y - 1), lambda x, y: x**y * np.log(x)),
    "maximum": (lambda x, y: x > y, lambda x, y: x < y),
    "minimum": (lambda x, y: x < y, lambda x, y: x > y),
    "atan2": (lambda x, y: y / (x * x + y * y), lambda x, y: -x / (x * x + y * y)),
    "hypot": (lambda x, y: x / np.hypot(x, y), lambda x, y: y / np.hypot(x, y)),
}


def reduced_to(array, shape):
    """The sum over what broadcasting repeated."""
    array = array.sum(tuple(range(array.ndim - len(shape))))
    return array.sum(tuple(i for i, dim in enumerate(shape) if dim == 1 != array.shape[i]), keepdims=True)


@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64], ids=str)
@pytest.mark.parametrize(
    "shapes",
    [((5,), (5,)), ((3, 1), (7,)), ((), (2, 3)), ((1, 5), (4, 1)), ((0, 3), (1, 3)), ((11, 1, 2), (13, 1))],
)
@pytest.mark.parametrize("name", PAIRS)
def test_broadcasts(name, shapes, dtype):
    rng = np.random.default_rng(3)
    a, b = (rng.uniform(0.5, 2, shape).astype(dtype.numpy) for shape in shapes)
    x, y = Tensor(a), Tensor(b)
    getattr(x, name)(y).sum().backward()
    wide = [np.asarray(each, np.float64) for each in (a, b)]
    for tensor, slope in zip((x, y), PAIRS[name], strict=True):
        full = np.broadcast_to(slope(*wide), np.broadcast_shapes(*shapes)).astype(np.float64)
        tolerance = 10 * TOLERANCE[dtype]
        assert tensor.grad.dtype is dtype
        np.testing.assert_allclose(tensor.grad.numpy(), reduced_to(full, tensor.shape), tolerance, tolerance)


@pytest.mark.parametrize("axis", [None, 0, 1, (0, 2), -1])
@pytest.mark.parametrize("shape", [(7, 1, 13), (3, 5, 2), (2, 0, 3), (1, 1, 1)])
def test_reductions(shape, axis):
    values = spread(shape, 0.5, 2)
    x = Tensor(values)
    count = np.prod([shape[i] for i in np.arange(3)[axis if axis is None else np.array(axis)].ravel()])
    (x.square().mean(axis) if count else x.square().sum(axis)).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * values / max(count, 1), 1e-12)
    if not count:
        return
    largest, smallest = Tensor(values), Tensor(values)
    largest.max(axis).sum().backward()
    smallest.min(axis).sum().backward()
    np.testing.assert_array_equal(largest.grad.numpy(), values == values.max(axis, keepdims=True))
    np.testing.assert_array_equal(smallest.grad.numpy(), values == values.min(axis, keepdims=True))


@pytest.mark.parametrize(
    "shapes",
    [
        ((7,), (7,)),
        ((1, 1), (1, 1)),
        ((13, 17), (17, 11)),
        ((3, 0), (0, 5)),
        ((2, 3, 5), (5, 7)),
        ((4, 1, 2, 3), (3, 3, 2)),
    ],
)
def test_products(shapes):
    a, b = (spread(shape, -1, 1) for shape in shapes)
    weights = weighted((a @ b).shape)
    x, y = Tensor(a), Tensor(b)
    ((x @ y) * Tensor(weights, requires_grad=False)).sum().backward()
    if a.ndim == 1:
        expected = weights * b, weights * a
    else:
        expected = weights @ b.swapaxes(-1, -2), a.swapaxes(-1, -2) @ weights
    for tensor, full in zip((x, y), expected, strict=True):
        np.testing.assert_allclose(tensor.grad.numpy(), reduced_to(full, tensor.shape), 1e-11, 1e-12)


def test_contiguous_backward_changes_no_number():
    x = Tensor([1.0, 2.0, 3.0])
    y = x.square().contiguous_backward()
    np.testing.assert_array_equal(y.numpy(), [1, 4, 9])
    (slope,) = y.square().sum().gradient(x)
    np.testing.assert_allclose(slope.numpy(), [4, 32, 108], rtol=1e-6)
    (second,) = slope.sum().gradient(x)
    np.testing.assert_allclose(second.numpy(), [12, 48, 108], rtol=1e-6)
    assert Tensor([1, 2]).contiguous_backward().dtype is dtypes.int32
