"""Running a plan command by command, for the settings that look at each kernel: SYNC, VALIDATE, DEBUG."""
from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pluggrad.config import DEBUG, VALIDATE
from pluggrad.device.contract import Command, Device, Launch, Signature, SlotRef
from pluggrad.dtypes import DType
from pluggrad.errors import InternalError, KernelFault
from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Kernel
from pluggrad.kernel.numpy_ops import decode
from pluggrad.kernel.text import kernel_text
from pluggrad.kernel.tolerance import agree

_log = logging.getLogger("pluggrad")


def report_sources(names: Sequence[str], sources: Sequence[str]) -> None:
    """Under DEBUG=3, the source of every kernel as it is compiled."""
    if DEBUG.value > 2:
        for name, source in zip(names, sources, strict=True):
            _log.warning("source of %s\n%s", name, source)


def run_stepwise(device: Device, commands: Sequence[Command], signatures: Sequence[Signature | None],
                 kernels: Sequence[Kernel | None], slots: Sequence[Any], values: Sequence[Any]) -> None:
    """Run and wait for each command by itself.

    KernelFault names the kernel; under VALIDATE, InternalError names the first whose results differ from the
    interpreter's. A plan that came from disk before the setting was on has no kernels to compare with.
    """
    widening = dict(device.target.capabilities.widening)
    for command, signature, kernel in zip(commands, signatures, kernels, strict=True):
        before = None
        if VALIDATE.value and isinstance(command, Launch) and kernel is not None:
            before = _contents(device, command, kernel, slots)
        started = time.perf_counter()
        try:
            device.submit([command], slots, values).wait()
        except KernelFault as error:
            name = type(command).__name__ if signature is None else signature.name
            raise KernelFault(op=f"kernel {name}", expected="a launch without a fault",
                              got=str(error)) from error
        if DEBUG.value > 1:
            name = type(command).__name__ if signature is None else signature.name
            _log.warning("%s %8.1f us", name, (time.perf_counter() - started) * 1e6)
        if before is not None and kernel is not None and isinstance(command, Launch):
            interpret(kernel, before, [values[i] for i in command.values])
            _compare(kernel, before, _contents(device, command, kernel, slots), widening)


def _contents(device: Device, command: Launch, kernel: Kernel, slots: Sequence[Any]) -> list[Any]:
    """Copies of every buffer that a kernel is given."""
    return [_read(device, slots, ref, param.dtype, param.size)
            for ref, param in zip(command.args, kernel.buffers, strict=True)]


def _read(device: Device, slots: Sequence[Any], ref: SlotRef, dtype: DType, size: int) -> Any:
    array = np.empty(size, dtype.numpy)
    if size:
        device.allocator.copyout(array.data.cast("B"), slots[ref.slot], ref.offset)
    return array


def _compare(kernel: Kernel, expected: Sequence[Any], got: Sequence[Any],
             widening: Mapping[str, float]) -> None:
    for number, (param, right, found) in enumerate(zip(kernel.buffers, expected, got, strict=True)):
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
