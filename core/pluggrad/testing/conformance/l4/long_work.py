"""Work that takes about as long as a test needs, whatever the speed of the device."""
from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from pluggrad import dtypes
from pluggrad.device.contract import Allocation, Event, Launch
from pluggrad.testing.conformance.kernels import sums_of_larger
from pluggrad.testing.conformance.mismatch import expect
from pluggrad.testing.conformance.subject import Subject

ROWS, COLUMNS = 128, 1 << 15
_MEASURED_S: Final = 0.03


@dataclass(frozen=True, slots=True)
class LongWork:
    """A list that runs one kernel again and again; it takes `seconds` or longer on a busy machine."""

    commands: tuple[Launch, ...]
    slots: list[Allocation]
    want: Any  # int32 (ROWS,), made ahead: tests time the check
    seconds: float

    def submit(self, subject: Subject) -> Event:
        """Submit it once."""
        return subject.device.submit(self.commands, self.slots, ())

    def expect_done(self, subject: Subject) -> None:
        """Mismatch unless the result is there."""
        subject.expect(subject.download(self.slots[0], dtypes.int32, ROWS), self.want, "int32",
                       op="a long list of launches")


def _source() -> Any:
    return (np.arange(COLUMNS, dtype=np.int32) * 7919) % 251


def _results() -> Any:
    source = _source()
    return np.array([np.maximum(source, row).sum() for row in range(ROWS)], np.int32)


def long_work(subject: Subject, seconds: float) -> LongWork:
    """Work of about `seconds`, its result not there yet."""
    kernel = subject.load(sums_of_larger(ROWS, COLUMNS))
    slots = [subject.alloc(4 * ROWS), subject.upload(_source())]
    slots += [subject.alloc(t.size * t.dtype.itemsize) for t in kernel.temporaries]
    once, repeats, spent = kernel.commands(range(len(slots))), 1, 0.0
    while spent < _MEASURED_S:
        repeats *= 2
        spent = min(_seconds(subject, once * repeats, slots) for _ in range(3))  # first runs take longer
    subject.allocator.copyin(slots[0], 0, memoryview(bytes(4 * ROWS)))
    subject.device.synchronize()
    return LongWork(once * max(1, round(repeats * seconds / spent)), slots, _results(), seconds)


def _seconds(subject: Subject, commands: tuple[Launch, ...], slots: list[Allocation]) -> float:
    started = time.perf_counter()
    subject.device.submit(commands, slots, ()).wait()
    subject.device.synchronize()
    return time.perf_counter() - started


def expect_complete_when_waited_for(subject: Subject, work: LongWork, submit: Callable[[], Event]) -> None:
    """Mismatch if the device is still at it after `wait`, each time it is tried."""
    early = []
    for _ in range(3):  # a busy machine may hold this process up once
        started = time.perf_counter()
        submit().wait()
        waited = time.perf_counter() - started
        subject.device.synchronize()
        work.expect_done(subject)
        after = time.perf_counter() - started - waited
        if after < max(waited, 0.05):
            return
        early.append(f"{waited * 1e3:.0f} ms, then {after * 1e3:.0f} ms")
    expect(False, "Event.wait() returns while the device is still at work", op="wait",
           expected="nothing left for synchronize() to wait for", got="; ".join(early),
           suggests="the event fires early: wait() has to return after the last command is complete")
