"""Normalization on every device against formulas in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, dtypes

pytestmark = pytest.mark.usefixtures("device")

RNG = np.random.default_rng(8)
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def standardized(x, axes, eps=1e-5):
    x = x.astype(np.float64)
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def along(vector, rank, axis=1):
    return vector.reshape([-1 if i == axis else 1 for i in range(rank)])


@pytest.mark.parametrize(
    ("shape", "normalized"), [((4, 6), 6), ((2, 3, 4), (3, 4)), ((2, 3, 4), (2, 3, 4)), ((5, 1), (1,))]
)
def test_layer_and_rms_norm(shape, normalized):
    sizes = (normalized,) if isinstance(normalized, int) else normalized
    x, weight, bias = normal(*shape), normal(*sizes), normal(*sizes)
    axes = tuple(range(-len(sizes), 0))
    result = Tensor(x).layer_norm(normalized, Tensor(weight), Tensor(bias))
    np.testing.assert_allclose(result.numpy(), standardized(x, axes) * weight + bias, **TOLERANCE)
    scale = np.sqrt((x * x).mean(axes, keepdims=True) + 1e-6)
    np.testing.assert_allclose(
        Tensor(x).rms_norm(normalized, Tensor(weight)).numpy(), x / scale * weight, **TOLERANCE
    )
    np.testing.assert_allclose(Tensor(x).rms_norm(normalized).numpy(), x / scale, **TOLERANCE)


@pytest.mark.parametrize(
    ("shape", "groups"), [((2, 6, 3, 5), 3), ((3, 4), 2), ((1, 4, 7), 1), ((2, 4, 3), 4)]
)
def test_group_norm(shape, groups):
    x, weight, bias = normal(*shape), normal(shape[1]), normal(shape[1])
    expected = standardized(x.reshape(shape[0], groups, -1), -1).reshape(shape)
    expected = expected * along(weight, x.ndim) + along(bias, x.ndim)
    result = Tensor(x).group_norm(groups, Tensor(weight), Tensor(bias))
    np.testing.assert_allclose(result.numpy(), expected, **TOLERANCE)


@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 3, 4, 5), (1, 2, 2, 3, 4)])
def test_instance_norm(shape):
    x, weight, bias = normal(*shape), normal(shape[1]), normal(shape[1])
    expected = standardized(x, tuple(range(2, x.ndim))) * along(weight, x.ndim) + along(bias, x.ndim)
    result = Tensor(x).instance_norm(Tensor(weight), Tensor(bias))
    np.testing.assert_allclose(result.numpy(), expected, **TOLERANCE)


@pytest.mark.parametrize(("shape", "axis"), [((2, 3, 4, 5), 1), ((4, 6), -1), ((2, 3, 4), (0, 2))])
def test_batchnorm(shape, axis):
    axes = [each % len(shape) for each in ((axis,) if isinstance(axis, int) else axis)]
    sizes = [shape[each] for each in axes]
    kept = [dim if i in axes else 1 for i, dim in enumerate(shape)]
    x, (weight, bias, mean, invstd) = normal(*shape), (normal(*sizes) for _ in range(4))
    tensors = [Tensor(part) for part in (weight, bias, mean, invstd)]
    weight, bias, mean, invstd = (part.reshape(kept) for part in (weight, bias, mean, invstd))
    result = Tensor(x).batchnorm(*tensors, axis=axis)
    np.testing.assert_allclose(result.numpy(), (x - mean) * invstd * weight + bias, **TOLERANCE)
    plain = Tensor(x).batchnorm(None, None, *tensors[2:], axis=axis)
    np.testing.assert_allclose(plain.numpy(), (x - mean) * invstd, **TOLERANCE)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int32"])
def test_dtypes_and_precision(dtype):
    """Values near 200 square to beyond the largest half; the result still has a spread of 1."""
    x = Tensor(RNG.integers(180, 220, (2, 4, 64)), dtype=dtype)
    one = Tensor.ones(4)
    for result in (
        x.layer_norm(64, Tensor.ones(64), Tensor.zeros(64)),
        x.group_norm(2, one),
        x.instance_norm(one),
        x.batchnorm(one, None, Tensor.full((4,), 200.0), Tensor.full((4,), 0.1)),
    ):
        assert result.dtype is dtypes.least_upper_float(x.dtype)
        assert abs(result.cast("float32").std().item() - 1) < 0.3
    assert x.rms_norm(64).dtype is dtypes.least_upper_float(x.dtype)


def test_a_distant_mean_costs_no_precision():
    x = (normal(2, 3, 500) + 3000).astype(np.float32)
    np.testing.assert_allclose(Tensor(x).instance_norm().numpy(), standardized(x, -1), atol=2e-3)


def test_empty():
    assert Tensor.zeros(0, 4, 3).group_norm(2).shape == (0, 4, 3)
    assert Tensor.zeros(0, 4, 3).layer_norm(3).numpy().shape == (0, 4, 3)


def test_normalize():
    x = normal(3, 4)
    np.testing.assert_allclose(
        Tensor(x).normalize().numpy(), x / np.linalg.norm(x, axis=1, keepdims=True), **TOLERANCE
    )
    np.testing.assert_allclose(
        Tensor(x).normalize(1, 0).numpy(), x / np.abs(x).sum(0, keepdims=True), **TOLERANCE
    )
    assert Tensor.zeros(2, 2).normalize().tolist() == [[0, 0], [0, 0]]
