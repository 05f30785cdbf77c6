"""Tensors moved between two devices: values, gradients, views, captured functions, what a device lacks."""

from __future__ import annotations

import copy
import gc
import pickle
from dataclasses import replace

import numpy as np
import pytest

import pluggrad
from pluggrad import Device, Tensor, dtypes, errors, io, jit, no_grad
from pluggrad.device.registry import REGISTRY

pytestmark = pytest.mark.usefixtures("device")


def numbers(*shape: int, device: str | None = None, **options: object) -> Tensor:
    count = int(np.prod(shape))
    return Tensor(np.arange(count, dtype=np.float32).reshape(shape), device=device, **options)


@pytest.fixture
def without_doubles(other_device, monkeypatch):
    """The other device as if it did not declare float64 and int64."""
    where = REGISTRY.resolve(other_device)
    target = REGISTRY.target(where)
    fewer = replace(target.capabilities, dtypes=target.capabilities.dtypes - {"float64", "int64"})
    monkeypatch.setitem(REGISTRY._targets, where, replace(target, capabilities=fewer))


# ---- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (2, 3)], ids=str)
def test_there_and_back(device, other_device, dtype, shape):
    supported = Device[device].capabilities.dtypes & Device[other_device].capabilities.dtypes
    if dtype.name not in supported:
        pytest.skip(f"{device} and {other_device} do not both hold {dtype.name}")
    x = numbers(*shape).cast(dtype)
    there = x.to(other_device)
    back = there.to(device)
    assert (there.device, there.shape, there.dtype) == (other_device, shape, dtype)
    assert (back.device, back.shape, back.dtype) == (device, shape, dtype)
    np.testing.assert_array_equal(there.numpy(), x.numpy())
    np.testing.assert_array_equal(back.numpy(), x.numpy())


def test_every_way_to_name_a_device(device, other_device):
    x = numbers(3)
    handle, found = Device[other_device], REGISTRY.resolve(other_device)
    for name in (other_device, other_device.upper(), f"{other_device}:0", handle, found):
        assert x.to(name).device == other_device
    assert x.to(device) is x
    assert x.to(Device[device]) is x
    assert x.clone(handle).device == Tensor(x, device=handle).device == other_device


def test_the_host_has_a_method(device):
    host = pluggrad.Tensor([1.0]).cpu()
    assert host.device == str(Device["host"])
    assert host.to(device).tolist() == [1]


def test_views_move_as_they_look(other_device):
    x = numbers(4, 6)
    for view in (x.T, x[1], x[::2, 1::3], x.flip(0), x[:, None].expand(4, 2, 6), x.reshape(3, 8)[1:]):
        np.testing.assert_array_equal(view.to(other_device).numpy(), view.numpy())


def test_a_moved_tensor_is_a_copy(other_device):
    x = numbers(4).realize()
    moved = x.to(other_device).realize()
    x[0] = 7
    moved[1] = 9
    assert x.tolist() == [7, 1, 2, 3]
    assert moved.tolist() == [0, 9, 2, 3]


def test_an_unrealized_move_keeps_the_values_of_its_moment(other_device):
    x = numbers(4).realize()
    moved = x.to(other_device)
    x += 10
    assert x.tolist() == [10, 11, 12, 13]
    assert moved.tolist() == [0, 1, 2, 3]


def test_moves_lie_anywhere_in_a_graph(device, other_device):
    x, y = numbers(2, 3), numbers(3, 2, device=other_device)
    product = (x.to(other_device) @ y).relu().to(device) + x.sum()
    expected = np.arange(6).reshape(2, 3) @ np.arange(6).reshape(3, 2) + 15
    np.testing.assert_array_equal(product.numpy(), expected)
    assert product.device == device


def test_a_constant_needs_no_copy(other_device):
    before = pluggrad.GlobalCounters.uploads
    assert Tensor.full((2, 2), 3).to(other_device).tolist() == [[3, 3], [3, 3]]
    assert pluggrad.GlobalCounters.uploads == before


def test_moving_keeps_no_memory(device, other_device):
    x = numbers(1 << 12).realize()
    x.to(other_device).realize()
    gc.collect()
    used = Device[device].memory.used, Device[other_device].memory.used
    for _ in range(5):
        x.to(other_device).to(device).realize()
    gc.collect()
    assert (Device[device].memory.used, Device[other_device].memory.used) == used


# ---- gradients -----------------------------------------------------------------------------------


def test_the_gradient_comes_back_to_the_source(device, other_device):
    x, w = numbers(3, requires_grad=True), numbers(3, device=other_device, requires_grad=True)
    ((x * 2).to(other_device) * w).sum().to(device).backward()
    assert (x.grad.device, w.grad.device) == (device, other_device)
    np.testing.assert_array_equal(x.grad.numpy(), [0, 2, 4])
    np.testing.assert_array_equal(w.grad.numpy(), [0, 2, 4])


