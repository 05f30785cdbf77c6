"""Kernels and command lists in the form in which native code runs them."""
from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, NamedTuple

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

# Chunks of a wave for each thread: enough for one that is held up to leave its share to others.
_CHUNKS_PER_THREAD: Final = 8
# A fourth of the chunks, the last, is cut so much finer: nobody waits long for whoever took the last one.
_LAST_OF: Final = 4
_FINER: Final = 4
# No chunk is estimated longer than this: between chunks is where Ctrl-C is seen.
_CHUNK_US: Final = 2000.0
# Tasks are not handed out in chunks below this: to take one costs 0.1 us, and more where all take at once.
_LEAST_CHUNK_US: Final = 1.0
# Copies and fills are cut into blocks of this size, which one core moves in about 25 us.
_BLOCK_BYTES: Final = 256 << 10
_BLOCK_US: Final = 25.0
_WORD: Final = 8
_RECORD_WORDS: Final = 8
_FEW_SLOTS: Final = 6  # are written one by one
_ADDRESS: Final = attrgetter("address")
# how a wave is run: by the caller, also by those who are awake, or by all
_ALONE, _AWAKE, _ALL = 0, 1, 2


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


class _Chunks(NamedTuple):
    """How tasks are handed out: `coarse` times `size` of them, then what is left, `fine` at a time."""

    size: int
    coarse: int
    fine: int
    total: int


@dataclass(frozen=True, slots=True)
class _Wave:
    """Records that may run side by side, each with its chunks; the longest chunks come first."""

    records: tuple[_Record, ...]
    chunks: tuple[_Chunks, ...]
    sharing: int


def _waves(commands: Sequence[Command], records: Sequence[_Record]) -> list[list[_Record]]:
    """Records by wave: a copy or a fill is one of its own."""
    waves: list[list[_Record]] = []
    joined = False
    for command, record in zip(commands, records):
        launch = isinstance(command, Launch)
        if joined and launch and not command.barrier:  # type: ignore[union-attr]
            waves[-1].append(record)
        else:
            waves.append([record])
        joined = launch
    return waves


def _cut(records: list[_Record], team: Team) -> _Wave:
    """A wave in chunks of about the same estimated work."""
    work = sum(record.work_us for record in records)
    several = team.size > 1 and sum(record.tasks for record in records) > 1
    sharing = _ALONE if not several or work < team.awake_us else _AWAKE if work < team.worth_us else _ALL
    share = work if sharing == _ALONE else max(work / (team.size * _CHUNKS_PER_THREAD), _LEAST_CHUNK_US)
    share = min(share, _CHUNK_US)
    sized = []
    for record in records:
        task_us = record.work_us / max(1, record.tasks)
        size = max(1, record.tasks if task_us * record.tasks <= share else int(share / task_us))
        sized.append((size * task_us, record, _chunks(record.tasks, size, task_us)))
    sized.sort(key=lambda each: -each[0])
    return _Wave(tuple([record for _, record, _ in sized]), tuple([cut for _, _, cut in sized]), sharing)


