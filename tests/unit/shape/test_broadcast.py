"""Shape arithmetic against NumPy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pluggrad.errors import AxisError, DTypeError, ShapeError
from pluggrad.shape.broadcast import broadcast_shapes, check_axes, check_axis, check_shape, resolve_reshape

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)


@given(st.lists(SHAPES, min_size=1, max_size=3))
def test_broadcasting(shapes):
    try:
        expected = np.broadcast_shapes(*shapes)
    except ValueError:
        with pytest.raises(ShapeError, match="add: "):
            broadcast_shapes("add", *shapes)
    else:
        assert broadcast_shapes("add", *shapes) == expected


@given(SHAPES, st.lists(st.integers(-3, 8), max_size=4))
def test_reshapes(shape, new):
    def reference():
        # NumPy takes any negative size for the unknown one, and guesses where no size is left
        if min(new, default=0) < -1 or (-1 in new and 0 in new):
            raise ValueError
        return np.empty(shape).reshape(new).shape

    try:
        expected = reference()
    except ValueError:
        with pytest.raises(ShapeError):
            resolve_reshape("reshape", shape, new)
    else:
        result = resolve_reshape("reshape", shape, new)
        assert result == expected
        assert math.prod(result) == math.prod(shape)


def test_axes():
    assert check_axes("sum", None, 3) == (0, 1, 2)
    assert check_axes("sum", (-1, 0), 3) == (0, 2)
    assert check_axes("sum", 0, 0) == ()
    assert check_axis("sum", np.int64(1), 2) == 1
    for axes, rank in ((2, 2), (-3, 2), ((0, 0), 2), ((1, -1), 2), (1, 0)):
        with pytest.raises(AxisError, match="sum: "):
            check_axes("sum", axes, rank)
    with pytest.raises(DTypeError):
        check_axes("sum", 0.5, 2)


def test_shapes():
    assert check_shape("zeros", [np.int32(2), 3]) == (2, 3)
    with pytest.raises(ShapeError, match="zeros: expected sizes of at least 0"):
        check_shape("zeros", (2, -1))
    with pytest.raises(DTypeError, match="zeros"):
        check_shape("zeros", (2.0,))
