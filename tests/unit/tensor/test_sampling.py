"""Random orders and choices: what they are made of, how often each comes, what is refused."""
from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, dtypes, vmap
from pluggrad.errors import DTypeError, ShapeError, ValueRangeError

pytestmark = pytest.mark.usefixtures("device")


@pytest.fixture(autouse=True)
def _seeded():
    Tensor.manual_seed(5)


def far_from(counts, expected):
    """Chi-squared for each degree of freedom: near 1 for what is drawn as expected."""
    expected = np.asarray(expected) / np.sum(expected) * np.sum(counts)
    return np.sum((counts - expected) ** 2 / expected) / (len(counts) - 1)


def test_a_permutation_holds_each_number_once():
    for n in (0, 1, 2, 50, 3000):
        found = Tensor.randperm(n)
        assert found.dtype is dtypes.int32
        assert sorted(found.tolist()) == list(range(n))
    assert Tensor.randperm(5, dtype="float32").dtype is dtypes.float32
    assert Tensor.randperm(300).tolist() != Tensor.randperm(300).tolist()


def test_all_orders_come_alike():
    drawn = [tuple(Tensor.randperm(3).tolist()) for _ in range(240)]
    counts = [drawn.count(order) for order in set(drawn)]
    assert len(counts) == 6
    assert far_from(counts, np.ones(6)) < 3


def test_draws_with_replacement_follow_the_weights():
    weights = Tensor([[0.0, 1.0, 3.0, 0.0], [2.0, 0.0, 0.5, 0.0]])
    drawn = weights.multinomial(4000, replacement=True)
    assert drawn.shape == (2, 4000)
    assert drawn.dtype is dtypes.int32
    for row, expected in zip(drawn.numpy(), weights.numpy(), strict=True):
        counts = np.bincount(row, minlength=4)
        assert (counts[expected == 0] == 0).all()
        assert far_from(counts[expected > 0], expected[expected > 0]) < 8


def test_draws_without_replacement_follow_the_weights_and_differ():
    drawn = Tensor([[1.0, 0.0, 3.0, 4.0]] * 3000).multinomial(2).numpy()
    assert (drawn[:, 0] != drawn[:, 1]).all()
    assert far_from(np.bincount(drawn[:, 0], minlength=4)[[0, 2, 3]], [1, 3, 4]) < 5
    after_the_last = drawn[drawn[:, 0] == 3][:, 1]
    assert far_from(np.bincount(after_the_last, minlength=3)[[0, 2]], [1, 3]) < 8


def test_integers_and_one_draw():
    assert Tensor([0, 0, 7]).multinomial().tolist() == [2]
    assert sorted(Tensor([2, 1, 5]).multinomial(3).tolist()) == [0, 1, 2]


def test_in_a_batch():
    weights = Tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    found = vmap(lambda row: row.multinomial(2), randomness="different")(weights)
    np.testing.assert_array_equal(np.sort(found.numpy(), 1), [[1, 2], [0, 2]])


def test_what_is_refused():
    for weights, count, replacement, error, text in (
            ([0.5, -0.1], 1, True, ValueRangeError, "multinomial: expected weights of at least 0"),
            ([0.5, np.nan], 1, True, ValueRangeError, "a negative one, an infinity or NaN"),
            ([0.5, np.inf], 1, True, ValueRangeError, "a negative one, an infinity or NaN"),
            ([[1.0, 1.0], [0.0, 0.0]], 1, True, ValueRangeError, "at least 1 weights above 0 in each row"),
            ([1.0, 1.0, 0.0], 3, False, ValueRangeError, "at least 3 weights above 0 in each row, got 2"),
            ([1.0, 1.0], 3, False, ValueRangeError, "num_samples from 1 to 2, or replacement=True"),
            ([1.0, 1.0], 0, True, ValueRangeError, "num_samples from 1"),
            ([[[1.0]]], 1, True, ShapeError, "a vector or a matrix"),
            ([True, False], 1, True, DTypeError, "a number dtype")):
        with pytest.raises(error, match=text):
            Tensor(weights).multinomial(count, replacement)
    with pytest.raises(ValueRangeError, match="randperm: expected a length"):
        Tensor.randperm(-1)
    with pytest.raises(DTypeError, match="holds 299"):
        Tensor.randperm(300, dtype="int8")
