"""Bad input to tensors: the right error, its text, and nothing lost."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, errors
from pluggrad.nn import Linear

pytestmark = pytest.mark.usefixtures("device")


@pytest.mark.parametrize(
    ("call", "builtin", "text"),
    [
        (lambda: Tensor.ones(2, 3) + Tensor.ones(4), ValueError, r"add: .*\(2, 3\) and \(4,\)"),
        (
            lambda: Tensor.ones(2, 3).__iadd__(Tensor.ones(4)),
            ValueError,
            r"add: .*\(2, 3\) and \(4,\). Axis -1 has sizes 3 and 4",
        ),
        (lambda: Tensor.ones(2, 3) * np.ones((3, 2)), ValueError, r"mul: .*\(2, 3\) and \(3, 2\)"),
        (lambda: Tensor.ones(2, 3).maximum(Tensor.ones(2)), ValueError, r"maximum.*: .*\(2, 3\) and \(2,\)"),
        (
            lambda: Tensor([True]).where(Tensor.ones(2), Tensor.ones(3)),
            ValueError,
            r"where: .*\(2,\) and \(3,\)",
        ),
        (lambda: Tensor.ones(2, 3) @ Tensor.ones(2, 3), ValueError, r"matmul: .*\(2, 3\) and \(2, 3\)"),
        (lambda: Tensor.ones(2, 3) @ Tensor.ones(4, 3), ValueError, r"\(4, 3\). Transpose the second: y.mT"),
        (lambda: Tensor.ones(3) @ Tensor.ones(2), ValueError, r"matmul: .*\(3,\) and \(2,\)"),
        (lambda: Tensor(1.0) @ Tensor.ones(2), ValueError, r"matmul: .*\(\) and \(2,\). Use \*"),
        (
            lambda: Tensor.ones(2, 2, 3) @ Tensor.ones(3, 3, 2),
            ValueError,
            r"matmul: .*\(2, 2, 3\) and \(3, 3, 2\)",
        ),
        (lambda: Linear(3, 2)(Tensor.ones(2, 4)), ValueError, r"linear: .*\(2, 4\) and \(3, 2\)"),
        (lambda: Tensor([[1, 2], [3]]), ValueError, "lengths 1 and 2. Pad the rows"),
        (lambda: Tensor([[1, 2], 3]), ValueError, "numbers and lists side by side"),
        (lambda: Tensor([[[1], [2]], [[1], [2, 3]]]), ValueError, r"lengths 1 and 2 in data\[1\]"),
        (lambda: Tensor.ones(2).sum(1), IndexError, r"sum: .*axis in \[-1, 0\] for 1 dimensions, got 1"),
        (lambda: Tensor.ones(2).sum(1), ValueError, "Axes count from 0"),
        (lambda: Tensor.ones(2).softmax(-3), IndexError, "softmax: .*got -3"),
        (lambda: Tensor.ones(2, 2).argmax(2), IndexError, "argmax: .*got 2"),
        (lambda: Tensor.ones(2, 2).sum((0, -2)), ValueError, r"got \(0, -2\). Name axis 0 once"),
        (lambda: Tensor.ones(2, 2).permute(0, 0), ValueError, r"permute: expected each of 2 axes once"),
        (lambda: Tensor.ones(2, 2).mean((0, 0)), ValueError, "mean: expected each axis once"),
        (lambda: Tensor.zeros(2, -1), ValueError, r"zeros: expected sizes of at least 0, got \(2, -1\)"),
        (lambda: Tensor.ones(-1), ValueError, "ones: expected sizes of at least 0"),
        (lambda: Tensor.rand(2, -3), ValueError, "expected sizes of at least 0"),
        (lambda: Tensor.eye(-1), ValueError, "eye: expected sizes of at least 0"),
        (lambda: Tensor([1, 2]).one_hot(-1), ValueError, "one_hot: expected sizes of at least 0"),
        (lambda: Tensor.ones(4).reshape(-1, -1), ValueError, "reshape: .*at most one -1"),
        (lambda: Tensor.zeros(0).max(), ValueError, "max: expected at least one element to reduce"),
        (lambda: Tensor.zeros(0, 3).min(0), ValueError, r"min: .*got shape \(0, 3\) over axes \(0,\)"),
        (lambda: Tensor.zeros(0, 3).argmax(0), ValueError, "argmax: expected at least one element"),
        (lambda: (Tensor.ones(2) * 1).backward(), RuntimeError, "backward: expected a scalar"),
        (
            lambda: (Tensor.ones(2) * 1).backward(Tensor.ones(3)),
            RuntimeError,
            r"backward: expected a gradient of shape \(2,\), got \(3,\)",
        ),
        (lambda: Tensor([1]).sum().backward(), RuntimeError, "backward: expected a float tensor, got int32"),
        (lambda: Tensor([1.0]).detach().sum().backward(), RuntimeError, r"nothing to .*detach\(\)"),
        (lambda: Tensor([1, 2]).sum().float().backward(), RuntimeError, "nothing to differentiate"),
        (lambda: Tensor([1.5]) << 1, TypeError, "lshift .shl.: expected an integer dtype, got float32"),
        (lambda: Tensor([1.5]) & Tensor([1.0]), TypeError,
         "bitwise_and .and.: expected an integer or bool dtype"),
        (lambda: Tensor([1]).where(1, 2), TypeError, "where: expected a bool condition, got int32"),
        (lambda: Tensor([1.0]).cast("complex64"), TypeError, "complex64"),
        (lambda: Tensor([1.0]).bitcast("int64"), ValueError, "bitcast: expected a last axis that 2 divides"),
        (lambda: Tensor(1.0).bitcast("uint8"), ValueError, "bitcast: expected at least one dimension"),
        (lambda: Tensor([1], dtype="int8") * 1000, TypeError, r"mul: .*int8 holds \(-128 to 127\), got 1000"),
        (lambda: Tensor([300], dtype="uint8"), TypeError, r"Tensor: .*uint8 holds \(0 to 255\), got 300"),
        (lambda: Tensor(-1, dtype="uint32"), TypeError, "Tensor: .*uint32 holds .*got -1"),
        (lambda: Tensor.full(2, 300, dtype="uint8"), TypeError, "full: .*uint8 holds .*got 300"),
        (lambda: Tensor.zeros(2, dtype="int8").__setitem__(0, 128), TypeError, "int8 holds .*got 128"),
        (lambda: Tensor([1 << 70]), TypeError, "integers have at most 64 bits"),
        (lambda: float(Tensor([1.0, 2.0])), ValueError, r"item: expected one element, got shape \(2,\)"),
        (lambda: Tensor([1]).__itruediv__(2), TypeError, "/="),
        (lambda: Tensor([1.0, 2.0])[2], IndexError, "size 2, got 2"),
        (lambda: Tensor([1.0, 2.0]).reshape(3), ValueError, "2 elements"),
    ],
)
def test_bad_input(call, builtin, text):
    with pytest.raises(builtin, match=text) as caught:
        call()
    assert isinstance(caught.value, errors.UserError)
    assert caught.value.op
    assert caught.value.expected
    assert caught.value.got
    assert str(caught.value).startswith(f"{caught.value.op}: expected ")
    assert (Tensor([1.0, 2.0]) + 1).tolist() == [2, 3]


@pytest.mark.parametrize(
    "call",
    [
        lambda: Tensor.ones(2, 3) + Tensor.ones(4),
        lambda: Tensor.ones(2, 3) @ Tensor.ones(2, 3),
        lambda: Tensor.ones(2, 2, 3) @ Tensor.ones(3, 3, 2),
        lambda: Tensor([[1, 2], [3]]),
        lambda: Tensor.ones(2).sum(1),
        lambda: Tensor.ones(2, 2).sum((0, 0)),
        lambda: Tensor.zeros(2, -1),
        lambda: Tensor.zeros(0).max(),
        lambda: (Tensor.ones(2) * 1).backward(),
        lambda: (Tensor.ones(2) * 1).backward(Tensor.ones(3)),
        lambda: Tensor([1]).sum().backward(),
        lambda: Tensor([1.0]).detach().sum().backward(),
        lambda: Tensor([300], dtype="uint8"),
        lambda: Tensor([1.0, 2.0]).item(),
        lambda: Tensor([1.0, 2.0]).reshape(3),
        lambda: Tensor([1.0], device="reff"),
    ],
)
def test_the_common_mistakes_are_told_what_to_do(call):
    with pytest.raises(errors.UserError) as caught:
        call()
    assert len(caught.value.hint) > 10
    assert str(caught.value).endswith(caught.value.hint)


def test_an_in_place_result_that_does_not_fit_changes_nothing():
    x = Tensor([1.0, 2.0])
    with pytest.raises(ValueError, match="broadcast"):
        x += Tensor.ones(3, 2)
    with pytest.raises(ValueError, match="setitem"):
        x[0] = Tensor([1.0, 2.0, 3.0])
    assert x.tolist() == [1, 2]


def test_an_unknown_device_suggests_a_close_one():
    with pytest.raises(errors.UnknownDevice, match="did you mean 'ref'"):
        Tensor([1.0], device="reff")
    with pytest.raises(errors.UnknownDevice, match="no plugin provides device 'nope'") as caught:
        Tensor([1.0], device="nope")
    assert "did you mean" not in str(caught.value)


def test_an_integer_divided_by_zero_is_zero():
    assert (Tensor([5, -5]) // 0).tolist() == [0, 0]
    assert (Tensor([5, -5]) % 0).tolist() == [0, 0]
    assert (5 // Tensor([0])).tolist() == [0]
    for dtype in (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64):
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        x, y = np.array([5, low, high, 7], dtype), np.array([0, 0, 0, 2], dtype)
        assert (Tensor(x) // Tensor(y)).tolist() == [0, 0, 0, 3]
        assert (Tensor(x) % Tensor(y)).tolist() == [0, 0, 0, 1]
        if low:
            assert (Tensor(x) // Tensor(np.full(4, -1, dtype))).tolist() == [-5, low, -high, -7]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nan_is_as_in_numpy(dtype):
    values = np.array([np.nan, 1.0, -1.0, np.inf, -np.inf, -0.0, 0.0], dtype)
    a, b = np.meshgrid(values, values)
    x, y = Tensor(a), Tensor(b)
    np.testing.assert_array_equal(x.maximum(y).numpy(), np.maximum(a, b))
    np.testing.assert_array_equal(x.minimum(y).numpy(), np.minimum(a, b))
    np.testing.assert_array_equal(x.relu().numpy(), np.maximum(a, 0))
    np.testing.assert_array_equal((x < y).numpy(), a < b)
    np.testing.assert_array_equal((x <= y).numpy(), a <= b)
    np.testing.assert_array_equal((x > y).numpy(), a > b)
    np.testing.assert_array_equal((x >= y).numpy(), a >= b)
    np.testing.assert_array_equal((x == y).numpy(), a == b)
    np.testing.assert_array_equal((x != y).numpy(), a != b)
    long = np.random.default_rng(0).standard_normal((3, 1037)).astype(dtype)
    long[1, 511] = np.nan
    for axis in (None, 0, 1):
        np.testing.assert_array_equal(Tensor(long).max(axis).numpy(), long.max(axis))
        np.testing.assert_array_equal(Tensor(long).min(axis).numpy(), long.min(axis))
        np.testing.assert_array_equal(Tensor(long).argmax(axis).numpy(), long.argmax(axis))


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "uint64"])
def test_floats_read_as_integers_saturate_as_a_cast_does(dtype):
    values = [np.nan, np.inf, -np.inf, 3.7, -3.7, 1e30]
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    expected = [0, high, low, 3, max(low, -3), high]
    assert Tensor(values, dtype=dtype).tolist() == Tensor(values).cast(dtype).tolist() == expected
    assert [Tensor(value, dtype=dtype).item() for value in values] == expected
    assert [Tensor.full((), value, dtype=dtype).item() for value in values] == expected
