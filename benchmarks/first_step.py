"""Run examples/digits.py up to the loss of its first step, in this process, and say where the time went.

    python -m benchmarks.first_step START     START: time.monotonic() when the process was started

The demo runs as it is; its progress bar is replaced by one that ends the process when it is first moved.
"""
from __future__ import annotations

import json
import os
import runpy
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn

from benchmarks.stage_timers import StageTimers

_DEMO: Final = Path(__file__).parents[1] / "examples" / "digits.py"
_PACKAGES: Final = ("pluggrad.tensor", "pluggrad.nn", "pluggrad.jit", "pluggrad.data", "pluggrad_cpu.plugin")


def imported(*modules: str) -> float:
    """Seconds that it takes to import modules."""
    begin = time.perf_counter()
    for module in modules:
        import_module(module)
    return time.perf_counter() - begin


def main(start: float) -> None:
    timers = StageTimers()
    parts = timers.parts
    parts["start Python"] = time.monotonic() - start
    parts["import NumPy"] = imported("numpy")
    parts["import pluggrad"] = imported(*_PACKAGES)
    timers.install()
    begin = time.perf_counter()
    tqdm: Any = import_module("tqdm.auto")

    class Bar(tqdm.tqdm):  # type: ignore[misc]
        def update(self, n: float | None = 1) -> NoReturn:
            from pluggrad import GlobalCounters

            seconds = time.monotonic() - start
            parts["trace, and the rest"] = seconds - sum(parts.values())
            found = {"seconds": seconds, "process": seconds, "parts": parts,
                     "counters": GlobalCounters.snapshot()}
            print(json.dumps(found), flush=True)
            os._exit(0)

    tqdm.tqdm = Bar
    demo = runpy.run_path(str(_DEMO), run_name="demo")
    parts["import what else the demo needs"] = time.perf_counter() - begin
    demo["main"]([])
    sys.exit("the demo ended without moving its progress bar")


if __name__ == "__main__":
    main(float(sys.argv[1]))
