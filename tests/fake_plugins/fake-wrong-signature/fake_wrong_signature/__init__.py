"""A plugin whose hook takes an argument that is not there."""
from __future__ import annotations

from pluggrad.plugin_api import Backend, Device, DeviceUnavailable, Probe, Target, Toolchain, hookimpl


class Absent(Backend):
    tier = 20

    def probe(self) -> Probe:
        return Probe(0, reason="this device exists on paper only", fix="buy one")

    def target(self, index: int, variant: str) -> Target:
        raise DeviceUnavailable("there is no such device")

    def toolchain(self, target: Target) -> Toolchain:
        raise DeviceUnavailable("there is no such device")

    def open(self, index: int, variant: str) -> Device:
        raise DeviceUnavailable("there is no such device")


@hookimpl
def pluggrad_backend(api, driver):
    return Absent()
