"""Rows alone and beside other programs: what is left of a team of threads when it has to share its cores.

    python -m benchmarks.beside [--programs 3] [--only mnist_step ...] [--libs torch jax] [--rounds 5]

The other programs are loops in Python, a core each. A call's time is the mean of a turn, since what a shared
core costs comes in bursts that a median would not show. The last column is how many times longer a call takes
beside them, the median over rounds: c / (c - n), if n of c cores are taken and the rest is used evenly.
"""
from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from tqdm.auto import tqdm

from benchmarks.criteria import ONE_THREAD, OURS, duration
from benchmarks.forms import PEERS
from benchmarks.report import table
from benchmarks.turns import ALONE, Absent, Child
from benchmarks.workloads import WORKLOADS

_ROWS: Final = ("mnist_step", "gpt_fwd128", "gpt_tok1", "gemm1024", "busy_short", "lenet_eager")
_LOOP: Final = "while True: pass"


@contextmanager
def other_programs(count: int) -> Iterator[None]:
    """So many processes that always compute."""
    running = [subprocess.Popen([sys.executable, "-c", _LOOP]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def timed(
    children: Sequence[Child], row: str, rounds: int, programs: int,
) -> list[tuple[float, float, float]]:
    """For each library the seconds of a call alone, beside the programs, and the ratio of the two."""
    means: list[list[tuple[float, float]]] = [[] for _ in children]
    for child in children:
        child.ask("make", work=row)
    for _ in range(rounds):
        for child, taken in zip(children, means, strict=True):
            both = []
            for count in (0, programs):
                with other_programs(count):
                    [mean] = child.ask("time", works=[row], seconds=0.5)["means"]
                both.append(mean)
            taken.append((both[0], both[1]))
    for child in children:
        child.ask("drop")
    return [(statistics.median(a for a, _ in taken), statistics.median(b for _, b in taken),
             statistics.median(b / a for a, b in taken)) for taken in means]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.beside", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=max(1, (os.cpu_count() or 1) - 1),
                        help="how many there are (one less than cores)")
    parser.add_argument("--only", nargs="+", metavar="ROW", choices=[*WORKLOADS], default=_ROWS)
    parser.add_argument("--libs", nargs="*", metavar="NAME", choices=[*PEERS], default=["torch", "jax"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        children = []
        for name in (OURS, ONE_THREAD, *options.libs):
            variables = ALONE if name == ONE_THREAD else {}
            try:
                children.append(Child(name, OURS if name == ONE_THREAD else name, **variables))
            except Absent as reason:
                print(f"{name} is left out: {reason}", file=sys.stderr)
                continue
            stack.callback(children[-1].close)
        lines = []
        for row in tqdm(options.only, unit="row", disable=None):
            figures = timed(children, row, options.rounds, options.programs)
            lines += [[row, child.name, duration(alone), duration(beside), f"{ratio:.2f}x"]
                      for child, (alone, beside, ratio) in zip(children, figures, strict=True)]
    print(table(["row", "library", "alone", f"beside {options.programs}", "longer"], lines))


if __name__ == "__main__":
    main()
