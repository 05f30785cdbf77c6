"""Opening: what exists opens, closes and opens again."""
from __future__ import annotations

import numpy as np

from pluggrad.device.contract import Allocator, Device
from pluggrad.errors import DeviceError
from pluggrad.testing.conformance.fresh import in_fresh_process
from pluggrad.testing.conformance.kernels import affine
from pluggrad.testing.conformance.mismatch import Mismatch, expect
from pluggrad.testing.conformance.registry import conformance
from pluggrad.testing.conformance.requirement import requires
from pluggrad.testing.conformance.subject import Subject


@conformance("L0", "open", suggests="the device does not open, or what it opens is not a Device")
def opens(subject: Subject) -> None:
    device = subject.device
    expect(isinstance(device, Device), "Backend.open()", expected="a Device", got=type(device).__name__)
    expect(isinstance(device.allocator, Allocator), "Device.allocator", expected="an Allocator",
           got=type(device.allocator).__name__)


@conformance("L0", "open/close-and-open-again", requires=requires(dtype="int32"), isolated=True,
             suggests="close() leaves something behind, or takes away what a new device needs")
def close_and_open_again(subject: Subject) -> None:
    data, hardware = np.arange(9, dtype=np.int32), subject.hardware
    for attempt in range(3):
        device = subject.backend.open(hardware.index, hardware.variant)
        block = device.allocator.alloc(data.nbytes)
        device.allocator.copyin(block, 0, data.view(np.uint8).data)
        found = np.zeros_like(data)
        device.allocator.copyout(found.view(np.uint8).data, block, 0)
        device.allocator.free(block)
        device.close()
        subject.expect(found, data, "int32", op=f"copy, opened the {attempt + 1}. time")


def used(name: str) -> list[int]:
    """What a process does that uses a device and ends."""
    subject = Subject(name)
    data = np.arange(5, dtype=np.int32)
    found = subject.run(affine(5), [np.zeros_like(data), data], (1, 1))[0]
    subject.release()
    result: list[int] = found.tolist()
    return result


@conformance("L0", "open/exit", requires=requires(dtype="int32"),
             suggests="the process does not end well once the device was used: close() or a finalizer fails")
def exits(subject: Subject) -> None:
    found = in_fresh_process(used, subject.name)
    subject.expect(np.array(found, np.int32), np.arange(1, 6, dtype=np.int32), "int32", op="launch")


@conformance("L0", "open/beyond-the-last", suggests="probe() counts devices that are not there")
def beyond_the_last(subject: Subject) -> None:
    count = subject.backend.probe().count
    name = f"{subject.id.type}:{count}"
    try:
        Subject(name).id  # noqa: B018
    except DeviceError as error:
        expect(name in str(error), "the error names the device", expected=name, got=str(error))
        return
    raise Mismatch(f"asking for {name}", expected="DeviceUnavailable", got="a device")
