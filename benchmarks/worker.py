"""One library in a process of its own: reads requests, a JSON object a line, and answers each with one.

    {"do": "make", "work": NAME}    {"made": true or false}
    {"do": "time", "seconds": S}    {"seconds": median, "best": ..., "calls": n, "busy": CPU / wall}
    {"do": "drop"}                  {}
"""
from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from peers import LIBRARIES, Call, Maker
from workloads import WORKLOADS, inputs_of

_WARM_UP_CALLS: Final = 3  # a capture, a compilation, caches


def library(name: str) -> tuple[str, Maker]:
    """The version of a library, and what makes its calls."""
    if name in LIBRARIES:
        return LIBRARIES[name]()
    from ours import library as ours

    return ours()


class Worker:
    """Holds one workload's call at a time."""

    def __init__(self, make: Maker) -> None:
        self._make = make
        self._call: Call | None = None

    def make(self, request: dict[str, Any]) -> dict[str, Any]:
        workload = WORKLOADS[request["work"]]
        self._call = self._make(workload.name, inputs_of(workload))
        if self._call is not None:
            for _ in range(_WARM_UP_CALLS if workload.seconds else 1):
                self._call()
        return {"made": self._call is not None}

    def time(self, request: dict[str, Any]) -> dict[str, Any]:
        call, clock = self._call, time.perf_counter
        if call is None:
            raise RuntimeError("nothing was made")
        call()  # brings back what the other libraries' turns drove out of the caches
        times: list[float] = []
        begin, busy = clock(), time.process_time()
        while True:
            start = clock()
            call()
            end = clock()
            times.append(end - start)
            if end - begin >= request["seconds"]:
                break
        busy = time.process_time() - busy
        times.sort()
        return {"seconds": times[len(times) // 2], "best": times[0], "calls": len(times),
                "busy": busy / (end - begin)}

    def drop(self, _: dict[str, Any]) -> dict[str, Any]:
        self._call = None
        gc.collect()
        return {}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is not an answer
    try:
        version, make = library(sys.argv[1])
    except Exception as error:
        print(json.dumps({"absent": f"{type(error).__name__}: {error}"}), file=answers)
        return
    print(json.dumps({"version": version}), file=answers)
    worker = Worker(make)
    actions: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
        "make": worker.make, "time": worker.time, "drop": worker.drop}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = actions[request["do"]](request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
