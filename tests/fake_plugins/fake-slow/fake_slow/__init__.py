"""A plugin that takes ten seconds to import."""
from __future__ import annotations

import time

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


time.sleep(10)


@hookimpl
def pluggrad_backend(api):
    return Absent()
