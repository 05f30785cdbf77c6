"""Sums of equals are products."""
from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, dtypes
from pluggrad.graph import ops
from pluggrad.ir.walk import toposort
from pluggrad.runtime.normalize import normalize, rebuild


def sums(x: Tensor) -> int:
    return sum(n.op is ops.SUM for n in toposort(rebuild(normalize([x.node]))))


X = np.arange(12, dtype=np.float32).reshape(3, 1, 4)


@pytest.mark.parametrize(("axes", "left"), [(1, 0), ((0, 1), 1), (0, 1), ((0, 1, 2), 1), ((1, 2), 1)])
def test_of_a_repeated_tensor(axes: int | tuple[int, ...], left: int) -> None:
    x = Tensor(X).expand(3, 5, 4).sum(axes)
    assert sums(x) == left
    np.testing.assert_array_equal(x.numpy(), np.broadcast_to(X, (3, 5, 4)).sum(axes))


@pytest.mark.parametrize("value", [1, 0.37, -2])
@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.int32, dtypes.float16, dtypes.int8])
def test_of_a_constant(value: float, dtype: dtypes.DType) -> None:
    x = Tensor.full((7, 30), value, dtype=dtype).sum(1)
    np.testing.assert_allclose(x.numpy(), np.full((7, 30), value).astype(dtype.numpy).sum(1), rtol=1e-3)
    if dtype.itemsize == 4:
        assert sums(x) == 0


def test_infinity_and_nan_stay() -> None:
    x = Tensor(np.array([np.inf, np.nan, -np.inf], np.float32)).reshape(3, 1).expand(3, 9).sum(1)
    np.testing.assert_array_equal(x.numpy(), np.array([np.inf, np.nan, -np.inf], np.float32))
