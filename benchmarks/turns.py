"""Turn and turn about: every library runs in a process of its own, and a round is one turn of each."""
from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from limits import Limits, Probe
from workloads import Workload

_PATIENCE: Final = 4  # rounds thrown away for each that is wanted, before giving up
_PAUSE_S: Final = 0.02  # the threads of the last library go to sleep
T = TypeVar("T")
_FOLDER: Final = Path(__file__).parent


class Absent(Exception):
    """A library that is not installed or does not start, or a workload that it cannot run."""


def child_environment(**variables: str) -> dict[str, str]:
    """The environment of a child: byte code is kept, as in an installed package."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return environment | variables


class Child:
    """A library's process."""

    def __init__(self, name: str, library: str, **variables: str) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, str(_FOLDER / "worker.py"), library], stdin=subprocess.PIPE,
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

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@dataclass(slots=True)
class Turn:
    """Seconds of a call (median of the turn), and CPU seconds per second."""

    seconds: float
    busy: float


@dataclass(slots=True)
class Row:
    """A workload's quiet rounds: for each library its turns, and the limits of each round."""

    workload: Workload
    turns: dict[str, list[Turn]] = field(default_factory=dict)
    limits: list[Limits] = field(default_factory=list)
    discarded: int = 0
    absent: dict[str, str] = field(default_factory=dict)

    def seconds(self, library: str) -> float | None:
        """The median over rounds; None if the library has no turns."""
        turns = self.turns.get(library)
        return statistics.median(t.seconds for t in turns) if turns else None

    def rate(self, library: str) -> float | None:
        """Work per second in the workload's unit."""
        seconds = self.seconds(library)
        return self.workload.amount / seconds if seconds and self.workload.amount else None

    def ratio(self, library: str, other: str) -> float | None:
        """Time of `library` over that of `other`: the median of the rounds' ratios."""
        pairs = list(zip(self.turns.get(library, ()), self.turns.get(other, ()), strict=False))
        return statistics.median(a.seconds / b.seconds for a, b in pairs) if pairs else None

    def share(self, library: str, limit: str) -> float | None:
        """The rate as a share of the round's limit, "fma" or "stream": the median over rounds."""
        pairs = list(zip(self.turns.get(library, ()), self.limits, strict=False))
        return statistics.median(self.workload.amount / turn.seconds / getattr(limits, limit)
                                 for turn, limits in pairs) if pairs else None

    def busy(self, library: str) -> float | None:
        """CPU seconds per second: how many cores were at work."""
        turns = self.turns.get(library)
        return statistics.median(t.busy for t in turns) if turns else None


def quiet_rounds(probe: Probe, wanted: int, run: Callable[[], T]) -> tuple[list[tuple[T, Limits]], int]:
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


def measure(workload: Workload, children: Sequence[Child], probe: Probe, rounds: int) -> Row:
    """Rounds of one workload."""
    row = Row(workload)
    present = []
    for child in children:
        try:
            if child.ask("make", work=workload.name)["made"]:
                present.append(child)
        except Absent as reason:
            row.absent[child.name] = str(reason)

    def turns() -> list[Turn]:
        taken = []
        for child in present:
            time.sleep(_PAUSE_S)
            answer = child.ask("time", seconds=workload.seconds)
            taken.append(Turn(answer["seconds"], answer["busy"]))
        return taken

    kept, row.discarded = quiet_rounds(probe, rounds, turns)
    row.limits = [limits for _, limits in kept]
    row.turns = {child.name: [taken[i] for taken, _ in kept] for i, child in enumerate(present)}
    for child in present:
        child.ask("drop")
    return row
