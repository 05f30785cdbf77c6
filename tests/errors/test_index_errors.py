"""Indices out of range: found at once where they are known, else with the result; nothing else is lost."""
from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, jit
from pluggrad.config import Context
from pluggrad.errors import TensorIndexError

pytestmark = pytest.mark.usefixtures("device")
TABLE = np.arange(12, dtype=np.float32).reshape(4, 3)
RANGE = r"expected an index in \[-4, 3\] on axis 0 of size 4, got "


def table() -> Tensor:
    return Tensor(TABLE)


def ints(*values: int) -> Tensor:
    return Tensor(np.array(values))


LATE = {
    "getitem": (lambda: table()[ints(0, 7)], "index: " + RANGE + "7"),
    "negative": (lambda: table()[ints(0, -5, 1)], "index: " + RANGE + "-5"),
    "two tensors": (lambda: table()[ints(0, 1), ints(2, 3)], r"on axis 1 of size 3, got 3"),
    "behind an integer": (lambda: Tensor(TABLE.reshape(2, 2, 3))[0, :, ints(3)], "axis 2 of size 3, got 3"),
    "gather": (lambda: table().gather(0, Tensor([[4, 0, 0]])), "gather: " + RANGE + "4"),
    "gather axis 1": (lambda: table().gather(1, Tensor([[-9]])), r"gather: .*axis 1 of size 3, got -9"),
    "index_select": (lambda: table().index_select(0, ints(5)), "index_select: " + RANGE + "5"),
    "take": (lambda: table().take(ints(12)), "take: .*size 12, got 12"),
    "take_along_dim": (lambda: table().take_along_dim(Tensor([[4]]), 0), "take_along_dim: " + RANGE + "4"),
    "embedding": (lambda: ints(1, 4).embedding(table()), "embedding: " + RANGE + "4"),
    "scatter": (lambda: table().scatter(0, Tensor([[9, 0, 0]]), 1.0), "scatter: " + RANGE + "9"),
    "scatter_add": (lambda: table().scatter_add(0, Tensor([[0, -7]]), 1.0), "scatter_add: " + RANGE + "-7"),
    "scatter_reduce": (lambda: table().scatter_reduce(0, Tensor([[4]]), 1.0, "amax"), "reduce: " + RANGE),
    "index_add": (lambda: table().index_add(0, ints(4), Tensor.ones(1, 3)), "index_add: " + RANGE + "4"),
    "index_put": (lambda: table().index_put((ints(4), ints(0)), 1.0), "index: " + RANGE + "4"),
    "inside a sum": (lambda: (table()[ints(0, 6)] * 2).sum(), "index: " + RANGE + "6"),
    "inside a sum, negative": (lambda: table()[ints(0, -6)].sum(1), "index: " + RANGE + "-6"),
    "inside a padding": (lambda: table()[ints(6)].pad(((1, 1), (0, 0))), "index: " + RANGE + "6"),
    "unsigned": (lambda: table()[Tensor(np.array([255], np.uint8))], "index: " + RANGE + "255"),
    "computed": (lambda: table()[ints(1, 2) * 2], "index: " + RANGE + "4"),
    "in vectors": (lambda: Tensor.zeros(99).gather(0, Tensor(np.where(np.arange(70) == 9, 99, 5))), "got 99"),
    "through a table": (lambda: table()[ints(0, 1)[ints(1, 2)]], "index: .*size 2, got 2"),
}


@pytest.mark.parametrize("name", LATE)
def test_found_when_it_is_computed_and_only_then(name):
    make, text = LATE[name]
    result, other = make(), table()[ints(3, -4)]
    with pytest.raises(IndexError, match=text) as caught:
        result.numpy()
    assert isinstance(caught.value, TensorIndexError)
    np.testing.assert_array_equal(other.numpy(), TABLE[[3, -4]])
    assert (table() + 1).sum().item() == TABLE.sum() + 12


