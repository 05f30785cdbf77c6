"""A compiled plan on an open device: commands bound to slots, and one call that submits them."""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pluggrad.config import one_by_one
from pluggrad.device.contract import (
    DONE,
    Command,
    CopyCommand,
    Device,
    Event,
    Executable,
    Launch,
    Signature,
    SlotRef,
)
from pluggrad.device.registry import REGISTRY
from pluggrad.device.versions import warn_overriding
from pluggrad.dtypes import DType
from pluggrad.errors import DeviceLost, KernelFault
from pluggrad.kernel.kernel import Kernel
from pluggrad.plan import BufferRef, PlannedCommand, PlannedCopy, PlannedLaunch
from pluggrad.runtime.compiled import CompiledPlan
from pluggrad.runtime.counters import GlobalCounters
from pluggrad.runtime.queue import Queue, named
from pluggrad.runtime.status import StatusWords
from pluggrad.runtime.stepwise import Step, run_stepwise
from pluggrad.target import DeviceId

_NAMED = 3  # kernels that the name of a list mentions
Start = Callable[[Sequence[Any], Sequence[Any]], Event]


class LoadedPlan:
    """A plan on an open device. Slots are inputs, outputs, then status words and the arena, if any."""

    __slots__ = ("plan", "launches", "shared", "status", "name", "_device_id", "_queue", "_commands",
                 "_start", "_value_dtypes", "_kernels", "_steps")

    def __init__(self, plan: CompiledPlan, device_id: DeviceId, queue: Queue, inputs: int,
                 value_dtypes: Sequence[DType], kernels: tuple[Kernel, ...]) -> None:
        self.plan, self._device_id, self._queue = plan, device_id, queue
        self._value_dtypes, self._kernels = tuple(value_dtypes), kernels
        outputs = [root.number for root in plan.roots if root.place == "output"]
        # outputs that several roots share
        self.shared = tuple([number for number, count in Counter(outputs).items() if count > 1])
        device = queue.device
        executables = [device.load(b, s) for b, s in zip(plan.binaries, plan.signatures, strict=True)]
        for executable in executables:
            warn_overriding(executable)
        self.status = StatusWords(device, plan.checks) if plan.checks else None
        after = inputs + len(plan.outputs)
        first = {"input": 0, "output": inputs, "status": after, "arena": after + bool(plan.checks)}
        self._commands = [_bound(c, first, executables, plan.signatures) for c in plan.commands]
        self.name = _list_name(plan)
        self.launches = sum(isinstance(c, PlannedLaunch) for c in plan.commands)
        self._start = _starter(device, self._commands, self._value_dtypes)
        self._steps: list[Step] | None = None

    def run(self, slots: Sequence[Any], values: Sequence[Any]) -> Event:
        """Run; complete on return unless the device declares `async`. Raises what the device reports."""
        if not self._commands:
            return DONE
        if one_by_one() or REGISTRY.observed:
            GlobalCounters.kernels += self.launches
            queue = self._queue
            queue.wait()  # or a fault of an earlier list would be taken for one of these commands
            run_stepwise(self._device_id, queue.device, self._each(), slots, values)
            return DONE
        return self.launch(slots, values)

    def launch(self, slots: Sequence[Any], values: Sequence[Any]) -> Event:
        """As `run`, where nobody looks on."""
        GlobalCounters.kernels += self.launches
        try:
            event = self._start(slots, values)
            if event is DONE or self._queue.deferred:
                return event
            event.wait()
        except DeviceLost:
            raise
        except KernelFault as error:
            raise named(error, self.name) from error
        return DONE

    def _each(self) -> list[Step]:
        """Every command by itself, made when a setting or an observer first asks for it."""
        if self._steps is None:
            device = self._queue.device
            numbers = [c.kernel if isinstance(c, PlannedLaunch) else None for c in self.plan.commands]
            self._steps = [
                Step(command, None if number is None else self.plan.infos[number],
                     None if number is None or not self._kernels else self._kernels[number],
                     _starter(device, [command], self._value_dtypes))
                for command, number in zip(self._commands, numbers, strict=True)]
        return self._steps


def _starter(device: Device, commands: list[Command], value_dtypes: tuple[DType, ...]) -> Start:
    """What submits these commands: prepared where the device can replay them."""
    replayable = all(c.executable.replayable for c in commands if isinstance(c, Launch))
    if commands and replayable and "graph" in device.target.capabilities.features:
        return device.prepare(commands, value_dtypes)  # type: ignore[attr-defined, no-any-return]
    return partial(device.submit, commands)


def _list_name(plan: CompiledPlan) -> str:
    """A list as errors name it: by what its first kernels compute."""
    titles = list(dict.fromkeys([info.title for info in plan.infos])) or ["of copies"]
    more = f" and {len(titles) - _NAMED} more" if len(titles) > _NAMED else ""
    return ", ".join(titles[:_NAMED]) + more


def _bound(command: PlannedCommand, first: dict[str, int], executables: list[Executable],
           signatures: Sequence[Signature]) -> Command:
    def slot(ref: BufferRef) -> SlotRef:
        return SlotRef(first[ref.place] + ref.number, ref.offset)
    if isinstance(command, PlannedCopy):
        return CopyCommand(slot(command.target), slot(command.source), command.nbytes)
    return Launch(executables[command.kernel], tuple([slot(a) for a in command.args]), command.values,
                  signatures[command.kernel].tasks, command.work_us, command.barrier,
                  signatures[command.kernel].group)
