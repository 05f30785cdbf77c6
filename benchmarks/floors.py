"""The floors: what has to be reached, each judged against the peer or the limit measured in the same run."""
from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from startup import FirstStep
from turns import Row

OURS: Final = "pluggrad"
ONE_THREAD: Final = "pluggrad, 1 thread"
NO_PEER: Final = "no peer: not met"
NO_ROUND: Final = "no quiet round"

MLP_TIMES_TORCH: Final = 2.0
XOR_TIMES_TORCH: Final = 5.0
FUSED_SHARE_OF_STREAM: Final = 0.70
COLD_S: Final = 1.5
SECOND_S: Final = 0.4
IMPORT_OVER_NUMPY_S: Final = 0.15
# A kernel a little over 100 us of estimated work pays for waking the others; a longer one has no excuse.
SPEED_UP_A_CORE: Final = {"busy_short": 0.5, "busy_long": 0.75}


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line of the table. `met` is False where the peer is missing."""

    name: str
    ours: str
    beside: str
    ratio: str
    required: str
    met: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class Goal:
    """What a workload is to reach: a multiple of the best peer's rate, or a share of a limit.

    A multiple that would take more than 90 % of the limit is capped there.
    """

    kind: Literal["peer", "limit"]
    factor: float
    limit: Literal["fma", "stream"] | None = None


GOALS: Final[dict[str, Goal]] = {
    "gemm512": Goal("peer", 1.1, "fma"),
    "gemm1024": Goal("peer", 1.1, "fma"),
    "gemv4096": Goal("peer", 1.0),  # half of it fits in a large cache: more than the stream is possible
    "fuse16m": Goal("limit", 0.9, "stream"),
    "sum16m": Goal("peer", 1.0),
    "softmax4k": Goal("limit", 0.8, "stream"),
    "lnorm4k": Goal("limit", 0.8, "stream"),
    "transpose4k": Goal("limit", 0.6, "stream"),
    "xor1000": Goal("peer", 0.5),
    "tiny_add": Goal("peer", 1.0),
}
_CAP: Final = 0.9


def duration(seconds: float) -> str:
    """A time with three digits and its unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}" if seconds < 100 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds * 1e6:.3g} us"


# ---- workloads -----------------------------------------------------------------------------------
def _missing(name: str, row: Row | None, peer: str, required: str) -> Verdict:
    """A floor that cannot be judged is not met."""
    if row is None:
        return Verdict(name, "-", "-", "-", required, False, NO_ROUND)
    absent = row.absent.get(OURS)
    if absent is not None:
        return Verdict(name, "-", "-", "-", required, False, absent)
    if not row.limits:
        return Verdict(name, "-", "-", "-", required, False, f"{NO_ROUND} in {row.discarded}")
    seconds = row.seconds(OURS)
    note = f"{peer}: {row.absent[peer]}" if peer in row.absent else ""
    return Verdict(name, "-" if seconds is None else duration(seconds), NO_PEER, "-", required, False, note)


def against(rows: Mapping[str, Row], workload: str, peer: str, most: float) -> Verdict:
    """Our time is at most `most` times the peer's."""
    row, required = rows.get(workload), f"at most {most:g}x"
    ratio = None if row is None else row.ratio(OURS, peer)
    ours, theirs = (None, None) if row is None else (row.seconds(OURS), row.seconds(peer))
    if ratio is None or ours is None or theirs is None:
        return _missing(workload, row, peer, required)
    return Verdict(workload, duration(ours), f"{peer} {duration(theirs)}", f"{ratio:.2f}x", required,
                   ratio <= most)


def streaming(rows: Mapping[str, Row], workload: str, least: float) -> Verdict:
    """Our bytes per second are at least this share of the stream limit."""
    row, required = rows.get(workload), f"at least {least:.0%}"
    share = None if row is None else row.share(OURS, "stream")
    rate = None if row is None else row.rate(OURS)
    if row is None or share is None or rate is None:
        return _missing(workload, row, OURS, required)
    limit = statistics.median(limits.stream for limits in row.limits)
    return Verdict(workload, f"{rate:.1f} GB/s", f"stream {limit:.1f} GB/s", f"{share:.0%}", required,
                   share >= least)


