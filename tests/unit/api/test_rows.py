"""Every Tensor method by its row: forward against NumPy, dtypes, gradients to second order, an error."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, device, dtypes
from pluggrad.errors import GradientError, PluggradError
from pluggrad.testing.gradcheck import gradcheck
from tests.unit.api.rows import Row, flat
from tests.unit.api.table import ROWS


@pytest.fixture(autouse=True)
def _interpreted():
    """What needs no compiler; the kernels of devices are compared with it by conformance."""
    with device("ref"):
        yield


def by_name(rows):
    return [pytest.param(row, id=row.name) for row in rows]


def tensors_of(row: Row, dtype: dtypes.DType) -> list[Tensor]:
    """The inputs, their floats in `dtype`."""
    return [Tensor(a.astype(dtype.numpy) if a.dtype.kind == "f" else a) for a in row.arrays()]


@pytest.mark.parametrize("row", by_name(ROWS))
def test_forward(row):
    found = flat(row.of(*tensors_of(row, dtypes.float64)))
    expected = flat(row.reference(*row.arrays()))
    assert len(found) == len(expected)
    for x, y in zip(found, expected):
        value = x.numpy() if isinstance(x, Tensor) else np.asarray(x)
        assert value.shape == np.shape(y)
        np.testing.assert_allclose(value.astype(np.float64), np.asarray(y, np.float64), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("row", by_name(row for row in ROWS if row.result))
def test_dtype(row):
    of_floats = flat(row.of(*tensors_of(row, dtypes.float32)))[0]
    floats = [a for a in row.arrays() if a.dtype.kind == "f"]
    own = "float32" if floats else str(row.arrays()[0].dtype)
    assert of_floats.dtype.name == (own if row.result == "same" else row.result)


@pytest.mark.parametrize("row", by_name(row for row in ROWS if row.ints))
def test_integers(row):
    small = [Tensor(np.ones(a.shape, np.int32) if a.dtype.kind == "f" else a) for a in row.arrays()]
    if row.ints == "refused":
        with pytest.raises(PluggradError):
            row.of(*small)
        return
    found = flat(row.of(*small))[0]
    assert found.dtype.name == ("int32" if row.ints == "same" else row.ints)
    found.realize()


@pytest.mark.parametrize("row", by_name(ROWS))
def test_gradient(row):
    arrays = row.arrays()
    at = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]

    def of_floats(*floats: Tensor) -> list[Tensor]:
        tensors = [Tensor(a) for a in arrays]
        for i, x in zip(at, floats):
            tensors[i] = x
        return [x for x in flat(row.of(*tensors)) if isinstance(x, Tensor) and x.dtype.is_float]

    if row.gradient:
        gradcheck(of_floats, [arrays[i] for i in at], order=row.order, rtol=1e-4, atol=1e-6)
        return
    leaves = [Tensor(arrays[i]) for i in at]
    for output in of_floats(*leaves):
        for leaf in leaves:
            try:
                passed = output.sum().gradient(leaf)[0].numpy()
            except GradientError:
                continue
            assert not passed.any()


@pytest.mark.parametrize("row", by_name(ROWS))
def test_error(row):
    with pytest.raises(row.raises) as caught:
        row.refused(*tensors_of(row, dtypes.float32))
    assert (row.says or row.name) in str(caught.value)
    assert isinstance(caught.value, (PluggradError, TypeError))
