"""Random convolutions, transposed ones and pooling, with gradients, on every device against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pluggrad import Tensor
from tests.convolution_reference import convolved, spread


@st.composite
def problems(draw):
    """(batch, groups, inputs and outputs per group), then size, kernel, stride, dilation, pads per axis."""
    counts = [draw(st.integers(1, 3)) for _ in range(4)]
    axes = []
    for _ in range(draw(st.integers(1, 3))):
        kernel, stride, dilation = (draw(st.integers(1, 3)) for _ in range(3))
        pads = draw(st.integers(0, 2)), draw(st.integers(0, 2))
        least = max((kernel - 1) * dilation + 1 - sum(pads), 1)
        axes.append((draw(st.integers(least, least + 4)), kernel, stride, dilation, pads))
    return counts, tuple(zip(*axes, strict=True))


def whole(*shape: int) -> np.ndarray:
    """Small integers as floats: sums of their products are exact."""
    return np.random.default_rng(len(shape)).integers(-4, 5, shape).astype(np.float32)


def check(result, x, w, reference):
    """The value, and the gradients along integer directions: all exact."""
    np.testing.assert_array_equal(result.numpy(), reference(x.numpy(), w.numpy()))
    seed = whole(*result.shape)
    for grad, at in zip((result * Tensor(seed)).sum().gradient(x, w), (0, 1), strict=True):
        operands = [x.numpy(), w.numpy()]
        operands[at] = direction = whole(*grad.shape)[::-1]
        along = (reference(*operands) * seed).sum()
        np.testing.assert_array_equal((grad.numpy().astype(np.float64) * direction).sum(), along)


@pytest.mark.usefixtures("device")
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(problem=problems())
def test_convolutions(problem):
    (batch, groups, inner, outer), (sizes, kernel, strides, dilations, pads) = problem
    x, w = Tensor(whole(batch, groups * inner, *sizes)), Tensor(whole(groups * outer, inner, *kernel))
    flat = tuple(width for pad in reversed(pads) for width in pad)
    result = x.conv2d(w, groups=groups, stride=strides, dilation=dilations, padding=flat)
    check(result, x, w, lambda x, w: convolved(x, w, groups, strides, dilations, pads))


@pytest.mark.usefixtures("device")
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(problem=problems())
def test_transposed_convolutions(problem):
    (batch, groups, inner, outer), (sizes, kernel, strides, dilations, _) = problem
    x, w = Tensor(whole(batch, groups * inner, *sizes)), Tensor(whole(groups * inner, outer, *kernel))
    extra = tuple(max(stride, dilation) - 1 for stride, dilation in zip(strides, dilations, strict=True))
    none = ((0, 0),) * len(sizes)
    result = x.conv_transpose2d(
        w, groups=groups, stride=strides, dilation=dilations, output_padding=extra
    )
    check(result, x, w, lambda x, w: spread(x, w, groups, strides, dilations, none, extra))
