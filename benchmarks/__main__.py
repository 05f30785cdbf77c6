"""Speed beside other frameworks, turn and turn about: the floors, the figures behind them, JSON and Markdown.

    python -m benchmarks                              everything (`make bench`)
    python -m benchmarks --set second                 one of the sets of rows
    python -m benchmarks --set gpu --device cuda      rows for a GPU, pluggrad and PyTorch both there
    python -m benchmarks --only gemm1024 first_call   some rows; see --help for their names
    python -m benchmarks --rounds 9 --libs torch jax  more rounds, fewer peers
    python -m benchmarks --devices opencl             pluggrad on another device as well

A round counts if the machine's limits, probed before and after it, moved by at most 15 % and other programs
left the cores alone (or with --any-load). A floor without its peer, or a round that counts, is missed. The
exit status is 1 if a floor is missed. Ctrl-C ends the run with a report of the rows that are complete.
"""
from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

from tqdm.auto import tqdm

from benchmarks import floors, memory, report, startup
from benchmarks.criteria import ONE_THREAD, OURS, SpeedUp, on_device
from benchmarks.device_limits import DeviceProbe, torch_variables
from benchmarks.forms import ON_DEVICES, PEERS
from benchmarks.limits import AnyProbe, Probe
from benchmarks.turns import ALONE, Absent, Child, measure
from benchmarks.workloads import NEIGHBORS, SETS, WORKLOADS, Workload
from pluggrad import Device

_PROCESS_ROWS: Final = ("import", "first_step", "first_call", "resnet18_first", "memory")
_SIZES_ROW: Final = "gemm_sizes"
_NO_STEP: Final = ("numpy",)  # libraries that cannot train LeNet


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    sets = {"table": [*_PROCESS_ROWS, _SIZES_ROW, *SETS["table"]], "second": [*SETS["second"]],
            "gpu": [*SETS["gpu"]]}
    usual = [*sets["table"], *sets["second"]]
    rows = [*usual, *sets["gpu"]]
    parser = argparse.ArgumentParser(
        prog="benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--set", choices=[*sets, "all"], default="all",
        help="which rows, unless --only names them; all: but those of gpu (all)")
    add("--only", nargs="+", metavar="ROW", choices=rows, help=f"some rows: {' '.join(rows)}")
    add("--libs", nargs="*", metavar="NAME", choices=[*PEERS],
        help=f"libraries to compare with (all; with --device those that run there): {' '.join(PEERS)}")
    add("--device", metavar="NAME",
        help="the device to run pluggrad on, and the peers that can; the limits are then the device's")
    add("--devices", nargs="*", metavar="NAME", default=[],
        help="devices to run pluggrad on beside its default one, a column each")
    add("--rounds", type=int, metavar="N", default=7, help="quiet rounds of each row (7)")
    add("--json", type=Path, metavar="FILE",
        help="where to write the figures (benchmarks/results/TIME.json, with --device DEVICE-HARDWARE.json); "
             "the report goes beside it as .md")
    add("--any-load", action="store_true", help="count rounds although other programs compute as well")
    options = parser.parse_args(arguments)
    options.only = options.only or (usual if options.set == "all" else sets[options.set])
    if options.libs is None:
        options.libs = [*ON_DEVICES] if options.device else [*PEERS]
    if options.device and options.json is None:
        options.json = report.RESULTS / f"{hardware_name(options.device)}.json"
    return options


def hardware_name(device: str) -> str:
    """A device and what it is, as the name of a file: cuda-nvidia-h100-80gb-hbm3."""
    return re.sub(r"[^a-z0-9]+", "-", f"{device} {Device[device].hardware}".lower()).strip("-")


