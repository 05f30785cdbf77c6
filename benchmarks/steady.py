"""Ten thousand training steps: does a step take as long at the end as at the start, and as much memory?

    python -m benchmarks.steady [--program lenet] [--steps 10000] [--parts 10]

A line for each part of the run: the median time of its steps, resident memory, what devices have given to the
pools, and the collector's objects. The exit status is 1 if the best of the later parts is over 10 % slower
than the best of the earlier ones (what adds up shows in all that come after, another program's load in some),
if the last holds over 1 % more memory than the second, or if the pools took anything after the first.
"""
from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tqdm.auto import tqdm

from benchmarks.criteria import OURS
from benchmarks.memory import resident
from benchmarks.programs import PROGRAMS, Step, make
from pluggrad import memory_stats

_SLOWER: Final = 1.1
_LARGER: Final = 1.01


@dataclass(frozen=True, slots=True)
class Part:
    """Figures of some steps: the median time of one, and what was held after the last."""

    milliseconds: float
    resident_mib: float
    reserved_mib: float
    objects: int

    def __str__(self) -> str:
        return (f"{self.milliseconds:8.3f} ms a step, {self.resident_mib:8.1f} MiB resident, "
                f"{self.reserved_mib:8.1f} MiB of devices, {self.objects:8,} objects")


def run(step: Step, count: int) -> Part:
    """Take some steps."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    gc.collect()
    reserved = sum(stats.reserved for stats in memory_stats().values())
    return Part(1e3 * statistics.median(times), resident(), reserved / 2**20, len(gc.get_objects()))


def complaints(parts: Sequence[Part]) -> list[str]:
    """What grew from the second part on: the first makes plans and fills pools."""
    second, last = parts[1], parts[-1]
    middle = (len(parts) + 1) // 2
    early, late = [min(part.milliseconds for part in half) for half in (parts[1:middle], parts[middle:])]
    found = []
    if late > _SLOWER * early:
        found.append(f"a step takes {late / early:.2f} times as long at the end")
    if last.resident_mib > _LARGER * second.resident_mib:
        found.append(f"resident memory grew by {last.resident_mib - second.resident_mib:.1f} MiB")
    if last.reserved_mib > parts[0].reserved_mib:
        found.append(f"devices gave {last.reserved_mib - parts[0].reserved_mib:.1f} MiB after the first part")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.steady", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="lenet", choices=[*PROGRAMS])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--parts", type=int, default=10, help="at least 3")
    options = parser.parse_args(arguments)
    step, parts = make(OURS, options.program), []
    for _ in tqdm(range(max(3, options.parts)), unit="part", disable=None):
        parts.append(run(step, options.steps // max(3, options.parts)))
        tqdm.write(str(parts[-1]))
    found = complaints(parts)
    print("\n".join(found) if found else "flat")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
