"""Feature `async` and its traps: what is submitted later never reaches what was submitted earlier."""
from __future__ import annotations

import time

import numpy as np

from pluggrad import dtypes
from pluggrad.device.contract import CopyCommand, SlotRef
from pluggrad.testing.conformance.kernels import affine
from pluggrad.testing.conformance.l4.long_work import long_work
from pluggrad.testing.conformance.mismatch import expect
from pluggrad.testing.conformance.registry import conformance
from pluggrad.testing.conformance.requirement import requires
from pluggrad.testing.conformance.subject import Subject

NEEDS = requires(dtype="int32")
ASYNC = requires(dtype="int32", feature="async")
SIZE = 1 << 16
BYTES = 4 * SIZE


def _ones(times: int = 1) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.full(SIZE, times, np.int32)


@conformance("L4", "async/read-after-write", requires=NEEDS,
             suggests="copyout() does not wait for the lists that were submitted before it")
def read_after_write(subject: Subject) -> None:
    kernel, slots = subject.load(affine(SIZE)), [subject.upload(_ones()), subject.upload(_ones())]
    for step in range(1, 20):
        event = subject.device.submit(kernel.commands((0, 1)), slots, (step, 0))
        subject.expect(subject.download(slots[0], dtypes.int32, SIZE), _ones(step), "int32",
                       op="copyout after submit")
        event.wait()


@conformance("L4", "async/write-after-read", requires=NEEDS,
             suggests="copyin() overtakes a list that was submitted before it and reads the same memory")
def write_after_read(subject: Subject) -> None:
    kernel = subject.load(affine(SIZE))
    slots = [subject.upload(_ones(0)), subject.upload(_ones(1)), subject.upload(_ones(0))]
    work = long_work(subject, 0.05)
    for step in range(2, 6):
        before = work.submit(subject)  # keeps the device busy
        reading = subject.device.submit(kernel.commands((0, 1)), slots, (1, 0))
        subject.allocator.copyin(slots[1], 0, _ones(step).view(np.uint8).data)
        before.wait()
        reading.wait()
        subject.expect(subject.download(slots[0], dtypes.int32, SIZE), _ones(step - 1), "int32",
                       op="a launch whose source is overwritten by a later copyin")


@conformance("L4", "async/host-memory-after-copyin", requires=NEEDS,
             suggests="copyin() returns before it has taken the host's bytes: stage them")
def host_memory_after_copyin(subject: Subject) -> None:
    work, block, data = long_work(subject, 0.05), subject.alloc(BYTES), _ones()
    for step in range(2, 6):
        busy = work.submit(subject)
        data[:] = step
        subject.allocator.copyin(block, 0, data.view(np.uint8).data)
        data[:] = -1
        subject.expect(subject.download(block, dtypes.int32, SIZE), _ones(step), "int32",
                       op="copyin on a busy device")
        busy.wait()


@conformance("L4", "async/memory-in-use-again", requires=NEEDS,
             suggests="lists do not run in the order of submission")
def memory_in_use_again(subject: Subject) -> None:
    kernel, copy = subject.load(affine(SIZE)), CopyCommand(SlotRef(2), SlotRef(0), BYTES)
    source, scratch = subject.upload(_ones()), subject.upload(_ones(0))
    results = [subject.upload(_ones(0)) for _ in range(8)]
    events = []
    for step, result in enumerate(results):  # one scratch buffer, as the pool hands it out
        events.append(subject.device.submit((*kernel.commands((0, 1)), copy), [scratch, source, result],
                                            (step, 1)))
        if len(events) == subject.max_in_flight:
            events.pop(0).wait()
    for step, result in enumerate(results):
        subject.expect(subject.download(result, dtypes.int32, SIZE), _ones(step + 1), "int32",
                       op=f"list {step} of {len(results)} on one scratch buffer")
    for event in events:
        event.wait()


@conformance("L4", "async/many-in-flight", requires=ASYNC,
             suggests="lists are lost or mixed up when as many are in flight as max_in_flight allows")
def many_in_flight(subject: Subject) -> None:
    kernel, limit = subject.load(affine(SIZE)), subject.max_in_flight
    expect(limit >= 1, "max_in_flight", expected="at least 1", got=str(limit))
    slots, want, events = [subject.upload(_ones()), subject.upload(_ones())], 1, []
    for step in range(2 * min(limit, 200)):
        target, source = (0, 1) if step % 2 else (1, 0)
        events.append(subject.device.submit(kernel.commands((target, source)), slots, (1, step)))
        want += step
        if len(events) == limit:
            events.pop(0).wait()
    for event in reversed(events):
        event.wait()
    subject.expect(subject.download(slots[0], dtypes.int32, SIZE), _ones(want), "int32",
                   op="a chain of lists")


@conformance("L4", "async/submit-returns-early", requires=ASYNC,
             suggests="`async` is declared, and submit() waits until the list is complete")
def submit_returns_early(subject: Subject) -> None:
    work, shares = long_work(subject, 0.2), []
    for _ in range(3):
        started = time.perf_counter()
        event = work.submit(subject)
        submitted = time.perf_counter() - started
        event.wait()
        shares.append(submitted / (time.perf_counter() - started))
    expect(min(shares) < 0.8, "submit() of a long list", expected="a return before it is complete",
           got=f"{min(shares):.0%} of the time spent in submit()")


@conformance("L4", "async/synchronize", requires=NEEDS, suggests="synchronize() returns too early")
def synchronize(subject: Subject) -> None:
    work, left = long_work(subject, 0.3), []
    for _ in range(3):  # a busy machine may hold this process up once
        event = work.submit(subject)
        subject.device.synchronize()
        started = time.perf_counter()
        event.wait()
        work.expect_done(subject)
        left.append(time.perf_counter() - started)
        if left[-1] < 0.5 * work.seconds:
            return
    expect(False, "synchronize() with a list in flight", expected="nothing left to wait for",
           got=", ".join(f"{seconds * 1e3:.0f} ms more" for seconds in left))
