"""Variable: read anew by each replay; an index and the start of a slice; other uses are refused."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, Variable, grad, jit, vmap
from pluggrad.errors import DTypeError, JitError, TensorIndexError, ValueRangeError

N = Variable("n", 0, 6)
TABLE = np.arange(24, dtype=np.float32).reshape(8, 3)


def test_one_capture_for_all_values(device):
    f = jit(lambda t, n: (t[n:n + 2].sum(0) * n + (2 * n - 1), t[n, 1], t.T[:, 1 + n]))
    table = Tensor(TABLE)
    for i in (3, 0, 6, 5):
        total, element, row = f(table, N.bind(i))
        assert np.allclose(total.numpy(), TABLE[i:i + 2].sum(0) * i + 2 * i - 1)
        assert element.item() == TABLE[i, 1]
        assert np.array_equal(row.numpy(), TABLE[i + 1])
    assert f.captures == 1


def test_uncaptured_it_is_its_value(device):
    table, n = Tensor(TABLE), N.bind(4)
    assert np.array_equal(table[n].numpy(), TABLE[4])
    assert np.array_equal(table[n + 1:n + 2, ::2].numpy(), TABLE[5:6, ::2])
    assert np.array_equal(table[..., None, Variable("m", 0, 2).bind(1)].numpy(), TABLE[:, None, 1])
    assert np.array_equal(table[n:n + 2, Variable("m", 0, 1).bind(1):Variable("m", 0, 1).bind(1) + 2].numpy(),
                          TABLE[4:6, 1:3])
    assert (table * n + n).sum().item() == (TABLE * 4 + 4).sum()
    assert (Tensor([1, 2]) + n).tolist() == [5, 6]
    assert (n + 1, 3 - n, -n, n * 2) == (5, -1, -4, 8)
    assert n == N.bind(4) != N.bind(5)
    assert n > 3
    assert n.val == int(n) == 4
    assert list(range(10))[n] == 4
    assert repr(n * 2 + 1) == "<2*n+1 = 9>"


def test_writing(device):
    cache = Tensor.zeros(8, 3).contiguous().realize()

    @jit
    def put(row, at):
        cache[at:at + 1] = row
        cache[7, 1] = 5.0
        return cache.sum()

    expected = np.zeros((8, 3), np.float32)
    expected[7, 1] = 5
    for i in (0, 2, 5):
        expected[i] = i + 1
        assert put(Tensor(np.full((1, 3), i + 1, np.float32)), N.bind(i)).item() == expected.sum()
    assert np.array_equal(cache.numpy(), expected)
    assert put.captures == 1


def test_gradients_and_batches():
    table = Tensor(TABLE)
    gradient = grad(lambda t: (t[N.bind(2):N.bind(2) + 2] ** 2).sum())(table).numpy()
    expected = np.zeros_like(TABLE)
    expected[2:4] = 2 * TABLE[2:4]
    assert np.array_equal(gradient, expected)
    assert np.array_equal(vmap(lambda column: column[N.bind(3)], in_axes=1)(table).numpy(), TABLE[3])


def test_variables_of_equal_name_and_range_are_one():
    f = jit(lambda t, n: t * n)
    for i in (2, 5):
        assert f(Tensor([1.0]), Variable("k", 0, 9).bind(i)).item() == i
    assert f.captures == 1
    assert f(Tensor([1.0]), Variable("k", 0, 8).bind(3)).item() == 3
    assert f.captures == 2


def test_two_functions_share_a_variable():
    double, triple = jit(lambda t, n: t + n * 2), jit(lambda t, n: t + n * 3)
    for i in (1, 4):
        assert double(Tensor([0.0]), N.bind(i)).item() == 2 * i
        assert triple(Tensor([0.0]), N.bind(i + 1)).item() == 3 * i + 3


@pytest.mark.parametrize(("use", "error", "text"), [
    (lambda t, n: t[n:], TensorIndexError, r"a fixed size from a Variable on, .*<n = \?>"),
    (lambda t, n: t[:n], TensorIndexError, "mask what is too much"),
    (lambda t, n: t[n:2 * n], TensorIndexError, "a fixed size"),
    (lambda t, n: t[n:n + 3], TensorIndexError, "within an axis of size 8, got n: positions 0 to 8"),
    (lambda t, n: t[n - 1], TensorIndexError, "positions -1 to 5"),
    (lambda t, n: t[n, [0, 1]], TensorIndexError, "beside a Variable"),
    (lambda t, n: t.reshape(n, 4), JitError, "a use as a Python integer"),
    (lambda t, n: t if n > 3 else -t, JitError, "a use as a Python integer"),
    (lambda t, n: t if n == 3 else -t, JitError, "a use as a Python integer"),
    (lambda t, n: t if n else -t, JitError, "a use as a Python integer"),
], ids=range(10))
def test_what_is_not_supported(use, error, text):
    with pytest.raises(error, match=text):
        jit(use)(Tensor(TABLE), N.bind(2))


def test_errors():
    with pytest.raises(ValueRangeError, match=r"n in \[0, 6\], got 7"):
        N.bind(7)
    with pytest.raises(DTypeError, match="an integer"):
        N.bind(1.5)
    with pytest.raises(ValueRangeError, match="min_val <= max_val"):
        Variable("n", 3, 2)
    with pytest.raises(JitError, match="one value of the variable n in a call, got 1 and 2"):
        jit(lambda t, a, b: t * a + b)(Tensor([1.0]), N.bind(1), N.bind(2))
    with pytest.raises(TensorIndexError, match="one Variable where is written, got 2"):
        Tensor(TABLE)[N.bind(1), Variable("m", 0, 2).bind(1)] = 1.0
