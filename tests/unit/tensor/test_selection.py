"""gather, scatter and their kin against NumPy, and against what their words say element by element."""
from __future__ import annotations

import operator

import numpy as np
import pytest

from pluggrad import Tensor, dtypes

pytestmark = pytest.mark.usefixtures("device")
RNG = np.random.default_rng(5)
DTYPES = ["bool", "uint8", "int16", "int32", "int64", "float16", "float32", "float64"]
INDEX_DTYPES = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


def numbers(*shape, dtype="float32"):
    return RNG.integers(0, 2 if dtype == "bool" else 5, shape).astype(dtype)


def indices(extent, *shape):
    return RNG.integers(-extent, extent, shape)


def scattered(base, axis, index, source, combine):
    """Element by element, in row-major order."""
    result = base.copy()
    for place in np.ndindex(index.shape):
        at = list(place)
        at[axis] = index[place]
        result[tuple(at)] = combine(result[tuple(at)], source[place])
    return result


COMBINE = {None: lambda there, new: new, "add": operator.add, "multiply": operator.mul}


@pytest.mark.parametrize("dtype", DTYPES)
def test_gather_of_every_dtype(dtype):
    x, index = numbers(4, 5, dtype=dtype), indices(5, 4, 7)
    found = Tensor(x).gather(1, Tensor(index))
    assert found.dtype is dtypes.to_dtype(dtype)
    np.testing.assert_array_equal(found.numpy(), np.take_along_axis(x, index, 1))


@pytest.mark.parametrize("dtype", INDEX_DTYPES)
def test_indices_of_every_dtype(dtype):
    x, index = numbers(6, 40), np.abs(indices(6, 3, 40)).clip(0, 5).astype(dtype)
    np.testing.assert_array_equal(Tensor(x).gather(0, Tensor(index)).numpy(), np.take_along_axis(x, index, 0))
    added = Tensor(x).scatter_add(0, Tensor(index), Tensor(x[:3]))
    np.testing.assert_array_equal(added.numpy(), scattered(x, 0, index, x[:3], COMBINE["add"]))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_and_scatter_of_less_than_the_whole(axis):
    x, source = numbers(4, 5, 6), numbers(3, 4, 5)
    index = indices(x.shape[axis], 2, 3, 5)
    part = x[tuple(slice(None if i == axis % 3 else d) for i, d in enumerate(index.shape))]
    found = Tensor(x).gather(axis, index).numpy()
    np.testing.assert_array_equal(found, np.take_along_axis(part, index, axis))
    for reduce in (None, "add", "multiply"):
        got = Tensor(x).scatter(axis, Tensor(index), Tensor(source), reduce=reduce)
        np.testing.assert_array_equal(got.numpy(), scattered(x, axis % 3, index, source, COMBINE[reduce]))
        got = Tensor(x).scatter(axis, index.tolist(), 2, reduce=reduce)
        np.testing.assert_array_equal(
            got.numpy(), scattered(x, axis % 3, index, np.full(index.shape, 2), COMBINE[reduce]))


@pytest.mark.parametrize("reduce", ["sum", "prod", "mean", "amax", "amin"])
@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_scatter_reduce(reduce, include_self, dtype):
    x, source, index = numbers(9, 3, dtype=dtype), numbers(7, 3, dtype=dtype) - 2, indices(9, 7, 3)
    meeting = {}
    for place in np.ndindex(index.shape):
        meeting.setdefault((index[place] % 9, place[1]), []).append(source[place])
    expected = x.copy()
    reducers = {"sum": sum, "prod": np.prod, "amax": max, "amin": min,
                "mean": lambda v: sum(v) / len(v) if dtype == "float32" else sum(v) // len(v)}
    for at, values in meeting.items():
        expected[at] = reducers[reduce]([x[at], *values] if include_self else values)
    got = Tensor(x).scatter_reduce(0, Tensor(index), Tensor(source), reduce, include_self)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6)


def test_index_select_and_add():
    x, index = numbers(4, 5), np.array([3, 0, -1, 3])
    np.testing.assert_array_equal(Tensor(x).index_select(1, Tensor(index)).numpy(), x[:, index])
    np.testing.assert_array_equal(Tensor(x).index_select(0, index).numpy(), x[index])
    source, expected = numbers(4, 5), x.copy()
    np.add.at(expected, index, 0.5 * source)
    np.testing.assert_array_equal(Tensor(x).index_add(0, index, Tensor(source), alpha=0.5).numpy(), expected)


def test_index_put():
    x, value = numbers(4, 5), numbers(3)
    rows, columns = np.array([1, 1, -1]), np.array([2, 2, 0])
    for accumulate, write in ((False, np.ndarray.__setitem__), (True, np.add.at)):
        expected = x.copy()
        write(expected, (rows, columns), value)
        got = Tensor(x).index_put((Tensor(rows), Tensor(columns)), Tensor(value), accumulate)
        np.testing.assert_array_equal(got.numpy(), expected)


