"""Where temporaries lie: in one arena, so that those alive at the same time do not overlap."""
from __future__ import annotations

from bisect import insort
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A temporary of `nbytes`, alive from phase `first` to phase `last` (both included)."""

    nbytes: int
    first: int
    last: int


def lay_out(lifetimes: list[Lifetime], alignment: int) -> tuple[tuple[int, ...], int]:
    """Offsets in the order given, and the arena's size. The largest is placed first, each as low as fits."""
    offsets = [0] * len(lifetimes)
    placed: list[tuple[int, int, int]] = []  # start, end, number: by start
    for number in sorted(range(len(lifetimes)), key=lambda i: (-lifetimes[i].nbytes, i)):
        life = lifetimes[number]
        offset = 0
        for start, end, neighbor in placed:
            other = lifetimes[neighbor]
            if other.last < life.first or life.last < other.first:
                continue
            if offset + life.nbytes <= start:
                break
            offset = max(offset, end)
        offsets[number] = offset
        size = -(-life.nbytes // alignment) * alignment
        insort(placed, (offset, offset + size, number))
    return tuple(offsets), max([end for _, end, _ in placed], default=0)
