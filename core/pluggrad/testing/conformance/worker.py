"""A worker process: opens the device once and runs one test after another, as the runner asks.

Requests and replies are lines of JSON on what were standard input and output; whatever a plugin prints goes
to standard error, which the runner keeps in a file.
"""
from __future__ import annotations

import faulthandler
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, TextIO

from pluggrad.errors import DeviceUnavailable, UnknownDevice
from pluggrad.testing.conformance.collect import collect
from pluggrad.testing.conformance.outcome import Description, Failure, Outcome, summary_of
from pluggrad.testing.conformance.registry import ConformanceTest
from pluggrad.testing.conformance.subject import Subject


def main() -> int:
    """`DEVICE`: serve requests until the input ends."""
    requests, replies = _channel()
    subject, tests = Subject(sys.argv[1]), collect()
    actions: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
        "start": lambda request: {},
        "open": lambda request: _opened(subject, request["limit_s"]),
        "run": lambda request: _run(tests[request["id"]], subject, request).data()}
    for request in requests:
        reply = actions[request["do"]](request)
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
    return 0


def _channel() -> tuple[Iterator[dict[str, Any]], TextIO]:
    """Standard input and output for this worker alone; what is printed from now on goes to standard error."""
    # closed by the end of the process
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return (json.loads(line) for line in requests), replies


def _opened(subject: Subject, limit_s: float) -> dict[str, Any]:
    """Open the device and say what it is; or why it cannot be opened, and whether it is merely absent."""
    try:
        with _Limit(limit_s):
            return {"description": describe(subject).data()}
    except Exception as error:
        absent = isinstance(error, (UnknownDevice, DeviceUnavailable))
        return {"error": summary_of(error), "absent": absent}


def describe(subject: Subject) -> Description:
    """What the device declares, once it is open."""
    id, entry, target = subject.id, subject.entry, subject.target
    _ = subject.device
    names = subject.backend.probe().names
    return Description(str(id), names[id.index] if id.index < len(names) else "", subject.backend.describe(),
                       entry.distribution, entry.version, target.arch, target.capabilities)


def _run(test: ConformanceTest, subject: Subject, request: dict[str, Any]) -> Outcome:
    subject.alone = request["alone"]
    return run(test, subject, request["limit_s"])


def run(test: ConformanceTest, subject: Subject, limit_s: float) -> Outcome:
    """Run one test; whatever it raises is its failure."""
    started = time.perf_counter()
    try:
        with _Limit(limit_s):
            try:
                test.body(subject, **test.case)
            finally:
                subject.release()
    except BaseException as error:  # also a plugin's sys.exit()
        return Outcome("failed", time.perf_counter() - started, Failure.of(error, test))
    return Outcome("passed", time.perf_counter() - started)


class _Limit:
    """Ends the process, with a traceback of every thread, where a block takes longer than it may.

    The runner would end it as well; this one says where it hung, and holds if the runner is gone.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s: Final = limit_s

    def __enter__(self) -> None:
        faulthandler.dump_traceback_later(self._limit_s, exit=True)

    def __exit__(self, *error: object) -> None:
        faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    sys.exit(main())
