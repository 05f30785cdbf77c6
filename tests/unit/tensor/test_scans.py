"""Running sums, products and extremes against NumPy, and their gradients."""
from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, dtypes
from pluggrad.errors import AxisError
from pluggrad.testing.gradcheck import gradcheck

pytestmark = pytest.mark.usefixtures("device")
RNG = np.random.default_rng(11)
LONG = 9001  # cut into blocks, the last one partly filled


def numbers(*shape, dtype="float32"):
    return (RNG.standard_normal(shape) * 3).astype(dtype)


def first_of(values, compare, axis):
    """The place of each running extreme, element by element."""
    moved = np.moveaxis(values, axis, -1)
    places = np.zeros(moved.shape, np.int32)
    for row in np.ndindex(moved.shape[:-1]):
        best = 0
        for i, x in enumerate(moved[row]):
            with np.errstate(invalid="ignore"):
                if not np.isnan(moved[row][best]) and (np.isnan(x) or compare(x, moved[row][best])):
                    best = i
            places[row][i] = best
    return np.moveaxis(places, -1, axis)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int32", "uint64", "float16", "bfloat16",
                                   "float64"])
def test_sums_and_products_of_every_dtype(dtype):
    x = Tensor(RNG.integers(0, 2 if dtype == "bool" else 3, (3, 5)), dtype=dtype)
    for found, expected in ((x.cumsum(1), np.cumsum), (x.cumprod(0), np.cumprod)):
        assert found.dtype is x.sum().dtype
        axis = 1 if expected is np.cumsum else 0
        values = x.cast("float32").numpy() if dtype == "bfloat16" else x.numpy()
        np.testing.assert_array_equal(found.cast("float64").numpy(), expected(values.astype(float), axis))


@pytest.mark.parametrize(("shape", "axis"), [
    ((5, 7), 0), ((5, 7), -1), ((3, 4, 5), 1), ((LONG,), 0), ((2, LONG), 1), ((LONG, 3), 0), ((40, 21), 1)])
def test_along_each_axis(shape, axis):
    x = numbers(*shape)
    np.testing.assert_allclose(Tensor(x).cumsum(axis).numpy(), np.cumsum(x.astype(float), axis), rtol=1e-4,
                               atol=1e-3)
    near_one = 1 + x / 100
    products = np.cumprod(near_one.astype(float), axis)
    np.testing.assert_allclose(Tensor(near_one).cumprod(axis).numpy(), products, rtol=1e-3)
    whole = np.round(x)  # many equals
    for found, ufunc, compare in ((Tensor(whole).cummax(axis), np.maximum, np.greater),
                                  (Tensor(whole).cummin(axis), np.minimum, np.less)):
        np.testing.assert_array_equal(found[0].numpy(), ufunc.accumulate(whole, axis))
        if max(shape) < LONG:
            np.testing.assert_array_equal(found[1].numpy(), first_of(whole, compare, axis))
        else:
            places = found[1].numpy()
            np.testing.assert_array_equal(np.take_along_axis(whole, places, axis), found[0].numpy())
            assert (np.diff(places, axis=axis) >= 0).all()


def test_places_of_nan_and_of_equals():
    x = np.array([[1.0, 1.0, np.nan, 5.0, np.nan], [-0.0, 0.0, -1.0, 0.5, 0.5]])
    values, places = Tensor(x).cummax(1)
    np.testing.assert_array_equal(values.numpy(), np.maximum.accumulate(x, 1))
    np.testing.assert_array_equal(places.numpy(), [[0, 0, 2, 2, 2], [0, 0, 0, 3, 3]])
    assert places.dtype is dtypes.int32
    values, places = Tensor([True, False, True]).cummin()
    assert values.tolist() == [True, False, False]
    assert places.tolist() == [0, 1, 1]
    assert values.dtype is dtypes.bool_


