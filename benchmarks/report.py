"""Tables for people (with rich where it is installed), JSON for machines."""
from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from floors import OURS, Verdict, best_peer, duration, goal
from startup import FirstStep, median_of
from turns import Row

RESULTS: Final = Path(__file__).with_name("results")


# ---- tables --------------------------------------------------------------------------------------
def show(title: str, header: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print a table; all columns but the first are aligned to the right."""
    if find_spec("rich") is not None:
        console: Any = import_module("rich.console").Console(width=None if os.isatty(1) else 200)
        table: Any = import_module("rich.table").Table(title=title, title_justify="left")
        for position, name in enumerate(header):
            table.add_column(name, justify="right" if position else "left")
        for line in lines:
            table.add_row(*map(str, line))
        console.print(table)
        return
    widths = [max(len(line[column]) for line in [header, *lines]) for column in range(len(header))]
    print(f"\n{title}")
    for line in [header, ["-" * width for width in widths], *lines]:
        first, *rest = (text.ljust(width) if not i else text.rjust(width)
                        for i, (text, width) in enumerate(zip(line, widths, strict=True)))
        print("  ".join([first, *rest]).rstrip())


def floors_table(verdicts: Sequence[Verdict]) -> None:
    lines = [[v.name, v.ours, v.beside, v.ratio, v.required, "met" if v.met else "NOT MET", v.note]
             for v in verdicts]
    show("Floors", ["floor", OURS, "beside it", "ratio", "required", "", "note"], lines)


def workloads_table(rows: Sequence[Row], libraries: Sequence[str]) -> None:
    lines = []
    for row in rows:
        peer = best_peer(row)
        ratio = None if peer is None else row.ratio(peer, OURS)
        text, reached = goal(row)
        shares = [f"{share:.0%} {limit}" for limit, unit in (("fma", "GFLOP/s"), ("stream", "GB/s"))
                  if row.workload.unit == unit and (share := row.share(OURS, limit)) is not None]
        verdict = "" if reached is None else ": reached" if reached else ": not reached"
        lines.append([row.workload.name, *[_figure(row, library) for library in libraries],
                      "-" if ratio is None else f"{ratio:.2f}x {peer}", " ".join(shares), text + verdict,
                      f"{len(row.limits)} of {len(row.limits) + row.discarded}"])
    show("Workloads (median; a rate where the row has one)",
         ["workload", *libraries, "speed beside best", "of limit", "to reach", "quiet rounds"], lines)


def _figure(row: Row, library: str) -> str:
    seconds, rate = row.seconds(library), row.rate(library)
    if seconds is None:
        return "-"
    return duration(seconds) if rate is None else f"{rate:.4g} {row.workload.unit}"


def parts_table(cold: list[FirstStep], second: list[FirstStep]) -> None:
    if not cold or not second:
        return
    a, b = median_of(cold), median_of(second)
    names = list(dict.fromkeys([*a.parts, *b.parts]))
    lines = [[name, duration(a.parts.get(name, 0.0)), duration(b.parts.get(name, 0.0))] for name in names]
    show("The demo's first step, from the start of the process (medians)", ["part", "cold", "second process"],
         [*lines, ["all", duration(a.seconds), duration(b.seconds)]])


def imports_table(times: Mapping[str, list[float]]) -> None:
    show("Imports", ["module", "seconds"], [[n, duration(statistics.median(t))] for n, t in times.items()])


# ---- JSON ----------------------------------------------------------------------------------------
def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {"system": platform.system(), "processor": _processor(), "cpus": os.cpu_count(),
            "python": platform.python_version(), "commit": _commit()}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
                platform.processor() or platform.machine())


def _commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent,
                          capture_output=True, text=True, check=False)
    return done.stdout.strip()


def write(results: Mapping[str, Any]) -> Path:
    """Results as JSON under benchmarks/results, by time; returns the file."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / (time.strftime("%Y-%m-%dT%H%M%SZ", time.gmtime()) + ".json")
    path.write_text(json.dumps(results, indent=1) + "\n")
    return path


def as_data(row: Row) -> dict[str, Any]:
    """A row's raw rounds."""
    return {"what": row.workload.what, "amount": row.workload.amount, "unit": row.workload.unit,
            "turns": {name: [asdict(turn) for turn in turns] for name, turns in row.turns.items()},
            "limits": [asdict(limits) for limits in row.limits], "discarded": row.discarded,
            "absent": row.absent}