def test_take():
    x, index = numbers(3, 4), indices(12, 2, 5)
    np.testing.assert_array_equal(Tensor(x).take(Tensor(index)).numpy(), x.take(index))
    np.testing.assert_array_equal(Tensor(x).take_along_dim(Tensor(index)).numpy(), x.take(index).ravel())
    for axis, shape in ((0, (5, 1)), (1, (1, 2)), (-1, (3, 6))):
        index = indices(x.shape[axis], *shape)
        wide = np.broadcast_to(index, (shape[0], 4) if axis == 0 else (3, shape[1]))
        np.testing.assert_array_equal(
            Tensor(x).take_along_dim(Tensor(index), axis).numpy(), np.take_along_axis(x, wide, axis))
    order = np.argsort(x, axis=1)
    np.testing.assert_array_equal(Tensor(x).take_along_dim(order, 1).numpy(), np.sort(x, axis=1))


def test_masked_select_and_nonzero():
    x = numbers(5, 7) - 2
    mask = x > 0
    np.testing.assert_array_equal(Tensor(x).masked_select(Tensor(x) > 0).numpy(), x[mask])
    wide = np.broadcast_to(mask[:1], x.shape)
    np.testing.assert_array_equal(Tensor(x).masked_select(Tensor(mask[:1])).numpy(), x[wide])
    np.testing.assert_array_equal(Tensor(x).nonzero().numpy(), np.argwhere(x))
    assert Tensor(x).nonzero().dtype is dtypes.int64
    assert Tensor(0.0).nonzero().shape == (0, 0)
    assert Tensor(2.0).nonzero().shape == (1, 0)


@pytest.mark.parametrize("size", [0, 3, 20, 50])
def test_masks_of_a_given_size_are_not_computed_first(size):
    x = numbers(5, 7) - 2
    found = np.full(size, -9.0, np.float32)
    kept = x[x > 0][:size]
    found[:len(kept)] = kept
    np.testing.assert_array_equal(Tensor(x).masked_select(Tensor(x) > 0, size, -9).numpy(), found)
    places = np.full((size, 2), -1)
    kept = np.argwhere(x)[:size]
    places[:len(kept)] = kept
    np.testing.assert_array_equal(Tensor(x).nonzero(size, -1).numpy(), places)


def test_embedding():
    weight, index = numbers(7, 3, 2), indices(7, 2, 5)
    found = Tensor(index).embedding(Tensor(weight))
    assert found.shape == (2, 5, 3, 2)
    np.testing.assert_array_equal(found.numpy(), weight[index])
    assert Tensor(index).reshape(10)[:0].embedding(Tensor(weight)).shape == (0, 3, 2)


def test_the_gradient_of_an_embedding_adds_up_repeated_rows():
    weight, index = Tensor(numbers(6, 40)), np.array([[0, 3, 3], [5, 0, 3]])
    g = numbers(2, 3, 40)
    (gradient,) = Tensor(index).embedding(weight).gradient(weight, gradient=Tensor(g))
    expected = np.zeros((6, 40), np.float32)
    np.add.at(expected, index, g)
    np.testing.assert_array_equal(gradient.numpy(), expected)


@pytest.mark.parametrize("shape", [(2000, 3), (30, 700), (1, 5000), (5000, 1)])
def test_scattering_in_order_at_sizes_that_are_split(shape):
    x, source, index = numbers(50, shape[1]), numbers(*shape), indices(50, shape[0], 1)
    expected = x.copy()
    np.add.at(expected, index[:, 0], source)
    spread = Tensor(index).expand(shape)
    np.testing.assert_array_equal(Tensor(x).scatter_add(0, spread, Tensor(source)).numpy(), expected)
    expected[index[:, 0]] = source
    np.testing.assert_array_equal(Tensor(x).scatter(0, spread, Tensor(source)).numpy(), expected)
    rows = Tensor(x.T.copy()).scatter(1, spread.T, Tensor(source.T.copy()))
    np.testing.assert_array_equal(rows.numpy().T, expected)


@pytest.mark.parametrize("name", ["one place", "halves"])
@pytest.mark.parametrize("reduce", [None, "add"])
def test_indices_that_a_kernel_computes_are_met_in_order(name, reduce):
    """As those that are read: nothing along the axis is divided where results depend on it."""
    base, source = numbers(6, 40), np.arange(6 * 64, dtype=np.float32).reshape(6, 64)
    one_place, halves = Tensor.zeros(6, 64).int() + 2, Tensor.arange(64).expand(6, 64) // 2
    computed = one_place if name == "one place" else halves
    index = computed.numpy()
    found = Tensor(base).scatter(1, computed, Tensor(source), reduce)
    np.testing.assert_array_equal(found.numpy(), scattered(base, 1, index, source, COMBINE[reduce]))


def test_empty_indices():
    x = numbers(4, 3)
    none = Tensor(np.zeros((0, 3), np.int64))
    assert Tensor(x).gather(0, none).shape == (0, 3)
    np.testing.assert_array_equal(Tensor(x).scatter_add(0, none, 1).numpy(), x)
    assert Tensor(x)[[]].shape == (0, 3)
    chosen = Tensor(np.ones((3, 2), np.float32))
    np.testing.assert_array_equal(chosen[chosen > 5].sum().gradient(chosen)[0].numpy(), np.zeros((3, 2)))
    np.testing.assert_array_equal(chosen[Tensor([], dtype="int32")].sum().gradient(chosen)[0].numpy(),
                                  np.zeros((3, 2)))


def test_one_hot_names_a_class_each():
    hot = Tensor([2, 0, 5, -1]).one_hot(4)
    assert hot.dtype is dtypes.int32
    np.testing.assert_array_equal(hot.numpy(), [[0, 0, 1, 0], [1, 0, 0, 0], [0] * 4, [0] * 4])
