"""Pooling beside PyTorch's: values, indices, gradients and second gradients."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor
from tests.pytorch.compare import compare, draw, in_torch

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("device")]

# name -> (input, kernel, options)
CASES = {
    "1d": ((2, 3, 8), 2, {}),
    "1d overlapping": ((2, 3, 9), 3, {"stride": 2, "padding": 1}),
    "2d": ((2, 3, 8, 6), 2, {}),
    "2d with a rest": ((1, 2, 9, 7), (2, 3), {}),
    "2d overlapping": ((2, 3, 9, 8), 3, {"stride": 2, "padding": 1}),
    "2d stride 1": ((1, 2, 5, 6), 3, {"stride": 1, "padding": 1}),
    "2d gaps": ((1, 2, 9, 9), 2, {"stride": 3}),
    "2d padded tiles": ((1, 2, 8, 7), 2, {"padding": 1}),
    "2d ceil": ((2, 2, 8, 7), 3, {"stride": 2, "ceil_mode": True}),
    "2d ceil tiles": ((1, 2, 7, 5), 2, {"ceil_mode": True}),
    "2d ceil and padding": ((1, 2, 10, 9), 3, {"stride": 2, "padding": 1, "ceil_mode": True}),
    "2d ceil beyond": ((1, 2, 4, 5), 2, {"stride": 3, "padding": 1, "ceil_mode": True}),
    "2d small": ((1, 1, 2, 2), 3, {"stride": 2, "ceil_mode": True}),
    "no batch": ((3, 6, 7), 2, {"stride": 2}),
    "3d": ((1, 2, 4, 6, 5), 2, {}),
    "3d overlapping": ((1, 2, 5, 4, 5), (3, 2, 3), {"stride": (2, 1, 2), "padding": 1}),
}


def rank_of(name):
    return int(name[0]) if name[0].isdigit() else 2


def pair(method, *args, **options):
    import torch.nn.functional as F

    return (
        lambda x: getattr(x, method)(*args, **options),
        lambda x: getattr(F, method)(x, *args, **options),
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_max_pool(name, dtype):
    shape, kernel, options = CASES[name]
    compare(*pair(f"max_pool{rank_of(name)}d", kernel, **options), draw(*shape), dtype=dtype)


@pytest.mark.parametrize("name", CASES)
def test_indices(name):
    import torch.nn.functional as F

    shape, kernel, options = CASES[name]
    x, method = draw(*shape), f"max_pool{rank_of(name)}d"
    _, places = getattr(Tensor(x), method)(kernel, **options, return_indices=True)
    _, expected = getattr(F, method)(in_torch(x, "float32"), kernel, **options, return_indices=True)
    np.testing.assert_array_equal(places.numpy(), expected.numpy())


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_avg_pool(name, counted):
    shape, kernel, options = CASES[name]
    method = f"avg_pool{rank_of(name)}d"
    compare(*pair(method, kernel, **options, count_include_pad=counted), draw(*shape))


@pytest.mark.parametrize("dilation", [2, (1, 3)])
@pytest.mark.parametrize("ceil", [False, True])
def test_dilation(dilation, ceil):
    options = {"stride": 2, "padding": 1, "dilation": dilation, "ceil_mode": ceil}
    compare(*pair("max_pool2d", 3, **options), draw(2, 2, 11, 10))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves(dtype):
    compare(*pair("max_pool2d", 3, stride=2, padding=1), draw(1, 2, 8, 8), dtype=dtype, order=0)
    compare(*pair("avg_pool2d", 3, stride=2, padding=1), draw(1, 2, 8, 8), dtype=dtype, order=0)


def test_unpooling():
    import torch.nn.functional as F

    x = draw(2, 3, 9, 8)
    for kernel, stride, size in ((2, 2, None), (2, 2, (9, 8)), (3, 2, (9, 8))):
        values, places = F.max_pool2d(in_torch(x, "float32", False), kernel, stride, return_indices=True)
        expected = F.max_unpool2d(values, places, kernel, stride, output_size=size)
        mine, found = Tensor(x).max_pool2d(kernel, stride, return_indices=True)
        result = mine.max_unpool2d(found, kernel, stride, output_size=size)
        np.testing.assert_array_equal(result.numpy(), expected.numpy())


@pytest.mark.parametrize("kind", ["avg", "max"])
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((2, 3, 12), 4),
        ((2, 3, 11), 4),
        ((1, 2, 5), 7),
        ((2, 3, 8, 6), (4, 3)),
        ((2, 2, 7, 9), 1),
        ((1, 2, 9, 13), (4, 5)),
        ((1, 2, 10, 9), (4, 6)),
        ((1, 2, 6, 7), (None, 3)),
        ((1, 2, 4, 6, 5), (2, 4, 3)),
    ],
    ids=str,
)
def test_adaptive(kind, shape, size):
    compare(*pair(f"adaptive_{kind}_pool{len(shape) - 2}d", size), draw(*shape))
