"""The report of a run as JSON values."""
from __future__ import annotations

import platform
from typing import Any

from pluggrad.device.versions import API_MAJOR, API_MINOR
from pluggrad.testing.conformance.registry import SUITE_VERSION
from pluggrad.testing.conformance.results import VERDICTS, Results
from pluggrad.version import __version__


def report(results: Results) -> dict[str, Any]:
    """Everything a reader needs to judge the run, as JSON values."""
    failures = [{"id": test.id, "verdict": verdict, **outcome.data()}
                for test, outcome, verdict in results.done() if outcome.failure is not None]
    totals = {verdict: sum(counts[verdict] for counts in results.counts().values()) for verdict in VERDICTS}
    return {
        "suite": SUITE_VERSION, "core": __version__, "api": f"{API_MAJOR}.{API_MINOR}",
        "python": platform.python_version(), "platform": platform.platform(),
        "device": None if results.description is None else results.description.data(),
        "passed": results.ok, "complete": results.selection.whole, "totals": totals,
        "counts": {level: dict(counts) for level, counts in results.counts().items()},
        "not_applicable": dict(results.not_applicable()),
        "problems": results.problems, "failures": failures, "xfails": dict(results.xfails),
        "uncovered": [list(point) for point in results.uncovered()],
        "seconds": round(results.seconds, 1),
        "durations": {test.id: round(outcome.seconds, 4) for test, outcome, _ in results.done()}}
