"""interpolate against small results worked out by hand, and its gradients."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor
from pluggrad.errors import DTypeError, ShapeError, ValueRangeError
from pluggrad.testing.gradcheck import gradcheck

ROW = np.array([[[0, 4, 8, 2]]], np.float32)
CASES = {
    "linear up": (8, "linear", False, [0, 1, 3, 5, 7, 6.5, 3.5, 2]),
    "linear down": (2, "linear", False, [2, 5]),
    "linear corners": (7, "linear", True, [0, 2, 4, 6, 8, 5, 2]),
    "linear to one": (1, "linear", True, [0]),
    "nearest up": (8, "nearest", False, [0, 0, 4, 4, 8, 8, 2, 2]),
    "nearest down": (3, "nearest", False, [0, 4, 8]),
    "nearest-exact": (3, "nearest-exact", False, [0, 8, 2]),
    "nearest-exact down": (2, "nearest-exact", False, [4, 2]),
    "area": (2, "area", False, [2, 5]),
    "cubic corners": (7, "bicubic", True, [0, 1.625, 4, 6.9375, 8, 5.375, 2]),
}


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("name", CASES)
def test_rows(name):
    size, mode, align_corners, expected = CASES[name]
    found = Tensor(ROW).interpolate(size, mode, align_corners)
    np.testing.assert_allclose(found.numpy(), [[expected]], 1e-6, 1e-6)


@pytest.mark.usefixtures("device")
def test_axes():
    """Separable: rows and columns one after the other; a tuple may name fewer axes; a factor, all behind."""
    image = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)
    both = Tensor(image).interpolate((6, 8), "bilinear")
    apart = Tensor(image).interpolate((8,)).mT.interpolate((6,)).mT
    np.testing.assert_allclose(both.numpy(), apart.numpy(), 1e-6)
    twice = Tensor(image).interpolate(None, "bilinear", scale_factor=2)
    np.testing.assert_allclose(twice.numpy(), both.numpy(), 1e-6)
    assert Tensor(image).interpolate(None, "nearest", scale_factor=(0.5, 1.5)).shape == (1, 1, 1, 6)
    assert Tensor(image[0]).interpolate(5).shape == (1, 3, 5)


def test_dtypes():
    for dtype in ("uint8", "int32", "float16", "bfloat16", "float64"):
        for mode in ("linear", "nearest"):
            found = Tensor(ROW, device="ref").cast(dtype).interpolate(8, mode)
            assert found.dtype.name == dtype
    assert Tensor(ROW, device="ref").int().interpolate(8).tolist() == [[[0, 1, 3, 5, 7, 6, 4, 2]]]


@pytest.mark.parametrize("mode", ["linear", "bicubic", "nearest", "nearest-exact", "area"])
def test_gradients(mode):
    array = np.random.default_rng(0).normal(size=(1, 1, 3, 4))
    gradcheck(lambda x: x.interpolate((4, 3), mode).sin(), [array], order=2, device="ref")


REFUSED = {
    "nothing": (lambda x: x.interpolate(None), ValueRangeError, "size or scale_factor"),
    "both": (lambda x: x.interpolate(2, scale_factor=2), ValueRangeError, "both"),
    "mode": (lambda x: x.interpolate(2, "cubist"), ValueRangeError, "bicubic"),
    "corners of the nearest": (lambda x: x.interpolate(2, "nearest", True), ValueRangeError, "align_corners"),
    "size 0": (lambda x: x.interpolate(0), ShapeError, "at least 1 element"),
    "no elements": (lambda x: x[..., :0].interpolate(2), ShapeError, "at least 1 element"),
    "too many sizes": (lambda x: x.interpolate((1, 1, 1, 1)), ShapeError, "at most 3 axes"),
    "a float": (lambda x: x.interpolate(2.5), DTypeError, "integers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    call, kind, text = REFUSED[name]
    with pytest.raises(kind, match=text):
        call(Tensor(ROW))
