"""A plugin that says which later version of the plugin API it needs."""
from __future__ import annotations

from pluggrad.plugin_api import Backend, Device, DeviceUnavailable, Probe, Target, Toolchain, hookimpl


class Demanding(Backend):
    api_minor = 999

    def probe(self) -> Probe:
        return Probe(1)

    def target(self, index: int, variant: str) -> Target:
        raise DeviceUnavailable("there is no such device")

    def toolchain(self, target: Target) -> Toolchain:
        raise DeviceUnavailable("there is no such device")

    def open(self, index: int, variant: str) -> Device:
        raise DeviceUnavailable("there is no such device")


@hookimpl
def pluggrad_backend(api):
    return Demanding()