def _chunks(tasks: int, size: int, task_us: float) -> _Chunks:
    """Chunks of `size` tasks, the last of them cut finer."""
    count = -(-tasks // size)
    fine = max(size // _FINER, 1)
    if count < _LAST_OF or fine * task_us < _LEAST_CHUNK_US:
        return _Chunks(size, count, size, count)
    coarse = count - count // _LAST_OF
    return _Chunks(size, coarse, fine, coarse - (coarse * size - tasks) // fine)


class CommandListRunner:
    """A command list in native memory, laid out as `%List` of commands.ll. Calling it binds and runs it.

    Words of 8 bytes: the list's header, its waves, their records, argument pointers, their places (slot and
    offset), slot addresses, kernel values, their positions among the list's values, constants, the list's
    values.
    """

    def __init__(
        self, commands: Sequence[Command], value_dtypes: Sequence[DType], team: Team, runtime: Runtime,
    ) -> None:
        self._commands = tuple(commands)  # keeps the kernels' code mapped
        self._team = team
        records = [_RECORDS[type(command)](command, runtime) for command in commands]
        self.slots = 1 + max((ref.slot for record in records for ref in record.args), default=-1)
        self._waves = [_cut(wave, team) for wave in _waves(commands, records)]
        self.parallel = sum(record.work_us for wave in self._waves if wave.sharing != _ALONE
                            for record in wave.records) >= team.worth_us
        self._lay_out(len(value_dtypes))
        self._pack_slots = struct.Struct(f"<{self.slots}Q").pack_into
        self._pack_values = ValuePacker(value_dtypes).pack_into
        self._has_values = bool(value_dtypes)
        self._steps: tuple[Step, ...] | None = None

    def _lay_out(self, value_count: int) -> None:
        waves = self._waves
        records = [record for wave in waves for record in wave.records]
        places = [ref for record in records for ref in record.args]
        positions = [position for record in records for position in record.values]
        constants = [constant for record in records for constant in record.constants]
        sizes = (11, 4 * len(waves), _RECORD_WORDS * len(records), len(places), 2 * len(places), self.slots,
                 len(positions), len(positions), len(constants), value_count)
        starts = [sum(sizes[:part]) for part in range(len(sizes))]
        memory = array("Q", bytes(_WORD * max(1, sum(sizes))))
        self.address, _ = memory.buffer_info()
        (_, wave_at, record_at, arg_at, place_at, slot_at, kernel_value_at, position_at, constant_at,
         value_at) = (self.address + _WORD * start for start in starts)
        words = [wave_at, len(waves), arg_at, place_at, len(places), slot_at,
                 kernel_value_at, position_at, len(positions), value_at, int(self.parallel)]
        for wave in waves:
            words += [record_at, len(wave.records), sum(cut.total for cut in wave.chunks), wave.sharing]
            record_at += _WORD * _RECORD_WORDS * len(wave.records)
        for wave in waves:
            first = 0
            for record, cut in zip(wave.records, wave.chunks):
                values_at = constant_at if record.constants else kernel_value_at
                words += [record.kernel, arg_at, values_at, record.tasks, cut.size, first,
                          cut.coarse, cut.fine]
                first += cut.total
                arg_at += _WORD * len(record.args)
                kernel_value_at += _WORD * len(record.values)
                constant_at += _WORD * len(record.constants)
        memory[:len(words)] = array("Q", words)
        memory[starts[4]:starts[5]] = array("Q", [word for ref in places for word in (ref.slot, ref.offset)])
        memory[starts[7]:starts[8]] = array("Q", positions)
        memory[starts[8]:starts[9]] = array("Q", constants)
        self._memory, self._record_words = memory, (starts[2], starts[3])
        self._first_slot, self._value_offset = starts[5], _WORD * starts[9]

    def steps(self) -> tuple[Step, ...]:
        """The commands one by one, for a team that runs them from Python."""
        if self._steps is None:
            first, stop = self._record_words
            words = self._memory[first:stop].tolist()
            shared = [wave.sharing == _ALL for wave in self._waves for _ in wave.records]
            self._steps = tuple(
                Step(KERNEL(kernel), args, values, tasks, chunk, parallel and tasks > chunk)
                for parallel, (kernel, args, values, tasks, chunk, *_) in zip(
                    shared, zip(*[iter(words)] * _RECORD_WORDS)))
        return self._steps

    def __call__(self, slots: Sequence[Block], values: Sequence[Scalar]) -> Event:
        """Run with these blocks as the slots and these run-time values; complete on return.

        Slots beyond the last that a command names are ignored; DeviceError if there are fewer.
        """
        team = self._team
        bound = slots if len(slots) == self.slots else self._named(slots)
        with team.lock:
            if self.slots <= _FEW_SLOTS:
                memory, place = self._memory, self._first_slot
                for block in bound:
                    memory[place] = block.address
                    place += 1
            else:
                self._pack_slots(self._memory, _WORD * self._first_slot, *map(_ADDRESS, bound))
            if self._has_values:
                self._pack_values(self._memory, self._value_offset, values)
            team.run(self)
        return DONE

    def _named(self, slots: Sequence[Block]) -> Sequence[Block]:
        """The slots that commands name."""
        if len(slots) < self.slots:
            raise DeviceError(op="command list", expected=f"{self.slots} slots", got=f"{len(slots)}")
        return slots[:self.slots]
