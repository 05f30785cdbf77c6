"""The device `fragile`: the reference device, but what it does when it loads a kernel depends on the size.

The variable FRAGILE holds rows `size=deed`, for example "7=hang,64=segfault".
"""

from __future__ import annotations

import ctypes
import os
import sys
import time

from pluggrad.device.ref import RefBackend, RefDevice
from pluggrad.plugin_api import DeviceUnavailable, KernelFault, hookimpl


def hang() -> None:
    print("about to hang")
    while True:
        time.sleep(0.1)


def segfault() -> None:
    print("about to crash")
    sys.stdout.flush()
    ctypes.string_at(0)


def fault() -> None:
    print("about to fail")
    raise KernelFault(op="load", expected="a kernel without a seven", got="one with a seven")


DEEDS = {"hang": hang, "segfault": segfault, "fault": fault, "exit": lambda: os._exit(3), "quit": sys.exit}


class FragileDevice(RefDevice):
    def load(self, binary, signature):
        rows = dict(row.split("=") for row in os.environ["FRAGILE"].split(",") if row)
        deed = rows.get(str(signature.buffers[0].size))
        if deed is not None:
            DEEDS[deed]()
        return super().load(binary, signature)


class FragileBackend(RefBackend):
    def open(self, index, variant):
        if os.environ.get("FRAGILE_OPEN") == "unavailable":
            raise DeviceUnavailable("fragile is in use elsewhere")
        if os.environ.get("FRAGILE_OPEN") == "segfault":
            segfault()
        return FragileDevice()


@hookimpl
def pluggrad_backend(api):
    return FragileBackend()
