"""Kernels, and command lists that are encoded anew each time they run.

Indirect command buffers would spare the encoding. They are not used: they take no values in line, each buffer
must be made resident by name, and the virtual GPUs on which this can be tried do not run them rightly.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

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
    pack_values,
)
from pluggrad_metal.encoder import Encoder
from pluggrad_metal.memory import Block
from pluggrad_metal.queue import MetalEvent, Queue

Step = Callable[[Encoder, Sequence[Block], Sequence[Scalar]], None]
Begin = Callable[[], Encoder]


class MetalExecutable(Executable):
    """A loaded kernel: its pipeline state."""

    def __init__(self, pipeline: Any, signature: Signature, queue: Queue, begin: Begin) -> None:
        self.pipeline, self.signature = pipeline, signature
        self._queue, self._begin = queue, begin

    def launch(self, args: Sequence[Block], values: Sequence[Scalar], grid: int, block: int,
               scratch: int) -> None:
        """Run tasks 0..grid-1, `block` work items each, and wait for them."""
        if not grid:
            return
        with self._begin() as encoder:
            encoder.launch(self.pipeline, self.signature.name, [(a.buffer, a.offset) for a in args],
                           pack_values(values, self.signature.values), grid, block)
        self._queue.wait_for(encoder.buffers)


class CommandList:
    """A command list, ready to be encoded with other slots and values each time."""

    def __init__(self, commands: Sequence[Command], queue: Queue, begin: Begin) -> None:
        self._queue, self._begin = queue, begin
        self._steps = [_STEPS[type(command)](command) for command in commands if not _is_empty(command)]

    def __call__(self, slots: Sequence[Block], values: Sequence[Scalar]) -> Event:
        """Encode and commit all commands; the event is complete when the last of them is."""
        if not self._steps:
            return DONE
        with self._begin() as encoder:
            for step in self._steps:
                step(encoder, slots, values)
        return MetalEvent(self._queue, encoder.buffers)


def _is_empty(command: Command) -> bool:
    return not (command.tasks if isinstance(command, Launch) else command.nbytes)


def _launch(command: Launch) -> Step:
    executable = command.executable
    if not isinstance(executable, MetalExecutable):
        raise DeviceError(op="command list", expected="kernels of this device", got=type(executable).__name__)
    pipeline, name, dtypes = executable.pipeline, executable.signature.name, executable.signature.values
    args = [(ref.slot, ref.offset) for ref in command.args]
    positions, tasks, items, barrier = command.values, command.tasks, command.group, command.barrier

    def step(encoder: Encoder, slots: Sequence[Block], values: Sequence[Scalar]) -> None:
        buffers = [(slots[slot].buffer, slots[slot].offset + offset) for slot, offset in args]
        packed = pack_values([values[i] for i in positions], dtypes)
        encoder.launch(pipeline, name, buffers, packed, tasks, items, barrier)
    return step


def _copy(command: CopyCommand) -> Step:
    target, source, nbytes = command.target, command.source, command.nbytes

    def step(encoder: Encoder, slots: Sequence[Block], values: Sequence[Scalar]) -> None:
        to, what = slots[target.slot], slots[source.slot]
        encoder.copy(to.buffer, to.offset + target.offset, what.buffer, what.offset + source.offset, nbytes)
    return step


def _fill(command: FillCommand) -> Step:
    target, nbytes = command.target, command.nbytes

    def step(encoder: Encoder, slots: Sequence[Block], values: Sequence[Scalar]) -> None:
        block = slots[target.slot]
        encoder.fill(block.buffer, block.offset + target.offset, nbytes)
    return step


_STEPS: Final[dict[type[Command], Callable[..., Step]]] = {
    Launch: _launch, CopyCommand: _copy, FillCommand: _fill}
