"""PLUGGRAD_VALIDATE: a launch beside the interpreter, which gets copies of the same buffers."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pluggrad.config import MATMUL_PRECISION
from pluggrad.device.contract import Device, Launch, SlotRef
from pluggrad.dtypes import DType
from pluggrad.errors import InternalError
from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Kernel
from pluggrad.kernel.numpy_ops import decode
from pluggrad.kernel.text import kernel_text
from pluggrad.kernel.tolerance import ROUNDED_FACTORS, agree


class Validation:
    """Made before a launch, from what its buffers hold; `check` after it compares what they hold then."""

    def __init__(self, device: Device, command: Launch, kernel: Kernel, slots: Sequence[Any]) -> None:
        self._device, self._command, self._kernel, self._slots = device, command, kernel, slots
        self._before = _contents(device, command, kernel, slots)

    def check(self, values: Sequence[Any]) -> None:
        """InternalError names the kernel if its results differ from the interpreter's."""
        interpret(self._kernel, self._before, [values[i] for i in self._command.values])
        found = _contents(self._device, self._command, self._kernel, self._slots)
        widening = dict(self._device.target.capabilities.widening)
        if MATMUL_PRECISION.value != "float32" and any(a.kind == "MATRIX" for a in self._kernel.axes):
            widening["float32"] = widening.get("float32", 1.0) * ROUNDED_FACTORS
        _compare(self._kernel, self._before, found, widening)


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
