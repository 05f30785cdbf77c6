"""A plugin whose import takes minutes in a process that looks at it alone."""
from __future__ import annotations

import sys
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


if "slow" in sys.argv:  # not where the default device is chosen, which has to wait for every import
    time.sleep(600)


@hookimpl
def pluggrad_backend(api):
    return Absent()
