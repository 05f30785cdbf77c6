"""What a user waits for before the first result: imports and the demo's first step, in fresh processes."""
from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from limits import Probe
from turns import Absent, child_environment, quiet_rounds

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


def _run(arguments: list[str], **variables: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False,
                          env=child_environment(**variables))
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise Absent(lines[-1] if lines else f"status {done.returncode}")
    return done.stdout


def import_times(probe: Probe, rounds: int) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Seconds of each import in fresh processes, a list in the order of rounds; and why some are absent."""
    absent: dict[str, str] = {}

    def each() -> dict[str, float]:
        found = {}
        for name, statement in IMPORTS.items():
            try:
                found[name] = float(_run(["-c", _IMPORT.format(statement)]))
            except Absent as reason:
                absent[name] = str(reason)
        return found

    each()  # leaves byte code and a warm file cache
    kept, _ = quiet_rounds(probe, rounds, each)
    present = [name for name in IMPORTS if kept and name not in absent]
    return {name: [found[name] for found, _ in kept] for name in present}, absent


@dataclass(frozen=True, slots=True)
class FirstStep:
    """seconds: from the start of the process to the loss of the first step. parts: what they consist of."""

    seconds: float
    parts: dict[str, float]
    counters: dict[str, int]


def first_steps(probe: Probe, rounds: int) -> tuple[list[FirstStep], list[FirstStep]]:
    """The demo's first step with an empty cache folder, and in a second process with that folder."""
    def both() -> list[FirstStep]:
        with tempfile.TemporaryDirectory() as folder:
            return [_first_step(folder) for _ in range(2)]

    both()  # leaves byte code and a warm file cache
    kept, _ = quiet_rounds(probe, rounds, both)
    return [pair[0] for pair, _ in kept], [pair[1] for pair, _ in kept]


def _first_step(cache: str) -> FirstStep:
    script = str(Path(__file__).with_name("first_step.py"))
    output = _run([script, repr(time.monotonic())], PLUGGRAD_CACHE_DIR=cache, PLUGGRAD_CACHE="1")
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return FirstStep(found["seconds"], found["parts"], found["counters"])


def median_of(steps: list[FirstStep]) -> FirstStep:
    """Medians of the total and of each part; the counters of the first."""
    names = {name: None for step in steps for name in step.parts}
    parts = {name: statistics.median(step.parts.get(name, 0.0) for step in steps) for name in names}
    return FirstStep(statistics.median(step.seconds for step in steps), parts, steps[0].counters)
