"""Running a plan command by command: for observers, and for the settings SYNC, VALIDATE and DEBUG."""
from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pluggrad.config import DEBUG, VALIDATE
from pluggrad.device.contract import Command, CopyCommand, Device, Event, Launch
from pluggrad.device.hookspecs import CopyFinished, KernelFinished, KernelInfo
from pluggrad.device.registry import REGISTRY
from pluggrad.errors import DeviceLost, KernelFault
from pluggrad.kernel.kernel import Kernel
from pluggrad.profiling.limits import limits_of
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
    for step in steps:
        command, kernel, validation = step.command, step.kernel, None
        if VALIDATE.value and isinstance(command, Launch) and kernel is not None:
            from pluggrad.runtime.validation import Validation  # loads the interpreter

            validation = Validation(device, command, kernel, slots)
        start, seconds = _run(device, step, slots, values)
        if DEBUG.value > 1:
            _log.warning("%s %8.1f us%s", step.name, seconds * 1e6, _rates(device_id, step.info, seconds))
        if REGISTRY.observed:
            _tell(device_id, step, start, seconds)
        if validation is not None:
            validation.check(values)


def _rates(device: DeviceId, info: KernelInfo | None, seconds: float) -> str:
    """A kernel's arithmetic and traffic by time, its share of the device's limit, and what it computes."""
    if info is None or not seconds:
        return ""
    limits = limits_of(device)
    share = "" if limits is None else f" {limits.text(info, seconds):>13}"
    return (f" {info.flops / seconds / 1e9:8.1f} GFLOP/s {info.bytes / seconds / 1e9:7.1f} GB/s{share}"
            f"  {info.title}")


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
