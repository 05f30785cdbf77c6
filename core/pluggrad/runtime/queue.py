"""The core's end of a device's queue: command lists in flight, faults found late, and a device that is lost.

A device that declares `async` runs what it is given in order, so memory is given back to the pool, and handed
out again, while a list that uses it is still in flight. Only giving it back to the device has to wait.
"""
from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol
from weakref import ReferenceType, WeakKeyDictionary, ref

from pluggrad.config import SYNC
from pluggrad.device.contract import Device, Event
from pluggrad.errors import DeviceLost, KernelFault
from pluggrad.target import DeviceId


class Output(Protocol):
    """What a list writes; `fault` says why its contents are unusable."""

    fault: Exception | None


@dataclass(slots=True)
class _Submitted:
    """A list in flight. `keep` holds its kernels; the outputs that nobody holds any more need no mark."""

    event: Event
    name: str
    outputs: list[ReferenceType[Output]]
    keep: object


class Queue:
    """Of one open device. `with queue:` stands around its uses: DeviceLost at once, when it was lost before.

    Called under the runtime's lock.
    """

    def __init__(self, device: Device, name: str) -> None:
        self.device, self._name = device, name
        self.deferred = "async" in device.target.capabilities.features
        self._limit = max(1, device.max_in_flight) if self.deferred else 0  # type: ignore[attr-defined]
        self._in_flight: deque[_Submitted] = deque()
        self.lost: DeviceLost | None = None  # the reason that the device gave

    def __len__(self) -> int:
        """Lists in flight, as far as is known."""
        return len(self._in_flight)

    # ---- lists in flight -----------------------------------------------------------------------------------
    def add(self, event: Event, name: str, outputs: Iterable[Output], keep: object) -> None:
        """Note a list that was submitted, and what it writes."""
        self._in_flight.append(_Submitted(event, name, [ref(output) for output in outputs], keep))

    def make_room(self) -> None:
        """Wait until another list may be submitted; raises as `wait` does."""
        while len(self._in_flight) >= self._limit:
            self._wait_for_oldest()

    def wait(self) -> None:
        """Return when all that was submitted is complete.

        KernelFault names the first list that failed; its outputs and those of later lists are marked. Ctrl-C
        ends the wait and changes nothing.
        """
        while self._in_flight:
            self._wait_for_oldest()

    def synchronize(self) -> None:
        """Wait as `wait` does, and for copies that the device staged: its memory may be touched then.

        DeviceLost as in a `with` block of its own, which would cost half of what is left where nothing waits.
        """
        if self.lost is not None:
            raise self.gone()
        try:
            if self._in_flight:
                self.wait()
            self.device.synchronize()
        except DeviceLost as error:
            self.lose(error)
            raise

    def _wait_for_oldest(self) -> None:
        oldest = self._in_flight[0]
        try:
            oldest.event.wait()
        except DeviceLost:
            raise
        except Exception as error:
            fault = named(error, oldest.name)
            self._give_up(fault)
            raise fault from error
        self._in_flight.popleft()

    def _give_up(self, fault: KernelFault) -> None:
        """Mark what every list in flight writes, and let the lists end: until then their memory is in use."""
        failed = list(self._in_flight)
        _mark(failed, fault)
        for submitted in failed[1:]:
            with suppress(Exception):  # the first fault is the one to report
                submitted.event.wait()
        self._in_flight.clear()

    def forget(self) -> None:
        """In a forked child: what was in flight is the parent's."""
        self._in_flight.clear()

    # ---- a lost device -------------------------------------------------------------------------------------
    def __enter__(self) -> None:
        if self.lost is not None:
            raise self.gone()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if isinstance(error, DeviceLost):
            self.lose(error)

    def lose(self, error: DeviceLost) -> None:
        """The device says that it is lost: it stays so. Raises what users see, unless `error` is that."""
        if self.lost is None:
            self.lost = DeviceLost(str(error))
            gone = self.gone()
            _mark(self._in_flight, gone)
            self._in_flight.clear()
            raise gone from error

    def gone(self) -> DeviceLost:
        """What every use of the lost device raises."""
        return DeviceLost(op=f"device {self._name}", expected="a device that answers",
                          got=f"lost: {self.lost}",
                          hint="Its tensors are gone, others go on. Start the process again to use it")


def named(error: Exception, name: str) -> KernelFault:
    """A fault as it is reported: by the list that it happened in."""
    if isinstance(error, DeviceLost):
        return error
    return KernelFault(op=f"command list {name}", expected="a run without a fault", got=str(error),
                       hint=f"What it computes is unusable, and so is what was submitted after it; "
                            f"{SYNC.variable}=1 names the kernel")


def _mark(lists: Iterable[_Submitted], fault: KernelFault) -> None:
    unraised = type(fault)(str(fault))  # the traceback of the one that is raised would keep memory alive
    for submitted in lists:
        for reference in submitted.outputs:
            output = reference()
            if output is not None:
                output.fault = unraised


_queues: WeakKeyDictionary[Device, Queue] = WeakKeyDictionary()


def queue_of(device: Device, name: DeviceId) -> Queue:
    """The queue of an open device: one, whatever variants of its name are in use."""
    found = _queues.get(device)
    if found is None:
        found = _queues[device] = Queue(device, str(name._replace(variant="")))
    return found


def drain() -> None:
    """Wait for every device, and log what failed: at exit and before a fork, where nobody could catch it."""
    for queue in list(_queues.values()):
        try:
            with queue:
                queue.wait()
        except DeviceLost:
            continue
        except KernelFault as error:
            import logging  # when it is needed: it takes 4 ms

            logging.getLogger("pluggrad").warning("found before the process ends or forks: %s", error)


def _in_child() -> None:
    for queue in list(_queues.values()):
        queue.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