class Bench:
    """The libraries that are there, in their processes, and what was measured."""

    def __init__(self, options: argparse.Namespace, stack: ExitStack) -> None:
        self.options = options
        self.probe: AnyProbe
        self.results = report.Results()
        self.children: dict[str, Child] = {}
        self.absent: dict[str, str] = {}
        self.finished: list[str] = []
        ours = {"PLUGGRAD_DEVICE": options.device} if options.device else {}
        peers = torch_variables(options.device)
        self._specs: dict[str, tuple[str, dict[str, str]]] = {
            OURS: (OURS, ours), ONE_THREAD: (OURS, ALONE),
            **{on_device(name): (OURS, {"PLUGGRAD_DEVICE": name}) for name in options.devices},
            **{name: (name, peers) for name in options.libs}}
        for name in self._specs:
            self._start(name)
        self.probe = (DeviceProbe(partial(self._present, [OURS, *options.libs])) if options.device
                      else Probe(options.any_load))
        stack.callback(self._close)

    def _start(self, name: str) -> None:
        library, variables = self._specs[name]
        try:
            self.children[name] = Child(name, library, **variables)
        except Absent as reason:
            self.absent[name] = str(reason)
            tqdm.write(f"{name} is left out: {reason}", file=sys.stderr)

    def _close(self) -> None:
        for child in self.children.values():
            child.close()

    def _present(self, names: Sequence[str]) -> list[Child]:
        """The children among these; one whose process ended, in an earlier row, is started again."""
        for name in [n for n in names if n in self.children and self.children[n].ended]:
            self.children.pop(name).close()
            self._start(name)
        return [self.children[name] for name in names if name in self.children]

    # ---- rows ------------------------------------------------------------------------------------
    def tasks(self) -> list[tuple[str, Callable[[], None]]]:
        """What there is to do, by name."""
        only = self.options.only
        made: dict[str, Callable[[], None]] = {"import": self._imports, "first_step": self._first_step,
                                             "resnet18_first": self._resnet, "memory": self._memory}
        tasks = [(name, task) for name, task in made.items() if name in only]
        if "first_call" in only:
            libraries = [OURS, *[n for n in self.options.libs if n in self.children and n not in _NO_STEP]]
            tasks += [(f"first_call {name}", partial(self._first_call, name)) for name in libraries]
        tasks += [(name, partial(self._workload, work)) for name, work in WORKLOADS.items() if name in only]
        if _SIZES_ROW in only:
            tasks += [(f"{_SIZES_ROW} {size}", partial(self._size, size)) for size in NEIGHBORS]
        return tasks

    def _imports(self) -> None:
        self.results.imports, _ = startup.import_times(self.probe, self.options.rounds)

    def _first_step(self) -> None:
        try:
            self.results.demo = startup.demo(self.probe, self.options.rounds)
        except Absent as reason:
            self.results.demo = str(reason)

    def _first_call(self, name: str) -> None:
        rounds = self.options.rounds if name == OURS else 1  # minutes otherwise
        try:
            self.results.lenet[name] = startup.first_call(self.probe, rounds, name, "mnist_step")
        except Absent as reason:
            self.results.lenet[name] = str(reason)

    def _resnet(self) -> None:
        try:
            self.results.resnet = startup.first_call(self.probe, self.options.rounds, OURS, "resnet18_8")
        except Absent as reason:
            self.results.resnet = str(reason)

    def _memory(self) -> None:
        self.results.memory = memory.peaks(memory.COMPARED, [OURS, memory.PEER])

    def _workload(self, work: Workload) -> None:
        alone = [ONE_THREAD] if any(isinstance(each, SpeedUp) for each in work.required) else []
        devices = [on_device(name) for name in self.options.devices]
        wanted = [OURS, *alone, *devices, *self.options.libs]
        asked = work.on(self.options.devices)
        [row] = measure([asked], self._present(wanted), self.probe, self.options.rounds)
        row.absent |= {name: why for name, why in self.absent.items() if name in (OURS, *alone, *devices)}
        self.results.rows[work.name] = row

    def _size(self, size: int) -> None:
        rows = measure(NEIGHBORS[size], self._present([OURS]), self.probe, self.options.rounds)
        self.results.sizes[size] = rows

    def run(self) -> bool:
        """Do it all, with a progress bar; whether Ctrl-C ended it."""
        bar = tqdm(self.tasks(), unit="row", disable=None)
        try:
            for name, task in bar:
                bar.set_description(name)
                task()
                self.finished.append(name)
        except KeyboardInterrupt:
            return True
        finally:
            bar.close()
        return False

    # ---- what must hold --------------------------------------------------------------------------
    def verdicts(self) -> list[floors.Verdict]:
        """The floors of the rows that were asked for."""
        only, results = self.finished, self.results
        found = floors.of_rows(list(results.rows.values()))
        second = [row for name, row in results.rows.items() if name in SETS["second"]]
        if second:
            found.append(floors.of_mean(second))
        if results.sizes:
            found.append(floors.of_sizes(results.sizes))
        if OURS in results.lenet:
            found += floors.of_firsts("LeNet's first call", results.lenet[OURS], floors.LENET)
        if "resnet18_first" in only:
            found += floors.of_firsts("ResNet-18's first call", results.resnet or "", floors.RESNET)
        if "memory" in only:
            found += floors.of_memory(results.memory)
        if "first_step" in only:
            found += floors.of_firsts("the demo's first step", results.demo or "", floors.DEMO)
        if "import" in only:
            found.append(floors.of_imports(results.imports))
        return found

    def facts(self) -> dict[str, Any]:
        """The machine and the libraries."""
        return {"machine": report.machine() | {"any_load": self.options.any_load,
                                               "device": self.options.device or ""},
                "libraries": {name: child.version for name, child in self.children.items()},
                "absent": self.absent}


def main(arguments: Sequence[str] | None = None) -> int:
    options = read_options(arguments)
    with ExitStack() as stack:
        bench = Bench(options, stack)
        stopped = bench.run()
        facts, verdicts = bench.facts(), bench.verdicts()
    libraries = [name for name in bench.children if name != ONE_THREAD]
    text = report.text(facts, bench.results, verdicts, libraries)
    print(text)
    print(f"\nwritten to {report.write(facts, bench.results, verdicts, text, options.json)}")
    missed = list(dict.fromkeys(verdict.name for verdict in verdicts if not verdict.met))
    print(f"missed: {', '.join(missed)}" if missed else f"all {len(verdicts)} floors met")
    if stopped:
        print(f"stopped by Ctrl-C after {len(bench.finished)} of {len(bench.tasks())} rows", file=sys.stderr)
    return 130 if stopped else int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
