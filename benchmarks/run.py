"""Speed beside other frameworks, turn and turn about; the floors, the figures behind them, and JSON.

    python benchmarks/run.py                          everything (`make bench`)
    python benchmarks/run.py --only xor1000 mlp_step  some rows; also: import, first_step
    python benchmarks/run.py --rounds 9 --peers torch

A round counts if the machine's limits, probed before and after it, moved by at most 15 % and other programs
left the cores alone (or with --any-load). A floor without its peer, or a round that counts, is not met. The
exit status is 1 if a floor is not met.
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import floors
import report
import startup
from limits import Probe
from peers import LIBRARIES
from tqdm.auto import tqdm
from turns import Absent, Child, Row, measure
from workloads import WORKLOADS

_PROCESS_ROWS = ("import", "first_step")


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    rows, peers = [*_PROCESS_ROWS, *WORKLOADS], list(LIBRARIES)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--only", nargs="+", metavar="ROW", default=rows, choices=rows, help="rows to measure (all)")
    add("--peers", nargs="*", metavar="NAME", default=peers, choices=peers,
        help=f"libraries to compare with ({' '.join(peers)})")
    add("--rounds", type=int, metavar="N", default=5, help="quiet rounds of each row (5)")
    add("--any-load", action="store_true", help="count rounds although other programs compute as well")
    return parser.parse_args(arguments)


class Bench:
    """The libraries that are there, in their processes, and what was measured."""

    def __init__(self, options: argparse.Namespace, probe: Probe, stack: ExitStack) -> None:
        self.options, self.probe = options, probe
        self.children: dict[str, Child] = {}
        self.absent: dict[str, str] = {}
        self._start(stack, floors.OURS, floors.OURS)
        self._start(stack, floors.ONE_THREAD, floors.OURS, PLUGGRAD_CPU_THREADS="1")
        for name in options.peers:
            self._start(stack, name, name)
        self.rows: dict[str, Row] = {}

    def _start(self, stack: ExitStack, name: str, library: str, **variables: str) -> None:
        try:
            self.children[name] = child = Child(name, library, **variables)
        except Absent as reason:
            self.absent[name] = str(reason)
            print(f"{name} is not there: {reason}", file=sys.stderr)
            return
        stack.callback(child.close)

    def measure(self, name: str) -> None:
        """All rounds of one workload, every library in turn."""
        workload = WORKLOADS[name]
        alone = (floors.ONE_THREAD,) if name in floors.SPEED_UP_A_CORE else ()
        wanted = (floors.OURS, *alone, *workload.peers)
        present = [child for child in self.children.values() if child.name in wanted]
        row = self.rows[name] = measure(workload, present, self.probe, self.options.rounds)
        row.absent.update({peer: why for peer, why in self.absent.items() if peer in wanted})


def main(arguments: Sequence[str] | None = None) -> int:
    options = read_options(arguments)
    chosen = [name for name in WORKLOADS if name in options.only]
    times: dict[str, list[float]] = {}
    cold: list[startup.FirstStep] = []
    second: list[startup.FirstStep] = []
    probe = Probe(options.any_load)
    with ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=len(options.only), unit="row", disable=None))
        if "import" in options.only:
            bar.set_description("import")
            times, _ = startup.import_times(probe, options.rounds)
            bar.update()
        if "first_step" in options.only:
            bar.set_description("first_step")
            cold, second = startup.first_steps(probe, options.rounds)
            bar.update()
        bench = Bench(options, probe, stack)
        for name in chosen:
            bar.set_description(name)
            bench.measure(name)
            bar.update()
    verdicts = floors.judge(options.only, bench.rows, probe.cores, times, cold, second)
    _print(bench, verdicts, times, cold, second)
    path = report.write({
        "machine": report.machine() | {"any_load": options.any_load},
        "libraries": {name: child.version for name, child in bench.children.items()},
        "absent": bench.absent,
        "floors": [asdict(verdict) for verdict in verdicts],
        "rows": {name: report.as_data(row) for name, row in bench.rows.items()},
        "imports": times,
        "first_step": {"cold": [asdict(step) for step in cold], "second": [asdict(step) for step in second]},
    })
    print(f"written to {path}")
    missed = [verdict.name for verdict in verdicts if not verdict.met]
    print(f"not met: {', '.join(missed)}" if missed else f"all {len(verdicts)} floors met")
    return int(bool(missed))


def _print(bench: Bench, verdicts: Sequence[floors.Verdict], times: dict[str, list[float]],
           cold: list[startup.FirstStep], second: list[startup.FirstStep]) -> None:
    facts: dict[str, Any] = report.machine()
    if bench.options.any_load:
        print("measured on a machine that may have been busy: no more than an indication")
    versions = ", ".join(f"{name} {child.version}" for name, child in bench.children.items())
    print(f"{facts['processor']}, {bench.probe.cores} cores; {versions}")
    if times:
        report.imports_table(times)
    report.parts_table(cold, second)
    if bench.rows:
        libraries = [name for name in bench.children if name != floors.ONE_THREAD]
        report.workloads_table(list(bench.rows.values()), libraries)
    report.floors_table(verdicts)
    for name, reason in bench.absent.items():
        print(f"{name} was not measured: {reason}")


if __name__ == "__main__":
    sys.exit(main())
