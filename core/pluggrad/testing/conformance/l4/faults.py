"""Faults: a list that cannot run is an error, and the device goes on."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pluggrad.device.contract import Allocation, Executable, Launch, SlotRef
from pluggrad.dtypes import Scalar
from pluggrad.errors import CompileError, DeviceError, KernelFault
from pluggrad.testing.conformance.kernels import affine
from pluggrad.testing.conformance.l0.toolchains import BAD_SOURCE
from pluggrad.testing.conformance.mismatch import Mismatch
from pluggrad.testing.conformance.registry import conformance
from pluggrad.testing.conformance.requirement import requires
from pluggrad.testing.conformance.subject import Subject

NEEDS = requires(dtype="int32")


class Foreign(Executable):
    """A kernel that belongs to no device."""

    def launch(self, args: Sequence[Allocation], values: Sequence[Scalar], grid: int, block: int,
               scratch: int) -> None:
        """A base class that launches it finds out."""
        raise KernelFault("a kernel of another device")


def _expect_usable(subject: Subject, after: str) -> None:
    data = np.arange(70, dtype=np.int32)
    out, _ = subject.run(affine(70), [np.zeros_like(data), data], (3, 4))
    subject.expect(out, data * 3 + 4, "int32", op=f"a launch after {after}",
                   suggests=f"the device is unusable after {after}")


@conformance("L4", "faults/foreign-kernel", requires=NEEDS, isolated=True,
             suggests="a launch that cannot work is not refused")
def foreign_kernel(subject: Subject) -> None:
    slots = [subject.upload(np.zeros(4, np.int32))]
    try:
        subject.device.submit([Launch(Foreign(), (SlotRef(0),), (), 1)], slots, ()).wait()
    except DeviceError:
        _expect_usable(subject, "a launch that was refused")
        return
    except Exception as error:
        raise Mismatch("launching a kernel of another device", expected="KernelFault, or another DeviceError",
                       got=f"{type(error).__name__}: {error}") from error
    raise Mismatch("launching a kernel of another device", expected="KernelFault", got="no error")


@conformance("L4", "faults/missing-slot", requires=NEEDS, isolated=True,
             suggests="a list that names a slot which is not there is run")
def missing_slot(subject: Subject) -> None:
    data = np.arange(70, dtype=np.int32)
    kernel, slots = subject.load(affine(70)), [subject.upload(data)]
    try:
        subject.device.submit(kernel.commands((0, 1)), slots, (1, 1)).wait()
    except Exception:
        _expect_usable(subject, "a list that named a slot which was not there")
        return
    raise Mismatch("a list of 2 slots, called with 1", expected="an error", got="none")


@conformance("L4", "faults/compile-error", requires=NEEDS, isolated=True,
             suggests="a kernel that does not compile spoils the toolchain or the device")
def compile_error(subject: Subject) -> None:
    for _ in range(3):
        try:
            subject.toolchain.compile(BAD_SOURCE)
        except CompileError:
            _expect_usable(subject, "a kernel that did not compile")
            continue
        raise Mismatch("compiling a wrong source", expected="CompileError", got="a binary")