def test_sums_of_what_is_not_negative_never_fall():
    sums = Tensor(RNG.uniform(0, 1e-3, 3 * LONG).astype("float32")).cumsum().numpy()
    assert (np.diff(sums) >= 0).all()


def test_halves_add_up_in_float32():
    assert Tensor(np.full(3000, 1.0, "float16")).cumsum()[-1].item() == 3000  # 2048 + 1 is 2048 in float16


def test_integers_wrap():
    assert Tensor([2**30, 2**30, 1], dtype="int32").cumsum().tolist() == [2**30, -2**31, -2**31 + 1]


def test_of_one_element_and_of_none():
    scalar, empty, thin = Tensor(3.0), Tensor.zeros(2, 0), Tensor.ones(2, 1)
    assert scalar.cumsum().item() == 3.0
    assert scalar.cumprod(-1).item() == 3.0
    assert [part.item() for part in scalar.cummax()] == [3.0, 0]
    assert scalar.logcumsumexp().item() == 3.0
    for axis in (0, 1):
        assert empty.cumsum(axis).shape == empty.cumprod(axis).shape == (2, 0)
        assert empty.logcumsumexp(axis).shape == (2, 0)
        assert [part.shape for part in empty.cummax(axis)] == [(2, 0), (2, 0)]
    assert thin.cumsum(1).tolist() == [[1.0], [1.0]]


def test_of_views_and_what_repeats():
    x = numbers(6, 8)
    view = Tensor(x).T[::2].flip(1)
    np.testing.assert_allclose(view.cumsum(0).numpy(), np.cumsum(x.T[::2, ::-1], 0), rtol=1e-5)
    assert Tensor.ones(3, 1).expand(3, 4).cumsum(1).tolist() == [[1.0, 2.0, 3.0, 4.0]] * 3
    found = (Tensor(x) * 2 + 1).cumsum(1).relu().numpy()
    np.testing.assert_allclose(found, np.maximum(np.cumsum(x * 2 + 1, 1), 0), rtol=1e-4, atol=1e-4)


def test_dtype_is_cast_to_first():
    found = Tensor([1.7, 1.7]).cumsum(dtype="int8")
    assert found.dtype is dtypes.int8
    assert found.tolist() == [1, 2]


def test_logcumsumexp_keeps_what_is_small():
    x = np.array([[-np.inf, -1000.0, -999.0, 0.0, 1000.0], [np.inf, 0.0, -np.inf, 3.0, 2.0],
                  [1.0, np.nan, 0.0, 3.0, 2.0]])
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(Tensor(x).logcumsumexp(1).numpy(), np.logaddexp.accumulate(x, 1))
    y = numbers(77, 2)
    np.testing.assert_allclose(Tensor(y).logcumsumexp().numpy(), np.logaddexp.accumulate(y, 0), rtol=1e-5)


def test_gradients_of_long_axes():
    x = Tensor(numbers(2, LONG), requires_grad=True)
    weights = numbers(2, LONG)
    (x.cumsum(1) * Tensor(weights)).sum().backward()
    expected = np.cumsum(weights.astype(float)[:, ::-1], 1)[:, ::-1]
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-3, atol=1e-2)


def test_second_gradients():
    gradcheck(lambda x: x.cumprod(1), [np.array([[0.5, 0.0, 2.0, 1.5], [0.0, 0.0, 1.0, -1.0]])], order=2,
              device="ref")


def test_the_gradient_of_an_extreme_goes_to_where_it_was_first_met():
    x = Tensor([1.0, 3.0, 3.0, 2.0], requires_grad=True)
    x.cummax()[0].sum().backward()
    assert x.grad.tolist() == [1.0, 3.0, 0.0, 0.0]


def test_axes_that_are_not_there():
    for method in (Tensor.cumsum, Tensor.cumprod, Tensor.cummax, Tensor.cummin, Tensor.logcumsumexp):
        with pytest.raises(AxisError, match=method.__name__):
            method(Tensor.ones(2, 3), 2)
