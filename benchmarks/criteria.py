"""What a row is held against: a peer, a limit of the machine, a number of kernels, one thread.

Each criterion says what it wants as text, and judges a row that was measured.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from benchmarks.limits import LimitName
    from benchmarks.turns import Row

OURS: Final = "pluggrad"
ONE_THREAD: Final = "pluggrad, 1 thread"


def on_device(device: str) -> str:
    """The column of pluggrad on a device that is not its default."""
    return f"{OURS} on {device}"


def is_ours(column: str) -> bool:
    """Whether a column is pluggrad in some way: such are no peers."""
    return column.startswith(OURS)


@dataclass(frozen=True, slots=True)
class Finding:
    """`figure` as text, whether it is what was wanted, and a remark."""

    figure: str
    met: bool
    note: str = ""


class Criterion(Protocol):
    """What is wanted of a row."""

    def __str__(self) -> str: ...

    def judge(self, row: Row) -> Finding:
        """The figure of a row in which pluggrad took its turns."""


def duration(seconds: float) -> str:
    """A time with three digits and its unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}" if seconds < 100 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds * 1e6:.3g} us"


def best_peer(row: Row) -> str | None:
    """The fastest of the other libraries."""
    timed = {name: row.seconds(name) for name in row.turns if not is_ours(name)}
    return min(timed, key=timed.__getitem__) if timed else None


@dataclass(frozen=True, slots=True)
class Beside:
    """Our speed is at least `least` times a peer's, or the best peer's.

    With a limit, `enough` of it will do: no more than that can be asked of anybody.
    """

    peer: str
    least: float
    limit: LimitName | None = None
    enough: float = 0.9

    def __str__(self) -> str:
        if self.least < 1:
            return f"<= {1 / self.least:.3g}x {self.peer}'s time"
        peer = "the best peer" if self.peer == "best" else self.peer
        cap = "" if self.limit is None else f" or {self.enough:.0%} of {self.limit}"
        return f">= {self.least:.3g}x {peer}{cap}"

    def judge(self, row: Row) -> Finding:
        peer = best_peer(row) if self.peer == "best" else self.peer
        if peer is None or peer not in row.turns:
            return Finding("-", False, f"no peer: {row.absent.get(self.peer, 'not measured')}")
        times = row.ratio(OURS, peer)
        capped = self.limit is not None and row.share(OURS, self.limit) >= self.enough
        theirs = f"{peer} {duration(row.seconds(peer))}"
        figure = f"{times:.2f}x the time of {theirs}" if self.least < 1 else f"{1 / times:.2f}x {theirs}"
        return Finding(figure, 1 / times >= self.least or capped)


@dataclass(frozen=True, slots=True)
class OfLimit:
    """Our rate is at least this share of a limit of the machine."""

    limit: LimitName
    least: float

    def __str__(self) -> str:
        return f">= {self.least:.0%} of {self.limit}"

    def judge(self, row: Row) -> Finding:
        share = row.share(OURS, self.limit)
        return Finding(f"{share:.1%} of {self.limit}", share >= self.least)


@dataclass(frozen=True, slots=True)
class OnDevice:
    """Our rate on a device is at least this share of a limit of the machine."""

    device: str
    limit: LimitName
    least: float

    def __str__(self) -> str:
        return f"{self.device} >= {self.least:.0%} of {self.limit}"

    def judge(self, row: Row) -> Finding:
        column = on_device(self.device)
        if column not in row.turns:
            return Finding("-", False, f"{column}: {row.absent.get(column, 'not measured')}")
        if column in row.differing():
            return Finding("-", False, f"the result of {column} differs")
        share = row.share(column, self.limit)
        return Finding(f"{self.device}: {share:.1%} of {self.limit}", share >= self.least)


@dataclass(frozen=True, slots=True)
class Kernels:
    """A call launches this many kernels, no more."""

    most: int

    def __str__(self) -> str:
        return f"kernels <= {self.most}"

    def judge(self, row: Row) -> Finding:
        if row.kernels is None:
            return Finding("-", False, "not counted")
        return Finding(f"kernels: {row.kernels}", row.kernels <= self.most)


@dataclass(frozen=True, slots=True)
class Within:
    """A call takes at most this long."""

    seconds: float

    def __str__(self) -> str:
        return f"<= {duration(self.seconds)}"

    def judge(self, row: Row) -> Finding:
        seconds = row.seconds(OURS)
        return Finding(duration(seconds), seconds <= self.seconds)


@dataclass(frozen=True, slots=True)
class SpeedUp:
    """All cores are faster than one thread, by at least this share of their number."""

    a_core: float

    def __str__(self) -> str:
        return f">= {self.a_core:g}x the cores over 1 thread"

    def judge(self, row: Row) -> Finding:
        if ONE_THREAD not in row.turns:
            return Finding("-", False, f"{ONE_THREAD}: {row.absent.get(ONE_THREAD, 'not measured')}")
        speed_up, cores = 1 / row.ratio(OURS, ONE_THREAD), row.cores
        least = max(1.0, self.a_core * cores) if cores > 1 else 0.0
        return Finding(f"{speed_up:.2f}x on {cores} cores", speed_up >= least,
                       f"{row.busy(OURS):.1f} cores busy")
