"""Devices that run what they are given later, in a thread, with delays and faults under a test's control.

Kernels run through the reference device. Two of them have one type, `deferred`, and copy to each other; the
second prepares lists. `distant` is another type. None shares memory with the host. Memory that is freed while
something in flight uses it is a fault of its own.
"""
from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

from pluggrad.device.contract import Allocator, Backend, Device, Event, Probe, Signature
from pluggrad.device.discovery import Entry
from pluggrad.device.hookspecs import PluginApi, hookimpl
from pluggrad.device.host import HostAllocator
from pluggrad.device.plugins import Plugin
from pluggrad.device.ref import TARGET, RefDevice, RefToolchain
from pluggrad.device.registry import REGISTRY
from pluggrad.errors import DeviceLost, DeviceUnavailable, KernelFault
from pluggrad.runtime import sessions
from pluggrad.target import DeviceId, Target

MAX_IN_FLIGHT = 4
FEATURES = frozenset({"async", "events", "peer"})


class Memory:
    """An allocation: bytes that must not be touched once they are freed."""

    def __init__(self, bytes_: Any) -> None:
        self._bytes, self.freed = bytes_, False

    @property
    def bytes(self) -> Any:
        if self.freed:
            raise KernelFault("memory was used after it had been freed")
        return self._bytes


class Job(Event):
    """One thing to do, and how it ended."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.work, self.error = work, None
        self.seconds = 0.0
        self.ended = threading.Event()

    def run(self) -> None:
        begin = time.perf_counter()
        try:
            self.work()
        except Exception as error:
            self.error = error
        self.seconds = time.perf_counter() - begin

    def wait(self) -> None:
        while not self.ended.wait(0.05):  # back in Python now and then, so that Ctrl-C works
            pass
        if self.error is not None:
            raise type(self.error)(str(self.error))  # a new one each time, without anybody's traceback


class Worker(threading.Thread):
    """Runs jobs in order, while `gate` is open."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.jobs: SimpleQueue[Job | None] = SimpleQueue()
        self.gate = threading.Event()
        self.gate.set()
        self.pending = self.most_pending = 0
        self.start()

    def run(self) -> None:
        while (job := self.jobs.get()) is not None:
            self.gate.wait()
            job.run()
            self.pending -= 1
            job.ended.set()  # last: who waited for it may give the next one at once

    def put(self, work: Callable[[], None]) -> Job:
        job = Job(work)
        self.pending += 1
        self.most_pending = max(self.most_pending, self.pending)
        self.jobs.put(job)
        return job


class DeferredAllocator(Allocator):
    """Host memory that is only touched by the worker."""

    def __init__(self, device: DeferredDevice) -> None:
        self._device, self._host = device, HostAllocator()
        self.live = 0

    def alloc(self, nbytes: int, kind: str = "device") -> Memory:
        self._device.check()
        self.live += 1
        return Memory(self._host.alloc(nbytes))

    def free(self, allocation: Memory) -> None:
        self._device.check()
        self.live -= 1
        allocation.freed = True

    def copyin(self, allocation: Memory, offset: int, data: memoryview) -> None:
        staged = memoryview(bytes(data))
        self._device.put(lambda: self._host.copyin(allocation.bytes, offset, staged))

    def copyout(self, data: memoryview, allocation: Memory, offset: int) -> None:
        self._device.put(lambda: self._host.copyout(data, allocation.bytes, offset)).wait()

    def can_access(self, other: Allocator) -> bool:
        return isinstance(other, DeferredAllocator)

    def copy_peer(self, target: Memory, target_offset: int, other: Allocator, source: Memory,
                  source_offset: int, nbytes: int) -> None:
        self._device.peer_copies += 1
        end = source_offset + nbytes
        data = source.bytes[source_offset:end].tobytes()
        self.copyin(target, target_offset, memoryview(data))
        self._device.synchronize()


