"""The report of a run as JSON, which a plugin may ship as `conformance.json` in its package."""
from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final

from pluggrad.device.versions import API_MAJOR, API_MINOR
from pluggrad.testing.conformance.registry import SUITE_VERSION
from pluggrad.testing.conformance.results import VERDICTS, Results
from pluggrad.version import __version__

SHIPPED_AS: Final = "conformance.json"


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


def shipped(module: str) -> dict[str, Any] | None:
    """The report that comes with a plugin: `conformance.json` in the top-level package of its module."""
    try:
        text = resources.files(module.partition(".")[0]).joinpath(SHIPPED_AS).read_text(encoding="utf-8")
        found = json.loads(text)
    except (OSError, ValueError, ModuleNotFoundError, TypeError):  # none, or not one of ours
        return None
    return found if isinstance(found, dict) and "suite" in found else None


def one_line(shipped_report: Mapping[str, Any]) -> str:
    """What a shipped report says."""
    totals = shipped_report.get("totals", {})
    run = sum(totals.values())
    verdict = "passed" if shipped_report.get("passed") else "FAILED"
    part = "" if shipped_report.get("complete") else " of a part of the tests"
    uncovered = len(shipped_report.get("uncovered", ()))
    gaps = f", {uncovered} points not covered" if uncovered else ""
    return (f"suite {shipped_report['suite']} {verdict}{part}: {totals.get('passed', 0)} of {run} tests, "
            f"{totals.get('xfailed', 0)} expected failures{gaps} (core {shipped_report.get('core', '?')})")
