"""A plugin whose probe raises where it should report."""
from __future__ import annotations

from pluggrad.plugin_api import Backend, Device, DeviceUnavailable, Probe, Target, Toolchain, hookimpl


class Absent(Backend):
    tier = 20

    def probe(self) -> Probe:
        raise OSError("driver is older than the library")

    def target(self, index: int, variant: str) -> Target:
        raise DeviceUnavailable("there is no such device")

    def toolchain(self, target: Target) -> Toolchain:
        raise DeviceUnavailable("there is no such device")

    def open(self, index: int, variant: str) -> Device:
        raise DeviceUnavailable("there is no such device")


@hookimpl
def pluggrad_backend(api):
    return Absent()
