"""Every test here compares with PyTorch, on every selected device."""

from __future__ import annotations

import pytest

import pluggrad
from pluggrad import Tensor


@pytest.fixture
def device(device_name):
    with pluggrad.device(device_name):
        yield device_name


@pytest.fixture
def training(monkeypatch):
    monkeypatch.setattr(Tensor, "training", True)
