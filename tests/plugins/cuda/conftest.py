"""The plugin on a double of NVIDIA's driver, which is no GPU: see double/world.py for what it shows."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from pluggrad.device.ref import TARGET
from pluggrad_cuda import driver, libcuda
from pluggrad_cuda.device import CudaDevice
from tests.plugins.cuda.double import library, pycuda_driver
from tests.plugins.cuda.double.target import target
from tests.plugins.cuda.double.world import World

CACHES = (libcuda.library, libcuda._codes, driver.cuda, driver.gpus, driver.context)


def forget() -> None:
    """The plugin asks the driver anew."""
    for cached in CACHES:
        cached.cache_clear()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A driver with one GPU; after the test no rule has been broken, and nothing is left on a stack."""
    made = World()
    install(made, monkeypatch)
    yield made
    gc.collect()
    assert made.violations == []
    assert made.stack == []
    forget()


def install(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the plugin find this driver and no other."""
    package = ModuleType("pycuda")
    package.driver = pycuda_driver.make(world)
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", package.driver)
    entries = library.make(world)
    monkeypatch.setattr(libcuda, "open_library", lambda: entries)
    forget()


@pytest.fixture
def open_device(world: World) -> Iterator[Callable[..., CudaDevice]]:
    """`open_device(index)` opens a GPU; all are closed after the test."""
    opened: list[CudaDevice] = []

    def make(index: int = 0) -> CudaDevice:
        opened.append(CudaDevice(driver.gpu(index), target(TARGET)))
        return opened[-1]

    yield make
    for device in opened:
        device.close()


@pytest.fixture
def device(open_device: Callable[..., CudaDevice]) -> CudaDevice:
    return open_device()
