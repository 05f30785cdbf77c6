"""A wait asks at once, then ever more rarely; what it is told by an exception ends it."""

from __future__ import annotations

import pytest

from pluggrad.device import polling
from pluggrad.plugin_api import KernelFault, poll


class Clock:
    """Time that passes by sleeping, and by a microsecond for each question."""

    def __init__(self) -> None:
        self.now, self.slept = 100.0, []

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def reached(self, seconds: float) -> bool:
        self.now += 1e-6
        return self.now >= 100.0 + seconds


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(polling, "time", made)
    return made


def test_what_is_soon_complete_is_seen_at_once(clock):
    poll(lambda: clock.reached(40e-6))
    assert clock.slept == []


@pytest.mark.parametrize("seconds", [1e-3, 0.1, 2.0])
def test_what_takes_longer_is_seen_a_few_percent_late(clock, seconds):
    poll(lambda: clock.reached(seconds))
    assert clock.now - 100.0 < seconds * 1.08
    assert clock.slept == sorted(clock.slept)
    assert max(clock.slept) <= 0.05  # Ctrl-C is heard


def test_what_the_question_raises_ends_the_wait():
    answers = iter([False, False])

    def complete() -> bool:
        if not next(answers, True):
            return False
        raise KernelFault(op="k", expected="no fault", got="one")

    with pytest.raises(KernelFault):
        poll(complete)
