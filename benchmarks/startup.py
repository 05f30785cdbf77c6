"""What a user waits for before the first result, in fresh processes: imports, first steps."""
from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.limits import AnyProbe
from benchmarks.turns import ROOT, Absent, child_environment, quiet_rounds

_IMPORT: Final = "import time; begin = time.perf_counter(); {}; print(time.perf_counter() - begin)"
# name -> what a program imports. Our names resolve on first access: `import pluggrad` alone says little.
IMPORTS: Final = {
    "numpy": "import numpy",
    "pluggrad": "import pluggrad",
    "pluggrad's names": "from pluggrad import Tensor, jit, nn",
    "torch": "import torch",
    "jax": "import jax.numpy",
    "tinygrad": "from tinygrad import Tensor, nn",
}


@dataclass(frozen=True, slots=True)
class First:
    """A first result: `seconds` and what they consist of; `process`: since the process was started."""

    seconds: float
    process: float
    parts: dict[str, float]
    counters: dict[str, int]


@dataclass(slots=True)
class Firsts:
    """First results in quiet rounds: with an empty cache folder, and in a second process with that folder."""

    cold: list[First] = field(default_factory=list)
    second: list[First] = field(default_factory=list)


def run(arguments: list[str], **variables: str) -> str:
    """What a Python process prints. Absent if it fails, with the last line of its errors."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=ROOT,
                          env=child_environment(**variables))
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise Absent(lines[-1][:200] if lines else f"status {done.returncode}")
    return done.stdout


def import_times(probe: AnyProbe, rounds: int) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Seconds of each import in fresh processes, a list in the order of rounds; and why some are absent."""
    absent: dict[str, str] = {}

    def each() -> dict[str, float]:
        found = {}
        for name, statement in IMPORTS.items():
            try:
                found[name] = float(run(["-c", _IMPORT.format(statement)]))
            except Absent as reason:
                absent[name] = str(reason)
        return found

    each()  # leaves byte code and a warm file cache
    kept, _ = quiet_rounds(probe, rounds, each)
    present = [name for name in IMPORTS if kept and name not in absent]
    return {name: [found[name] for found, _ in kept] for name in present}, absent


def demo(probe: AnyProbe, rounds: int) -> Firsts:
    """The demo's first step, from the start of the process. Absent if it fails."""
    return _firsts(probe, rounds, ["benchmarks.first_step"])


def first_call(probe: AnyProbe, rounds: int, library: str, program: str) -> Firsts:
    """The first call of a program's step, inputs and weights on the device. Absent if it fails."""
    return _firsts(probe, rounds, ["benchmarks.first_call", library, program])


def _firsts(probe: AnyProbe, rounds: int, program: list[str]) -> Firsts:
    def both() -> tuple[First, First]:
        with tempfile.TemporaryDirectory() as folder:
            return _first(program, folder), _first(program, folder)

    both()  # leaves byte code and a warm file cache
    kept, _ = quiet_rounds(probe, rounds, both)
    return Firsts([cold for (cold, _), _ in kept], [second for (_, second), _ in kept])


def _first(program: list[str], folder: str) -> First:
    """One process, every library's cache in `folder`."""
    output = run(["-m", *program, repr(time.monotonic())], PLUGGRAD_CACHE_DIR=folder, PLUGGRAD_CACHE="1",
                  TORCHINDUCTOR_CACHE_DIR=folder, CACHEDB=f"{folder}/tinygrad.db")
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return First(**found)


def median_of(firsts: Sequence[First]) -> First:
    """Medians of the times and of each part; the counters of the first."""
    names = {name: None for first in firsts for name in first.parts}
    parts = {name: statistics.median(first.parts.get(name, 0.0) for first in firsts) for name in names}
    return First(statistics.median(first.seconds for first in firsts),
                 statistics.median(first.process for first in firsts), parts, firsts[0].counters)
