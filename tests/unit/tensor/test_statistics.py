"""Order statistics and counts against NumPy."""
from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, dtypes
from pluggrad.errors import DTypeError, ShapeError, ValueRangeError
from pluggrad.testing.gradcheck import gradcheck

pytestmark = pytest.mark.usefixtures("device")
RNG = np.random.default_rng(3)
METHODS = ["linear", "lower", "higher", "midpoint", "nearest"]


def numbers(*shape):
    return np.round(RNG.standard_normal(shape), 1).astype("float32")


def with_nan(*shape):
    x = numbers(*shape)
    x[0, 3] = x[1, 0] = np.nan
    return x


# ---- elements by their rank --------------------------------------------------------------------------------
@pytest.mark.parametrize(("dim", "keepdim"), [(0, True), (1, False), (-1, True)])
def test_kthvalue(dim, keepdim):
    x = numbers(6, 7)
    values, places = Tensor(x).kthvalue(3, dim, keepdim)
    expected = np.take(np.argsort(x, dim, kind="stable"), [2], dim)
    chosen = np.take_along_axis(x, expected, dim)
    np.testing.assert_array_equal(places.numpy(), expected if keepdim else expected.squeeze(dim))
    np.testing.assert_array_equal(values.numpy(), chosen if keepdim else chosen.squeeze(dim))


