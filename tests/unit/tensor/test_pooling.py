"""Pooling on every device against loops over windows in NumPy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from pluggrad import Tensor, dtypes
from pluggrad.autograd import trace
from pluggrad.graph import ops

pytestmark = pytest.mark.usefixtures("device")

RNG = np.random.default_rng(6)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def window_indices(dim, size, stride, dilation, before, after, ceil):
    """For each window along one axis, its elements as indices; those outside of [0, dim) are padding."""
    reach = (size - 1) * dilation + 1
    count = (math.ceil if ceil else math.floor)((dim + before + after - reach) / stride) + 1
    starts = [o * stride - before for o in range(count) if not ceil or o * stride < dim + before]
    return [[start + k * dilation for k in range(size)] for start in starts]


def pooled(x, sizes, reduce, stride=None, dilation=1, padding=0, ceil=False):
    """`reduce(elements, inside, padded)` of every window over the last axes, each axis with the same options.

    `inside` counts the elements in the input, `padded` those in it or its padding.
    """
    dims = x.shape[-len(sizes) :]
    axes = [
        window_indices(d, k, k if stride is None else stride, dilation, padding, padding, ceil)
        for d, k in zip(dims, sizes, strict=True)
    ]
    result = []
    for windows in itertools.product(*axes):
        inside = [[i for i in w if 0 <= i < d] for w, d in zip(windows, dims, strict=True)]
        padded = math.prod(
            len([i for i in w if i < d + padding]) for w, d in zip(windows, dims, strict=True)
        )
        elements = x[(..., *np.ix_(*inside))].reshape(*x.shape[: -len(sizes)], -1)
        result.append(reduce(elements, padded))
    return np.stack(result, -1).reshape(*x.shape[: -len(sizes)], *map(len, axes))


def largest(elements, _):
    return elements.max(-1)


def mean_with_padding(elements, padded):
    return elements.sum(-1) / padded


def mean_without(elements, _):
    return elements.mean(-1)


CASES = {
    "tiles": ((2, 3, 8, 6), (2, 2), {}),
    "tiles and a rest": ((2, 3, 9, 7), (2, 3), {}),
    "padded tiles": ((1, 2, 8, 7), (3, 3), {"padding": 1}),
    "overlapping": ((2, 2, 9, 8), (3, 2), {"stride": 2, "padding": 1}),
    "gaps": ((1, 2, 9, 8), (2, 1), {"stride": 3}),
    "dilation": ((1, 2, 9, 10), (3, 2), {"stride": 2, "dilation": 2}),
    "ceil": ((1, 2, 8, 7), (3, 3), {"stride": 2, "ceil": True}),
    "ceil with padding": ((1, 2, 9, 10), (3, 3), {"stride": 2, "padding": 1, "ceil": True}),
    "ceil of tiles": ((1, 1, 7, 5), (2, 2), {"ceil": True}),
    "ceil beyond the padding": ((1, 1, 4, 5), (2, 2), {"stride": 3, "padding": 1, "ceil": True}),
    "1 axis": ((2, 3, 11), (3,), {"stride": 2, "padding": 1}),
    "3 axes": ((1, 5, 4, 5), (2, 2, 2), {"stride": 2, "padding": 1}),
    "no batch": ((5, 4), (2, 2), {"stride": 1}),
}


def options(given):
    return {"ceil_mode" if name == "ceil" else name: value for name, value in given.items()}


@pytest.mark.parametrize("name", CASES)
def test_max_pool(name):
    shape, sizes, given = CASES[name]
    x = normal(*shape)
    t = Tensor(x)
    values, places = t.max_pool2d(sizes, **options(given), return_indices=True)
    expected = pooled(x, sizes, largest, **given)
    np.testing.assert_array_equal(values.numpy(), expected)
    flat, at = x.reshape(*x.shape[: -len(sizes)], -1), places.numpy().reshape(*x.shape[: -len(sizes)], -1)
    np.testing.assert_array_equal(np.take_along_axis(flat, at, -1).reshape(expected.shape), expected)
    gradient = np.zeros_like(flat)
    weights = normal(*expected.shape)
    for index in np.ndindex(at.shape):
        gradient[(*index[:-1], at[index])] += weights.reshape(at.shape)[index]
    (values * Tensor(weights)).sum().backward()
    np.testing.assert_allclose(t.grad.numpy(), gradient.reshape(shape), 1e-5, 1e-6)


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_avg_pool(name, counted):
    shape, sizes, given = CASES[name]
    x = normal(*shape)
    t = Tensor(x)
    result = t.avg_pool2d(sizes, **options(given), count_include_pad=counted)
    reduce = mean_with_padding if counted else mean_without
    np.testing.assert_allclose(result.numpy(), pooled(x, sizes, reduce, **given), 1e-5, 1e-6)
    weights, direction = normal(*result.shape), normal(*shape)
    (result * Tensor(weights)).sum().backward()
    along = (pooled(direction, sizes, reduce, **given) * weights).sum()
    np.testing.assert_allclose((t.grad.numpy() * direction).sum(), along, 1e-4, 1e-4)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_one_number_for_all_axes(rank):
    x = normal(2, 5, 4, 6)
    for kind, reduce in (("max", largest), ("avg", mean_with_padding)):
        result = getattr(Tensor(x), f"{kind}_pool{rank}d")(2, stride=1)
        np.testing.assert_allclose(result.numpy(), pooled(x, (2,) * rank, reduce, stride=1), 1e-5, 1e-6)


def test_windows_side_by_side_are_a_reshape():
    found = {n.op for n in trace(Tensor(normal(1, 1, 7, 6)).max_pool2d().node).order}
    assert ops.WINDOW not in found
    assert ops.SLICE in found


def test_nan_and_infinity():
    x = normal(1, 1, 4, 4)
    x[0, 0, 0, 1], x[0, 0, 2:, 2:] = np.nan, -np.inf
    values, places = Tensor(x).max_pool2d(2, padding=1, return_indices=True)
    assert np.isnan(values.numpy()[0, 0, 0, 1])
    assert places.numpy()[0, 0, 0, 1] == 1
    assert values.numpy()[0, 0, 2, 2] == -np.inf
    assert places.numpy()[0, 0, 2, 2] == 15


def test_the_first_of_equals():
    assert Tensor.zeros(1, 4, 4).max_pool2d(3, 1, return_indices=True)[1].tolist() == [[[0, 1], [4, 5]]]


@pytest.mark.parametrize("dtype", ["int32", "uint8", "int8", "bool", "float16", "bfloat16", "float64"])
def test_dtypes(dtype):
    x = RNG.integers(0, 2 if dtype == "bool" else 100, (1, 2, 6, 6))
    t = Tensor(x, dtype=dtype)
    result = t.max_pool2d(3, 2, padding=1)
    assert result.dtype is dtypes.to_dtype(dtype)
    expected = pooled(x, (3, 3), largest, stride=2, padding=1)
    np.testing.assert_array_equal(result.cast("float32").numpy(), expected)
    mean = t.avg_pool2d(2)
    assert mean.dtype is dtypes.least_upper_float(t.dtype)
    tolerance = 1e-2 if mean.dtype.itemsize == 2 else 1e-6
    np.testing.assert_allclose(
        mean.cast("float32").numpy(), pooled(x, (2, 2), mean_without), tolerance, tolerance
    )


def test_negative_integers_do_not_lose_to_padding():
    assert (Tensor.full((1, 3, 3), -5, dtype="int32").max_pool2d(2, padding=1) == -5).all().item()


# ---- back again ------------------------------------------------------------------------------------------


def test_max_unpool():
    x = normal(2, 3, 6, 8)
    values, places = Tensor(x).max_pool2d(2, return_indices=True)
    result = values.max_unpool2d(places, 2).numpy()
    expected = np.zeros_like(x).reshape(2, 3, -1)
    flat = places.numpy().reshape(2, 3, -1)
    np.put_along_axis(expected, flat, values.numpy().reshape(2, 3, -1), -1)
    np.testing.assert_array_equal(result, expected.reshape(x.shape))


def test_max_unpool_sizes():
    x = Tensor(normal(1, 2, 7, 9))
    values, places = x.max_pool2d(3, 2, padding=1, return_indices=True)
    assert values.max_unpool2d(places, 3, 2, padding=1).shape == (1, 2, 7, 9)
    values, places = x.max_pool2d(2, return_indices=True)
    for size in ((7, 9), x.shape):
        result = values.max_unpool2d(places, 2, output_size=size)
        np.testing.assert_array_equal(result.max_pool2d(2).relu().numpy(), values.relu().numpy())
    overlapping, places = x.max_pool2d(3, 1, return_indices=True)
    back = overlapping.max_unpool2d(places, 3, 1).numpy()
    np.testing.assert_array_equal(back[back != 0], x.numpy()[back != 0])


def test_max_unpool_gradient():
    x = Tensor(normal(1, 1, 4, 4))
    values, places = x.max_pool2d(2, return_indices=True)
    weights = normal(1, 1, 4, 4)
    result = Tensor(values.numpy())
    (result.max_unpool2d(places) * Tensor(weights)).sum().backward()
    np.testing.assert_array_equal(result.grad.numpy().ravel(), weights.ravel()[places.numpy().ravel()])


# ---- adaptive --------------------------------------------------------------------------------------------


def adaptive(x, parts, reduce):
    for axis, count in zip(range(-len(parts), 0), parts, strict=True):
        n = x.shape[axis]
        bounds = [(o * n // count, -(-(o + 1) * n // count)) for o in range(count)]
        x = np.stack([reduce(np.take(x, range(*each), axis), axis) for each in bounds], axis)
    return x


@pytest.mark.parametrize(
    ("shape", "parts"),
    [
        ((2, 3, 8, 6), (4, 3)),
        ((2, 3, 7, 9), (1, 1)),
        ((2, 3, 7, 10), (3, 4)),
        ((1, 2, 6, 5), (4, 7)),
        ((1, 2, 8, 9), (4, 6)),
        ((2, 3, 11), (4,)),
        ((1, 5, 4, 6), (2, 4, 4)),
    ],
)
def test_adaptive(shape, parts):
    x, rank = normal(*shape), len(parts)
    t = Tensor(x)
    mean = getattr(t, f"adaptive_avg_pool{rank}d")(parts)
    np.testing.assert_allclose(mean.numpy(), adaptive(x, parts, np.mean), 1e-5, 1e-6)
    maximum = getattr(t, f"adaptive_max_pool{rank}d")(parts)
    np.testing.assert_array_equal(maximum.numpy(), adaptive(x, parts, np.max))
    weights, direction = normal(*mean.shape), normal(*shape)
    (mean * Tensor(weights)).sum().backward()
    along = (adaptive(direction, parts, np.mean) * weights).sum()
    np.testing.assert_allclose((t.grad.numpy() * direction).sum(), along, 1e-4, 1e-4)


def test_adaptive_sizes_kept():
    x = normal(2, 3, 4, 6)
    np.testing.assert_allclose(
        Tensor(x).adaptive_avg_pool2d((None, 1)).numpy(), x.mean(-1, keepdims=True), 1e-5, 1e-6
    )
    np.testing.assert_array_equal(Tensor(x).adaptive_max_pool2d(None).numpy(), x)
    assert Tensor([[1, 2], [3, 6]]).adaptive_avg_pool2d(1).tolist() == [[3.0]]
    assert Tensor([[1, 2], [3, 6]]).adaptive_max_pool2d(1).dtype is dtypes.int32
