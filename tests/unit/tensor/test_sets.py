"""Positions in what is sorted, membership and different elements, against NumPy."""
from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, dtypes
from pluggrad.errors import AxisError, JitError, MixedDevices, ShapeError, ValueRangeError
from pluggrad.jit import jit

pytestmark = pytest.mark.usefixtures("device")
RNG = np.random.default_rng(9)


@pytest.mark.parametrize("dtype", ["int8", "uint32", "int64", "float16", "float32", "float64"])
def test_searchsorted(dtype):
    ordered = np.sort(RNG.integers(0, 50, 37)).astype(dtype)
    values = RNG.integers(0, 60, (5, 8)).astype(dtype)
    for side in ("left", "right"):
        found = Tensor(ordered).searchsorted(Tensor(values), side=side)
        assert found.dtype is dtypes.int64
        np.testing.assert_array_equal(found.numpy(), np.searchsorted(ordered, values, side))
    assert Tensor(ordered).searchsorted(values, out_int32=True).dtype is dtypes.int32


def test_rows_of_boundaries():
    ordered, values = np.sort(RNG.standard_normal((2, 3, 10)), -1), RNG.standard_normal((2, 3, 4))
    found = Tensor(ordered).searchsorted(values, right=True).numpy()
    for row in np.ndindex(2, 3):
        np.testing.assert_array_equal(found[row], np.searchsorted(ordered[row], values[row], "right"))


def test_numbers_nan_and_nothing():
    x = Tensor([1.0, 2.0, 2.0, np.inf])
    assert x.searchsorted(2).item() == 1
    assert x.searchsorted([2.0, np.nan, np.inf, -np.inf]).tolist() == [1, 4, 3, 0]
    assert Tensor([1.0, np.nan]).searchsorted([np.nan, 5.0], right=True).tolist() == [2, 1]
    assert Tensor([1, 3]).searchsorted(2.5).item() == 1
    assert x.searchsorted(Tensor.zeros(0, 3)).shape == (0, 3)
    assert Tensor.zeros(0).searchsorted([1.0]).tolist() == [0]


def test_bucketize():
    x = Tensor([[3.0, 6.0, 9.0], [3.5, -1.0, 1.0]])
    assert x.bucketize([1, 3, 5, 7, 9]).tolist() == [[1, 3, 4], [2, 0, 0]]
    assert x.bucketize(Tensor([1, 3, 5, 7, 9]), right=True).tolist() == [[2, 3, 5], [2, 0, 1]]


def test_isin():
    x = RNG.integers(0, 9, (4, 5))
    np.testing.assert_array_equal(Tensor(x).isin([1, 5]).numpy(), np.isin(x, [1, 5]))
    np.testing.assert_array_equal(Tensor(x).isin(Tensor([[8], [2]]), invert=True).numpy(),
                                  np.isin(x, [8, 2], invert=True))
    assert Tensor([1.0, np.nan]).isin([np.nan, 1.0]).tolist() == [True, False]
    assert Tensor([1.0]).isin([]).tolist() == [False]
    assert Tensor([1, 2]).isin(2).tolist() == [False, True]


@pytest.mark.parametrize("dtype", ["bool", "int32", "float32"])
@pytest.mark.parametrize("shape", [(7, 5), (3000,)])
def test_unique(dtype, shape):
    x = RNG.integers(0, 6, shape).astype(dtype)
    found = Tensor(x).unique(return_inverse=True, return_counts=True)
    values, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    for part, expected in zip(found, (values, inverse.reshape(shape), counts), strict=True):
        np.testing.assert_array_equal(part.numpy(), expected)
    assert [part.dtype.name for part in found] == [dtype, "int64", "int64"]
    np.testing.assert_array_equal(Tensor(x).unique().numpy(), values)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_unique_slices(dim):
    x = RNG.integers(0, 2, (30, 3, 2)) if dim == 0 else RNG.integers(0, 2, (2, 12, 2))
    found = Tensor(x).unique(return_inverse=True, return_counts=True, dim=dim)
    expected = np.unique(x, return_inverse=True, return_counts=True, axis=dim)
    for part, array in zip(found, expected, strict=True):
        np.testing.assert_array_equal(part.numpy(), array.reshape(part.shape))


def test_each_nan_is_one_and_nothing_is_none():
    np.testing.assert_array_equal(Tensor([np.nan, 1.0, np.nan]).unique().numpy(), [1.0, np.nan, np.nan])
    values, counts = Tensor.zeros(0, 3).unique(return_counts=True)
    assert (values.shape, counts.shape) == ((0,), (0,))
    assert Tensor(5).unique().tolist() == [5]
    empty = Tensor.zeros(0, 3)
    assert empty.unique(return_inverse=True)[1].shape == (0, 3)
    assert [part.shape for part in empty.unique(dim=0, return_inverse=True)] == [(0, 3), (0,)]
    assert [part.shape for part in empty.unique(dim=1, return_inverse=True)] == [(0, 1), (3,)]


def test_what_is_refused(other_device):
    x = Tensor([1.0, 2.0])
    for call, error, text in (
            (lambda: x.bucketize([3.0, 1.0]), ValueRangeError, "ascending order, got 3.0 before 1.0"),
            (lambda: x.bucketize(Tensor([[1.0]])), ShapeError, "bucketize: expected a vector"),
            (lambda: x.searchsorted(1, side="middle"), ValueRangeError, "side 'left' or 'right'"),
            (lambda: x.searchsorted(1, right=True, side="left"), ValueRangeError, "to agree"),
            (lambda: Tensor.ones(2, 3).searchsorted(Tensor.ones(3, 3)), ShapeError, "or rows as values"),
            (lambda: Tensor(1.0).searchsorted([1.0]), ShapeError, "a vector, or rows"),
            (lambda: x.searchsorted(Tensor([1.0], device=other_device)), MixedDevices, "searchsorted"),
            (lambda: x.unique(dim=1), AxisError, "unique"),
            (lambda: jit(Tensor.unique)(x), JitError, "captured")):
        with pytest.raises(error, match=text):
            call()
