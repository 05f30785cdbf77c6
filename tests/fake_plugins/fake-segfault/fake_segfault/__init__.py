"""A plugin whose driver crashes the process when it is probed."""
from __future__ import annotations

import ctypes

from pluggrad.plugin_api import Backend, Device, DeviceUnavailable, Probe, Target, Toolchain, hookimpl


class Absent(Backend):
    tier = 30

    def probe(self) -> Probe:
        ctypes.string_at(0)
        return Probe(1)

    def target(self, index: int, variant: str) -> Target:
        raise DeviceUnavailable("there is no such device")

    def toolchain(self, target: Target) -> Toolchain:
        raise DeviceUnavailable("there is no such device")

    def open(self, index: int, variant: str) -> Device:
        raise DeviceUnavailable("there is no such device")


@hookimpl
def pluggrad_backend(api):
    return Absent()
