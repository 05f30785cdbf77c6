"""Turn and turn about: every library runs in a process of its own, and a round is one turn of each."""
from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from benchmarks.criteria import OURS, is_ours
from benchmarks.limits import AnyProbe, LimitName, Limits, cores
from benchmarks.workloads import Workload

ROOT: Final = Path(__file__).parents[1]
_PATIENCE: Final = 4  # rounds thrown away for each that is wanted, before giving up
_PAUSE_S: Final = 0.02  # the threads of the last library go to sleep
_LARGEST_DIFFERENCE: Final = 0.01  # of a result's mean magnitude, from what most libraries found
_SCALES: Final = {"ms": 1e3, "us": 1e6}
T = TypeVar("T")
ALONE: Final = {"PLUGGRAD_CPU_THREADS": "1"}  # of a child's environment, in which it has one thread


class Absent(Exception):
    """A library that is not installed or does not start, or a workload that it cannot run."""


def child_environment(**variables: str) -> dict[str, str]:
    """The environment of a child: byte code is kept, as in an installed package."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return environment | variables


class Child:
    """A library's process: see `worker.py` for what it answers."""

    def __init__(self, name: str, library: str, **variables: str) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", library], stdin=subprocess.PIPE, cwd=ROOT,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=child_environment(**variables))
        hello = self._answer()
        if "absent" in hello:
            raise Absent(hello["absent"])
        self.version: str = hello["version"]

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Absent(f"its process ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Absent(answer["error"])
        return answer

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer; Absent if it failed."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Absent("its process has ended") from None
        return self._answer()

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    def close(self) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()


@dataclass(slots=True)
class Turn:
    """Seconds of a call (median of the turn), and CPU seconds per second."""

    seconds: float
    busy: float


@dataclass(slots=True)
class Row:
    """A workload's quiet rounds: for each library its turns, and the limits of each round.

    values: the mean magnitude of each library's first result. kernels: launched by a call of ours.
    absent: why a library has no turns. A library that does not have this row is in neither.
    """

    workload: Workload
    turns: dict[str, list[Turn]] = field(default_factory=dict)
    limits: list[Limits] = field(default_factory=list)
    discarded: int = 0
    absent: dict[str, str] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    kernels: int | None = None
    cores: int = field(default_factory=cores)

    def seconds(self, library: str) -> float:
        """The median over rounds."""
        return statistics.median(turn.seconds for turn in self.turns[library])

    def figure(self, library: str) -> float:
        """What the table shows, in the workload's unit: work per second, or a time."""
        seconds, work = self.seconds(library), self.workload
        return work.amount / seconds if work.amount else seconds * _SCALES[work.unit]

    def ratio(self, library: str, other: str, of: Row | None = None) -> float:
        """Time of `library` over that of `other`, here or in a row of the same rounds: the rounds' median."""
        pairs = zip(self.turns[library], (of or self).turns[other], strict=True)
        return statistics.median(a.seconds / b.seconds for a, b in pairs)

    def share(self, library: str, limit: LimitName) -> float:
        """The rate as a share of the round's limit: the median over rounds."""
        pairs = zip(self.turns[library], self.limits, strict=True)
        return statistics.median(self.workload.amount / turn.seconds / limits.of(limit)
                                 for turn, limits in pairs)

    def busy(self, library: str) -> float:
        """CPU seconds per second: how many cores were at work."""
        return statistics.median(turn.busy for turn in self.turns[library])

    def differing(self) -> list[str]:
        """The libraries whose result is not what most peers found; without peers, what we find by default."""
        peers = [value for name, value in self.values.items() if not is_ours(name)]
        peers = peers or [value for name, value in self.values.items() if name == OURS]
        if not self.workload.comparable or not peers:
            return []
        usual = statistics.median_low(peers)
        return [name for name, value in self.values.items()
                if not abs(value - usual) <= _LARGEST_DIFFERENCE * abs(usual)]


def quiet_rounds(probe: AnyProbe, wanted: int, run: Callable[[], T]) -> tuple[list[tuple[T, Limits]], int]:
    """Run rounds until `wanted` were quiet or patience ends.

    Returns what they gave with the limits of each, and how many rounds were thrown away.
    """
    kept: list[tuple[T, Limits]] = []
    discarded = 0
    before = probe.measure()
    while len(kept) < wanted and discarded < _PATIENCE * wanted:
        result = run()
        time.sleep(_PAUSE_S)
        after = probe.measure()
        if probe.quiet(before, after):
            kept.append((result, before.mean(after)))
        else:
            discarded += 1
        before = after
    return kept, discarded


class Contest:
    """Workloads that are timed together, and the children that can run them all."""

    def __init__(self, workloads: Sequence[Workload], children: Sequence[Child]) -> None:
        self.rows = [Row(workload) for workload in workloads]
        self.names = [workload.name for workload in workloads]
        self.seconds = sum(workload.seconds for workload in workloads)
        self.ready = [child for child in children if self._makes(child)]

    def _makes(self, child: Child) -> bool:
        try:
            for row in self.rows:
                made = child.ask("make", work=row.workload.name)
                if not made["made"]:
                    return False
                row.values[child.name] = made["value"]
                row.kernels = row.kernels if made["kernels"] is None else made["kernels"]
        except Absent as reason:
            self._out(child, reason)
            return False
        return True

    def _out(self, child: Child, reason: Absent) -> None:
        for row in self.rows:
            row.absent[child.name] = str(reason)
            row.values.pop(child.name, None)

    def round(self) -> dict[str, list[Turn]]:
        """A turn of each child: its name -> a Turn for each workload. A child that fails is out."""
        taken = {}
        for child in tuple(self.ready):
            time.sleep(_PAUSE_S)
            try:
                answer = child.ask("time", works=self.names, seconds=self.seconds)
            except Absent as reason:
                self.ready.remove(child)
                self._out(child, reason)
                continue
            taken[child.name] = [Turn(seconds, answer["busy"]) for seconds in answer["seconds"]]
        return taken

    def finish(self, kept: Sequence[tuple[Mapping[str, list[Turn]], Limits]], discarded: int) -> list[Row]:
        """The rows, with the rounds that count."""
        names = [child.name for child in self.ready]
        for position, row in enumerate(self.rows):
            row.limits, row.discarded = [limits for _, limits in kept], discarded
            row.turns = {name: [taken[name][position] for taken, _ in kept] for name in names} if kept else {}
        return self.rows


def measure(workloads: Sequence[Workload], children: Sequence[Child], probe: AnyProbe,
            rounds: int) -> list[Row]:
    """Rounds of workloads that take their turns together: a row for each."""
    contest = Contest(workloads, children)
    kept, discarded = quiet_rounds(probe, rounds, contest.round) if contest.ready else ([], 0)
    for child in children:
        with suppress(Absent):
            child.ask("drop")
    return contest.finish(kept, discarded)
