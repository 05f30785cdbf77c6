"""The report that a plugin ships: `conformance.json` in the top-level package of its module."""
from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final

SHIPPED_AS: Final = "conformance.json"
_FIELDS: Final = frozenset({"suite", "core", "totals", "device", "passed", "complete", "uncovered"})


def shipped(module: str) -> dict[str, Any] | None:
    """The report that comes with the plugin whose entry point names this module; None if there is none."""
    try:
        text = resources.files(module.partition(".")[0]).joinpath(SHIPPED_AS).read_text(encoding="utf-8")
        found = json.loads(text)
    except (OSError, ValueError, ModuleNotFoundError, TypeError):  # none, or not one of ours
        return None
    return found if isinstance(found, dict) and found.keys() >= _FIELDS else None


def one_line(report: Mapping[str, Any]) -> str:
    """What a report says: verdict, counts, what it was made on."""
    try:
        totals, device = report["totals"], report["device"]
        run = sum(totals.values())
        verdict = "passed" if report["passed"] else "FAILED"
        part = "" if report["complete"] else " a part of the tests"
        gaps = f", {len(report['uncovered'])} points not covered" if report["uncovered"] else ""
        expected = f", {totals['xfailed']} failed as expected" if totals["xfailed"] else ""
        plugin = f"{device['distribution']} {device['version']}"
        return (f"suite {report['suite']} {verdict}{part}: {totals['passed']} of {run} tests"
                f"{expected}{gaps}; on {device['name'] or device['device']}, {plugin}, core {report['core']}")
    except (KeyError, TypeError, AttributeError) as error:  # edited by hand, or of another version
        return f"{SHIPPED_AS} cannot be read: {type(error).__name__}: {error}"
