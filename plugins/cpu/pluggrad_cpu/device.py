"""The CPU as an open device: memory, loading, and command lists run by a thread team."""
from __future__ import annotations

from collections.abc import Sequence

from pluggrad.plugin_api import (
    Allocation,
    Command,
    Device,
    DType,
    Event,
    Launch,
    Prepared,
    Scalar,
    Signature,
    Target,
    dtypes,
)
from pluggrad_cpu.launcher import CommandListRunner, CpuExecutable
from pluggrad_cpu.loader import loader
from pluggrad_cpu.memory import CpuAllocator
from pluggrad_cpu.native import runtime
from pluggrad_cpu.threads import make_team


class CpuDevice(Device):
    """Synchronous: what is submitted is complete on return. Threads may share it: their lists take turns."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.allocator = CpuAllocator()
        self._runtime = runtime()
        self._team = make_team(self._runtime, target.capabilities.cores)

    @property
    def threads(self) -> int:
        """Threads that run tasks, the submitting one included (feature `threads`)."""
        return self._team.size

    def load(self, binary: bytes, signature: Signature) -> CpuExecutable:
        """Link a binary and find its kernel; KernelFault if it is no object file or lacks that kernel."""
        return CpuExecutable(loader().load(binary), signature, self._team, self._runtime)

    def prepare(self, commands: Sequence[Command], value_dtypes: Sequence[DType]) -> Prepared:
        """A list for replay as one native call (feature `graph`)."""
        return CommandListRunner(commands, value_dtypes, self._team, self._runtime)

    def submit(
        self, commands: Sequence[Command], slots: Sequence[Allocation], values: Sequence[Scalar],
    ) -> Event:
        """Run a list once. To run it again, prepare it: most of the time here goes into laying it out."""
        return self.prepare(commands, _value_dtypes(commands, len(values)))(slots, values)

    def synchronize(self) -> None:
        """Return when lists that other threads submitted are complete."""
        with self._team.lock:
            return

    def close(self) -> None:
        """End the workers. The device may be used again; it then starts new ones."""
        self._team.close()


def _value_dtypes(commands: Sequence[Command], count: int) -> list[DType]:
    """The dtype of each run-time value, as the kernels that read it declare it."""
    found: list[DType] = [dtypes.int64] * count  # a value that no kernel reads may have any
    for command in commands:
        if isinstance(command, Launch) and isinstance(command.executable, CpuExecutable):
            for position, dtype in zip(command.values, command.executable.signature.values):
                found[position] = dtype
    return found
