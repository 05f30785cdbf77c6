"""The floors: what has to be reached in one run, or its exit status is 1."""
from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.criteria import OURS, Criterion, Finding, best_peer, duration
from benchmarks.memory import PEER
from benchmarks.startup import First, Firsts
from benchmarks.turns import Row

NO_ROUND: Final = "no quiet round"
LARGEST_STEP: Final = 1.25  # between the rates of matmuls whose sizes differ by one
IMPORT_OVER_NUMPY_S: Final = 0.15
SECOND_SET_MEAN: Final = 1.1  # geometric, of our speed over the best peer's


@dataclass(frozen=True, slots=True)
class StartLimits:
    """The longest that a first result may take: with nothing cached, and in a second process."""

    cold_s: float
    second_s: float


DEMO: Final = StartLimits(1.5, 0.4)  # from the start of the process
LENET: Final = StartLimits(1.5, 0.3)  # from the start of the first call
RESNET: Final = StartLimits(5.0, 0.3)  # of the forward pass of 8 images, from the start of its first call


@dataclass(frozen=True, slots=True)
class Verdict:
    """One floor. What cannot be judged is not met."""

    name: str
    figure: str
    required: str
    met: bool
    note: str = ""


def judged(row: Row, criterion: Criterion) -> Finding:
    """A row held against a criterion."""
    if OURS in row.absent:
        return Finding("-", False, row.absent[OURS])
    if OURS not in row.turns:
        return Finding("-", False, f"{NO_ROUND} in {row.discarded}")
    if OURS in row.differing():
        return Finding("-", False, "our result differs from the peers'")
    return criterion.judge(row)


def of_rows(rows: Sequence[Row]) -> list[Verdict]:
    """What the rows themselves require."""
    verdicts = []
    for row in rows:
        for criterion in row.workload.required:
            found = judged(row, criterion)
            verdicts.append(Verdict(row.workload.name, found.figure, str(criterion), found.met, found.note))
    return verdicts


def of_mean(rows: Sequence[Row]) -> Verdict:
    """The second set beside each row's best peer, as one figure; none if a row has no ratio."""
    required = f">= {SECOND_SET_MEAN:g}x the best peer, geometric mean"
    name = "the second set"
    unmeasured = [row.workload.name for row in rows if OURS not in row.turns or best_peer(row) is None]
    if unmeasured:
        return Verdict(name, "-", required, False, f"without a ratio: {', '.join(unmeasured)}")
    mean = statistics.geometric_mean(beside_best(row) for row in rows)
    return Verdict(name, f"{mean:.2f}x", required, mean >= SECOND_SET_MEAN, f"of {len(rows)} rows")


def beside_best(row: Row) -> float:
    """Our speed over the best peer's."""
    peer = best_peer(row)
    assert peer is not None
    return row.ratio(peer, OURS)


def unevenness(rows: Sequence[Row]) -> float:
    """The largest ratio of the middle size's rate to a neighbor's, or of a neighbor's to it.

    Medians of the rounds' ratios: the three take turns in each.
    """
    below, middle, above = rows
    times = [other.ratio(OURS, OURS, of=middle) * middle.workload.amount / other.workload.amount
             for other in (below, above)]
    return max(max(ratio, 1 / ratio) for ratio in times)


def of_sizes(groups: Mapping[int, Sequence[Row]]) -> Verdict:
    """Matmuls of nearly equal sizes run at nearly equal rates."""
    required = f"<= {LARGEST_STEP:g}x between neighbors"
    unmeasured = [f"{size}: {row.absent.get(OURS, NO_ROUND)}" for size, rows in groups.items() for row in rows
                  if OURS not in row.turns]
    if unmeasured:
        return Verdict("gemm_sizes", "-", required, False, unmeasured[0])
    worst = max(groups, key=lambda size: unevenness(groups[size]))
    apart = unevenness(groups[worst])
    over = [size for size, rows in groups.items() if unevenness(rows) > LARGEST_STEP]
    note = f"{len(over)} of {len(groups)} over: {', '.join(map(str, over))}" if over else ""
    return Verdict("gemm_sizes", f"{apart:.2f}x at {worst}", required, not over, note)


def of_firsts(name: str, firsts: Firsts | str, limits: StartLimits) -> list[Verdict]:
    """First results, cold and in a second process; a text says why there are none."""
    return [_first(f"{name}, cold", firsts if isinstance(firsts, str) else firsts.cold, limits.cold_s, False),
            _first(f"{name}, second process", firsts if isinstance(firsts, str) else firsts.second,
                   limits.second_s, True)]


def _first(name: str, firsts: Sequence[First] | str, most: float, compiles_nothing: bool) -> Verdict:
    required = f"<= {most:g} s" + (", nothing compiled" if compiles_nothing else "")
    if not firsts or isinstance(firsts, str):
        return Verdict(name, "-", required, False, firsts if isinstance(firsts, str) and firsts else NO_ROUND)
    seconds = statistics.median(first.seconds for first in firsts)
    made = max(first.counters["compiled"] + first.counters["scheduled"] for first in firsts)
    counters = firsts[0].counters
    note = f"scheduled {counters['scheduled']} plans, compiled {counters['compiled']} kernels"
    met = seconds <= most and not (compiles_nothing and made)
    return Verdict(name, duration(seconds), required, met, note)


def of_imports(times: Mapping[str, list[float]]) -> Verdict:
    """Importing what a program uses, over importing NumPy."""
    required = f"<= {IMPORT_OVER_NUMPY_S:g} s over NumPy's"
    ours, numpy = times.get("pluggrad's names"), times.get("numpy")
    if not ours or not numpy:
        return Verdict("import pluggrad", "-", required, False, NO_ROUND)
    over = statistics.median(a - b for a, b in zip(ours, numpy, strict=True))
    return Verdict("import pluggrad", f"+{duration(over)}", required, over <= IMPORT_OVER_NUMPY_S,
                   "with Tensor, jit and nn loaded")


def of_memory(peaks: Mapping[str, Mapping[str, float | str]]) -> list[Verdict]:
    """The most memory that each program's steps needed, above that of the imported library."""
    verdicts = []
    for program, found in peaks.items():
        ours, peer = found[OURS], found[PEER]
        name, required = f"memory of {program}", f"<= {PEER}'s"
        if isinstance(ours, str) or isinstance(peer, str):
            reason = ours if isinstance(ours, str) else str(peer)
            verdicts.append(Verdict(name, "-", required, False, reason))
        else:
            note = f"{PEER}: {peer:.0f} MiB"
            verdicts.append(Verdict(name, f"{ours:.0f} MiB", required, ours <= peer, note))
    return verdicts