def test_a_tensor_that_was_not_computed_raises_again():
    base = table()
    for result in (base[ints(4)], base.scatter_add(0, Tensor([[4]]), 1.0)):
        for _ in range(2):
            with pytest.raises(IndexError, match=RANGE + "4"):
                result.numpy()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: table()[[0, 4]], "index: " + RANGE + "4"),
        (lambda: table()[np.array([[-5]])], "index: " + RANGE + "-5"),
        (lambda: table().__setitem__([4], 0), "index: " + RANGE + "4"),
        (lambda: table().gather(0, [[4, 0, 0]]), "gather: " + RANGE + "4"),
        (lambda: table().take([12]), "take: .*size 12"),
        (lambda: table()[:0][ints(0)], "no index on axis 0 of size 0"),
        (lambda: table()[Tensor([1.5])], "integers or bool, got float32"),
        (lambda: table()[np.ones((4, 2), bool)], r"a mask of shape \(4, 3\), got \(4, 2\)"),
    ],
)
def test_found_at_once_where_it_is_known(call, text):
    with pytest.raises(IndexError, match=text):
        call()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: table().gather(0, Tensor([0])), ValueError, "gather: .*index of 2 axes"),
        (lambda: table().gather(0, Tensor([[0, 0, 0, 0]])), ValueError, "gather: .*at most"),
        (lambda: table().gather(2, Tensor([[0]])), IndexError, "gather"),
        (lambda: table().gather(0, Tensor([[0.0]])), TypeError, "gather: .*integer indices, got float32"),
        (lambda: table().scatter(0, Tensor([[0]]), Tensor.ones(1)), ValueError, "scatter: .*source"),
        (lambda: table().scatter(0, Tensor([[0]]), 1.0, reduce="mean"), ValueError, "'add' or 'multiply'"),
        (lambda: table().scatter_reduce(0, Tensor([[0]]), 1.0, "max"), ValueError, "'amax', 'amin'"),
        (lambda: table().index_select(0, Tensor([[0]])), ValueError, "index_select: .*a vector"),
        (lambda: table()[ints(0, 1), ints(0, 1, 2)], ValueError, "index: .*broadcast|index: "),
        (lambda: table().masked_select(Tensor.ones(5, dtype="bool")), ValueError, "masked_select: "),
        (lambda: ints(0).embedding(3), ValueError, "embedding: .*rows"),
    ],
)
def test_bad_arguments(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_every_selection_of_one_run_is_checked():
    fine, bad = table()[ints(1)], Tensor(TABLE.T.copy())[ints(3)]
    with pytest.raises(IndexError, match="size 3, got 3"):
        Tensor.realize(fine, bad)
    np.testing.assert_array_equal(fine.numpy(), TABLE[[1]])


def test_replays_report_and_go_on():
    captured = jit(lambda x, i: x[i] * 2)
    x = table()
    for good in ([0, 1], [3, -1]):
        np.testing.assert_array_equal(captured(x, ints(*good)).numpy(), TABLE[good] * 2)
    with pytest.raises(IndexError, match=RANGE + "9"):
        captured(x, ints(0, 9)).numpy()
    np.testing.assert_array_equal(captured(x, ints(2, 2)).numpy(), TABLE[[2, 2]] * 2)
    assert captured.captures == 1


def test_a_write_in_place_is_done_without_what_is_out_of_range():
    x = Tensor(TABLE, requires_grad=False).realize()
    x[ints(1, 8)] = 0
    with pytest.raises(IndexError, match="index: " + RANGE + "8"):
        x.realize()
    expected = TABLE.copy()
    expected[1] = 0
    np.testing.assert_array_equal(x.numpy(), expected)  # it is told of once
    x[ints(2)] = 1
    expected[2] = 1
    np.testing.assert_array_equal(x.numpy(), expected)


def test_a_replay_that_writes_in_place_keeps_its_state():
    state = Tensor(TABLE).realize()

    @jit
    def step(i):
        state[i] = state[i] + 1
        return state.sum()

    expected = TABLE.copy()
    for index in (0, 1, 2):
        expected[index] += 1
        assert step(ints(index)).item() == expected.sum()
    with pytest.raises(IndexError, match=RANGE + "5"):
        step(ints(5))
    np.testing.assert_array_equal(state.numpy(), expected)
    assert step(ints(3)).item() == expected.sum() + 3


def test_a_gradient_alone_is_checked():
    x = table()
    (gradient,) = x[ints(0, 4)].sum().gradient(x)
    with pytest.raises(IndexError, match=RANGE + "4"):
        gradient.numpy()
    (gradient,) = x[ints(4)].sum().gradient(x)
    with pytest.raises(IndexError, match=RANGE + "4"):
        gradient.numpy()


@pytest.mark.parametrize("setting", ["SYNC", "VALIDATE"])
def test_command_by_command(setting):
    with Context(**{setting: 1}):
        with pytest.raises(IndexError, match=RANGE + "7"):
            table()[ints(7, 0, 9, 7)].numpy()
        np.testing.assert_array_equal(table()[ints(1)].numpy(), TABLE[[1]])
