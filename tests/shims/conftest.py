"""Kernels of GPUs on the CPU: which systems these tests run on."""
from __future__ import annotations

import sys

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("needs Linux: shared libraries are linked as its loader takes them")
