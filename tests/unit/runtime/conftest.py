"""Graphs name devices by their ids; a deferred device stands beside the real ones while a test wants it."""
from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from pluggrad.target import DeviceId
from tests import deferred_device


@pytest.fixture
def device(device_name: str) -> DeviceId:
    """Each selected device in turn; the default device stays what it is."""
    return DeviceId.parse(device_name)


@pytest.fixture
def deferred_devices() -> Iterator[None]:
    """The devices of tests/deferred_device.py, taken away again once nothing uses them."""
    deferred_device.install()
    yield
    gc.collect()
    deferred_device.remove()
