"""The Metal devices of this machine, and what is asked of them. The first module that imports Metal.

The system's default device comes first: it is the one that Apple recommends.
"""
from __future__ import annotations

from functools import cache
from typing import Any, Final

import Metal
import objc

from pluggrad.plugin_api import DeviceUnavailable, ForkGuard, UnknownDevice
from pluggrad_metal.target import Gpu

_FIRST_FAMILY: Final = 1000  # MTLGPUFamilyApple1 is 1001, and so on
_NEWEST_FAMILY: Final = 32  # beyond those that exist


@cache
def devices() -> tuple[Any, ...]:
    """Every device; DeviceUnavailable if there is none, as in some virtual machines."""
    fork_guard.check()
    with objc.autorelease_pool():
        default = Metal.MTLCreateSystemDefaultDevice()  # nil in a process without a session on the screen
        every = list(Metal.MTLCopyAllDevices() or ())
    first = [] if default is None else [default]
    known = {device.registryID() for device in first}
    found = (*first, *(device for device in every if device.registryID() not in known))
    if not found:
        raise DeviceUnavailable("the system has no Metal device",
                                hint="use a Mac, or a virtual machine with a GPU")
    return found


# the Objective-C runtime ends a forked child that goes on with Metal
fork_guard: Final = ForkGuard("metal", in_use=lambda: devices.cache_info().currsize > 0)


def device(index: int) -> Any:
    """Device `index`; UnknownDevice if there are fewer."""
    found = devices()
    if index >= len(found):
        raise UnknownDevice(f"metal:{index} does not exist: there are {len(found)} Metal devices")
    return found[index]


def describe(device: Any) -> Gpu:
    """What a device says of itself, as data."""
    with objc.autorelease_pool():
        version = Metal.MTLCompileOptions.alloc().init().languageVersion()  # the newest, where none is set
        families = range(_NEWEST_FAMILY, 0, -1)
        return Gpu(
            name=str(device.name()),
            family=next((n for n in families if device.supportsFamily_(_FIRST_FAMILY + n)), 0),
            language=(version >> 16, version & 0xFFFF),
            unified=bool(device.hasUnifiedMemory()),
            working_set=int(device.recommendedMaxWorkingSetSize()),
            max_buffer=int(device.maxBufferLength()),
            max_items=int(device.maxThreadsPerThreadgroup().width),
            scratch=int(device.maxThreadgroupMemoryLength()))
