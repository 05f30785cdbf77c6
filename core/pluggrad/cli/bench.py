"""`python -m pluggrad bench [ROWS]`: how fast a device computes the rows of the benchmark, beside its limits.

The limits are measured first, by kernels of our own. `make bench` compares with other libraries.
"""
from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from pluggrad.cli.options import duration, writable_file
from pluggrad.config import SEARCH
from pluggrad.errors import PluggradError
from pluggrad.profiling.limits import Limits
from pluggrad.runtime.devices import default_device, set_default_device
from pluggrad.runtime.limits import measure
from pluggrad.runtime.sessions import session
from pluggrad.target import DeviceId
from pluggrad.tensor import Tensor
from pluggrad.testing.forms import make
from pluggrad.testing.workloads import SETS, Workload

_ROWS: Final = SETS["table"] | SETS["second"]
_WARM_UP_CALLS: Final = 3
_FEWEST_CALLS: Final = 3
_HEADINGS: Final = ("row", "ms", "GFLOP/s", "GB/s", "of limit", "")


@dataclass(frozen=True, slots=True)
class Timed:
    """A row: the median of its calls in seconds, its rates where its work is counted, and the share of the
    limit that bounds it. problem: why there is no time."""

    row: str
    seconds: float = 0.0
    gflops: float | None = None
    gbytes: float | None = None
    share: float | None = None
    problem: str = ""


def main(arguments: Sequence[str]) -> int:
    """Time the rows; 0 if all of them ran."""
    parser = argparse.ArgumentParser(prog="python -m pluggrad bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("rows", nargs="*", metavar="ROW", help=f"some of {' '.join(_ROWS)} (those of the first table)")
    add("--device", metavar="NAME", help="the device (the default one)")
    add("--seconds", type=duration, default=0.5, metavar="S", help="how long a row is repeated (%(default)s)")
    add("--search", action="store_true", help="first search for the fastest schedules, and keep them")
    add("--json", type=writable_file, metavar="FILE", help="also write the figures there")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.rows if name not in _ROWS]
    if unknown:
        parser.error(f"no row is called {', '.join(unknown)}; there are {' '.join(_ROWS)}")
    if options.device:
        set_default_device(options.device)
    if options.search:
        SEARCH.assign(True)
    device = default_device()
    limits = measure(session(DeviceId.parse(device)))
    print(f"{device}: {_limits_text(limits)}")
    print(_line(_HEADINGS), flush=True)
    found = []
    with Tensor.train():
        for name in options.rows or SETS["table"]:
            found.append(timed(_ROWS[name], make, options.seconds, limits))
            print(_line(_cells(found[-1])), flush=True)
    if options.json:
        known = None if limits is None else asdict(limits)
        figures = {"device": device, "limits": known, "rows": [asdict(each) for each in found]}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return int(any(each.problem for each in found))


def timed(work: Workload, form: Callable[[Workload], Callable[[], object]], seconds: float,
          limits: Limits | None) -> Timed:
    """One row, repeated for so long; what it raises becomes its problem."""
    try:
        call = form(work)
        for _ in range(_WARM_UP_CALLS):
            call()
        taken = _repeated(call, seconds)
    except PluggradError as error:
        return Timed(work.name, problem=str(error).splitlines()[0])
    rate = work.amount / taken if work.amount else None
    computes = work.unit == "GFLOP/s"
    share = None
    if rate is not None and limits is not None:
        share = rate * 1e9 / (limits.operations if computes else limits.bytes)
    return Timed(work.name, taken, rate if computes else None, None if computes else rate, share)


def _repeated(call: Callable[[], object], seconds: float) -> float:
    begin, times = time.perf_counter(), list[float]()
    while len(times) < _FEWEST_CALLS or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _limits_text(limits: Limits | None) -> str:
    if limits is None:
        return "its limits could not be measured"
    return f"at most {limits.operations / 1e9:.0f} GFLOP/s and {limits.bytes / 1e9:.1f} GB/s, as measured"


def _cells(row: Timed) -> tuple[str, ...]:
    if row.problem:
        return (row.row, "-", "", "", "", row.problem)
    rates = ["" if rate is None else f"{rate:.1f}" for rate in (row.gflops, row.gbytes)]
    return (row.row, f"{row.seconds * 1e3:.3f}", *rates, "" if row.share is None else f"{row.share:.0%}", "")


def _line(cells: Sequence[str]) -> str:
    name, *numbers, note = cells
    return f"{name:<18}{''.join(f'{cell:>11}' for cell in numbers)}  {note}".rstrip()
