"""Devices as a user meets them, on the core's own device."""

from __future__ import annotations

import gc
import pickle

import numpy as np
import pytest

from pluggrad import Tensor, __version__
from pluggrad.device.registry import Registry
from pluggrad.errors import DeviceError, UnknownDevice
from pluggrad.runtime import devices as public
from pluggrad.runtime.devices import Device, default_device, device, devices, set_default_device
from pluggrad.target import DeviceId


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """The public names over a registry of their own, so that no choice outlives the test."""
    fresh = Registry()
    monkeypatch.setattr(public, "REGISTRY", fresh)
    yield fresh
    fresh.close_all()


def test_a_device_by_name():
    handle = Device["REF:0"]
    assert (handle.name, str(handle)) == ("ref", "ref")
    assert repr(handle) == f"<Device ref: {handle.hardware} (pluggrad {__version__})>"
    assert handle == Device["ref"] == Device[DeviceId("ref")] == Device[handle]
    assert len({handle, Device["ref"]}) == 1
    handle.synchronize()


def test_what_a_device_is():
    ref = Device["ref"]
    assert (ref.type, ref.index, ref.variant) == ("ref", 0, "")
    assert (ref.distribution, ref.version) == ("pluggrad", __version__)
    assert "float32" in ref.capabilities.dtypes
    assert ref.features == ref.capabilities.features
    assert ref.arch
    assert isinstance(ref.driver, str)
    assert Device.count("ref") == 1
    with pytest.raises(UnknownDevice, match="no plugin provides device 'nobody'"):
        Device.count("nobody")
    assert repr(Device).startswith("<Device: installed ")
    assert "ref" in repr(Device)


def test_a_handle_is_taken_where_a_name_is():
    ref = Device["ref"]
    x = Tensor([1.0, 2.0], device=ref)
    assert x.to(ref) is x
    assert x.to(ref.name) is x
    with device(ref) as chosen:
        assert chosen == ref
        assert Device.DEFAULT == "ref"
    set_default_device(ref)
    assert Device.DEFAULT == "ref"
    assert pickle.loads(pickle.dumps(ref)) == ref


def test_memory_is_that_of_live_tensors(settled):
    before = Device["ref"].memory.used
    x = Tensor(np.zeros(1 << 14, np.float32), device="ref")
    assert Device["ref"].memory.used - before >= x.nbytes()
    assert Device["ref"].memory.peak >= Device["ref"].memory.used
    del x
    gc.collect()
    assert Device["ref"].memory.used <= before


@pytest.mark.parametrize("name", ["nobody", "ref:7", "", 3])
def test_an_unknown_device_is_refused(name):
    with pytest.raises(DeviceError):
        Device[name]


def test_the_default_can_be_set_in_three_ways():
    set_default_device("ref")
    assert default_device() == Device.DEFAULT == "ref"
    Device.DEFAULT = "REF"
    assert Device.DEFAULT == "ref"
    with device("ref") as chosen:
        assert str(chosen) == default_device() == "ref"
    with pytest.raises(UnknownDevice):
        Device.DEFAULT = "nobody"
    with pytest.raises(UnknownDevice), device("nobody"):
        pass
    set_default_device(None)


def test_available_and_rows():
    assert Device.available()[-1] == "ref"
    row = next(row for row in devices() if row.name == "ref")
    assert (row.state, row.count, row.distribution) == ("ready", 1, "pluggrad")
