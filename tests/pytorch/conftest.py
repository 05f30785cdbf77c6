"""Every test here compares with PyTorch, on every selected device."""

from __future__ import annotations

import pytest

from pluggrad import Tensor


@pytest.fixture
def training(monkeypatch):
    monkeypatch.setattr(Tensor, "training", True)
