"""The device `cuda-double`: the plugin's own runtime on the double, with kernels that the interpreter runs.

It lives in tests alone. Where no test has put a double in the driver's place, this plugin does.
"""

from __future__ import annotations

import sys
from types import ModuleType

from pluggrad.device.ref import TARGET
from pluggrad.plugin_api import Device, PluginApi, Target, hookimpl
from pluggrad_cuda import driver, libcuda
from pluggrad_cuda.device import CudaDevice
from pluggrad_cuda.plugin import CudaBackend
from tests.plugins.cuda.double import library, pycuda_driver
from tests.plugins.cuda.double.kernels import DoubleToolchain
from tests.plugins.cuda.double.target import target
from tests.plugins.cuda.double.world import World

NAME = "cuda-double"
GPUS = 2


class DoubleBackend(CudaBackend):
    """Finds and opens devices as the plugin does, on whatever driver is there."""

    tier = -1

    def target(self, index: int, variant: str) -> Target:
        super().target(index, variant)
        return target(TARGET)

    def toolchain(self, target: Target) -> DoubleToolchain:
        return DoubleToolchain()

    def open(self, index: int, variant: str) -> Device:
        return CudaDevice(driver.gpu(index), self.target(index, variant))

    def describe(self) -> str:
        return "a double of NVIDIA's driver, for tests"


def stand_in() -> World:
    """Put the double in the driver's place, for good."""
    world = World(GPUS)
    for gpu in world.gpus:
        gpu.peers |= {other.index for other in world.gpus}
    package = ModuleType("pycuda")
    package.driver = sys.modules["pycuda.driver"] = pycuda_driver.make(world)
    sys.modules["pycuda"] = package
    entries = library.make(world)
    libcuda.open_library = lambda: entries
    return world


@hookimpl
def pluggrad_backend(api: PluginApi) -> DoubleBackend:
    if not hasattr(sys.modules.get("pycuda.driver"), "DOUBLE"):
        stand_in()
    return DoubleBackend()
