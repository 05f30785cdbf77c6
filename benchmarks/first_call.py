"""The first call of a step in this process, for any library that has it; for pluggrad in its parts.

    python -m benchmarks.first_call LIBRARY PROGRAM START

PROGRAM: a row of workloads.py or an entry of programs. START: time.monotonic() when the process was started.

Prints JSON. `seconds`: from the start of the first step to its loss; images, labels and weights are on the
device before. `process`: from the start of the process, imports and uploads included.
"""
from __future__ import annotations

import json
import sys
import time
from typing import Any

from benchmarks.criteria import OURS
from benchmarks.forms import load
from benchmarks.programs import PROGRAMS, make
from benchmarks.stage_timers import StageTimers
from benchmarks.workloads import WORKLOADS


def main(name: str, program: str, start: float) -> None:
    call = make(name, program) if program in PROGRAMS else load(name).make(WORKLOADS[program])
    if call is None:
        sys.exit(f"{name} does not have this step")
    timers = StageTimers()
    begin = time.perf_counter()
    if name == OURS:
        timers.install()
    call()
    seconds, process = time.perf_counter() - begin, time.monotonic() - start
    if timers.parts:
        timers.parts["trace, and the rest"] = seconds - sum(timers.parts.values())
    found: dict[str, Any] = {"seconds": seconds, "process": process, "parts": timers.parts, "counters": {}}
    if name == OURS:
        from pluggrad import GlobalCounters

        found["counters"] = GlobalCounters.snapshot()
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
