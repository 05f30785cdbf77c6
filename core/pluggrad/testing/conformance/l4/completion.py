"""Events: complete means complete, and times are those of the device."""
from __future__ import annotations

import time

import numpy as np

from pluggrad.testing.conformance.l4.long_work import expect_complete_when_waited_for, long_work
from pluggrad.testing.conformance.mismatch import expect
from pluggrad.testing.conformance.registry import conformance
from pluggrad.testing.conformance.requirement import requires
from pluggrad.testing.conformance.subject import Subject

NEEDS = requires(dtype="int32")


@conformance("L4", "events/wait-means-complete", requires=NEEDS, suggests="an event fires early")
def wait_means_complete(subject: Subject) -> None:
    work = long_work(subject, 0.3)
    expect_complete_when_waited_for(subject, work, lambda: work.submit(subject))


@conformance("L4", "events/prepared-wait-means-complete", requires=requires(dtype="int32", feature="graph"),
             suggests="the event of a prepared list fires early")
def prepared_wait_means_complete(subject: Subject) -> None:
    work = long_work(subject, 0.3)
    prepared = subject.device.prepare(work.commands, ())  # type: ignore[attr-defined]
    expect_complete_when_waited_for(subject, work, lambda: prepared(work.slots, ()))


@conformance("L4", "events/wait-again", requires=NEEDS, suggests="an event can be waited for only once")
def wait_again(subject: Subject) -> None:
    work = long_work(subject, 0.02)
    event = work.submit(subject)
    for _ in range(3):
        event.wait()
    work.expect_done(subject)


@conformance("L4", "events/host-view-after-wait", requires=requires(dtype="int32", feature="zero_copy"),
             suggests="an event fires early: the host still sees old memory")
def host_view_after_wait(subject: Subject) -> None:
    work = long_work(subject, 0.1)
    work.submit(subject).wait()
    view = subject.allocator.host_view(work.slots[0])  # type: ignore[attr-defined]
    found = np.frombuffer(view, np.int32).copy()
    work.expect_done(subject)
    again = np.frombuffer(view, np.int32)
    subject.expect(found, again, "int32", op="host_view after wait")


@conformance("L4", "events/times", requires=requires(dtype="int32", feature="events"),
             suggests="elapsed() is not the seconds from the first command's begin to the last one's end")
def times(subject: Subject) -> None:
    work = long_work(subject, 0.2)
    shares = []
    for _ in range(3):
        started = time.perf_counter()
        event = work.submit(subject)
        event.wait()
        wall = time.perf_counter() - started
        seconds = subject.device.elapsed(event)  # type: ignore[attr-defined]
        expect(seconds > 0, "elapsed() of a list that took a while", expected="more than 0 s",
               got=f"{seconds} s")
        expect(seconds <= 1.05 * wall + 1e-3, "elapsed() of a list", got=f"{seconds:.4f} s",
               expected=f"at most the {wall:.4f} s that the host saw")
        shares.append(seconds / wall)
    expect(max(shares) > 0.25, "elapsed() of a list of launches", expected="most of what the host saw",
           got=f"{max(shares):.1%} of it")


@conformance("L4", "events/times-grow", requires=requires(dtype="int32", feature="events"),
             suggests="elapsed() does not cover the whole list")
def times_grow(subject: Subject) -> None:
    work = long_work(subject, 0.1)

    def best(repeats: int) -> float:
        seconds: list[float] = []
        for _ in range(3):
            event = subject.device.submit(work.commands * repeats, work.slots, ())
            event.wait()
            seconds.append(subject.device.elapsed(event))  # type: ignore[attr-defined]
        return min(seconds)

    for _ in range(3):  # a busy machine may hold the shorter list up
        once, five = best(1), best(5)
        if five > 2 * once:
            return
    expect(False, "elapsed() of five times the work", got=f"{five:.4f} s",
           expected=f"about five times {once:.4f} s")
