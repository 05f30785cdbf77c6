"""Kernels and command lists in the form in which native code runs them."""
from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pluggrad.plugin_api import (
    DONE,
    Command,
    CopyCommand,
    DeviceError,
    DType,
    Event,
    Executable,
    FillCommand,
    Launch,
    Scalar,
    Signature,
    SlotRef,
)
from pluggrad_cpu.loader import Library
from pluggrad_cpu.memory import Block
from pluggrad_cpu.native import KERNEL, Runtime
from pluggrad_cpu.threads import Step, Team
from pluggrad_cpu.values import ValuePacker

# Chunks a thread: enough for a thread that is held up to leave its share to others.
_CHUNKS_PER_THREAD: Final = 8
# No chunk is estimated longer than this: between chunks is where Ctrl-C is seen.
_CHUNK_US: Final = 2000.0
# Copies and fills are cut into blocks of this size, which one core moves in about 25 us.
_BLOCK_BYTES: Final = 256 << 10
_BLOCK_US: Final = 25.0
_WORD: Final = 8


class CpuExecutable(Executable):
    """A loaded kernel: its address, and the library that keeps its code mapped."""

    def __init__(self, library: Library, signature: Signature, team: Team, runtime: Runtime) -> None:
        self.signature, self.address = signature, library.address(signature.name)
        self._library, self._team, self._runtime = library, team, runtime

    def launch(
        self, args: Sequence[Block], values: Sequence[Scalar], grid: int, block: int, scratch: int,
    ) -> None:
        """Run tasks 0..grid-1 on the whole team. `block` and `scratch` mean nothing to a CPU."""
        slots = tuple(SlotRef(slot) for slot in range(len(args)))
        command = Launch(self, slots, tuple(range(len(values))), grid, self._team.worth_us)
        CommandListRunner([command], self.signature.values, self._team, self._runtime)(args, values)


@dataclass(frozen=True, slots=True)
class _Record:
    """A command before it has memory: its values are positions among the list's, or else constants."""

    kernel: int
    args: tuple[SlotRef, ...]
    values: tuple[int, ...]
    constants: tuple[int, ...]
    tasks: int
    work_us: float


def _of_launch(command: Launch, _: Runtime) -> _Record:
    executable = command.executable
    if not isinstance(executable, CpuExecutable):
        raise DeviceError(op="command list", expected="kernels of this device", got=type(executable).__name__)
    return _Record(executable.address, command.args, command.values, (), command.tasks, command.work_us)


def _of_copy(command: CopyCommand, runtime: Runtime) -> _Record:
    return _of_blocks(runtime.copy, (command.target, command.source), command.nbytes)


def _of_fill(command: FillCommand, runtime: Runtime) -> _Record:
    return _of_blocks(runtime.fill, (command.target,), command.nbytes)


def _of_blocks(kernel: int, args: tuple[SlotRef, ...], nbytes: int) -> _Record:
    tasks = -(-nbytes // _BLOCK_BYTES)
    return _Record(kernel, args, (), (nbytes, _BLOCK_BYTES), tasks, tasks * _BLOCK_US)


_RECORDS: Final[dict[type[Command], Callable[..., _Record]]] = {
    Launch: _of_launch, CopyCommand: _of_copy, FillCommand: _of_fill}


class CommandListRunner:
    """A command list in native memory, laid out as `%List` of commands.ll. Calling it binds and runs it.

    Words of 8 bytes: the list's header, then a record for each command, argument pointers, their places (slot
    and offset), slot addresses, kernel values, their positions among the list's values, constants, the list's
    values.
    """

    def __init__(
        self, commands: Sequence[Command], value_dtypes: Sequence[DType], team: Team, runtime: Runtime,
    ) -> None:
        self._commands = tuple(commands)  # keeps the kernels' code mapped
        self._team = team
        records = [_RECORDS[type(command)](command, runtime) for command in commands]
        self.slots = 1 + max((ref.slot for record in records for ref in record.args), default=-1)
        self._lay_out(records, len(value_dtypes))
        self._pack_slots = struct.Struct(f"<{self.slots}Q").pack_into
        self._pack_values = ValuePacker(value_dtypes).pack_into
        self._has_values = bool(value_dtypes)
        self._steps: tuple[Step, ...] | None = None

    def _lay_out(self, records: Sequence[_Record], value_count: int) -> None:
        places = [ref for record in records for ref in record.args]
        positions = [position for record in records for position in record.values]
        constants = [constant for record in records for constant in record.constants]
        sizes = (10, 6 * len(records), len(places), 2 * len(places), self.slots, len(positions),
                 len(positions), len(constants), value_count)
        starts = [sum(sizes[:part]) for part in range(len(sizes))]
        memory = array("Q", bytes(_WORD * max(1, sum(sizes))))
        self.address, _ = memory.buffer_info()
        _, record_at, arg_at, place_at, slot_at, kernel_value_at, position_at, constant_at, value_at = (
            self.address + _WORD * start for start in starts)
        words = [record_at, len(records), arg_at, place_at, len(places), slot_at,
                 kernel_value_at, position_at, len(positions), value_at]
        for record in records:
            values_at = constant_at if record.constants else kernel_value_at
            words += [record.kernel, arg_at, values_at, record.tasks, *self._schedule(record)]
            arg_at += _WORD * len(record.args)
            kernel_value_at += _WORD * len(record.values)
            constant_at += _WORD * len(record.constants)
        memory[:len(words)] = array("Q", words)
        memory[starts[3]:starts[4]] = array("Q", [word for ref in places for word in (ref.slot, ref.offset)])
        memory[starts[6]:starts[7]] = array("Q", positions)
        memory[starts[7]:starts[8]] = array("Q", constants)
        self._memory, self._record_words = memory, (starts[1], starts[2])
        self._slot_offset, self._value_offset = _WORD * starts[4], _WORD * starts[8]
        self.parallel = any(words[15::6])

    def _schedule(self, record: _Record) -> tuple[int, int]:
        """Tasks of a chunk, and whether the team takes part (1) or the caller runs it alone (0)."""
        parallel = record.tasks > 1 and self._team.size > 1 and record.work_us >= self._team.worth_us
        shares = self._team.size * _CHUNKS_PER_THREAD if parallel else 1
        pieces = max(shares, math.ceil(record.work_us / _CHUNK_US))
        return max(1, record.tasks // pieces), int(parallel)

    def steps(self) -> tuple[Step, ...]:
        """The commands one by one, for a team that runs them from Python."""
        if self._steps is None:
            first, stop = self._record_words
            words = self._memory[first:stop].tolist()
            self._steps = tuple(
                Step(KERNEL(kernel), args, values, tasks, chunk, bool(parallel))
                for kernel, args, values, tasks, chunk, parallel in zip(*[iter(words)] * 6))
        return self._steps

    def __call__(self, slots: Sequence[Block], values: Sequence[Scalar]) -> Event:
        """Run with these blocks as the slots and these run-time values; complete on return.

        Slots beyond the last that a command names are ignored.
        """
        team = self._team
        with team.lock:
            addresses = [block.address for block in slots[:self.slots]]
            self._pack_slots(self._memory, self._slot_offset, *addresses)
            if self._has_values:
                self._pack_values(self._memory, self._value_offset, values)
            team.run(self)
        return DONE
