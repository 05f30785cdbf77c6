"""Tables for people, as Markdown, and JSON for machines."""
from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.criteria import ONE_THREAD, OURS, best_peer, duration
from benchmarks.floors import NO_ROUND, Verdict, beside_best, judged, unevenness
from benchmarks.limits import LimitName, cores
from benchmarks.programs import PROGRAMS
from benchmarks.startup import Firsts, median_of
from benchmarks.turns import ROOT, Row
from benchmarks.workloads import SETS

RESULTS: Final = Path(__file__).with_name("results")
_LIMIT_OF: Final[dict[str, LimitName]] = {"GFLOP/s": "fma", "GB/s": "stream"}
_TEXTS: Final = ("required", "aimed at", "note")  # columns that hold no figures


@dataclass(slots=True)
class Results:
    """All that a run measured. A text instead of first results says why there are none."""

    rows: dict[str, Row] = field(default_factory=dict)
    sizes: dict[int, list[Row]] = field(default_factory=dict)
    imports: dict[str, list[float]] = field(default_factory=dict)
    demo: Firsts | str | None = None
    lenet: dict[str, Firsts | str] = field(default_factory=dict)
    resnet: Firsts | str | None = None
    memory: Mapping[str, Mapping[str, float | str]] = field(default_factory=dict)


# ---- tables --------------------------------------------------------------------------------------
def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table in columns; figures are aligned to the right."""
    widths = [max(3, *(len(line[column]) for line in [header, *lines])) for column in range(len(header))]
    right = [column > 0 and name not in _TEXTS for column, name in enumerate(header)]
    rule = ["-" * (width - flush) + ":" * flush for width, flush in zip(widths, right, strict=True)]
    shown = [[cell.rjust(width) if flush else cell.ljust(width)
              for cell, width, flush in zip(line, widths, right, strict=True)]
             for line in [header, rule, *lines]]
    return "\n".join("| " + " | ".join(line) + " |" for line in shown)


def workloads_table(rows: Sequence[Row], libraries: Sequence[str]) -> str:
    """A line for each workload: rates or times, the ratio to the best peer, the share of the limit."""
    header = ["workload", "unit", *libraries, "speed beside best", "of limit", "required", "", "rounds"]
    lines = []
    for row in rows:
        found = [judged(row, criterion) for criterion in row.workload.required]
        verdict = "" if not found else "ok" if all(each.met for each in found) else "MISSED"
        lines.append([row.workload.name, row.workload.unit, *[_figure(row, library) for library in libraries],
                      _beside_best(row), _of_limit(row), "; ".join(map(str, row.workload.required)), verdict,
                      f"{len(row.limits)} of {len(row.limits) + row.discarded}"])
    return table(header, lines)


def _figure(row: Row, library: str) -> str:
    return f"{row.figure(library):.4g}" if library in row.turns else "-"


def _beside_best(row: Row) -> str:
    peer = best_peer(row)
    return f"{beside_best(row):.2f}x {peer}" if peer is not None and OURS in row.turns else "-"


def _of_limit(row: Row) -> str:
    """The share of the limit that floors speak of, and of what reading alone reached if a row only reads."""
    limit = _LIMIT_OF.get(row.workload.unit)
    if limit is None or OURS not in row.turns:
        return ""
    reads = row.workload.only_reads and all(limits.read for limits in row.limits)
    shares = [f"{row.share(OURS, each):.0%} {each}" for each in ((limit, "read") if reads else (limit,))]
    return ", ".join(shares)


def goals_table(rows: Sequence[Row]) -> str:
    """What is aimed at beyond the floors."""
    lines = []
    for row in rows:
        for criterion in row.workload.goals:
            found = judged(row, criterion)
            lines.append([row.workload.name, found.figure, str(criterion), "reached" if found.met else "",
                          found.note])
    return table(["goal", OURS, "aimed at", "", "note"], lines)


def floors_table(verdicts: Sequence[Verdict]) -> str:
    return table(["floor", OURS, "required", "", "note"],
                 [[v.name, v.figure, v.required, "ok" if v.met else "MISSED", v.note] for v in verdicts])


def sizes_table(groups: Mapping[int, Sequence[Row]]) -> str:
    """Each size's rate beside those of its neighbors."""
    lines = []
    for size, rows in groups.items():
        measured = all(OURS in row.turns for row in rows)
        lines.append([str(size), *[_figure(row, OURS) for row in rows],
                      f"{unevenness(rows):.2f}x" if measured else "-"])
    return table(["n, GFLOP/s", "n - 1", "n", "n + 1", "apart"], lines)


def parts_table(firsts: Firsts) -> str:
    """What first results consist of."""
    a, b = median_of(firsts.cold), median_of(firsts.second)
    names = list(dict.fromkeys([*a.parts, *b.parts]))
    lines = [[name, duration(a.parts.get(name, 0.0)), duration(b.parts.get(name, 0.0))] for name in names]
    return table(["part", "cold", "second process"],
                 [*lines, ["all", duration(a.seconds), duration(b.seconds)],
                  ["since the process was started", duration(a.process), duration(b.process)]])


def first_calls_table(found: Mapping[str, Firsts | str]) -> str:
    """First calls beside each other."""
    lines = []
    for library, firsts in found.items():
        if isinstance(firsts, str) or not firsts.cold:
            lines.append([library, *["-"] * 4])
            continue
        a, b = median_of(firsts.cold), median_of(firsts.second)
        lines.append([library, *map(duration, (a.seconds, b.seconds, a.process, b.process))])
    return table(["library", "cold", "second process", "process, cold", "process, second"], lines)


