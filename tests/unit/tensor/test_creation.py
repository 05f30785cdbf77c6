"""Constructors, and what they refuse."""

from __future__ import annotations

import array

import numpy as np
import pytest

from pluggrad import Tensor, dtypes

pytestmark = pytest.mark.usefixtures("device")


@pytest.mark.parametrize(
    ("data", "dtype", "values"),
    [
        (3, "int32", 3),
        (2.5, "float32", 2.5),
        (True, "bool", True),
        ([1, 2], "int32", [1, 2]),
        ([1, 2.5], "float32", [1, 2.5]),
        ([[True], [False]], "bool", [[True], [False]]),
        ([], "float32", []),
        ([[], []], "float32", [[], []]),
        ((1, 2), "int32", [1, 2]),
        (range(3), "int32", [0, 1, 2]),
        ([2**40], "int64", [2**40]),
        (b"\x01\xff", "uint8", [1, 255]),
        (array.array("f", [1, 2]), "float32", [1, 2]),
        (np.float64(2), "float64", 2),
        (np.arange(3, dtype=np.int16), "int16", [0, 1, 2]),
        (np.array([1.5, 2]), "float64", [1.5, 2]),
        ([np.float32(1), np.float32(2)], "float32", [1, 2]),
        (memoryview(b"ab"), "uint8", [97, 98]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_data(data, dtype, values):
    t = Tensor(data)
    assert t.dtype is dtypes.by_name(dtype)
    assert t.tolist() == values


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda d: d.name)
def test_every_dtype_round_trips(dtype):
    t = Tensor([0, 1, 2, 3], dtype=dtype)
    assert t.dtype is dtype
    expected = [bool(v) for v in range(4)] if dtype is dtypes.bool_ else [0, 1, 2, 3]
    assert t.tolist() == expected
    assert Tensor(t.numpy(), dtype=dtype).tolist() == expected
    assert t.numpy().dtype == (np.float32 if dtype is dtypes.bfloat16 else dtype.numpy)


def test_strided_and_big_endian_arrays():
    x = np.arange(12, dtype=">f4").reshape(3, 4)
    np.testing.assert_array_equal(Tensor(x.T[::2]).numpy(), x.T[::2])
    assert Tensor(np.float64(1e300), dtype="float32").item() == np.inf


def test_a_tensor_of_a_tensor():
    x = Tensor([1.0, 2.0])
    assert Tensor(x, dtype="int32").tolist() == [1, 2]
    assert Tensor(Tensor([1, 2])).dtype is dtypes.int32


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        (
            [[1, 2], [3]],
            ValueError,
            "Tensor: expected nested lists of equal lengths, got rows of lengths 1 and 2",
        ),
        ([1, [2]], ValueError, "numbers and lists side by side"),
        ([[[1], [2]], [[3], [4, 5]]], ValueError, r"rows of lengths 1 and 2 in data\[1\]"),
        ("text", TypeError, "Tensor: expected numbers or booleans, got str"),
        (None, TypeError, "NoneType"),
        ([1, "a"], TypeError, "list"),
        (1j, TypeError, "complex"),
        (object(), TypeError, "object"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_data_that_is_refused(data, error, text):
    with pytest.raises(error, match=text):
        Tensor(data)


def test_constants():
    assert Tensor.zeros(2, 3).tolist() == [[0] * 3] * 2
    assert Tensor.zeros((2, 0)).shape == (2, 0)
    assert Tensor.ones(2, dtype="int32").dtype is dtypes.int32
    assert Tensor.full((2,), 7).dtype is dtypes.int32
    assert Tensor.full(2, 0.5).tolist() == [0.5, 0.5]
    assert Tensor.full((), True).item() is True
    assert Tensor.empty(3).shape == (3,)
    assert Tensor.eye(2, 3).tolist() == [[1, 0, 0], [0, 1, 0]]
    x = Tensor([[1, 2]], dtype="int8")
    assert x.zeros_like().dtype is dtypes.int8
    assert x.ones_like(dtype="float32").tolist() == [[1, 1]]
    assert x.full_like(5).tolist() == [[5, 5]]
    assert x.empty_like().shape == (1, 2)


@pytest.mark.parametrize(
    "bounds",
    [
        (5,),
        (2, 7),
        (0, 10, 3),
        (10, 0, -3),
        (0, 1, 0.25),
        (1.0, 2.0, 0.1),
        (5, 0),
        (0.0, -1.0, -0.5),
        (-3, 3),
    ],
)
def test_arange(bounds):
    expected = np.arange(*bounds)
    result = Tensor.arange(*bounds)
    assert result.dtype is (dtypes.int32 if expected.dtype.kind == "i" else dtypes.float32)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6, atol=1e-7)


def test_sequences():
    np.testing.assert_allclose(Tensor.linspace(-1, 1, 5).numpy(), np.linspace(-1, 1, 5))
    assert Tensor.linspace(3, 9, 1).tolist() == [3]
    np.testing.assert_allclose(Tensor.logspace(0, 3, 4).numpy(), np.logspace(0, 3, 4), rtol=1e-5)
    assert Tensor.arange(3, dtype="uint8").dtype is dtypes.uint8
    assert Tensor.arange(2**40, 2**40 + 2, dtype="int64").tolist() == [2**40, 2**40 + 1]


def test_one_hot():
    assert Tensor([0, 2]).one_hot(3).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert Tensor([5, -1]).one_hot(2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: Tensor.zeros(-1), ValueError),
        (lambda: Tensor.ones(2, -3), ValueError),
        (lambda: Tensor.rand(-1), ValueError),
        (lambda: Tensor.eye(-1), ValueError),
        (lambda: Tensor.zeros(1.5), TypeError),
        (lambda: Tensor.linspace(0, 1, -1), ValueError),
        (lambda: Tensor.arange(0, 1, 0), ValueError),
        (lambda: Tensor.zeros(2, dtype="float99"), TypeError),
        (lambda: Tensor([1], requires_grad=True), RuntimeError),
        (lambda: Tensor.randint(2, low=5, high=5), ValueError),
        (lambda: Tensor.rand(2, dtype="int32"), TypeError),
    ],
)
def test_arguments_that_are_refused(call, error):
    with pytest.raises(error):
        call()
