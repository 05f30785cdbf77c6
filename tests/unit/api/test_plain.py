"""Methods that make tensors or hand them over, a test each by their names: values, dtype, an error."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, device, dtypes
from pluggrad.errors import DeviceError, DTypeError, GradientError, PluggradError, ShapeError, ValueRangeError


@pytest.fixture(autouse=True)
def _interpreted():
    with device("ref"):
        yield


def same(x: Tensor, expected, dtype: str = "") -> None:
    """Values, shape and dtype."""
    expected = np.asarray(expected)
    assert x.dtype.name == (dtype or expected.dtype.name)
    np.testing.assert_array_equal(x.numpy(), expected)
    assert x.shape == expected.shape


def drawn(x: Tensor, low: float, high: float, shape=(50, 4)) -> np.ndarray:
    """Floats from low to high, all but a few different."""
    values = x.numpy()
    assert values.shape == shape
    assert (values >= low).all()
    assert (values <= high).all()
    assert len(np.unique(values)) > 190
    return values


# ---- creation ----------------------------------------------------------------------------------------------
def test_empty():
    assert Tensor.empty(2, 3, dtype="float16").dtype is dtypes.float16
    assert Tensor.empty(0).shape == (0,)
    with pytest.raises(ShapeError, match="-1"):
        Tensor.empty(-1)


def test_full():
    same(Tensor.full((2, 3), 7), np.full((2, 3), 7, np.int32))
    same(Tensor.full((2,), 7, dtype="float64"), np.full(2, 7.0))
    with pytest.raises(PluggradError, match="300"):
        Tensor.full((2,), 300, dtype="uint8")


def test_zeros():
    same(Tensor.zeros(2, 3), np.zeros((2, 3), np.float32))
    with pytest.raises(ShapeError):
        Tensor.zeros(2, -3)


def test_ones():
    same(Tensor.ones((2, 3), dtype="int8"), np.ones((2, 3), np.int8))
    with pytest.raises(ShapeError):
        Tensor.ones(2, -3)


def test_arange():
    same(Tensor.arange(2, 9, 3), np.arange(2, 9, 3, np.int32))
    same(Tensor.arange(1.0, 0.0, -0.25), np.arange(1.0, 0.0, -0.25, np.float32))
    with pytest.raises(ValueRangeError, match="arange"):
        Tensor.arange(3, step=0)


def test_linspace():
    same(Tensor.linspace(0, 1, 5), np.linspace(0, 1, 5, dtype=np.float32))
    with pytest.raises(ShapeError, match="linspace"):
        Tensor.linspace(0, 1, -1)


def test_logspace():
    np.testing.assert_allclose(Tensor.logspace(0, 2, 3, dtype="float64").numpy(), [1, 10, 100])
    with pytest.raises(ShapeError):
        Tensor.logspace(0, 1, -1)


def test_eye():
    same(Tensor.eye(2, 3), np.eye(2, 3, dtype=np.float32))
    with pytest.raises(ShapeError):
        Tensor.eye(-2)


@pytest.mark.parametrize(
    ("name", "arguments", "value"), [("full_like", (3,), 3), ("zeros_like", (), 0), ("ones_like", (), 1)]
)
def test_constants_like(name, arguments, value):
    x = Tensor(np.ones((2, 3), np.int16))
    same(getattr(x, name)(*arguments), np.full((2, 3), value, np.int16))
    same(getattr(x, name)(*arguments, dtype="float64"), np.full((2, 3), value, np.float64))
    with pytest.raises(DTypeError):
        getattr(x, name)(*arguments, dtype="float99")


def test_empty_like():
    assert Tensor.zeros(2, 3, dtype="int8").empty_like().dtype is dtypes.int8
    with pytest.raises(DTypeError):
        Tensor.zeros(2).empty_like(dtype="float99")


def test_from_dlpack():
    data = np.arange(6, dtype=np.float32).reshape(2, 3)
    same(Tensor.from_dlpack(data), data)
    with pytest.raises(PluggradError):
        Tensor.from_dlpack(object())


# ---- random ------------------------------------------------------------------------------------------------
def test_manual_seed():
    Tensor.manual_seed(3)
    first = Tensor.rand(4).numpy()
    assert (Tensor.rand(4).numpy() != first).any()
    Tensor.manual_seed(3)
    np.testing.assert_array_equal(Tensor.rand(4).numpy(), first)
    with pytest.raises((PluggradError, TypeError)):
        Tensor.manual_seed("three")


def test_rand():
    drawn(Tensor.rand(50, 4), 0, 1)
    with pytest.raises(DTypeError):
        Tensor.rand(2, dtype="int32")


def test_uniform():
    drawn(Tensor.uniform(50, 4, low=-3, high=5), -3, 5)
    with pytest.raises(DTypeError):
        Tensor.uniform(2, dtype="int32")


def test_randn():
    assert abs(drawn(Tensor.randn(50, 4), -6, 6).mean()) < 0.3
    with pytest.raises(DTypeError):
        Tensor.randn(2, dtype="bool")


def test_normal():
    assert abs(drawn(Tensor.normal(50, 4, mean=2, std=0.5), -1, 5).mean() - 2) < 0.2
    with pytest.raises(DTypeError):
        Tensor.normal(2, dtype="bool")


def test_randint():
    values = Tensor.randint(200, low=-3, high=3)
    assert values.dtype is dtypes.int32
    assert set(values.numpy().tolist()) == {-3, -2, -1, 0, 1, 2}
    with pytest.raises(PluggradError):
        Tensor.randint(2, low=3, high=3)


def test_scaled_uniform():
    drawn(Tensor.scaled_uniform(50, 4), -(200**-0.5), 200**-0.5)
    with pytest.raises(DTypeError):
        Tensor.scaled_uniform(2, dtype="int32")


def test_glorot_uniform():
    bound = (6 / 54) ** 0.5
    drawn(Tensor.glorot_uniform(50, 4), -bound, bound)
    with pytest.raises(DTypeError):
        Tensor.glorot_uniform(2, 3, dtype="int32")


def test_kaiming_uniform():
    bound = (6 / 4 / 1.0001) ** 0.5
    drawn(Tensor.kaiming_uniform(50, 4), -bound, bound)
    with pytest.raises(DTypeError):
        Tensor.kaiming_uniform(2, 3, dtype="int32")


def test_kaiming_normal():
    assert 0.5 < drawn(Tensor.kaiming_normal(50, 4), -5, 5).std() < 1
    with pytest.raises(DTypeError):
        Tensor.kaiming_normal(2, 3, dtype="int32")


def test_bernoulli():
    values = Tensor.bernoulli(1000, p=0.25).numpy()
    assert set(np.unique(values)) == {0, 1}
    assert 0.15 < values.mean() < 0.35
    with pytest.raises(PluggradError):
        Tensor.bernoulli(2, p=1.5)


def test_rand_like():
    x = Tensor.zeros(50, 4, dtype="float64").rand_like()
    assert x.dtype is dtypes.float64
    drawn(x, 0, 1)
    with pytest.raises(DTypeError):
        Tensor.zeros(2).rand_like(dtype="int32")


def test_randn_like():
    drawn(Tensor.zeros(50, 4).randn_like(), -6, 6)
    with pytest.raises(DTypeError):
        Tensor.zeros(2).randn_like(dtype="int32")


def test_randperm():
    order = Tensor.randperm(100)
    assert order.dtype is dtypes.int32
    assert sorted(order.numpy()) == list(range(100))
    assert (order.numpy() != np.arange(100)).any()
    with pytest.raises(PluggradError):
        Tensor.randperm(-1)


def test_multinomial():
    found = Tensor([0.0, 1.0, 3.0]).multinomial(400, replacement=True).numpy()
    counts = np.bincount(found, minlength=3)
    assert counts[0] == 0
    assert 60 < counts[1] < 140
    with pytest.raises(PluggradError, match="multinomial"):
        Tensor([0.5, -1.0]).multinomial(1)


# ---- data --------------------------------------------------------------------------------------------------
def test_realize():
    x, y = Tensor.ones(3) + 1, Tensor.ones(2) * 3
    assert x.realize(y) is x
    same(x, np.full(3, 2, np.float32))
    with pytest.raises(AttributeError):
        x.realize(3)


def test_contiguous():
    same(Tensor([[1, 2], [3, 4]]).T.contiguous(), np.array([[1, 3], [2, 4]], np.int32))
    with pytest.raises(TypeError):
        Tensor([1]).contiguous(3)


def test_contiguous_backward():
    x = Tensor([1.0, 2.0])
    (x * x).contiguous_backward().sum().backward()
    same(x.grad, np.array([2, 4], np.float32))
    with pytest.raises(TypeError):
        x.contiguous_backward(3)


def test_assign():
    x = Tensor([1.0, 2.0]).realize()
    assert x.assign(Tensor([3.0, 4.0])) is x
    same(x, np.array([3, 4], np.float32))
    with pytest.raises(ShapeError, match="assign"):
        x.assign(Tensor.ones(3))


def test_replace():
    x = Tensor([1.0, 2.0])
    same(x.replace(Tensor([3.0, 4.0])), np.array([3, 4], np.float32))
    with pytest.raises(PluggradError):
        x.replace([3.0, 4.0])


def test_clone():
    x = Tensor([1.0, 2.0])
    y = x.clone()
    y[0] = 5
    same(x, np.array([1, 2], np.float32))
    with pytest.raises(DeviceError):
        x.clone(device="no-such-device")


def test_detach():
    x = Tensor([1.0, 2.0])
    with pytest.raises(GradientError):
        x.detach().sum().backward()
    same(x.detach(), np.array([1, 2], np.float32))


def test_to():
    x = Tensor([1.0, 2.0])
    assert x.to("ref") is x
    with pytest.raises(DeviceError):
        x.to("no-such-device")


def test_to_():
    x = Tensor([1.0, 2.0])
    assert x.to_("ref") is x
    with pytest.raises(DeviceError):
        x.to_("no-such-device")


def test_cpu():
    assert Tensor([1.0]).cpu().device == "cpu"
    with pytest.raises(TypeError):
        Tensor([1.0]).cpu(3)


def test_data():
    assert Tensor([[1, 2], [3, 4]]).data().tolist() == [[1, 2], [3, 4]]
    with pytest.raises(TypeError):
        Tensor([1]).data(3)


def test_numpy():
    array = Tensor([[1.5, 2.5]]).numpy()
    assert array.dtype == np.float32
    assert array.tolist() == [[1.5, 2.5]]
    with pytest.raises(TypeError):
        Tensor([1]).numpy(3)


def test_tolist():
    assert Tensor([[True, False]]).tolist() == [[True, False]]
    assert Tensor(3).tolist() == 3
    with pytest.raises(TypeError):
        Tensor([1]).tolist(3)


def test_item():
    assert Tensor([[2.5]]).item() == 2.5
    with pytest.raises(PluggradError, match="item"):
        Tensor([1, 2]).item()


def test_nbytes():
    assert Tensor.ones(2, 3, dtype="float16").nbytes() == 12
    with pytest.raises(TypeError):
        Tensor.ones(2).nbytes(3)


def test_numel():
    assert Tensor.ones(2, 3).numel() == 6
    assert Tensor.ones(2, 0).numel() == 0
    with pytest.raises(TypeError):
        Tensor.ones(2).numel(3)


def test_element_size():
    assert Tensor.ones(2, dtype="int64").element_size() == 8
    with pytest.raises(TypeError):
        Tensor.ones(2).element_size(3)


def test_properties():
    x = Tensor.ones(2, 3)
    assert (x.dtype, x.shape, x.device, x.ndim) == (dtypes.float32, (2, 3), "ref", 2)
    for name in ("dtype", "shape", "device", "ndim"):
        with pytest.raises(AttributeError):
            setattr(x, name, None)


def test_size():
    assert Tensor.ones(2, 3).size() == (2, 3)
    assert Tensor.ones(2, 3).size(-1) == 3
    with pytest.raises(IndexError):
        Tensor.ones(2, 3).size(2)


def test_is_floating_point():
    assert Tensor.ones(2, dtype="bfloat16").is_floating_point()
    assert not Tensor.ones(2, dtype="int8").is_floating_point()
    with pytest.raises(TypeError):
        Tensor.ones(2).is_floating_point(3)


# ---- gradients ---------------------------------------------------------------------------------------------
def test_backward():
    x = Tensor([1.0, 2.0])
    (x * x).backward(gradient=Tensor([1.0, 10.0]))
    same(x.grad, np.array([2, 40], np.float32))
    with pytest.raises(GradientError, match="backward"):
        (x * x).backward()


def test_gradient():
    x, y = Tensor([1.0, 2.0]), Tensor([3.0, 4.0])
    dx, dy = (x * y).sum().gradient(x, y)
    same(dx, np.array([3, 4], np.float32))
    same(dy, np.array([1, 2], np.float32))
    with pytest.raises(GradientError):
        x.sum().gradient(y)


def test_grad():
    x = Tensor([1.0])
    assert x.grad is None
    x.sum().backward()
    x.sum().backward()
    same(x.grad, np.array([2], np.float32))
    with pytest.raises((PluggradError, TypeError)):
        x.grad = 3


def test_requires_grad_():
    x = Tensor([1.0]).requires_grad_()
    assert x.requires_grad
    with pytest.raises(GradientError):
        Tensor([1]).requires_grad_()


def test_is_param():
    x = Tensor([1.0]).is_param_()
    assert x.is_param
    assert not x.is_param_(False).is_param
    with pytest.raises(GradientError):
        Tensor([1]).is_param_()


# ---- containers --------------------------------------------------------------------------------------------
def test_containers():
    x = Tensor([[1, 2], [3, 4]])
    assert len(x) == 2
    assert [row.tolist() for row in x] == [[1, 2], [3, 4]]
    assert 3 in x
    assert 5 not in x
    with pytest.raises(TypeError):
        len(Tensor(3))
