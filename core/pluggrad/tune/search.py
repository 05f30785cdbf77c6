"""A measured search over the schedules of a kernel. Nothing here runs a kernel: a timer is passed in.

What the heuristics choose depends on Capabilities alone. So the candidates are what they choose for devices
that differ a little: fewer registers make other tiles, a smaller cache other blocks and panels, slower cores
longer tasks. The heuristics' own choice is the first candidate. A search goes from the best found so far in
every direction, until nothing is better.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pluggrad.kernel.kernel import Kernel
from pluggrad.kernel.offer import Claim
from pluggrad.target import Capabilities
from pluggrad.tune import Tuned, tune

Change = tuple[tuple[str, int | float], ...]  # capabilities by name, and the values to choose a schedule for
Timer = Callable[[Tuned], float]
Progress = Callable[[Sequence["Candidate"], str], Iterable["Candidate"]]

_LEAD: Final = 1.03  # what a winner has to be faster by when both are measured again
_ROUNDS: Final = 3
# capability -> what it is multiplied by; a group cannot have more work items than there are
_SCALES: Final[dict[str, tuple[float, ...]]] = {
    "vector_registers": (0.25, 0.5, 0.75, 1.5),
    "vector_bytes": (0.5, 2),
    "cache_bytes": (0.25, 0.5, 2, 4),
    "shared_cache_bytes": (1 / 64, 64),
    "cores": (0.5, 2, 4),
    "flops_per_core": (0.25, 4),
    "bytes_per_second": (0.25, 4),
    "max_group": (0.25, 0.5),
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A schedule, and the change of the capabilities for which the heuristics choose it."""

    change: Change
    tuned: Tuned


@dataclass(frozen=True, slots=True)
class Found:
    """The winner's change, empty where the heuristics' choice stays; how many times as fast it is; how many
    candidates were timed."""

    change: Change
    gain: float
    timed: int


def changed(capabilities: Capabilities, change: Change) -> Capabilities:
    """The capabilities with other values."""
    values: dict[str, Any] = dict(change)
    return replace(capabilities, **values) if values else capabilities


def candidates(kernel: Kernel, capabilities: Capabilities, claim: Claim | None = None,
               start: Change = ()) -> Iterator[Candidate]:
    """The schedule of `start`, then those that differ from it, each once, for a change of one capability."""
    first = Candidate(start, tune(kernel, changed(capabilities, start), claim))
    yield first
    seen = {first.tuned}
    for change in _neighbors(capabilities, start):
        tuned = tune(kernel, changed(capabilities, change), claim)
        if tuned not in seen:
            seen.add(tuned)
            yield Candidate(change, tuned)


def _neighbors(capabilities: Capabilities, start: Change) -> Iterator[Change]:
    for name, scales in _SCALES.items():
        others = {each: value for each, value in start if each != name}
        own = getattr(capabilities, name)
        for scale in scales:
            value = type(own)(own * scale)
            if value > 0:
                yield tuple(sorted({**others, name: value}.items()))


def search(kernel: Kernel, capabilities: Capabilities, timer: Timer, claim: Claim | None = None,
           progress: Progress = lambda every, _: every) -> Found:
    """The change whose schedule is fastest by `timer`, which gives seconds (infinity: it does not run).

    It has to lead the heuristics' choice when both are measured again, or that one stays.
    """
    heuristic, *others = candidates(kernel, capabilities, claim)
    if not others:
        return Found((), 1.0, 0)
    times = {heuristic.tuned: timer(heuristic.tuned)}
    best = heuristic
    for _ in range(_ROUNDS):
        start = best
        untried = [each for each in others if each.tuned not in times]
        for candidate in progress(untried, kernel.name):
            times[candidate.tuned] = timer(candidate.tuned)
            if times[candidate.tuned] < times[best.tuned]:
                best = candidate
        if best is start:
            break
        _, *others = candidates(kernel, capabilities, claim, best.change)
    if best is heuristic:
        return Found((), 1.0, len(times))
    gain = timer(heuristic.tuned) / timer(best.tuned)
    return Found(best.change, gain, len(times)) if gain >= _LEAD else Found((), 1.0, len(times))
