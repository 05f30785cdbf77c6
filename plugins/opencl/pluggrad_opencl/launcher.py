"""Kernels and command lists as calls of the driver. Arguments that have not changed are not set again."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import pyopencl as cl

from pluggrad.plugin_api import (
    DONE,
    Command,
    CopyCommand,
    DeviceError,
    Event,
    Executable,
    FillCommand,
    Launch,
    Scalar,
    Signature,
    SlotRef,
    pack_values,
)
from pluggrad_opencl.memory import Block
from pluggrad_opencl.queue import OpenCLEvent, Queue

_ZERO: Final = np.zeros(1, np.uint8)
_SLOT: Final = 8  # bytes of a packed value

Enqueue = Callable[[cl.CommandQueue, Sequence[Block], Sequence[Scalar]], cl.Event]


class OpenCLExecutable(Executable):
    """A loaded kernel, and the arguments that it was given last: buffers first, then the run-time values."""

    def __init__(self, kernel: cl.Kernel, signature: Signature, queue: Queue) -> None:
        self.signature, self._kernel, self._queue = signature, kernel, queue
        self._sizes = [b.size * b.dtype.itemsize for b in signature.buffers]
        self._bound: list[Any] = [None] * (len(signature.buffers) + len(signature.values))

    def launch(self, args: Sequence[Block], values: Sequence[Scalar], grid: int, block: int,
               scratch: int) -> None:
        """Run tasks 0..grid-1, `block` work items each, and wait for them."""
        with self._queue as commands:
            self.bind([allocation.buffer for allocation in args], values)
            event = self.enqueue(commands, grid, block)
            self._queue.sent(event)
        self._queue.wait_for(event)

    def buffer(self, slots: Sequence[Block], number: int, ref: SlotRef) -> cl.Buffer:
        """Argument `number`: the slot's buffer, or the part of it that this kernel uses."""
        block = slots[ref.slot]
        return block.part(ref.offset, self._sizes[number]) if ref.offset else block.buffer

    def bind(self, buffers: Sequence[cl.Buffer], values: Sequence[Scalar]) -> None:
        """Set the arguments for the next launch; the caller holds the queue."""
        bound, kernel = self._bound, self._kernel
        for number, buffer in enumerate(buffers):
            if bound[number] is not buffer:
                kernel.set_arg(number, buffer)
                bound[number] = buffer
        if values:
            packed = pack_values(values, self.signature.values)
            for number, dtype in enumerate(self.signature.values):
                bits = packed[_SLOT * number:_SLOT * number + dtype.itemsize]
                place = len(buffers) + number
                if bound[place] != bits:
                    kernel.set_arg(place, bits)
                    bound[place] = bits

    def enqueue(self, commands: cl.CommandQueue, tasks: int, items: int) -> cl.Event:
        """Launch with the arguments that are bound."""
        return cl.enqueue_nd_range_kernel(commands, self._kernel, (tasks * items,), (items,))


class CommandList:
    """A command list, ready to be enqueued with other slots and values each time."""

    def __init__(self, commands: Sequence[Command], queue: Queue) -> None:
        self._queue = queue
        self._steps = [_STEPS[type(command)](command) for command in commands if not _is_empty(command)]

    def __call__(self, slots: Sequence[Block], values: Sequence[Scalar]) -> Event:
        """Enqueue all commands; the event is complete when the last of them is."""
        if not self._steps:
            return DONE
        queue = self._queue
        with queue as commands:
            first = last = self._steps[0](commands, slots, values)
            for step in self._steps[1:]:
                last = step(commands, slots, values)
            queue.sent(last)
        return OpenCLEvent(queue, first, last)


def _is_empty(command: Command) -> bool:
    return not (command.tasks if isinstance(command, Launch) else command.nbytes)


def _launch(command: Launch) -> Enqueue:
    executable = command.executable
    if not isinstance(executable, OpenCLExecutable):
        raise DeviceError(op="command list", expected="kernels of this device", got=type(executable).__name__)
    args = tuple(enumerate(command.args))
    positions, tasks, items = command.values, command.tasks, command.group
    find, bind, enqueue = executable.buffer, executable.bind, executable.enqueue

    def step(commands: cl.CommandQueue, slots: Sequence[Block], values: Sequence[Scalar]) -> cl.Event:
        bind([find(slots, number, ref) for number, ref in args], [values[i] for i in positions])
        return enqueue(commands, tasks, items)
    return step


def _copy(command: CopyCommand) -> Enqueue:
    target, source = command.target, command.source

    def step(commands: cl.CommandQueue, slots: Sequence[Block], values: Sequence[Scalar]) -> cl.Event:
        return cl.enqueue_copy(commands, slots[target.slot].buffer, slots[source.slot].buffer,
                               byte_count=command.nbytes, src_offset=source.offset, dst_offset=target.offset)
    return step


def _fill(command: FillCommand) -> Enqueue:
    target = command.target

    def step(commands: cl.CommandQueue, slots: Sequence[Block], values: Sequence[Scalar]) -> cl.Event:
        return cl.enqueue_fill_buffer(commands, slots[target.slot].buffer, _ZERO, target.offset,
                                      command.nbytes)
    return step


_STEPS: Final[dict[type[Command], Callable[..., Enqueue]]] = {
    Launch: _launch, CopyCommand: _copy, FillCommand: _fill}
