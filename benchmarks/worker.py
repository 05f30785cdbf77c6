"""One library in a process of its own: reads requests, a JSON object a line, and answers each with one.

    {"do": "make", "work": NAME}                  {"made": true or false, "value": ..., "kernels": ...}
    {"do": "time", "works": NAMES, "seconds": S}  {"seconds": medians, "means": means, "busy": CPU / wall};
                                                  calls alternate
    {"do": "drop"}                                {}; forgets what was made
    {"do": "limits"}                              {"fma": GFLOP/s, "stream": GB/s} of its device, or {}

value: the mean magnitude of the first result. kernels: launched by a call, or null where nobody counts.
"""
from __future__ import annotations

import gc
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from benchmarks.forms import Call, Library, load
from benchmarks.workloads import WORKLOADS, workload

_WARM_UP_CALLS: Final = 3  # a capture, a compilation, caches


class Worker:
    """Holds the calls that were made."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._calls: dict[str, Call] = {}

    def start(self) -> None:
        """Run the smallest row: a library that cannot compile is known before anything is measured."""
        call = self._library.make(WORKLOADS["tiny_add"])
        if call is not None:
            call()

    def make(self, request: dict[str, Any]) -> dict[str, Any]:
        work = workload(request["work"])
        call = self._library.make(work)
        if call is None:
            return {"made": False}
        self._calls[work.name] = call
        value = _magnitude(call())
        kernels = None
        for _ in range(_WARM_UP_CALLS - 1 if work.seconds else 0):
            before = self._library.kernels()
            call()
            kernels = self._library.kernels() - before
        return {"made": True, "value": value, "kernels": kernels or None}

    def time(self, request: dict[str, Any]) -> dict[str, Any]:
        calls, clock = [self._calls[name] for name in request["works"]], time.perf_counter
        times: list[list[float]] = [[] for _ in calls]
        for call in calls if request["seconds"] else ():
            call()  # brings back what the other libraries' turns drove out of the caches
        begin, busy = clock(), time.process_time()
        while True:
            for call, taken in zip(calls, times, strict=True):
                start = clock()
                call()
                taken.append(clock() - start)
            wall = clock() - begin
            if wall >= request["seconds"]:
                break
        busy = time.process_time() - busy
        return {"seconds": [statistics.median(taken) for taken in times],
                "means": [statistics.fmean(taken) for taken in times], "busy": busy / wall}

    def drop(self, _: dict[str, Any]) -> dict[str, Any]:
        self._calls.clear()
        gc.collect()
        return {}

    def limits(self, _: dict[str, Any]) -> dict[str, Any]:
        found = self._library.limits()
        return {} if found is None else {"fma": found[0], "stream": found[1]}


def _magnitude(result: Any) -> float:
    """The mean magnitude of a result, or of several, whichever library's it is."""
    if isinstance(result, tuple):
        return math.fsum(map(_magnitude, result)) / len(result)
    if hasattr(result, "cpu"):  # PyTorch's, on whatever device
        result = result.detach().cpu()
    array = result.float().numpy() if hasattr(result, "numpy") else result  # NumPy has no bfloat16
    return float(np.abs(np.asarray(array, np.float64)).mean())


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is not an answer
    needs = ""
    try:
        library = load(sys.argv[1])
        needs = f"; needs {library.needs}" if library.needs else ""
        worker = Worker(library)
        worker.start()
    except Exception as error:
        print(json.dumps({"absent": _reason(error) + needs}), file=answers)
        return
    print(json.dumps({"version": library.version}), file=answers)
    actions: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
        "make": worker.make, "time": worker.time, "drop": worker.drop,
        "limits": worker.limits}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = actions[request["do"]](request)
        except Exception as error:
            answer = {"error": _reason(error)}
        print(json.dumps(answer), file=answers)


def _reason(error: Exception) -> str:
    lines = f"{type(error).__name__}: {error}".splitlines()
    return " ".join(lines[:2])[:200]


if __name__ == "__main__":
    main()