def test_second_gradients_cross_twice(device, other_device):
    x = numbers(3)
    cubes = (x.to(other_device) ** 3).sum()
    (first,) = cubes.gradient(x)
    (second,) = first.to(other_device).sum().gradient(x)
    assert first.device == second.device == device
    np.testing.assert_allclose(first.numpy(), [0, 3, 12], rtol=1e-5)
    np.testing.assert_allclose(second.numpy(), [0, 6, 12], rtol=1e-5)


def test_no_gradient_without_history(other_device):
    x = numbers(2, requires_grad=True)
    with no_grad():
        moved = x.to(other_device)
    with pytest.raises(errors.GradientError):
        moved.sum().backward()


# ---- moving a tensor itself ----------------------------------------------------------------------


def test_a_leaf_moves_with_its_gradient(device, other_device):
    w = numbers(3, requires_grad=True)
    (w * 2).sum().backward()
    assert w.to_(other_device) is w
    assert (w.device, w.grad.device, w.requires_grad) == (other_device, other_device, True)
    (w * 3).sum().backward()  # adds to what was moved
    np.testing.assert_array_equal(w.grad.numpy(), [5, 5, 5])
    assert w.to_(device).tolist() == [0, 1, 2]


def test_a_dtype_that_the_target_lacks(device, other_device, without_doubles):
    x = numbers(2).cast("float64")
    for call in (lambda: x.to(other_device), lambda: x.clone(other_device), lambda: Tensor(x, other_device),
                 lambda: x.to_(other_device)):
        with pytest.raises(errors.UnsupportedDType) as caught:
            call()
        assert str(caught.value).startswith(f"device {other_device}: expected one of ")
        assert f"got float64. Cast it first: x.cast('float32').to('{other_device}')" in str(caught.value)
    with pytest.raises(TypeError, match=r"got int64. Cast it first: x.cast\('int32'\)"):
        x.cast("int64").to(other_device)
    assert x.device == device
    assert x.cast("float32").to(other_device).tolist() == [0, 1]


# ---- captured functions --------------------------------------------------------------------------


def test_a_captured_function_moves_at_every_replay(device, other_device):
    weight = numbers(3, device=other_device)

    @jit
    def f(x):
        return (x.to(other_device) * weight).to(device) + x

    for start in range(4):
        x = (numbers(3) + start).realize()
        np.testing.assert_array_equal(f(x).numpy(), (np.arange(3) + start) * (np.arange(3) + 1))
        weight.assign(numbers(3, device=other_device))
    assert f.captures == 1


def test_a_captured_step_trains_on_two_devices(device, other_device):
    first, second = numbers(2, 2, requires_grad=True), numbers(2, 1, device=other_device, requires_grad=True)
    optimizer = pluggrad.nn.optim.SGD([first, second], lr=0.01)
    twin = [numbers(2, 2, requires_grad=True), numbers(2, 1, requires_grad=True)]
    beside = pluggrad.nn.optim.SGD(twin, lr=0.01)

    @jit
    def step(x):
        optimizer.zero_grad()
        loss = ((x @ first).to(other_device) @ second).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(4):
        x = numbers(3, 2)
        beside.zero_grad()
        loss = (x @ twin[0] @ twin[1]).square().mean()
        loss.backward()
        beside.step()
        np.testing.assert_allclose(step(x.realize()).item(), loss.item(), rtol=1e-4)
    np.testing.assert_allclose(first.numpy(), twin[0].numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(second.numpy(), twin[1].numpy(), rtol=1e-4, atol=1e-5)
    assert step.captures == 1


def test_the_default_device_is_part_of_what_is_captured(device, other_device):
    f = jit(lambda: Tensor.ones(2) * 3)
    assert f().device == device
    with pluggrad.device(other_device):
        assert f().device == other_device
    assert f().device == device
    assert f.captures == 2


# ---- copies of the object ------------------------------------------------------------------------


def test_pickle_and_deepcopy_keep_the_device(device, other_device):
    for place in (device, other_device):
        x = numbers(2, 3, device=place, requires_grad=True)
        for made in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x)):
            assert (made.device, made.requires_grad) == (place, True)
            np.testing.assert_array_equal(made.numpy(), x.numpy())


def test_a_pickle_is_read_onto_another_device(device, other_device):
    stored = pickle.dumps({"x": numbers(3), "half": numbers(2).cast("bfloat16")})
    with io.unpickle_on(other_device) as where:
        loaded = pickle.loads(stored)
    assert {tensor.device for tensor in loaded.values()} == {other_device, str(where)}
    assert loaded["x"].tolist() == [0, 1, 2]
    assert pickle.loads(stored)["x"].device == device


def test_a_pickle_from_a_device_that_is_not_here(device):
    stored = pickle.dumps(numbers(2)).replace(device.encode(), b"x" * len(device))
    with pytest.raises(errors.DeviceUnavailable, match=r"no plugin provides device 'x+'.*unpickle_on\("):
        pickle.loads(stored)
    with io.unpickle_on(device):
        assert pickle.loads(stored).tolist() == [0, 1]
    with pytest.raises(errors.UnknownDevice), io.unpickle_on("nobody"):
        pass
