"""Values in and out: NumPy, Python, text, devices, copies."""

from __future__ import annotations

import numpy as np
import pytest

import pluggrad
from pluggrad import Tensor, dtypes

pytestmark = pytest.mark.usefixtures("device")


def test_numpy_is_a_fresh_copy():
    x = Tensor([1.0, 2.0])
    array = x.numpy()
    array[0] = 9
    assert x.tolist() == [1, 2]
    assert array.flags["C_CONTIGUOUS"]
    assert Tensor([[1, 2], [3, 4]]).T.numpy().flags["C_CONTIGUOUS"]
    assert np.asarray(x).tolist() == [1, 2]
    assert np.asarray(x, dtype=np.int64).dtype == np.int64
    assert np.stack([x, x]).shape == (2, 2)


def test_the_source_array_may_change_afterwards():
    array = np.array([1.0, 2.0])
    x = Tensor(array)
    array[:] = 0
    assert x.tolist() == [1, 2]


def test_one_element_as_a_number():
    assert Tensor([[2.5]]).item() == 2.5
    assert float(Tensor(2)) == 2.0
    assert int(Tensor([3.7])) == 3
    assert bool(Tensor(0)) is False
    assert f"{Tensor(2.71828):.3f}" == "2.718"
    assert [10, 20, 30][Tensor(1)] == 20
    assert complex(Tensor(1.0)) == 1 + 0j
    assert Tensor(True).item() is True
    for convert in (Tensor.item, float, int, bool):
        with pytest.raises(ValueError, match=r"item: expected one element, got shape \(2,\)"):
            convert(Tensor([1.0, 2.0]))
    with pytest.raises(TypeError, match="index"):
        [1, 2][Tensor(1.0)]


def test_lists_and_bytes():
    assert Tensor([[1, 2]]).tolist() == [[1, 2]]
    assert Tensor(5).tolist() == 5
    assert bytes(Tensor([1, 2], dtype="uint8").data()) == b"\x01\x02"
    assert Tensor(Tensor([1, 2], dtype="uint8").data()).tolist() == [1, 2]
    assert Tensor.from_dlpack(np.arange(3)).tolist() == [0, 1, 2]


def test_facts(device):
    x = Tensor.zeros(2, 3, dtype="float16")
    assert (x.shape, x.ndim, x.numel(), x.size(), x.size(1)) == ((2, 3), 2, 6, (2, 3), 3)
    assert (x.element_size(), x.nbytes()) == (2, 12)
    assert x.dtype is dtypes.float16
    assert x.is_floating_point()
    assert not Tensor(1).is_floating_point()
    assert x.device == device


def test_realize_takes_several_and_returns_the_first():
    x, y = Tensor.ones(2) + 1, Tensor.ones(3) * 3
    assert x.realize(y) is x
    assert Tensor.realize(x, y) is x
    assert y.tolist() == [3, 3, 3]


def test_assign_and_replace():
    x = Tensor([1.0, 2.0, 3.0])
    view = x[1:]
    assert x.assign(7) is x
    assert view.tolist() == [7, 7]
    x.assign([1, 2, 3])
    assert x.dtype is dtypes.float32
    assert x.tolist() == [1, 2, 3]
    x.replace(Tensor([[5]]))
    assert x.tolist() == [[5]]
    with pytest.raises(TypeError, match="replace: expected a tensor, got list"):
        x.replace([5])
    with pytest.raises(ValueError, match=r"assign: .*\(3,\) and \(2,\)"):
        Tensor([1.0, 2.0]).assign([1.0, 2.0, 3.0])


def test_moving_between_devices(device):
    other = next((name for name in pluggrad.Device.available() if name != device), None)
    if other is None:
        pytest.skip("one device only")
    x = Tensor([1.0, 2.0])
    moved = (x * 2).to(other)
    assert moved.device == other
    (moved * moved).sum().backward()
    assert x.grad.device == device
    assert x.grad.tolist() == [8, 16]
    assert x.to(device) is x
    assert x.clone(device=other).device == other
    assert Tensor(x, device=other).tolist() == [1, 2]
    w = Tensor([1.0], requires_grad=True)
    assert w.to_(other).device == other
    assert w.requires_grad
    assert f"device={other}" in repr(w)


def test_tensors_as_containers():
    x = Tensor([[1, 2], [3, 4]])
    assert len(x) == 2
    assert [row.tolist() for row in x] == [[1, 2], [3, 4]]
    assert [row.tolist() for row in reversed(x)] == [[3, 4], [1, 2]]
    _, second = x
    assert second.tolist() == [3, 4]
    assert 3 in x
    assert 5 not in x
    assert len(Tensor.zeros(0, 3)) == 0
    for refused in (len, iter):
        with pytest.raises(TypeError, match="0-d"):
            refused(Tensor(1))


def test_equality_is_elementwise_and_identity_is_the_hash():
    x, y = Tensor([1, 2]), Tensor([1, 2])
    assert (x == y).tolist() == [True, True]
    assert {x: "x"}[x] == "x"
    assert len({x, y}) == 2
    assert hash(x) != hash(y)
    assert (x == None) is False  # noqa: E711
    assert (x != "text") is True
    with pytest.raises(ValueError, match="item: expected one element"):
        bool(x == y)
    assert bool(Tensor([[True]]))
    with pytest.raises(ValueError, match="one element"):
        bool(Tensor([]))


def test_numbers_from_one_element():
    assert int(Tensor([[-2.9]])) == -2
    assert list(range(Tensor(3))) == [0, 1, 2]
    assert "abc"[Tensor(1)] == "b"
    assert complex(Tensor(2)) == 2 + 0j
    assert round(Tensor(2.5)).item() == 2
    assert abs(Tensor(-3)).item() == 3
    assert divmod(Tensor(7), 3)[1].item() == 1
    with pytest.raises(OverflowError, match="infinity"):
        int(Tensor(float("inf")))
    assert type(Tensor(1.5, dtype="float16").item()) is float
    assert type(Tensor(1, dtype="uint8").item()) is int