def all_cores(rows: Mapping[str, Row], workload: str, cores: int) -> Verdict:
    """The speed-up over one thread is this share of the cores."""
    least = max(1.0, SPEED_UP_A_CORE[workload] * cores) if cores > 1 else 0.0
    row, required = rows.get(workload), f"at least {least:.2g}x on {cores} cores"
    speed_up = None if row is None else row.ratio(ONE_THREAD, OURS)
    ours, alone = (None, None) if row is None else (row.seconds(OURS), row.seconds(ONE_THREAD))
    if row is None or speed_up is None or ours is None or alone is None:
        return _missing(f"{workload}: all cores", row, ONE_THREAD, required)
    note = f"{row.busy(OURS) or 0:.1f} cores busy"
    return Verdict(f"{workload}: all cores", duration(ours), f"1 thread {duration(alone)}",
                   f"{speed_up:.2f}x", required, speed_up >= least, note)


# ---- processes -----------------------------------------------------------------------------------
def first_step(name: str, steps: list[FirstStep], most: float, *, compiles_nothing: bool = False) -> Verdict:
    """From the start of the process to the first loss."""
    required = f"at most {most:g} s" + (", nothing compiled" if compiles_nothing else "")
    if not steps:
        return Verdict(name, "-", "-", "-", required, False, NO_ROUND)
    seconds = statistics.median(step.seconds for step in steps)
    made = max(step.counters["compiled"] + step.counters["scheduled"] for step in steps)
    counters = steps[0].counters
    note = f"scheduled {counters['scheduled']} plans, compiled {counters['compiled']} kernels"
    return Verdict(name, duration(seconds), "-", "-", required,
                   seconds <= most and not (compiles_nothing and made), note)


def imports(times: Mapping[str, list[float]]) -> Verdict:
    """Importing what a program uses, over importing NumPy."""
    required = f"at most {IMPORT_OVER_NUMPY_S:g} s over NumPy's"
    ours, numpy = times.get("pluggrad's names"), times.get("numpy")
    if not ours or not numpy:
        return Verdict("import pluggrad", "-", "-", "-", required, False, NO_ROUND)
    over = statistics.median(a - b for a, b in zip(ours, numpy, strict=True))
    seconds, beside = statistics.median(ours), statistics.median(numpy)
    return Verdict("import pluggrad", duration(seconds), f"numpy {duration(beside)}", f"+{duration(over)}",
                   required, over <= IMPORT_OVER_NUMPY_S, "with Tensor, jit and nn loaded")


def judge(asked: Collection[str], rows: Mapping[str, Row], cores: int, times: Mapping[str, list[float]],
          cold: list[FirstStep], second: list[FirstStep]) -> list[Verdict]:
    """The floors of the rows that were asked for, in the order of the table."""
    floors = [
        ("mlp_step", against(rows, "mlp_step", "torch", MLP_TIMES_TORCH)),
        ("fuse16m", streaming(rows, "fuse16m", FUSED_SHARE_OF_STREAM)),
        *[(name, all_cores(rows, name, cores)) for name in SPEED_UP_A_CORE],
        ("first_step", first_step("the demo's first step, cold", cold, COLD_S)),
        ("first_step", first_step("the same, second process", second, SECOND_S, compiles_nothing=True)),
        ("import", imports(times)),
        ("xor1000", against(rows, "xor1000", "torch", XOR_TIMES_TORCH)),
    ]
    return [verdict for row, verdict in floors if row in asked]


# ---- goals ---------------------------------------------------------------------------------------
def best_peer(row: Row) -> str | None:
    """The fastest of the other libraries."""
    found = {name: row.seconds(name) for name in row.turns if name not in (OURS, ONE_THREAD)}
    timed = {name: seconds for name, seconds in found.items() if seconds is not None}
    return min(timed, key=timed.__getitem__) if timed else None


def goal(row: Row) -> tuple[str, bool | None]:
    """What a workload is to reach, as text, and whether it does; None where there is nothing to judge."""
    wanted, seconds = GOALS.get(row.workload.name), row.seconds(OURS)
    if wanted is None or seconds is None:
        return "", None
    if wanted.kind == "limit" and wanted.limit is not None:
        share = row.share(OURS, wanted.limit)
        return f"{wanted.factor:.0%} of {wanted.limit}", share is not None and share >= wanted.factor
    peer = best_peer(row)
    faster = None if peer is None else row.ratio(peer, OURS)
    if faster is None:
        return f"{wanted.factor:g}x the best peer", None
    capped = wanted.limit is not None and (row.share(OURS, wanted.limit) or 0.0) >= _CAP
    return f"{wanted.factor:g}x the best peer", faster >= wanted.factor or capped
