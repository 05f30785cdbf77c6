"""jit's tests run on every selected device, made the default one for the test."""

from __future__ import annotations

import pytest

import pluggrad


@pytest.fixture
def device(device_name):
    with pluggrad.device(device_name):
        yield device_name
