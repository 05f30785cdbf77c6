"""Bad input to tensors: the right error, its text, and nothing lost."""

from __future__ import annotations

import numpy as np
import pytest

import pluggrad
from pluggrad import Tensor, errors


@pytest.fixture(autouse=True)
def device(device_name):
    with pluggrad.device(device_name):
        yield device_name


@pytest.mark.parametrize(
    ("call", "builtin", "text"),
    [
        (lambda: Tensor.ones(2, 3) + Tensor.ones(4), ValueError, r"add: .*\(2, 3\) and \(4,\)"),
        (lambda: Tensor.ones(2, 3) * np.ones((3, 2)), ValueError, r"mul: .*\(2, 3\) and \(3, 2\)"),
        (lambda: Tensor.ones(2, 3).maximum(Tensor.ones(2)), ValueError, r"max: .*\(2, 3\) and \(2,\)"),
        (
            lambda: Tensor([True]).where(Tensor.ones(2), Tensor.ones(3)),
            ValueError,
            r"where: .*\(2,\) and \(3,\)",
        ),
        (lambda: Tensor.ones(2, 3) @ Tensor.ones(2, 3), ValueError, r"matmul: .*\(2, 3\) and \(2, 3\)"),
        (lambda: Tensor([[1, 2], [3]]), ValueError, "lengths 1 and 2"),
        (lambda: Tensor.ones(2).sum(1), IndexError, r"sum: .*axis in \[-1, 0\] for 1 dimensions, got 1"),
        (lambda: Tensor.ones(2, 2).mean((0, 0)), ValueError, "mean: expected each axis once"),
        (lambda: Tensor.zeros(2, -1), ValueError, "sizes of at least 0"),
        (lambda: Tensor.zeros(0).max(), ValueError, "max: expected at least one element to reduce"),
        (lambda: (Tensor.ones(2) * 1).backward(), RuntimeError, "backward: expected a scalar"),
        (lambda: Tensor([1, 2]).sum().float().backward(), RuntimeError, "nothing to differentiate"),
        (lambda: Tensor([1.5]) << 1, TypeError, "shl: expected an integer dtype, got float32"),
        (lambda: Tensor([1.5]) & Tensor([1.0]), TypeError, "and: expected an integer or bool dtype"),
        (lambda: Tensor([1]).where(1, 2), TypeError, "where: expected a bool condition, got int32"),
        (lambda: Tensor([1.0]).cast("complex64"), TypeError, "complex64"),
        (lambda: Tensor([1.0]).bitcast("int64"), TypeError, "bitcast: expected a dtype of 4 bytes"),
        (lambda: Tensor([1], dtype="int8") * 1000, TypeError, r"mul: .*int8 holds \(-128 to 127\), got 1000"),
        (lambda: Tensor([1]).__itruediv__(2), TypeError, "/="),
        (lambda: Tensor([1.0, 2.0])[2], IndexError, "size 2, got 2"),
        (lambda: Tensor([1.0, 2.0]).reshape(3), ValueError, "2 elements"),
    ],
)
def test_bad_input(call, builtin, text):
    with pytest.raises(builtin, match=text) as caught:
        call()
    assert isinstance(caught.value, errors.UserError)
    assert caught.value.op or "nothing to differentiate" in str(caught.value)


def test_an_in_place_result_that_does_not_fit_changes_nothing():
    x = Tensor([1.0, 2.0])
    with pytest.raises(ValueError, match="broadcast"):
        x += Tensor.ones(3, 2)
    with pytest.raises(ValueError, match="setitem"):
        x[0] = Tensor([1.0, 2.0, 3.0])
    assert x.tolist() == [1, 2]


def test_mixed_devices_are_both_named(device):
    other = next((name for name in pluggrad.Device.available() if name != device), None)
    if other is None:
        pytest.skip("one device only")
    x, y = Tensor([1.0]), Tensor([2.0], device=other)
    for call in (lambda: x + y, lambda: x @ y, lambda: x.cat(y), lambda: Tensor([True]).where(x, y)):
        with pytest.raises(errors.MixedDevices, match=rf"{device}.*{other}.*\.to\('{device}'\)"):
            call()
    assert (x + y.to(device)).tolist() == [3]


def test_an_unknown_device_suggests_a_close_one():
    with pytest.raises(errors.UnknownDevice, match="did you mean 'ref'"):
        Tensor([1.0], device="reff")


def test_an_integer_divided_by_zero_is_zero():
    assert (Tensor([5, -5]) // 0).tolist() == [0, 0]
    assert (Tensor([5, -5]) % 0).tolist() == [0, 0]
    assert (5 // Tensor([0])).tolist() == [0]