class DeferredDevice(Device):
    """`fail(error, after)` makes the list after the next `after` ones end in an error; `held()` stops the
    worker; `lost` is the reason why nothing works any more."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.allocator: DeferredAllocator = DeferredAllocator(self)
        self.worker = Worker()
        self.lost: str | None = None
        self.peer_copies = 0
        self._errors: dict[int, Exception] = {}
        self._lists = 0
        self._reference = RefDevice()
        self._last: Job | None = None

    # ---- what a test controls ------------------------------------------------------------------------------
    @contextmanager
    def held(self) -> Iterator[None]:
        self.worker.gate.clear()
        try:
            yield
        finally:
            self.worker.gate.set()

    def fail(self, error: Exception, after: int = 0) -> None:
        self._errors[self._lists + after] = error

    # ---- the contract --------------------------------------------------------------------------------------
    @property
    def max_in_flight(self) -> int:
        return MAX_IN_FLIGHT

    def elapsed(self, event: Event) -> float:
        return event.seconds if isinstance(event, Job) else 0.0

    def check(self) -> None:
        if self.lost is not None:
            raise DeviceLost(self.lost)

    def put(self, work: Callable[[], None]) -> Job:
        self.check()

        def checked() -> None:
            self.check()
            work()

        self._last = self.worker.put(checked)
        return self._last

    def load(self, binary: bytes, signature: Signature) -> Any:
        self.check()
        return self._reference.load(binary, signature)

    def submit(self, commands: Sequence[Any], slots: Sequence[Memory], values: Sequence[Any]) -> Job:
        slots, values = list(slots), list(values)  # the caller's may change before they are read
        error = self._errors.pop(self._lists, None)
        self._lists += 1

        def work() -> None:
            if error is not None:
                raise error
            self._reference.submit(commands, [slot.bytes for slot in slots], values)

        return self.put(work)

    def synchronize(self) -> None:
        self.check()
        if self._last is not None:
            self._last.ended.wait()
            self.check()

    def close(self) -> None:
        self.worker.jobs.put(None)


class PreparingDevice(DeferredDevice):
    """One with the feature `graph`, too."""

    def prepare(self, commands: Sequence[Any], value_dtypes: Sequence[Any]) -> Any:
        return lambda slots, values: self.submit(commands, slots, values)


DEVICES = (DeferredDevice, PreparingDevice)


class DeferredBackend(Backend):
    """Two devices."""

    tier = -1

    def probe(self) -> Probe:
        return Probe(len(DEVICES), ("deferred", "deferred and preparing"))

    def target(self, index: int, variant: str) -> Target:
        features = FEATURES | ({"graph"} if DEVICES[index] is PreparingDevice else set())
        return replace(TARGET, capabilities=replace(TARGET.capabilities, features=features))

    def toolchain(self, target: Target) -> RefToolchain:
        return RefToolchain()

    def open(self, index: int, variant: str) -> DeferredDevice:
        if index >= len(DEVICES) or variant:
            raise DeviceUnavailable("no such device")
        return DEVICES[index](self.target(index, variant))


@hookimpl
def pluggrad_backend(api: PluginApi) -> DeferredBackend:
    return DeferredBackend()


TYPES = ("deferred", "distant")


def install() -> None:
    """Make the devices known in this process."""
    REGISTRY.entries()
    for name in TYPES:
        entry = Entry(name, __name__, "devices", 1, "pluggrad-tests", "0")
        REGISTRY._plugins[name] = Plugin(entry, REGISTRY._host)


def remove() -> None:
    """Forget them."""
    for known in (REGISTRY._verified, REGISTRY._targets, REGISTRY._toolchains, REGISTRY._open,
                  sessions._sessions):
        for key in [key for key in known if str(key).partition(":")[0] in TYPES]:
            value = known.pop(key)
            if isinstance(value, DeferredDevice):
                value.close()
    for name in TYPES:
        del REGISTRY._plugins[name]


def opened(name: str = "deferred") -> DeferredDevice:
    """An open device by name."""
    return REGISTRY.open_device(DeviceId.parse(name))  # type: ignore[return-value]
