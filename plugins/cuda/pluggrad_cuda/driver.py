"""The GPUs of this machine and their contexts. The first module that imports pycuda.driver.

`CUDA_VISIBLE_DEVICES` and `CUDA_DEVICE_ORDER` are the driver's own and mean here what they mean elsewhere.
"""
from __future__ import annotations

import atexit
import ctypes
import os
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from pluggrad.plugin_api import DeviceUnavailable, ForkGuard, UnknownDevice
from pluggrad_cuda import libcuda

INSTALL_PYCUDA: Final = "pip install 'pluggrad-cuda[runtime]', which needs a CUDA toolkit and a C++ compiler"
INSTALL_DRIVER: Final = "install NVIDIA's driver for this GPU, or use another device"
OLDEST_DRIVER: Final = (12, 0)  # the first with the graph calls that libcuda names
_VISIBLE: Final = "CUDA_VISIBLE_DEVICES"


@cache
def cuda() -> Any:
    """pycuda.driver, its driver initialized; DeviceUnavailable with what to do where that cannot be."""
    fork_guard.check()
    try:
        libcuda.open_library()
    except OSError as error:
        raise DeviceUnavailable(op="cuda", expected="NVIDIA's driver", got=f"none: {error}",
                                hint=INSTALL_DRIVER) from error
    try:
        import pycuda.driver as driver
    except ImportError as error:  # not installed, or built with headers that are newer than the driver
        raise DeviceUnavailable(op="cuda", expected="pycuda", got=str(error), hint=INSTALL_PYCUDA) from error
    try:
        libcuda.library()
        driver.init()
    except AttributeError as error:
        raise _too_old(version(driver.get_driver_version())) from error
    except driver.Error as error:
        raise _refused(driver, error) from error
    found = version(driver.get_driver_version())
    if found < OLDEST_DRIVER:
        raise _too_old(found)
    atexit.register(_leave_contexts, driver)
    return driver


# a context does not survive a fork
fork_guard: Final = ForkGuard("cuda", in_use=lambda: cuda.cache_info().currsize > 0)


def version(number: int) -> tuple[int, int]:
    """The CUDA version that the driver writes as one number."""
    return number // 1000, number % 1000 // 10


def driver_version() -> str:
    """The newest CUDA that the driver knows, as in "13.0"."""
    return ".".join(map(str, version(cuda().get_driver_version())))


def _too_old(found: tuple[int, int]) -> DeviceUnavailable:
    return DeviceUnavailable(
        op="cuda", expected=f"a driver for CUDA {OLDEST_DRIVER[0]}.{OLDEST_DRIVER[1]} or newer",
        got=f"one for CUDA {found[0]}.{found[1]}", hint="Update NVIDIA's driver")


def _refused(driver: Any, error: Exception) -> DeviceUnavailable:
    code = libcuda.code_in(str(error))
    if code == libcuda.NO_DEVICE and _VISIBLE in os.environ:
        return DeviceUnavailable(op="cuda", expected="a GPU",
                                 got=f"none, with {_VISIBLE}={os.environ[_VISIBLE]!r}",
                                 hint=f"Unset {_VISIBLE}, or name a GPU that nvidia-smi lists")
    if code == libcuda.SYSTEM_DRIVER_MISMATCH:
        return DeviceUnavailable(op="cuda", expected="a driver library of the kernel module's version",
                                 got=str(error), hint="Restart the machine after a driver update")
    return DeviceUnavailable(op="cuda", expected="a GPU that the driver can use", got=str(error),
                             hint="Look whether nvidia-smi lists one")


def _leave_contexts(driver: Any) -> None:
    """pycuda aborts a process that ends with a context current, as where Ctrl-C came between two calls."""
    while not fork_guard.forked and driver.Context.get_current() is not None:
        driver.Context.pop()


# ---- devices -----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, as the driver numbers them; `name` is for people."""

    index: int
    name: str
    capability: tuple[int, int]  # compute capability, major and minor
    memory_bytes: int

    def attribute(self, name: str) -> int:
        """A device attribute by pycuda's name, such as MULTIPROCESSOR_COUNT."""
        return int(self.handle.get_attribute(getattr(cuda().device_attribute, name)))

    @property
    def handle(self) -> Any:
        """pycuda's device."""
        return cuda().Device(self.index)


@cache
def gpus() -> tuple[Gpu, ...]:
    """Every GPU. DeviceUnavailable if there is none."""
    driver = cuda()
    try:
        handles = [driver.Device(index) for index in range(driver.Device.count())]
        found = tuple(Gpu(index, handle.name(), handle.compute_capability(), handle.total_memory())
                      for index, handle in enumerate(handles))
    except driver.Error as error:
        raise _refused(driver, error) from error
    if not found:
        raise DeviceUnavailable(op="cuda", expected="a GPU", got="a driver that lists none",
                                hint="Look whether nvidia-smi lists one")
    return found


def gpu(index: int) -> Gpu:
    """GPU `index`; UnknownDevice if there are fewer."""
    found = gpus()
    if index >= len(found):
        raise UnknownDevice(f"cuda:{index} does not exist: the driver lists {len(found)}")
    return found[index]


@cache
def context(index: int) -> Any:
    """The primary context of a GPU, which other libraries of the process share. Kept until the process ends.

    DeviceUnavailable where the GPU is another process's alone, or has no memory left for a context.
    """
    found, driver = gpu(index), cuda()
    try:
        return found.handle.retain_primary_context()
    except driver.Error as error:
        code = libcuda.code_in(str(error))
        modes = driver.compute_mode
        mode = found.handle.get_attribute(driver.device_attribute.COMPUTE_MODE)
        op, expected = f"cuda:{index}", "a GPU that takes another process"
        place = found.handle.pci_bus_id()  # the driver's order need not be nvidia-smi's
        if mode == modes.PROHIBITED:
            raise DeviceUnavailable(op=op, expected=expected, got="compute mode 'prohibited'",
                                    hint=f"nvidia-smi -i {place} -c DEFAULT") from error
        if code == libcuda.DEVICE_UNAVAILABLE or mode == modes.EXCLUSIVE_PROCESS:
            raise DeviceUnavailable(op=op, expected=expected, got=f"one that is busy: {error}",
                                    hint=f"End the process that nvidia-smi -i {place} shows, or "
                                         f"nvidia-smi -i {place} -c DEFAULT") from error
        hint = ("Others use its memory: see nvidia-smi" if code == libcuda.OUT_OF_MEMORY
                else "Look whether nvidia-smi lists it as healthy")
        raise DeviceUnavailable(op=op, expected="a context", got=str(error), hint=hint) from error


def abandon(handle: Any) -> None:
    """Let a handle of pycuda's be destroyed never: with its context gone, each would print a warning."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(handle))
