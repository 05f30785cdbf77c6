"""Who uses a driver in a forked child is told so; the child of a process that did not use it is free to."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

IN_A_CHILD = """
import os
from pluggrad.plugin_api import ForkGuard, KernelFault

in_use = {in_use}
guard = ForkGuard("acme", in_use=lambda: in_use)
guard.check()
if os.fork() == 0:
    in_use = False  # whatever the child does
    try:
        guard.check()
        print("free", guard.forked, flush=True)
    except KernelFault as error:
        print(str(error), guard.forked, flush=True)
    os._exit(0)
os.wait()
guard.check()
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def said(in_use: bool) -> str:
    made = subprocess.run([sys.executable, "-c", IN_A_CHILD.format(in_use=in_use)],
                          capture_output=True, text=True, timeout=100, check=False)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def test_a_child_of_a_process_with_the_driver_in_use_is_told():
    text = said(in_use=True)
    assert text.endswith("True")
    assert "acme" in text
    assert "a child that was forked from it" in text
    assert "spawn" in text


def test_any_other_child_is_free():
    assert said(in_use=False) == "free False"


CLOSING = """
import os
from pluggrad.device.ref import RefDevice
from pluggrad.device.registry import REGISTRY
from pluggrad.target import DeviceId

parent = os.getpid()
RefDevice.close = lambda self: os.write(1, b"in the parent " if os.getpid() == parent else b"in the child ")
REGISTRY.open_device(DeviceId("ref"))
if os.fork():
    os.wait()
"""


def test_a_child_that_ends_leaves_its_parent_s_devices_open():
    command = [sys.executable, "-c", CLOSING]
    made = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert made.stdout == "in the parent "
