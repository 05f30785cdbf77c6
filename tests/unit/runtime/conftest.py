"""Graphs name devices by their ids."""
from __future__ import annotations

import pytest

from pluggrad.target import DeviceId


@pytest.fixture
def device(device_name: str) -> DeviceId:
    """Each selected device in turn; the default device stays what it is."""
    return DeviceId.parse(device_name)
