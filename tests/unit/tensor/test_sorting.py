"""sort, argsort and topk against NumPy's stable order, in every dtype and size that takes another way."""
from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, dtypes
from pluggrad.errors import AxisError, ValueRangeError

pytestmark = pytest.mark.usefixtures("device")
RNG = np.random.default_rng(7)
DTYPES = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16",
          "float32", "float64"]
SHORT, LONG, BLOCKS = 50, 1100, 9001  # compared with each other, by digits, by digits in blocks


def numbers(*shape, dtype="float32"):
    """Few different ones; of floats both zeros, infinities and NaN."""
    if dtype == "bool":
        return RNG.integers(0, 2, shape).astype(dtype)
    if not dtype.startswith("float"):
        limits = np.iinfo(dtype)
        few = RNG.integers(limits.min, limits.max, 40, dtype=dtype, endpoint=True)
        return RNG.choice(few, shape)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan]
    return RNG.choice(np.array([*special, *np.round(RNG.standard_normal(30), 1)], dtype), shape)


def order(values, axis=-1, descending=False):
    """NumPy's stable order; descending equals stay in order, too."""
    if not descending:
        return np.argsort(values, axis, kind="stable")
    ranks = np.unique(values, return_inverse=True, equal_nan=True)[1].reshape(values.shape)
    return np.argsort(-ranks, axis, kind="stable")


@pytest.mark.parametrize("length", [SHORT, LONG])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype, length):
    x = numbers(3, length, dtype=dtype) if length == SHORT else numbers(length, dtype=dtype)
    for descending in (False, True):
        values, places = Tensor(x).sort(descending=descending)
        expected = order(x, descending=descending)
        assert values.dtype is dtypes.to_dtype(dtype)
        assert places.dtype is dtypes.int32
        np.testing.assert_array_equal(places.numpy(), expected)
        np.testing.assert_array_equal(values.numpy(), np.take_along_axis(x, expected, -1))


def test_bfloat16():
    x = np.round(RNG.standard_normal((2, SHORT)), 1).astype("float32")
    halves = Tensor(x).cast("bfloat16")
    np.testing.assert_array_equal(halves.argsort().numpy(), order(halves.float().numpy()))


@pytest.mark.parametrize(("shape", "axis"), [((BLOCKS,), 0), ((2, BLOCKS), 1), ((40, 300), 1), ((LONG, 3), 0),
                                             ((4, 30, 5), 1), ((4, 30, 5), -3), ((6, 1), 1), ((1, 300), 0)])
def test_each_axis(shape, axis):
    x = numbers(*shape)
    np.testing.assert_array_equal(Tensor(x).argsort(axis).numpy(), order(x, axis))
    np.testing.assert_array_equal(Tensor(x).sort(axis, True)[1].numpy(), order(x, axis, True))


@pytest.mark.parametrize(("shape", "axis", "k"), [((3, 20), 1, 4), ((BLOCKS,), 0, 1), ((2, BLOCKS), -1, 9),
                                                  ((BLOCKS, 2), 0, 3), ((LONG,), 0, LONG)])
def test_topk(shape, axis, k):
    x = numbers(*shape)
    for largest in (True, False):
        values, places = Tensor(x).topk(k, axis, largest)
        expected = np.take(order(x, axis, largest), range(k), axis)
        assert places.dtype is dtypes.int32
        np.testing.assert_array_equal(places.numpy(), expected)
        np.testing.assert_array_equal(values.numpy(), np.take_along_axis(x, expected, axis))


def test_of_one_element_and_of_none():
    scalar = Tensor(2.5)
    assert [part.item() for part in scalar.sort()] == [2.5, 0]
    assert scalar.argsort().shape == ()
    assert Tensor.zeros(3, 0).argsort(1).shape == (3, 0)
    assert Tensor.zeros(0, 3).argsort(1).shape == (0, 3)
    assert [part.shape for part in Tensor.ones(3, 4).topk(0, 0)] == [(0, 4), (0, 4)]


def test_of_a_view_and_an_expression():
    x = numbers(20, 30)
    np.testing.assert_array_equal(Tensor(x).T[::3].flip(1).argsort(1).numpy(), order(x.T[::3, ::-1], 1))
    y = RNG.standard_normal(LONG).astype("float32")
    np.testing.assert_array_equal((Tensor(y) * 2 + 1).argsort().numpy(), order(y * 2 + 1))


def test_msort():
    x = numbers(30, 4)
    np.testing.assert_array_equal(Tensor(x).msort().numpy(), np.sort(x, 0))


@pytest.mark.parametrize("length", [SHORT, LONG])
def test_the_gradient_goes_back_to_where_values_came_from(length):
    x, weights = RNG.permutation(length).astype("float32"), RNG.standard_normal(length).astype("float32")
    t = Tensor(x, requires_grad=True)
    (t.sort(descending=True)[0] * Tensor(weights)).sum().backward()
    expected = np.empty_like(weights)
    expected[order(x, descending=True)] = weights
    np.testing.assert_array_equal(t.grad.numpy(), expected)


def test_gradients_of_less_than_all():
    t = Tensor([1.0, 5.0, 3.0, 5.0], requires_grad=True)
    t.topk(2)[0].sum().backward()
    assert t.grad.tolist() == [0.0, 1.0, 0.0, 1.0]


def test_what_is_refused():
    x = Tensor.ones(3, 4)
    for method in (Tensor.sort, Tensor.argsort):
        with pytest.raises(AxisError, match=method.__name__):
            method(x, 2)
    with pytest.raises(ValueRangeError, match="topk: expected a k from 0 to 4"):
        x.topk(5)
    with pytest.raises(ValueRangeError, match="the size of axis 0"):
        x.topk(-1, 0)
    with pytest.raises(ValueRangeError, match=r"got 1\.5"):
        x.topk(1.5)