def memory_table(peaks: Mapping[str, Mapping[str, float | str]]) -> str:
    """A line for each program: what it is, and the peak in each library."""
    libraries = list(next(iter(peaks.values())))
    lines = [[program, *["-" if isinstance(peak, str) else f"{peak:.0f}" for peak in found.values()],
              PROGRAMS[program]] for program, found in peaks.items()]
    return table(["program", *libraries, "note"], lines)


def imports_table(times: Mapping[str, list[float]]) -> str:
    return table(["import", "time"], [[n, duration(statistics.median(t))] for n, t in times.items()])


# ---- the whole report ----------------------------------------------------------------------------
def head(facts: Mapping[str, Any], libraries: Sequence[str]) -> str:
    """The machine, the libraries that took part, and why others did not."""
    machine, versions = facts["machine"], facts["libraries"]
    lines = [f"{machine['processor']}, {machine['cores']} cores, commit {machine['commit']}; "
             + ", ".join(f"{name} {versions[name]}" for name in libraries)]
    if machine["any_load"]:
        lines.append("Measured on a machine that may have been busy: no more than an indication.")
    lines += [f"{name} is left out: {reason}" for name, reason in facts["absent"].items()]
    return "\n\n".join(lines)


def text(facts: Mapping[str, Any], results: Results, verdicts: Sequence[Verdict],
         libraries: Sequence[str]) -> str:
    """What was measured on, every table that has something to show, and what was not measured."""
    parts = [head(facts, libraries)]

    def add(title: str, shown: str) -> None:
        parts.append(f"## {title}\n\n{shown}")

    if results.imports:
        add("Imports (medians)", imports_table(results.imports))
    if isinstance(results.demo, Firsts) and results.demo.cold:
        add("The demo's first step, from the start of the process (medians)", parts_table(results.demo))
    ours = results.lenet.get(OURS)
    if isinstance(ours, Firsts) and ours.cold:
        add("LeNet's first call, images and weights on the device (medians)", parts_table(ours))
    if results.lenet:
        add("LeNet's first call, and since the process was started", first_calls_table(results.lenet))
    if isinstance(results.resnet, Firsts) and results.resnet.cold:
        add("ResNet-18's first call, 8 images, weights on the device (medians)", parts_table(results.resnet))
    if results.memory:
        add("Memory: the peak above what the import left, MiB", memory_table(results.memory))
    if results.sizes:
        add("Matmuls of nearly equal sizes", sizes_table(results.sizes))
    for title, names in SETS.items():
        rows = [row for name, row in results.rows.items() if name in names]
        if rows:
            add(f"Workloads: {title} (medians of quiet rounds)", workloads_table(rows, libraries))
    aimed = [row for row in results.rows.values() if row.workload.goals]
    if aimed:
        add("Goals", goals_table(aimed))
    if verdicts:
        add("Floors", floors_table(verdicts))
    missing = unmeasured(results)
    if missing:
        add("Not measured, or not comparable", "\n".join(missing))
    return "\n\n".join(parts)


def unmeasured(results: Results) -> list[str]:
    """Why figures are missing, a line each."""
    lines = [f"- {name}, {library}: {reason}" for name, row in results.rows.items()
             for library, reason in row.absent.items() if library != ONE_THREAD]
    lines += [f"- {name}: the result of {', '.join(row.differing())} differs from what most peers found"
              for name, row in results.rows.items() if row.differing()]
    firsts = {"the demo's first step": results.demo, "ResNet-18's first call": results.resnet}
    firsts |= {f"LeNet's first call, {library}": found for library, found in results.lenet.items()}
    lines += [f"- {name}: {found}" for name, found in firsts.items() if isinstance(found, str)]
    return lines + [f"- {name}: {NO_ROUND}" for name, found in firsts.items()
                    if isinstance(found, Firsts) and not found.cold]


# ---- JSON ----------------------------------------------------------------------------------------
def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {"system": platform.system(), "processor": _processor(), "cpus": os.cpu_count(), "cores": cores(),
            "python": platform.python_version(), "commit": _commit()}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
                platform.processor() or platform.machine())


def _commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True,
                          text=True, check=False)
    return done.stdout.strip()


def write(facts: Mapping[str, Any], results: Results, verdicts: Sequence[Verdict], shown: str,
          path: Path | None) -> Path:
    """Everything measured as JSON, and the report as shown beside it as Markdown; returns the JSON file.

    Without a path they go to benchmarks/results, named by the time.
    """
    if path is None:
        path = RESULTS / (time.strftime("%Y-%m-%dT%H%M%SZ", time.gmtime()) + ".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {
        **facts,
        "floors": [asdict(verdict) for verdict in verdicts],
        "rows": {name: _as_data(row) for name, row in results.rows.items()},
        "gemm_sizes": {size: [_as_data(row) for row in rows] for size, rows in results.sizes.items()},
        "imports": results.imports,
        "first_step": _firsts_data(results.demo),
        "resnet18_first": _firsts_data(results.resnet),
        "memory": results.memory,
        "first_call": {library: _firsts_data(found) for library, found in results.lenet.items()},
    }
    path.write_text(json.dumps(data, indent=1) + "\n")
    path.with_suffix(".md").write_text(shown + "\n")
    return path


def _as_data(row: Row) -> dict[str, Any]:
    """A row's raw rounds."""
    work = row.workload
    return {"name": work.name, "what": work.what, "amount": work.amount, "unit": work.unit,
            "turns": {name: [asdict(turn) for turn in turns] for name, turns in row.turns.items()},
            "limits": [asdict(limits) for limits in row.limits], "discarded": row.discarded,
            "absent": row.absent, "values": row.values, "kernels": row.kernels}


def _firsts_data(firsts: Firsts | str | None) -> Any:
    return asdict(firsts) if isinstance(firsts, Firsts) else firsts
