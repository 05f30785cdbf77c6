"""Convolutions beside PyTorch's: forward, gradients and second gradients."""

from __future__ import annotations

import itertools

import pytest

from pluggrad import Tensor, nn
from tests.pytorch.compare import close, compare, draw, in_torch

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("device")]

# name -> (input, weight, options)
CASES = {
    "1d": ((2, 3, 11), (4, 3, 3), {}),
    "1d odd": ((1, 1, 7), (1, 1, 5), {"stride": 2, "padding": 3, "dilation": 2}),
    "1d long stride": ((2, 2, 17), (3, 2, 2), {"stride": 5}),
    "1d groups": ((2, 6, 9), (4, 3, 3), {"groups": 2, "padding": 1}),
    "2d": ((2, 3, 7, 6), (4, 3, 3, 3), {}),
    "2d even kernel": ((1, 3, 6, 7), (2, 3, 2, 4), {"padding": (1, 2)}),
    "2d 1x1": ((2, 5, 3, 4), (3, 5, 1, 1), {}),
    "2d 1x1 stride": ((2, 5, 5, 4), (3, 5, 1, 1), {"stride": 2}),
    "2d row": ((1, 2, 4, 9), (3, 2, 1, 5), {"stride": (1, 2), "padding": (0, 2)}),
    "2d stride": ((2, 3, 9, 8), (4, 3, 3, 3), {"stride": 2, "padding": 1}),
    "2d strides": ((1, 2, 11, 9), (3, 2, 3, 2), {"stride": (3, 2)}),
    "2d stride over kernel": ((1, 2, 9, 9), (2, 2, 2, 2), {"stride": 3}),
    "2d dilation": ((1, 2, 9, 10), (3, 2, 3, 3), {"dilation": (2, 3), "padding": 2}),
    "2d stride and dilation": (
        (1, 2, 13, 12),
        (2, 2, 3, 3),
        {"stride": (4, 2), "dilation": (2, 3), "padding": 3},
    ),
    "2d groups": ((2, 4, 5, 6), (6, 2, 3, 3), {"groups": 2, "padding": 1}),
    "2d depthwise": ((2, 4, 7, 6), (4, 1, 3, 3), {"groups": 4, "padding": 1, "stride": 2}),
    "2d depth multiplier": ((1, 3, 5, 5), (6, 1, 3, 3), {"groups": 3}),
    "2d same": ((1, 2, 6, 7), (3, 2, 4, 3), {"padding": "same", "dilation": (1, 2)}),
    "2d whole input": ((3, 2, 5, 4), (4, 2, 5, 4), {}),
    "2d one": ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    "3d": ((1, 2, 5, 4, 6), (3, 2, 3, 2, 3), {"padding": 1}),
    "3d stride": ((2, 2, 5, 6, 5), (2, 2, 2, 3, 2), {"stride": (2, 1, 3), "padding": (0, 1, 0)}),
    "3d groups": ((1, 4, 4, 4, 3), (4, 2, 2, 2, 2), {"groups": 2, "dilation": (1, 2, 1)}),
}
SPREAD = {
    "1d": ((2, 3, 6), (3, 4, 3), {}),
    "1d odd": ((1, 2, 5), (2, 2, 4), {"stride": 3, "padding": 2, "output_padding": 2, "dilation": 2}),
    "2d": ((2, 3, 4, 5), (3, 2, 3, 3), {}),
    "2d 1x1": ((1, 3, 4, 5), (3, 2, 1, 1), {"stride": 2}),
    "2d stride": ((2, 3, 4, 3), (3, 2, 4, 4), {"stride": 2, "padding": 1}),
    "2d output padding": ((1, 2, 4, 3), (2, 3, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    "2d strides": ((1, 2, 3, 4), (2, 2, 3, 2), {"stride": (2, 3), "output_padding": (0, 2)}),
    "2d dilation": ((1, 2, 4, 4), (2, 2, 3, 2), {"dilation": (2, 3), "padding": (1, 2)}),
    "2d stride and dilation": ((1, 2, 4, 4), (2, 2, 3, 3), {"stride": (4, 3), "dilation": (2, 3)}),
    "2d groups": ((2, 4, 4, 3), (4, 3, 3, 3), {"groups": 2, "stride": 2}),
    "2d depthwise": ((1, 3, 4, 4), (3, 1, 3, 3), {"groups": 3, "stride": 2, "output_padding": 1}),
    "3d": ((1, 2, 3, 2, 3), (2, 2, 2, 3, 2), {"stride": (2, 1, 2), "padding": (0, 1, 1)}),
    "3d output padding": ((1, 2, 2, 3, 2), (2, 2, 3, 2, 2), {"stride": 2, "output_padding": (1, 0, 1)}),
}


def pair(name, options):
    import torch.nn.functional as F

    def ours(x, w, b):
        return getattr(x, name)(w, b, **options)

    def theirs(x, w, b):
        return getattr(F, name)(x, w, b, **options)

    return ours, theirs


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_conv(name, dtype):
    shape, kernel, options = CASES[name]
    bias = draw(kernel[0])
    compare(*pair(f"conv{len(shape) - 2}d", options), draw(*shape), draw(*kernel), bias, dtype=dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SPREAD)
def test_conv_transpose(name, dtype):
    shape, kernel, options = SPREAD[name]
    bias = draw(kernel[1] * options.get("groups", 1))
    both = pair(f"conv_transpose{len(shape) - 2}d", options)
    compare(*both, draw(*shape), draw(*kernel), bias, dtype=dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_halves(name, dtype):
    arrays = draw(2, 8, 7, 6), draw(8, 8, 3, 3), draw(8)
    compare(*pair(name, {"stride": 2, "padding": 1}), *arrays, dtype=dtype, order=0)


@pytest.mark.parametrize(("size", "kernel"), list(itertools.product([5, 8], [2, 3])))
@pytest.mark.parametrize(
    "options",
    [
        {"stride": stride, "dilation": dilation, "padding": padding}
        for stride, dilation, padding in itertools.product([1, 2, 3], [1, 2], [0, 1])
    ],
    ids=str,
)
def test_every_combination(size, kernel, options):
    arrays = draw(1, 2, size), draw(2, 2, kernel), draw(2)
    compare(*pair("conv1d", options), *arrays, order=1)
    compare(*pair("conv_transpose1d", options), *arrays, order=1)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_layers(rank, transposed):
    import torch

    name = f"ConvTranspose{rank}d" if transposed else f"Conv{rank}d"
    options = {"stride": 2, "padding": 1, "groups": 2} | ({"output_padding": 1} if transposed else {})
    layer, other = getattr(nn, name)(4, 6, 3, **options), getattr(torch.nn, name)(4, 6, 3, **options)
    named = dict(other.named_parameters())
    assert {key: value.shape for key, value in layer.state_dict().items()} == {
        key: tuple(value.shape) for key, value in named.items()
    }
    nn.state.load_state_dict(layer, {key: Tensor(value.detach().numpy()) for key, value in named.items()})
    x = draw(2, 4, *(7, 6, 5)[:rank])
    result, expected = layer(Tensor(x)), other(in_torch(x, "float32"))
    close(result, expected, "float32")
    result.square().sum().backward()
    expected.square().sum().backward()
    for key, value in named.items():
        close(getattr(layer, key).grad, value.grad, "float32", key)
