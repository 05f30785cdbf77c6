"""What a device plugin fulfils. The core calls nothing but this; optional features are Protocols that a
device both implements and declares in `Capabilities.features`."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from pluggrad.dtypes import DType, Scalar
from pluggrad.errors import CompileError
from pluggrad.kernel.kernel import BufferParam
from pluggrad.lower.program import Program
from pluggrad.target import Target

Allocation = Any  # whatever an allocator hands out; opaque to the core


@dataclass(frozen=True, slots=True)
class Probe:
    """What a backend sees: how many devices, their names; if none, why, and the command that changes it."""

    count: int
    names: tuple[str, ...] = ()
    reason: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Signature:
    """How a compiled kernel is called: symbol, buffers in order, value dtypes, tasks, scratch a task."""

    name: str
    buffers: tuple[BufferParam, ...]
    values: tuple[DType, ...]
    tasks: int
    scratch: int = 0


class Executable(ABC):
    """A loaded kernel."""

    @abstractmethod
    def launch(self, args: Sequence[Allocation], values: Sequence[Scalar], grid: int, block: int,
               scratch: int) -> None:
        """Run tasks 0..grid-1 over the allocations; returns when done unless the device declares `async`."""


@dataclass(frozen=True, slots=True)
class SlotRef:
    """A place in a command's argument list: slot `slot` of the list, `offset` bytes in."""

    slot: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Launch:
    """Run `executable` on the slots named, with the run-time values at these positions of the list's values.

    `work_us` estimates one core's time: a device decides from it whether waking its team pays.
    `barrier`: wait for everything before (False: independent of the commands since the last barrier).
    """

    executable: Executable
    args: tuple[SlotRef, ...]
    values: tuple[int, ...]
    tasks: int
    work_us: float = 0.0
    barrier: bool = True


@dataclass(frozen=True, slots=True)
class CopyCommand:
    """Copy `nbytes` from one slot to another on the same device: after all before it, before all after it."""

    target: SlotRef
    source: SlotRef
    nbytes: int


@dataclass(frozen=True, slots=True)
class FillCommand:
    """Set `nbytes` of a slot to zero bytes."""

    target: SlotRef
    nbytes: int


Command = Launch | CopyCommand | FillCommand


class Event(ABC):
    """Completion of something submitted."""

    @abstractmethod
    def wait(self) -> None:
        """Return when complete; KernelFault if it failed."""


class Done(Event):
    """An event that is complete already: what a synchronous device returns."""

    def wait(self) -> None:
        return


DONE = Done()


class Allocator(ABC):
    """Memory of one device. `nbytes` may be 0. `kind` is "device" (more kinds may come)."""

    @abstractmethod
    def alloc(self, nbytes: int, kind: str = "device") -> Allocation:
        """Memory aligned to `Capabilities.alignment`, contents undefined; OutOfMemoryError."""

    @abstractmethod
    def free(self, allocation: Allocation) -> None:
        """Give memory back; the core calls it after the last use."""

    @abstractmethod
    def copyin(self, allocation: Allocation, offset: int, data: memoryview) -> None:
        """Copy host bytes to `offset` of an allocation; `data` may be reused on return."""

    @abstractmethod
    def copyout(self, data: memoryview, allocation: Allocation, offset: int) -> None:
        """Copy from `offset` of an allocation into writable host bytes."""

    def view(self, allocation: Allocation, offset: int, nbytes: int) -> Allocation:
        """Part of an allocation that can be passed as a kernel argument (the memory planner's arena).

        `nbytes` 0: all that follows `offset`. Needed unless the device has a `submit` of its own.
        """
        raise NotImplementedError

    def host_view(self, allocation: Allocation) -> memoryview | None:
        """The memory itself as writable host bytes where host and device share it, else None."""
        return None


class Toolchain(ABC):
    """Renderer and compiler for one target: picklable, opens nothing, works without the device."""

    cache_key: str = ""  # versions and flags that change binaries; "" means: never cache

    @abstractmethod
    def render(self, program: Program) -> str:
        """Source text of one kernel, its entry point called `program.name`."""

    @abstractmethod
    def compile(self, source: str) -> bytes:
        """Binary of one source; CompileError(source, log)."""

    def compile_many(self, sources: Sequence[str]) -> list[bytes]:
        """A binary for each source; may be one shared binary that holds them all."""
        return [self.compile(source) for source in sources]

    def disassemble(self, binary: bytes) -> str:
        """Readable machine code, where the toolchain can show it."""
        raise CompileError("this toolchain does not disassemble")


class Prepared(Protocol):
    """A command list ready for replay. Never overlaps itself."""

    def __call__(self, slots: Sequence[Allocation], values: Sequence[Scalar]) -> Event:
        """Bind the slots and the run-time values (in `value_dtypes` order) and run."""


class Device(ABC):
    """An open device."""

    target: Target
    allocator: Allocator

    @abstractmethod
    def load(self, binary: bytes, signature: Signature) -> Executable:
        """Make a binary callable; KernelFault or CompileError if it is not one of ours."""

    def submit(self, commands: Sequence[Command], slots: Sequence[Allocation],
               values: Sequence[Scalar]) -> Event:
        """Run commands in order. The base class launches them one by one."""
        for command in commands:
            if isinstance(command, Launch):
                args = [self._argument(slots, ref) for ref in command.args]
                command.executable.launch(args, [values[i] for i in command.values], command.tasks, 1, 0)
            elif isinstance(command, CopyCommand):
                staging = memoryview(bytearray(command.nbytes))
                self.allocator.copyout(staging, slots[command.source.slot], command.source.offset)
                self.allocator.copyin(slots[command.target.slot], command.target.offset, staging)
            else:
                zeros = memoryview(bytes(command.nbytes))
                self.allocator.copyin(slots[command.target.slot], command.target.offset, zeros)
        return DONE

    def _argument(self, slots: Sequence[Allocation], ref: SlotRef) -> Allocation:
        allocation = slots[ref.slot]
        return allocation if ref.offset == 0 else self.allocator.view(allocation, ref.offset, 0)

    def synchronize(self) -> None:
        """Wait for everything submitted; raises what went wrong meanwhile."""

    def close(self) -> None:
        """Release the device; called at interpreter exit."""


@runtime_checkable
class SupportsPrepare(Protocol):
    """Feature `graph`: replays a whole command list as one call."""

    def prepare(self, commands: Sequence[Command], value_dtypes: Sequence[DType]) -> Prepared:
        """Make a command list ready for replay; the values come in the order of `value_dtypes`."""
        ...


@runtime_checkable
class SupportsThreads(Protocol):
    """Feature `threads`: the tasks of one launch run side by side on the host's threads."""

    @property
    def threads(self) -> int:
        """How many, the submitting thread included."""


class Backend(ABC):
    """A plugin's entry: finds devices and opens them. Making one is cheap and touches no driver."""

    tier: int = 20  # default choice: native 30, generic 20, cpu 10, reference 0

    @abstractmethod
    def probe(self) -> Probe:
        """What is there; never raises for missing hardware."""

    @abstractmethod
    def target(self, index: int, variant: str) -> Target:
        """What code is made for on device `index`."""

    @abstractmethod
    def toolchain(self, target: Target) -> Toolchain:
        """Renderer and compiler for a target."""

    @abstractmethod
    def open(self, index: int, variant: str) -> Device:
        """Open device `index`; DeviceUnavailable with reason and fix if it cannot be."""

    def describe(self) -> str:
        """One line for `devices`: driver, versions."""
        return ""
