"""Reductions against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from pluggrad import Tensor, dtypes

pytestmark = pytest.mark.usefixtures("device")

RNG = np.random.default_rng(3)
X = RNG.normal(size=(3, 5, 7)).astype(np.float32)
AXES = [None, 0, 1, -1, (0, 2), (1,), (0, 1, 2), ()]

REDUCTIONS = {
    "sum": np.sum,
    "prod": np.prod,
    "max": np.max,
    "min": np.min,
    "mean": np.mean,
    "any": np.any,
    "all": np.all,
    "logsumexp": special.logsumexp,
    "var": lambda a, axis, keepdims: np.var(a, axis, ddof=1, keepdims=keepdims),
    "std": lambda a, axis, keepdims: np.std(a, axis, ddof=1, keepdims=keepdims),
    "count_nonzero": lambda a, axis, keepdims: np.count_nonzero(a, axis, keepdims=keepdims),
    "norm": lambda a, axis, keepdims: np.sqrt(np.sum(a * a, axis, keepdims=keepdims)),
}


@pytest.mark.filterwarnings(
    "ignore:.*egrees of freedom:RuntimeWarning", "ignore:invalid value:RuntimeWarning"
)
@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reduces_as_numpy_does(name, axis):
    if axis == () and name in ("var", "std", "logsumexp"):
        pytest.skip("no degrees of freedom, or not defined by SciPy")
    for keepdim in (False, True):
        expected = REDUCTIONS[name](X, axis=axis, keepdims=keepdim)
        result = getattr(Tensor(X), name)(**{"dim" if name == "norm" else "axis": axis}, keepdim=keepdim)
        assert result.shape == np.shape(expected)
        np.testing.assert_allclose(result.numpy(), expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(1,), (13,), (1, 1), (97, 3), (2, 1, 5)])
@pytest.mark.parametrize("name", ["sum", "max", "mean", "argmax"])
def test_views_reduce(name, shape):
    x = RNG.normal(size=shape).astype(np.float32)
    view, expected = Tensor(x).T.flip(0)[::1], np.flip(x.T, 0)
    np.testing.assert_allclose(getattr(view, name)(0).numpy(), getattr(expected, name)(0), rtol=1e-5)


def test_dtypes_of_sums():
    assert Tensor([200, 100], dtype="uint8").sum().item() == 300
    assert Tensor([200, 100], dtype="uint8").sum().dtype is dtypes.uint32
    assert Tensor([True, True]).sum().item() == 2
    assert Tensor([1, 2]).mean().item() == 1.5
    assert Tensor([1.0], dtype="float16").sum().dtype is dtypes.float16
    assert Tensor([1, 2]).sum(dtype="float64").dtype is dtypes.float64
    assert Tensor([2, 3], dtype="int8").prod().dtype is dtypes.int32


def test_halves_add_up_in_float32():
    ones = Tensor.ones(5000, dtype="float16")
    assert ones.sum().item() == 5000
    assert (ones * 60000).mean().item() == 60000
    assert Tensor.ones(1000, dtype="bfloat16").sum().item() == 1000


def test_nothing_to_reduce():
    empty = Tensor.zeros(0, 3)
    assert empty.sum().item() == 0
    assert empty.prod(0).tolist() == [1, 1, 1]
    assert empty.any(0).tolist() == [False] * 3
    assert empty.all(0).tolist() == [True] * 3
    assert empty.max(1).shape == (0,)
    assert np.isnan(empty.mean().item())
    for name in ("max", "min", "argmax"):
        with pytest.raises(ValueError, match="at least one element"):
            getattr(empty, name)(0)


def test_nan_wins():
    x = np.array([[1, np.nan, 3], [4, 5, 6]], np.float32)
    np.testing.assert_array_equal(Tensor(x).max(1).numpy(), x.max(1))
    np.testing.assert_array_equal(Tensor(x).min(1).numpy(), x.min(1))
    assert Tensor(x).argmax(1).tolist() == np.argmax(x, 1).tolist()


def test_positions():
    x = np.array([[3, 1, 3], [0, -2, -2]], np.int32)
    t = Tensor(x)
    assert t.argmax(1).tolist() == [0, 0]
    assert t.argmin(1).tolist() == [1, 1]
    assert t.argmax().item() == 0
    assert t.argmin().item() == 4
    assert t.argmax(0, keepdim=True).shape == (1, 3)
    assert t.argmax(keepdim=True).shape == (1, 1)
    assert t.argmax(0).dtype is dtypes.int32
    assert Tensor(4.0).argmax().item() == 0


def test_moments():
    t = Tensor(X)
    var, mean = t.var_mean(1)
    np.testing.assert_allclose(var.numpy(), X.var(1, ddof=1), rtol=1e-5)
    np.testing.assert_allclose(mean.numpy(), X.mean(1), rtol=1e-5, atol=1e-7)
    std, mean = t.std_mean(correction=0)
    np.testing.assert_allclose(std.item(), X.std(), rtol=1e-5)
    np.testing.assert_allclose(t.var((0, 2), correction=0).numpy(), X.var((0, 2)), rtol=1e-5)


def test_a_deviation_of_nothing_has_gradient_0_and_that_of_halves_does_not_overflow():
    x = Tensor([[2.0, 2.0], [1.0, 3.0]])
    slope = 0.5 ** 0.5
    np.testing.assert_allclose(x.std(1).sum().gradient(x)[0].numpy(), [[0, 0], [-slope, slope]], rtol=1e-6)
    assert Tensor([0.0, 1000.0], dtype=dtypes.float16).std().item() == 707


def test_logsumexp_does_not_overflow():
    x = Tensor([[1000.0, 1000.0], [-np.inf, -np.inf], [np.inf, 0.0], [-1000.0, -1001.0]])
    expected = [1000 + np.log(2), -np.inf, np.inf, -1000 + np.log1p(np.exp(-1))]
    np.testing.assert_allclose(x.logsumexp(1).numpy(), expected, rtol=1e-6)


def test_norms():
    x = np.array([[3.0, -4.0], [0.0, 1.0]], np.float32)
    for order in (0, 1, 2, 3, np.inf, -np.inf):
        np.testing.assert_allclose(Tensor(x).norm(order, 1).numpy(), np.linalg.norm(x, order, 1), rtol=1e-6)
    np.testing.assert_allclose(Tensor(x).normalize().numpy(), [[0.6, -0.8], [0, 1]], rtol=1e-6)


@pytest.mark.parametrize(
    ("axis", "error"),
    [(3, IndexError), (-4, ValueError), ((0, 0), ValueError), ((0, -3), ValueError), (1.5, TypeError)],
)
def test_wrong_or_repeated_axes(axis, error):
    for name in ("sum", "max", "mean", "var", "any", "logsumexp", "softmax"):
        with pytest.raises(error):
            getattr(Tensor(X), name)(axis)
