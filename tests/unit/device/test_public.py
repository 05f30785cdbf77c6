"""Devices as a user meets them, on the core's own device."""

from __future__ import annotations

import pytest

from pluggrad.device import public
from pluggrad.device.public import Device, default_device, device, devices, set_default_device
from pluggrad.device.registry import Registry
from pluggrad.errors import DeviceError, UnknownDevice
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
    assert (handle.name, str(handle), repr(handle)) == ("ref", "ref", "Device['ref']")
    assert handle == Device["ref"] == Device[DeviceId("ref")]
    assert len({handle, Device["ref"]}) == 1
    assert "float32" in handle.capabilities.dtypes
    handle.synchronize()


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
