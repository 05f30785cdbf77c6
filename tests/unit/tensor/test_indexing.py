"""Basic indexing, and writing through views."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor

pytestmark = pytest.mark.usefixtures("device")

X = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
KEYS = [
    np.s_[1],
    np.s_[-1],
    np.s_[1:3],
    np.s_[::2],
    np.s_[::-1],
    np.s_[3:0:-2],
    np.s_[:, 2],
    np.s_[..., 1],
    np.s_[None],
    np.s_[1, ..., None],
    np.s_[0, 1, 2],
    np.s_[:, None, 1:],
    np.s_[10:],
    np.s_[2:2],
    np.s_[-3:-1, ::-2, 1::3],
    np.s_[...],
    np.s_[:, :, ::-1],
    np.s_[5:0:-1],
    np.s_[-100:100],
    np.s_[np.int64(2)],
    np.s_[(1, slice(None), slice(4, None, -3))],
    (),
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_reads_as_numpy_does(key):
    result = Tensor(X)[key]
    assert result.shape == X[key].shape
    np.testing.assert_array_equal(result.numpy(), X[key])


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_writes_as_numpy_does(key):
    expected, t = X.copy(), Tensor(X)
    expected[key] = -1
    t[key] = -1
    np.testing.assert_array_equal(t.numpy(), expected)
    value = np.random.default_rng(0).normal(size=expected[key].shape).astype(np.float32)
    expected[key], t[key] = value, value
    np.testing.assert_array_equal(t.numpy(), expected)
    expected[key] += 2
    t[key] += 2
    np.testing.assert_allclose(t.numpy(), expected)


def test_a_write_broadcasts_and_casts():
    t = Tensor(np.zeros((2, 3), np.int32))
    t[:, 1:] = Tensor([1.7, 2.2])
    t[0] = 9
    assert t.tolist() == [[9, 9, 9], [0, 1, 2]]


def test_a_write_through_views_reaches_the_base_and_every_view():
    x = Tensor(np.zeros((3, 4), np.float32))
    column, row, transposed = x[:, 1], x[1], x.T
    column[:] = 5
    assert row.tolist() == [0, 5, 0, 0]
    transposed.flip(0)[0] = 7
    assert x.tolist() == [[0, 5, 0, 7]] * 3
    row += 1
    assert column.tolist() == [5, 6, 5]
    row.reshape(2, 2)[1, 0] = -1
    assert x.tolist() == [[0, 5, 0, 7], [1, 6, -1, 8], [0, 5, 0, 7]]
    row.assign([1, 2, 3, 4])
    assert x[1].tolist() == [1, 2, 3, 4]
    x.diagonal()[:] = 9
    assert [x[i, i].item() for i in range(3)] == [9, 9, 9]


def test_a_graph_built_before_a_write_keeps_the_old_value():
    x = Tensor([1.0, 2.0, 3.0])
    doubled, old = x * 2, x[:2] + 0
    x[0] = 100
    assert doubled.tolist() == [2, 4, 6]
    assert old.tolist() == [1, 2]
    assert x.tolist() == [100, 2, 3]


def test_views_survive_realizing():
    x = Tensor.zeros(3)
    view = x[1:]
    x.realize()
    view[0] = 4
    view.realize()
    assert x.tolist() == [0, 4, 0]
    x[2] = 5
    assert view.tolist() == [4, 5]


def test_copies_are_independent():
    x = Tensor([1.0, 2.0])
    copies = [x.clone(), x.contiguous(), x.detach(), Tensor(x)]
    x[0] = 9
    for copied in copies:
        assert copied.tolist() == [1, 2]
        copied[1] = 5
    assert x.tolist() == [9, 2]


def test_an_expanded_view_is_not_written():
    x = Tensor([1.0, 2.0])
    with pytest.raises(ValueError, match="expand"):
        x.expand(3, 2)[0] = 1
    assert x.tolist() == [1, 2]


def test_a_chain_of_views_is_composed_without_recursion():
    x = Tensor(np.zeros(4, np.float32))
    view = x
    for _ in range(2000):
        view = view.flip(0).reshape(2, 2).reshape(4)
    x[0] = 3
    assert view.tolist() == [3, 0, 0, 0]


@pytest.mark.parametrize(
    ("key", "error", "text"),
    [
        (4, IndexError, r"index in \[-4, 3\] on axis 0 of size 4, got 4"),
        ((0, -6), IndexError, "axis 1 of size 5"),
        ((0, 0, 0, 0), IndexError, "at most 3 indices, got 4"),
        ((..., ...), IndexError, "at most one"),
        (np.s_[::0], IndexError, "step other than 0"),
        (1.5, IndexError, "float"),
        ("a", IndexError, "str"),
        ([0, 4], IndexError, r"index in \[-4, 3\] on axis 0 of size 4, got 4"),
        ((0, np.array([[1, -6]])), IndexError, "axis 1 of size 5, got -6"),
        ([0.5], IndexError, "integers or booleans"),
        ([[0], [1, 2]], IndexError, "ragged"),
        ([True, False], IndexError, r"a mask of shape \(4,\), got \(2,\)"),
        (([0, 1], [0, 1, 2]), ValueError, "broadcast"),
        (np.s_["a":], IndexError, "slice"),
    ],
    ids=str,
)
def test_bad_indices(key, error, text):
    with pytest.raises(error, match=text):
        Tensor(X)[key]
    with pytest.raises(error, match=text):
        Tensor(X)[key] = 0


def test_sequence_protocol():
    t = Tensor([[1, 2], [3, 4]])
    assert len(t) == 2
    assert [row.tolist() for row in t] == [[1, 2], [3, 4]]
    assert 3 in t
    assert 7 not in t
    for call in (len, iter):
        with pytest.raises(TypeError, match="0-d"):
            call(Tensor(1))
