"""Running a plan command by command: for observers, and for the settings SYNC, VALIDATE and DEBUG."""
from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pluggrad.config import DEBUG, VALIDATE
from pluggrad.device.contract import Command, CopyCommand, Device, Event, Launch, SlotRef
from pluggrad.device.hookspecs import CopyFinished, KernelFinished, KernelInfo
from pluggrad.device.registry import REGISTRY
from pluggrad.dtypes import DType
from pluggrad.errors import DeviceLost, InternalError, KernelFault
from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Kernel
from pluggrad.kernel.numpy_ops import decode
from pluggrad.kernel.text import kernel_text
from pluggrad.kernel.tolerance import agree
from pluggrad.target import DeviceId

_log = logging.getLogger("pluggrad")


def report_sources(names: Sequence[str], sources: Sequence[str]) -> None:
    """Under DEBUG=3, the source of every kernel as it is compiled."""
    if DEBUG.value > 2:
        for name, source in zip(names, sources, strict=True):
            _log.warning("source of %s\n%s", name, source)


@dataclass(frozen=True, slots=True)
class Step:
    """A command by itself. info, kernel: of a launch, where known: a plan from disk has no kernels."""

    command: Command
    info: KernelInfo | None
    kernel: Kernel | None
    start: Callable[[Sequence[Any], Sequence[Any]], Event]

    @property
    def name(self) -> str:
        """The kernel's symbol, or the kind of command."""
        return type(self.command).__name__ if self.info is None else self.info.name


def run_stepwise(device_id: DeviceId, device: Device, steps: Sequence[Step], slots: Sequence[Any],
                 values: Sequence[Any]) -> None:
    """Run and wait for each command by itself, log its time under DEBUG, and tell observers.

    KernelFault names the kernel; under VALIDATE, InternalError names the first whose results differ from the
    interpreter's. A plan that came from disk before the setting was on has no kernels to compare with.
    """
    widening = dict(device.target.capabilities.widening)
    for step in steps:
        command, kernel, before = step.command, step.kernel, None
        if VALIDATE.value and isinstance(command, Launch) and kernel is not None:
            before = _contents(device, command, kernel, slots)
        start, seconds = _run(device, step, slots, values)
        if DEBUG.value > 1:
            _log.warning("%s %8.1f us%s", step.name, seconds * 1e6, _rates(step.info, seconds))
        if REGISTRY.observed:
            _tell(device_id, step, start, seconds)
        if before is not None and kernel is not None and isinstance(command, Launch):
            interpret(kernel, before, [values[i] for i in command.values])
            _compare(kernel, before, _contents(device, command, kernel, slots), widening)


def _rates(info: KernelInfo | None, seconds: float) -> str:
    """Arithmetic and memory traffic of a kernel by time, and what it computes, as logs show them."""
    if info is None or not seconds:
        return ""
    return f" {info.flops / seconds / 1e9:8.1f} GFLOP/s {info.bytes / seconds / 1e9:7.1f} GB/s  {info.title}"


def _run(device: Device, step: Step, slots: Sequence[Any], values: Sequence[Any]) -> tuple[float, float]:
    """Run one command; when it began and how long it took, by the device's clock where it has one."""
    start = time.perf_counter()
    try:
        event = step.start(slots, values)
        event.wait()
    except DeviceLost:
        raise
    except KernelFault as error:
        raise KernelFault(op=f"kernel {step.name}", expected="a launch without a fault",
                          got=str(error)) from error
    seconds = time.perf_counter() - start
    if "events" not in device.target.capabilities.features:
        return start, seconds
    measured = min(seconds, device.elapsed(event))  # type: ignore[attr-defined]
    return start + seconds - measured, measured


def _tell(device: DeviceId, step: Step, start: float, seconds: float) -> None:
    if step.info is not None:
        REGISTRY.tell("pluggrad_kernel_finished", event=KernelFinished(device, step.info, start, seconds))
    elif isinstance(step.command, CopyCommand):
        event = CopyFinished(device, "copy", step.command.nbytes, start, seconds)
        REGISTRY.tell("pluggrad_copy_finished", event=event)


def _contents(device: Device, command: Launch, kernel: Kernel, slots: Sequence[Any]) -> list[Any]:
    """Copies of every buffer that a kernel is given."""
    return [_read(device, slots, ref, param.dtype, param.size)
            for ref, param in zip(command.args, kernel.arguments, strict=True)]


def _read(device: Device, slots: Sequence[Any], ref: SlotRef, dtype: DType, size: int) -> Any:
    array = np.empty(size, dtype.numpy)
    if size:
        device.allocator.copyout(array.data.cast("B"), slots[ref.slot], ref.offset)
    return array


def _compare(kernel: Kernel, expected: Sequence[Any], got: Sequence[Any],
             widening: Mapping[str, float]) -> None:
    for number, (param, right, found) in enumerate(zip(kernel.arguments, expected, got, strict=True)):
        if param.role in ("in", "status"):  # which of several wrong indices is reported depends on the order
            continue
        # a kernel may hold a sum, and fuses what is around it
        same = agree(decode(found, param.dtype), decode(right, param.dtype), param.dtype, "sum",
                     widening=widening.get(param.dtype.name, 1.0))
        if not same.all():
            raise InternalError(op=f"kernel {kernel.name}",
                                expected=f"the interpreter's values in buffer {number}",
                                got=f"others at {int(np.sum(~same))} of {param.size} elements",
                                hint=f"Please report it with this kernel:\n{kernel_text(kernel)}")