@pytest.mark.parametrize("length", [7, 8])
def test_the_median_is_the_lower_of_two(length):
    x = numbers(3, length)
    values, places = Tensor(x).median(1)
    middle = np.sort(x, 1)[:, (length - 1) // 2]
    np.testing.assert_array_equal(values.numpy(), middle)
    np.testing.assert_array_equal(np.take_along_axis(x, places.numpy()[:, None], 1)[:, 0], middle)
    assert Tensor(x).median().item() == np.sort(x.ravel())[(3 * length - 1) // 2]
    assert Tensor(x).median(0, keepdim=True)[0].shape == (1, length)


def test_medians_of_nan():
    x = np.array([[3.0, np.nan, 1.0, 2.0], [np.nan] * 4, [4.0, 1.0, 3.0, 2.0]])
    values, places = Tensor(x).median(1)
    np.testing.assert_array_equal(values.numpy(), [np.nan, np.nan, 2.0])
    assert places.tolist() == [1, 0, 3]
    np.testing.assert_array_equal(Tensor(x).nanmedian(1)[0].numpy(), [2.0, np.nan, 2.0])
    assert np.isnan(Tensor(x).median().item())
    assert Tensor(x).nanmedian().item() == 2.0


def test_of_one_number():
    assert Tensor(4.0).median().item() == 4.0
    assert [part.item() for part in Tensor(4.0).kthvalue(1)] == [4.0, 0]
    assert Tensor(4.0).quantile(0.3).item() == 4.0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("dim", "keepdim"), [(None, False), (None, True), (0, False), (1, True)])
def test_quantiles(method, dim, keepdim):
    x, holes = numbers(5, 8), with_nan(5, 8)
    for q in (0.3, [0.0, 0.55, 1.0]):
        for name, values in (("quantile", x), ("quantile", holes), ("nanquantile", holes)):
            found = getattr(Tensor(values, device="ref"), name)(q, dim, keepdim, method)
            expected = getattr(np, name)(values, q, dim, keepdims=keepdim, method=method)
            assert found.dtype is dtypes.float32
            np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_quantiles_of_rows():
    x = with_nan(5, 8)
    found = Tensor(x).quantile([0.1, 0.5], 1).numpy()
    np.testing.assert_allclose(found, np.quantile(x, [0.1, 0.5], 1), rtol=1e-5)


def test_shares_may_be_a_tensor():
    x = numbers(20)
    np.testing.assert_allclose(Tensor(x).quantile(Tensor([0.25, 0.75])).numpy(), np.quantile(x, [0.25, 0.75]),
                               rtol=1e-5)


def test_gradients_go_to_the_elements_that_were_chosen():
    x = RNG.permutation(12).reshape(3, 4).astype(float)
    for function in (lambda x: x.median(1)[0] ** 2, lambda x: x.kthvalue(2, 0)[0] ** 2,
                     lambda x: x.median() ** 2, lambda x: x.quantile([0.2, 0.7], 1) ** 2):
        gradcheck(function, [x], order=2, device="ref")


# ---- counts ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("length", [0, 10, 9000])
def test_bincount(length):
    x, weights = RNG.integers(0, 40, length), numbers(length)
    counts = Tensor(x).bincount(minlength=50)
    assert counts.dtype is dtypes.int64
    np.testing.assert_array_equal(counts.numpy(), np.bincount(x, minlength=50))
    found = Tensor(x).bincount(weights)
    assert found.dtype is dtypes.float32
    np.testing.assert_allclose(found.numpy(), np.bincount(x, weights), rtol=1e-4, atol=1e-4)


def test_the_gradient_of_weights():
    weights = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    (Tensor([1, 0, 1]).bincount(weights) * Tensor([5.0, 7.0])).sum().backward()
    assert weights.grad.tolist() == [7.0, 5.0, 7.0]


def test_histograms():
    x = np.array([-3.0, 0.0, 0.5, 1.0, 2.0, 2.0, 9.0], np.float32)
    assert Tensor(x).histc(4, 0, 2).tolist() == np.histogram(x, 4, (0, 2))[0].tolist()
    found, edges = Tensor(x).histogram(6)
    np.testing.assert_array_equal(found.numpy(), np.histogram(x, 6)[0])
    np.testing.assert_allclose(edges.numpy(), np.histogram(x, 6)[1], rtol=1e-6)
    weights = np.arange(7.0)
    given, _ = Tensor(x).histogram([-3, 0.5, 2, 9], weight=weights, density=True)
    expected = np.histogram(x, [-3, 0.5, 2, 9], weights=weights, density=True)[0]
    np.testing.assert_allclose(given.numpy(), expected, rtol=1e-6)
    assert Tensor([2.0, 2.0]).histogram(2)[1].tolist() == [1.5, 2.0, 2.5]


# ---- what is refused ---------------------------------------------------------------------------------------
def test_what_is_refused():
    x = Tensor.ones(3, 4)
    for call, error, text in (
            (lambda: x.kthvalue(0), ValueRangeError, "kthvalue: expected a k from 1 to 4"),
            (lambda: x.kthvalue(4, 0), ValueRangeError, "from 1 to 3, the size of axis 0"),
            (lambda: Tensor.ones(3, 0).median(1), ShapeError, "median: expected at least one element"),
            (lambda: x.quantile(1.5), ValueRangeError, r"quantile: expected q in \[0, 1\]"),
            (lambda: x.quantile([[0.5]]), ShapeError, "a number or a vector q"),
            (lambda: x.quantile(0.5, interpolation="cubic"), ValueRangeError, "linear, midpoint, lower"),
            (lambda: x.int().quantile(0.5), DTypeError, "quantile: expected a float dtype"),
            (lambda: Tensor([2, -1]).bincount(), ValueRangeError, "expected integers of at least 0, got -1"),
            (lambda: x.bincount(), ShapeError, "bincount: expected a vector of integers"),
            (lambda: Tensor([1]).bincount([1.0, 2.0]), ShapeError, "weights of shape"),
            (lambda: Tensor([1]).bincount(minlength=-1), ValueRangeError, "a minlength of at least 0"),
            (lambda: x.histogram([0.0, 2.0, 1.0]), ValueRangeError, "histogram: expected boundaries in asc"),
            (lambda: x.histogram([0.0]), ShapeError, "at least two edges"),
            (lambda: x.histogram(0), ValueRangeError, "at least one bin")):
        with pytest.raises(error, match=text):
            call()
