"""Probing each installed plugin in a process of its own: one that crashes or hangs is a row of a table."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from pluggrad import config
from pluggrad.cli.child import DEFAULT
from pluggrad.device import markers
from pluggrad.device.discovery import Entry
from pluggrad.device.registry import REGISTRY

TIME_LIMIT_S: Final = 20.0
_REPORTED: Final = frozenset({"state", "count", "phase", "reason", "fix"})


@dataclass(frozen=True, slots=True)
class Row:
    """One device entry point. phase: of a failed or crashed one. details: what the child reported besides."""

    device: str
    state: str
    distribution: str
    version: str
    count: int = 0
    phase: str = ""
    reason: str = ""
    fix: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """State and phase as one word: `failed@import`."""
        return f"{self.state}@{self.phase}" if self.phase else self.state


@dataclass(frozen=True, slots=True)
class Default:
    """The default device of a new process (None: there is none), why, and what choosing it warns about."""

    device: str | None
    reason: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a child ended: last phase, result (None: it gave none), exit status (None: stopped), its stderr."""

    phase: str
    result: dict[str, Any] | None
    status: int | None
    stderr: str
    limit_s: float

    @property
    def death(self) -> str:
        """Why there is no result."""
        if self.status is None:
            return f"no answer within {self.limit_s:g} s"
        if self.status < 0:
            with suppress(ValueError):
                return f"killed by {signal.Signals(-self.status).name}"
        return f"the process ended with status {self.status} and gave no answer"


def probe_all(verbose: bool = False, limit_s: float = TIME_LIMIT_S) -> list[Row]:
    """A row for each device entry point, loadable ones probed side by side."""
    entries = [entry for entry in REGISTRY.entries() if entry.kind == "devices"]
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda entry: _row(entry, verbose, limit_s), entries))


def find_default(rows: Sequence[Row], limit_s: float = TIME_LIMIT_S) -> Default:
    """The default device, chosen in a child as any process would; those known to crash are left out."""
    crashed = [row.device for row in rows if row.state == "crashed"]
    disabled = config.DISABLE.value if config.DEVICE.value else (*config.DISABLE.value, *crashed)
    outcome = _run([DEFAULT], limit_s * (1 + len(rows)), {config.DISABLE.variable: ",".join(disabled)})
    if outcome.result is None:
        return Default(None, f"choosing it fails: {outcome.death}")
    result = outcome.result
    return Default(result["default"], result["reason"], tuple(result["warnings"]))


def _row(entry: Entry, verbose: bool, limit_s: float) -> Row:
    row = Row(entry.name, entry.verdict, entry.distribution, entry.version,
              reason=entry.reason, fix=entry.fix)
    if entry.verdict != "loadable":
        return replace(row, phase="metadata" if entry.verdict == "failed" else "")
    outcome = _run([entry.name, "-v"] if verbose else [entry.name], limit_s)
    if outcome.result is None:
        state = "failed" if outcome.status is None else "crashed"
        fix = f"report it to {entry.distribution}; {config.DISABLE.variable}={entry.name} leaves it out"
        return replace(row, state=state, phase=outcome.phase, reason=outcome.death, fix=fix,
                       details={"traceback": outcome.stderr})
    markers.clear(entry)
    known = {name: value for name, value in outcome.result.items() if name in _REPORTED}
    details = {name: value for name, value in outcome.result.items() if name not in _REPORTED}
    return replace(row, **known, details=details)


def _run(arguments: Sequence[str], limit_s: float, variables: dict[str, str] | None = None) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="pluggrad-probe-") as folder:
        report = Path(folder) / "report"
        command = [sys.executable, "-X", "faulthandler", "-m", "pluggrad.cli.child", str(report), *arguments]
        environment = {**os.environ, **(variables or {})}
        status: int | None = None
        try:
            done = subprocess.run(command, capture_output=True, timeout=limit_s, env=environment, check=False)
            status, stderr = done.returncode, done.stderr
        except subprocess.TimeoutExpired as expired:
            stderr = expired.stderr or b""
        phase, result = _read(report)
        return Outcome(phase, result, status, stderr.decode(errors="replace").strip(), limit_s)


def _read(report: Path) -> tuple[str, dict[str, Any] | None]:
    phase: str = "import"
    try:
        lines = report.read_text(encoding="utf-8").splitlines()
    except OSError:
        return phase, None
    for line in lines:
        with suppress(ValueError):
            fields = json.loads(line)
            if "phase" in fields and "state" not in fields:
                phase = fields["phase"]
            else:
                return phase, fields
    return phase, None
