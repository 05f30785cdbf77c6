"""What a device plugin fulfils. The core calls nothing but this; optional features are Protocols that a
device both implements and declares in `Capabilities.features`."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from pluggrad.dtypes import DType, Scalar
from pluggrad.errors import CompileError
from pluggrad.target import Target

if TYPE_CHECKING:  # a process that finds its plans on disk loads no compiler
    from pluggrad.kernel.kernel import Box, BufferParam
    from pluggrad.kernel.offer import Extern, Offer
    from pluggrad.lower.program import Program

Allocation = Any  # whatever an allocator hands out; opaque to the core


@dataclass(frozen=True, slots=True)
class Probe:
    """What a backend sees: how many devices, their names; if none, why, and the command that changes it.

    tier: where in the default choice they belong, if below what the backend promised (`Backend.tier`).
    """

    count: int
    names: tuple[str, ...] = ()
    reason: str = ""
    fix: str = ""
    tier: int | None = None


@dataclass(frozen=True, slots=True)
class Signature:
    """How a compiled kernel is called: symbol, buffers in order, value dtypes, tasks, scratch a task.

    group: work items that run each task; more than 1 only where `Capabilities.max_group` is. scratch: bytes
    of the local memory that they share, as the program has it. extern: the name of the `Extern` that
    `Backend.claim` gave for it, whose payload stands for the binary. boxes: `Program.boxes`, for a device
    whose engine has to be told of them at a launch.
    """

    name: str
    buffers: tuple[BufferParam, ...]
    values: tuple[DType, ...]
    tasks: int
    scratch: int = 0
    extern: str = ""
    group: int = 1
    boxes: tuple[Box, ...] = ()


class Executable(ABC):
    """A loaded kernel."""

    replayable: bool = True  # False: a list that holds it is submitted each time, and `prepare` never sees it

    @abstractmethod
    def launch(self, args: Sequence[Allocation], values: Sequence[Scalar], grid: int, block: int,
               scratch: int) -> None:
        """Run tasks 0..grid-1 over the allocations; returns when done unless the device declares `async`."""


@dataclass(frozen=True, slots=True)
class SlotRef:
    """A place in a command's argument list: slot `slot` of the list, `offset` bytes in.

    A kernel's argument lies at a multiple of `Capabilities.alignment`.
    """

    slot: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Launch:
    """Run `executable` on the slots named, with the run-time values at these positions of the list's values.

    `tasks` of `group` work items each. `work_us` estimates one core's time: a device decides from it whether
    waking its team pays.
    `barrier`: wait for everything before (False: independent of the commands since the last barrier).
    """

    executable: Executable
    args: tuple[SlotRef, ...]
    values: tuple[int, ...]
    tasks: int
    work_us: float = 0.0
    barrier: bool = True
    group: int = 1


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
        """Return when complete; KernelFault if it failed, DeviceLost if the device is gone for good.

        Ctrl-C must end the wait: a native call that may be long returns to Python every 50 ms. Waiting again
        gives the same answer.
        """


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
        """Give memory back; the core calls it when the last list that uses it is complete."""

    @abstractmethod
    def copyin(self, allocation: Allocation, offset: int, data: memoryview) -> None:
        """Copy host bytes to `offset` of an allocation, after all that was submitted and before what will be.

        `data` may be reused on return: a device that declares `async` may return earlier than the copy is
        complete if it stages the bytes.
        """

    @abstractmethod
    def copyout(self, data: memoryview, allocation: Allocation, offset: int) -> None:
        """Copy from `offset` of an allocation into writable host bytes, after all that was submitted.

        Complete on return.
        """

    def view(self, allocation: Allocation, offset: int, nbytes: int) -> Allocation:
        """Part of an allocation that can be passed as a kernel argument (the memory planner's arena).

        `nbytes` 0: all that follows `offset`. Needed unless the device has a `submit` of its own.
        """
        raise NotImplementedError

    def borrow(self, address: int, nbytes: int) -> Allocation | None:
        """Memory of the host as an allocation, so that it need not be copied; None: it has to be copied.

        The core keeps the memory alive and never passes the allocation to `free`; no kernel writes to it.
        """
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

    def assembly(self, source: str) -> str:
        """The machine code of one source as text; CompileError where the toolchain cannot show it.

        To override where the compiler writes it, and binaries cannot be read.
        """
        return self.disassemble(self.compile(source))


class Prepared(Protocol):
    """A command list ready for replay. Its runs never overlap, but on a device that declares `async` the next
    one is submitted while the last is in flight, whose slots and values must stay what they were."""

    def __call__(self, slots: Sequence[Allocation], values: Sequence[Scalar]) -> Event:
        """Bind the slots and the run-time values (in `value_dtypes` order) and run, as `submit` does."""


class Device(ABC):
    """An open device."""

    target: Target
    allocator: Allocator

    @abstractmethod
    def load(self, binary: bytes, signature: Signature) -> Executable:
        """Make a binary callable; KernelFault or CompileError if it is not one of ours."""

    def submit(self, commands: Sequence[Command], slots: Sequence[Allocation],
               values: Sequence[Scalar]) -> Event:
        """Run commands in order; complete on return unless the device declares `async`.

        What is submitted to one device runs in the order of submission, copies included: the core hands out
        memory again as soon as its last use is submitted. The base class launches commands one by one.
        """
        for command in commands:
            if isinstance(command, Launch):
                args = [self._argument(slots, ref) for ref in command.args]
                command.executable.launch(args, [values[i] for i in command.values], command.tasks,
                                          command.group, 0)
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


@runtime_checkable
class SupportsAsync(Protocol):
    """Feature `async`: `submit` and prepared lists return before they are complete.

    The core waits for the event where it reads a value, copies to another device, synchronizes or checks an
    index. A fault found then makes the outputs of its list, and of all submitted after it, unusable.
    """

    @property
    def max_in_flight(self) -> int:
        """Lists that may be in flight, at least 1: beyond it the core waits for the oldest."""


@runtime_checkable
class SupportsTiming(Protocol):
    """Feature `events`: the device measures what it runs."""

    def elapsed(self, event: Event) -> float:
        """Seconds on the device's clock from the begin of an event's first command to the end of its last.

        The event is complete.
        """
        ...


@runtime_checkable
class SupportsPeer(Protocol):
    """Feature `peer`, of the allocator: copies between two devices of one type that bypass host memory."""

    def can_access(self, other: Allocator) -> bool:
        """Whether `copy_peer` can copy from `other`, which is of another device of this type."""
        ...

    def copy_peer(self, target: Allocation, target_offset: int, other: Allocator, source: Allocation,
                  source_offset: int, nbytes: int) -> None:
        """Copy from an allocation of `other` into one of this allocator; complete on return.

        The core has waited for what was submitted to either device.
        """
        ...


@runtime_checkable
class SupportsZeroCopy(Protocol):
    """Feature `zero_copy`, of the allocator: the host reads and writes device memory in place."""

    def host_view(self, allocation: Allocation) -> memoryview:
        """The memory itself as writable host bytes; the core waits for what was submitted before it looks."""
        ...


FEATURES: Final[Mapping[str, type]] = {
    "graph": SupportsPrepare, "threads": SupportsThreads, "async": SupportsAsync, "events": SupportsTiming,
    "peer": SupportsPeer, "zero_copy": SupportsZeroCopy,
}


def implemented(device: Device) -> frozenset[str]:
    """The features that a device or its allocator implements: those it has to declare, and no others."""
    parts = (device, device.allocator)
    return frozenset(name for name, protocol in FEATURES.items()
                     if any(isinstance(part, protocol) for part in parts))


class Backend(ABC):
    """A plugin's entry: finds devices and opens them. Making one is cheap and touches no driver."""

    tier: int = 20  # default choice: native 30, generic 20, cpu 10, reference 0
    api_minor: int = 0  # minor version of the plugin API that the plugin needs
    variants: tuple[str, ...] = ()  # names behind `@` that `target` and `open` know
    claim_key: str = ""  # what `claim` depends on, such as a library's version; "" means: never cache

    @abstractmethod
    def probe(self) -> Probe:
        """What is there; never raises for missing hardware."""

    @abstractmethod
    def target(self, index: int, variant: str) -> Target:
        """What code is made for on device `index`, below the count that `probe` gave.

        variant: "" or one of `variants`; the core has refused any other name, here and for `open`.
        """

    def targets(self) -> Mapping[str, Target]:
        """Targets by name, for which code can be made where there is no such device, and no driver.

        `python -m pluggrad explain --target NAME` shows what kernels become for them.
        """
        return {}

    @abstractmethod
    def toolchain(self, target: Target) -> Toolchain:
        """Renderer and compiler for a target."""

    @abstractmethod
    def open(self, index: int, variant: str) -> Device:
        """Open device `index`; DeviceUnavailable with reason and fix if it cannot be."""

    def describe(self) -> str:
        """One line for `devices`: driver, versions."""
        return ""

    def claim(self, offer: Offer) -> Extern | None:
        """Take a kernel over with code of the plugin's own, such as a call of the vendor's library.

        Asked for each kernel of a new plan, before it is scheduled; a backend without this method is never
        asked. None leaves the kernel to the core. Otherwise `Device.load` is given the payload instead of a
        binary, and what it returns is launched like any kernel, with the buffers and values of
        `offer.kernel`, in order.
        """
        return None


class Variant(ABC):
    """Another way of making code for somebody else's device, which an extension brings: `type@name`.

    Programs see a device of its own, so that nothing is mixed by accident; it is opened as the device without
    a variant, whose memory it shares and whose `load` takes its binaries.
    """

    def probe(self) -> Probe:
        """Whether it works here: count 0 with reason and fix where, say, its compiler is missing."""
        return Probe(1)

    def target(self, target: Target) -> Target:
        """What code is made for: the device's own target, less what this toolchain cannot make use of."""
        return target

    @abstractmethod
    def toolchain(self, target: Target) -> Toolchain:
        """Renderer and compiler for what `target` gave."""
