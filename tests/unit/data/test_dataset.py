"""Tensors side by side, parts of datasets, and how items become a batch."""

from __future__ import annotations

from collections import OrderedDict, namedtuple

import numpy as np
import pytest

from pluggrad import Tensor, dtypes
from pluggrad.data import DataLoader, Subset, TensorDataset, random_split
from pluggrad.data.order import shuffled
from pluggrad.errors import DTypeError, ShapeError, ValueRangeError

Pair = namedtuple("Pair", "x y")


def test_items_are_tuples_of_rows():
    dataset = TensorDataset(Tensor([[1.0, 2], [3, 4], [5, 6]]), np.array([7, 8, 9]))
    assert len(dataset) == 3
    assert [part.tolist() for part in dataset[1]] == [[3, 4], 8]
    assert [part.tolist() for part in dataset[-1]] == [[5, 6], 9]
    assert [part.tolist() for part in dataset[1:]] == [[[3, 4], [5, 6]], [8, 9]]
    assert [part.tolist() for part in dataset[[2, 0]]] == [[[5, 6], [1, 2]], [9, 7]]
    with pytest.raises(IndexError):
        dataset[3]


@pytest.mark.parametrize(
    ("tensors", "message"),
    [([], "at least one tensor"), ([Tensor.zeros(3), Tensor.zeros(2, 4)], r"shapes \(3,\) and \(2, 4\)"),
     ([Tensor(1.0)], r"got shapes \(\)")],
)
def test_tensors_that_do_not_match(tensors, message):
    with pytest.raises(ValueError, match=message):
        TensorDataset(*tensors)


def test_a_subset_of_a_subset():
    inner = Subset([10, 11, 12, 13, 14], [4, 3, 2])
    outer = Subset(inner, np.array([2, 0]))
    assert (len(outer), [outer[i] for i in range(2)]) == (2, [12, 14])


@pytest.mark.parametrize(
    ("lengths", "sizes"),
    [([7, 3], [7, 3]), ([0.8, 0.2], [8, 2]), ([1 / 3, 1 / 3, 1 / 3], [4, 3, 3]), ([0.25, 0.75], [3, 7]),
     ([10], [10]), ([1.0], [10]), ([10, 0], [10, 0])],
)
def test_random_split(lengths, sizes):
    parts = random_split(range(10), lengths, seed=1)
    assert [len(part) for part in parts] == sizes
    items = [part[i] for part in parts for i in range(len(part))]
    assert sorted(items) == list(range(10))
    again = random_split(range(10), lengths, seed=1)
    assert [part.indices.tolist() for part in again] == [part.indices.tolist() for part in parts]
    other = random_split(range(10), lengths, seed=2)
    assert [part.indices.tolist() for part in other] != [part.indices.tolist() for part in parts]


@pytest.mark.parametrize("lengths", [[3, 3], [0.5, 0.6], [-1, 11], []])
def test_lengths_that_do_not_add_up(lengths):
    with pytest.raises(ValueRangeError, match="random_split"):
        random_split(range(10), lengths)


def test_the_order_is_fixed_for_all_time():
    """Recorded once: another NumPy or machine must not change which items a seed chooses."""
    assert shuffled(10, 0).tolist() == [0, 8, 9, 3, 7, 5, 1, 2, 6, 4]
    assert shuffled(10, 7, 3).tolist() == [7, 1, 9, 6, 0, 4, 2, 8, 3, 5]


def test_every_order_comes_as_often():
    counts = np.zeros((5, 5))
    for seed in range(2000):
        counts[np.arange(5), shuffled(5, seed)] += 1
    assert np.abs(counts - 400).max() < 5 * np.sqrt(400 * 0.8)


# ---- collating -----------------------------------------------------------------------------------


def batch_of(items, **options):
    return next(iter(DataLoader(items, len(items), **options)))


@pytest.mark.parametrize(
    ("items", "dtype", "values"),
    [
        ([1, 2], dtypes.int32, [1, 2]),
        ([1.5, 2.5], dtypes.float32, [1.5, 2.5]),
        ([True, False], dtypes.bool, [True, False]),
        ([np.float64(1.5), np.float64(2)], dtypes.float64, [1.5, 2]),
        ([np.int64(3), np.int64(4)], dtypes.int64, [3, 4]),
        ([np.zeros(2, np.uint8), np.ones(2, np.uint8)], dtypes.uint8, [[0, 0], [1, 1]]),
        ([Tensor([1.0]), Tensor([2.0])], dtypes.float32, [[1], [2]]),
        ([Tensor([1.0]).half(), Tensor([2.0]).half()], dtypes.float16, [[1], [2]]),
    ],
)
def test_numbers_arrays_and_tensors_are_stacked(items, dtype, values):
    batch = batch_of(items)
    assert (batch.dtype, batch.tolist()) == (dtype, values)


def test_structures_stay_what_they_are():
    items = [{"pair": Pair(np.zeros(2), i), "name": f"item {i}", "list": [i, float(i)], "none": (b"x", ())}
             for i in range(3)]
    batch = batch_of(items)
    assert batch["pair"].x.shape == (3, 2)
    assert isinstance(batch["pair"], Pair)
    assert batch["pair"].y.tolist() == [0, 1, 2]
    assert batch["name"] == ["item 0", "item 1", "item 2"]
    assert [part.dtype for part in batch["list"]] == [dtypes.int32, dtypes.float32]
    assert batch["none"] == ([b"x"] * 3, ())
    assert batch_of([OrderedDict(a=1), OrderedDict(a=2)])["a"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("items", "error", "message"),
    [
        ([np.zeros(2), np.zeros(3)], ShapeError, r"\(2,\) in item 0 and \(3,\) in item 1"),
        ([(1, 2), (1, 2), (1,)], ShapeError, "equal lengths in a batch, got 2 in item 0 and 1 in item 2"),
        ([{"a": 1}, {"b": 1}], ShapeError, "a key 'a' in every item of a batch, got none in item 1"),
        ([object(), object()], DTypeError, "got object. Pass a collate_fn"),
        ([None, None], DTypeError, "NoneType"),
        ([Tensor.zeros(2), Tensor.zeros(3)], ShapeError, r"\(3,\) in item 1"),
    ],
)
def test_items_that_do_not_match(items, error, message):
    with pytest.raises(error, match=message):
        batch_of(items)


def test_a_collate_function_of_ones_own():
    batch = batch_of([[1], [2, 3]], collate_fn=lambda items: (np.array([len(item) for item in items]), items))
    assert batch[0].tolist() == [1, 2]
    assert batch[1] == [[1], [2, 3]]
