"""The Metal devices of this machine, and what is asked of them. The first module that imports Metal.

The system's default device comes first: it is the one that Apple recommends.
"""
from __future__ import annotations

import os
from functools import cache
from typing import Any, Final

import Metal
import objc

from pluggrad.plugin_api import DeviceUnavailable, KernelFault, UnknownDevice
from pluggrad_metal.target import Gpu

_FIRST_FAMILY: Final = 1000  # MTLGPUFamilyApple1 is 1001, and so on
_NEWEST_FAMILY: Final = 32  # beyond those that exist

_forked = False


def _after_fork() -> None:
    global _forked
    _forked = _forked or devices.cache_info().currsize > 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def require_own_process() -> None:
    """KernelFault in a forked child: the Objective-C runtime ends a process that goes on with Metal there."""
    if _forked:
        raise KernelFault(
            op="metal", expected="the process that asked for devices", got="a child that was forked from it",
            hint="Start processes with multiprocessing's method 'spawn', or use metal in the child only")


@cache
def devices() -> tuple[Any, ...]:
    """Every device; DeviceUnavailable if there is none, as in some virtual machines."""
    require_own_process()
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
