"""Convolutions on every device against sums written out in NumPy; gradients by bilinearity."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from pluggrad import Tensor, dtypes
from pluggrad.autograd import trace
from pluggrad.graph import ops
from pluggrad.ir.walk import toposort
from pluggrad.runtime.normalize import normalize, rebuild
from tests.convolution_reference import convolved, spread

pytestmark = pytest.mark.usefixtures("device")

RNG = np.random.default_rng(5)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def check_bilinear(result, x, w, again):
    """The gradients of a bilinear function: along any direction, the function of that direction."""
    seed = normal(*result.shape)
    grads = (result * Tensor(seed)).sum().gradient(x, w)
    for grad, at in zip(grads, (0, 1), strict=True):
        operands = [x.numpy(), w.numpy()]
        assert grad.shape == operands[at].shape
        operands[at] = direction = normal(*grad.shape)
        along = (again(*operands) * seed).sum()
        np.testing.assert_allclose((grad.numpy() * direction).sum(), along, 1e-3, 1e-3)


# name -> (x, weight, options, the same for the reference)
CASES = {
    "plain": ((2, 3, 6, 7), (4, 3, 3, 3), {}, {}),
    "1x1": ((2, 3, 5, 4), (5, 3, 1, 1), {}, {}),
    "1x1 with stride": ((2, 3, 5, 4), (5, 3, 1, 1), {"stride": 2}, {"strides": (2, 2)}),
    "row": ((1, 2, 5, 6), (3, 2, 1, 3), {"padding": (0, 1)}, {"pads": ((0, 0), (1, 1))}),
    "stride": ((2, 3, 8, 9), (4, 3, 3, 2), {"stride": (2, 3)}, {"strides": (2, 3)}),
    "dilation": ((1, 2, 9, 9), (3, 2, 3, 2), {"dilation": (2, 3)}, {"dilations": (2, 3)}),
    "stride and dilation": (
        (1, 2, 12, 11),
        (2, 2, 3, 3),
        {"stride": (4, 3), "dilation": (2, 3), "padding": 1},
        {"strides": (4, 3), "dilations": (2, 3), "pads": ((1, 1), (1, 1))},
    ),
    "flat padding": (
        (1, 2, 4, 5),
        (3, 2, 3, 3),
        {"padding": (0, 1, 2, 1)},
        {"pads": ((2, 1), (0, 1))},
    ),
    "groups": ((2, 6, 5, 5), (4, 3, 3, 3), {"groups": 2}, {"groups": 2}),
    "depthwise": ((2, 3, 5, 6), (6, 1, 3, 3), {"groups": 3}, {"groups": 3}),
    "whole input": ((3, 2, 4, 5), (2, 2, 4, 5), {}, {}),
}


@pytest.mark.parametrize("name", CASES)
def test_conv2d(name):
    shape, kernel, options, reference = CASES[name]
    x, w, bias = Tensor(normal(*shape)), Tensor(normal(*kernel)), normal(kernel[0])
    expected = convolved(x.numpy(), w.numpy(), **reference)
    result = x.conv2d(w, **options)
    np.testing.assert_allclose(result.numpy(), expected, 1e-4, 1e-4)
    shifted = x.conv2d(w, Tensor(bias), **options).numpy()
    np.testing.assert_allclose(shifted, expected + bias[:, None, None], 1e-4, 1e-4)
    check_bilinear(result, x, w, lambda x, w: convolved(x, w, **reference))


@pytest.mark.parametrize("spatial", [(9,), (5, 6), (4, 5, 3)])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_ranks_against_scipy(spatial, padding):
    x, w = normal(1, 1, *spatial), normal(1, 1, *(3, 2, 2)[: len(spatial)])
    whole = signal.correlate(x[0, 0], w[0, 0], "full")
    start = [n - 1 if padding == "valid" else n - 1 - (n - 1) // 2 for n in w.shape[2:]]
    sizes = [n - k + 1 if padding == "valid" else n for n, k in zip(spatial, w.shape[2:], strict=True)]
    expected = whole[tuple(slice(first, first + n) for first, n in zip(start, sizes, strict=True))]
    for name in (f"conv{len(spatial)}d", "conv2d"):
        result = getattr(Tensor(x), name)(Tensor(w), padding=padding)
        np.testing.assert_allclose(result.numpy()[0, 0], expected, 1e-4, 1e-5)


SPREAD = {
    "plain": ((2, 3, 4, 5), (3, 4, 3, 3), 1, (1, 1), (1, 1), ((0, 0), (0, 0)), (0, 0)),
    "stride": ((2, 3, 4, 3), (3, 2, 4, 4), 1, (2, 2), (1, 1), ((1, 1), (1, 1)), (0, 0)),
    "stride beyond the kernel": ((1, 2, 3, 3), (2, 2, 2, 1), 1, (3, 2), (1, 1), ((0, 0), (0, 0)), (1, 0)),
    "everything": ((2, 4, 4, 3), (4, 3, 3, 2), 2, (2, 3), (2, 1), ((1, 1), (0, 1)), (1, 2)),
    "depthwise": ((1, 3, 4, 4), (3, 1, 3, 3), 3, (2, 2), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    "3d": ((1, 2, 2, 3, 2), (2, 2, 2, 3, 2), 1, (2, 1, 2), (1, 2, 1), ((0, 0), (1, 1), (1, 0)), (1, 0, 0)),
    "1d": ((2, 3, 5), (3, 2, 4), 1, (3,), (2,), ((2, 2),), (1,)),
    "padding beyond the kernel": ((1, 1, 6), (1, 1, 2), 1, (2,), (1,), ((3, 3),), (1,)),
}


@pytest.mark.parametrize("name", SPREAD)
def test_conv_transpose(name):
    shape, kernel, groups, strides, dilations, pads, extra = SPREAD[name]
    x, w, bias = Tensor(normal(*shape)), Tensor(normal(*kernel)), normal(kernel[1] * groups)
    flat = tuple(width for pad in reversed(pads) for width in pad)

    def again(x, w):
        return spread(x, w, groups, strides, dilations, pads, extra)

    expected = again(x.numpy(), w.numpy())
    for name in ("conv_transpose2d", f"conv_transpose{len(strides)}d"):
        result = getattr(x, name)(
            w, groups=groups, stride=strides, dilation=dilations, padding=flat, output_padding=extra
        )
        np.testing.assert_allclose(result.numpy(), expected, 1e-4, 1e-4)
    check_bilinear(result, x, w, again)
    biased = x.conv_transpose2d(w, Tensor(bias), groups, strides, dilations, flat, extra).numpy()
    np.testing.assert_allclose(biased, expected + bias.reshape(-1, *(1,) * len(strides)), 1e-4, 1e-4)


def test_it_is_one_product_and_one_sum():
    result = Tensor(normal(2, 4, 8, 8)).conv2d(Tensor(normal(6, 2, 3, 3)), groups=2, padding=1, stride=2)
    found = [n.op for n in trace(result.node).order]
    assert [found.count(op) for op in (ops.PAD, ops.WINDOW, ops.MUL, ops.SUM)] == [1, 1, 1, 1]


def test_a_stride_multiplies_no_zeros():
    """Of 14 results, before padding is cut off, 7 meet the even weights and 7 the odd: two products each."""
    result = Tensor(normal(1, 1, 6)).conv_transpose2d(Tensor(normal(1, 1, 4)), stride=2, padding=2)
    sums = [n for n in toposort(rebuild(normalize([result.node]))) if n.op is ops.SUM]
    assert [n.src[0].type.size for n in sums] == [2 * 7, 2 * 7]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int32", "uint8"])
def test_dtypes(dtype):
    x, w = RNG.integers(0, 3, (2, 3, 5, 5)), RNG.integers(0, 3, (4, 3, 3, 3))
    result = Tensor(x, dtype=dtype).conv2d(Tensor(w, dtype=dtype))
    assert result.dtype is dtypes.to_dtype(dtype)
    np.testing.assert_array_equal(result.cast("float32").numpy(), convolved(x, w))
    assert Tensor(x, dtype=dtype).conv2d(Tensor(w, dtype=dtype), dtype="float32").dtype is dtypes.float32
    assert Tensor(x, dtype="uint8").conv2d(Tensor(w, dtype="float32")).dtype is dtypes.float32


def test_halves_add_up_in_float32():
    """4096 + 1 is 4096 in a half: a running sum of halves would lose every one of the small terms."""
    x = np.ones((1, 65, 1, 1))
    x[0, 0] = 4096
    result = Tensor(x, dtype="float16").conv2d(Tensor.ones(1, 65, 1, 1, dtype="float16"))
    assert result.item() == 4096 + 64


def test_an_empty_batch():
    x, w = Tensor(np.zeros((0, 3, 5, 5), np.float32)), Tensor(normal(2, 3, 3, 3))
    assert x.conv2d(w).shape == (0, 2, 3, 3)
    assert x.conv_transpose2d(Tensor(normal(3, 2, 3, 3)), stride=2).numpy().shape == (0, 2, 11, 11)


def test_unfold():
    x = normal(3, 9)
    result = Tensor(x).unfold(1, 4, 2)
    np.testing.assert_array_equal(result.numpy(), np.stack([x[:, i : i + 4] for i in (0, 2, 4)], 1))
    t = Tensor(x)
    t.unfold(-1, 4, 2).sum().backward()
    np.testing.assert_array_equal(t.grad.numpy()[0], [1, 1, 2, 2, 2, 2, 1, 1, 0])
