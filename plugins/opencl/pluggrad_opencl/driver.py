"""The devices of every OpenCL platform, in one order. The first module that imports pyopencl.

GPUs and accelerators come before CPUs; among equals the platform's name and the platform's own order decide:
an index means the same device in every process.
"""
from __future__ import annotations

import os
from functools import cache
from typing import Any, Final

# PoCL: no second compilation at a kernel's first launch; no cache of its own beside the core's, in which a
# build that crashed would stay
_DRIVER_DEFAULTS: Final = {"POCL_WORK_GROUP_SPECIALIZATION": "0", "POCL_KERNEL_CACHE": "0",
                           "PYOPENCL_NO_CACHE": "1"}
for _name, _value in _DRIVER_DEFAULTS.items():
    os.environ.setdefault(_name, _value)

import pyopencl as cl  # noqa: E402  reads the environment when it is imported

from pluggrad.plugin_api import DeviceUnavailable, ForkGuard, UnknownDevice  # noqa: E402
from pluggrad_opencl import processor  # noqa: E402

INSTALL: Final = "pip install 'pluggrad-opencl[pocl]', or install a driver for your device"
_NO_PLATFORM: Final = -1001  # CL_PLATFORM_NOT_FOUND_KHR: the loader has no driver to ask
_CPU_RANK: Final = 1


def is_cpu(device: cl.Device) -> bool:
    """Whether a device is the host's processor."""
    return bool(device.type & cl.device_type.CPU)


@cache
def devices() -> tuple[cl.Device, ...]:
    """Every device. DeviceUnavailable if there is no platform or none of them has a device."""
    fork_guard.check()
    try:
        platforms = cl.get_platforms()
    except cl.Error as error:
        if error.code == _NO_PLATFORM:
            raise DeviceUnavailable("no OpenCL platform is installed", hint=INSTALL) from error
        raise
    ranked: list[tuple[tuple[Any, ...], cl.Device]] = []
    for platform in platforms:
        for number, device in enumerate(_of_platform(platform)):
            ranked.append(((_CPU_RANK if is_cpu(device) else 0, platform.name, number), device))
    if not ranked:
        names = ", ".join(platform.name for platform in platforms)
        raise DeviceUnavailable(f"no device on any OpenCL platform ({names})", hint=INSTALL)
    return tuple(device for _, device in sorted(ranked, key=lambda pair: pair[0]))


# the driver's threads stay behind, and calls of a child would wait for them
fork_guard: Final = ForkGuard("opencl", in_use=lambda: devices.cache_info().currsize > 0)


def _of_platform(platform: cl.Platform) -> list[cl.Device]:
    try:
        return list(platform.get_devices())
    except cl.Error:  # a driver without its hardware; other platforms go on
        return []


def device(index: int) -> cl.Device:
    """Device `index`; UnknownDevice if there are fewer."""
    found = devices()
    if index >= len(found):
        raise UnknownDevice(f"opencl:{index} does not exist: there are {len(found)} OpenCL devices")
    return found[index]


def label(device: cl.Device) -> str:
    """A device and its platform, for people."""
    return f"{' '.join(device.name.split())} ({device.platform.name})"


@cache
def processor_name(device: cl.Device) -> str:
    """The processor that a PoCL was told to make code for, "" where it knows its own. Before any build."""
    return processor.name_processor(device)


@cache
def context(platform: cl.Platform) -> cl.Context:
    """One context for all devices of a platform: they can then copy to each other."""
    fork_guard.check()
    members = [device for device in devices() if device.platform == platform]
    for member in members:
        processor_name(member)
    return cl.Context(members)
