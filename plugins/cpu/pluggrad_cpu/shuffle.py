"""Shuffles of whole registers, and the networks made of them.

A block of P registers of L lanes is a matrix with a register for each row. `interleave` turns it into the
order of its transpose, log2(P) times merging a register with the one half a block further. For P = 4:

    a0 a1 a2 a3 ..  --+      a0 c0 a1 c1 ..  --+      a0 b0 c0 d0 a1 b1 c1 d1 ..
    b0 b1 b2 b3 ..  --|-+    .. (the rest)   --|-+    .. (the rest)
    c0 c1 c2 c3 ..  --+ |    b0 d0 b1 d1 ..  --+ |    ..
    d0 d1 d2 d3 ..  ----+    .. (the rest)   ----+    ..

so that the registers, read one after another, hold a column of the matrix in each run of P lanes. All steps
use the same two shuffles, the lower and the upper half of a merge. `deinterleave` goes the other way.
"""
from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from pluggrad_cpu.emit import Emitter, vector


def shuffle(out: Emitter, element: str, lanes: int, a: str, b: str, order: Sequence[int | None]) -> str:
    """The lanes `order` of a and b side by side, each of `lanes`; a lane of None does not matter."""
    kind = vector(element, lanes)
    chosen = ", ".join("i32 poison" if lane is None else f"i32 {lane}" for lane in order)
    return out.op(f"shufflevector {kind} {a}, {kind} {b}, <{len(order)} x i32> <{chosen}>")


def part(out: Emitter, element: str, lanes: int, value: str, start: int, count: int) -> str:
    """`count` neighboring lanes."""
    if count == lanes:
        return value
    return shuffle(out, element, lanes, value, "poison", range(start, start + count))


def reverse(out: Emitter, element: str, lanes: int, value: str) -> str:
    """The lanes in reverse order."""
    return shuffle(out, element, lanes, value, "poison", range(lanes)[::-1])


def join(out: Emitter, element: str, lanes: int, values: Sequence[str]) -> str:
    """A power of two of registers of `lanes` as one."""
    while len(values) > 1:
        pairs = list(pairwise(values))[::2]
        values = [shuffle(out, element, lanes, a, b, range(2 * lanes)) for a, b in pairs]
        lanes *= 2
    return values[0]


def pick(out: Emitter, element: str, lanes: int, registers: Sequence[str],
         picks: Sequence[tuple[int, int]]) -> str:
    """For each lane one lane of some register, as (register, lane)."""
    used = sorted({register for register, _ in picks})
    value, taken = registers[used[0]], used[0]
    order = [lane if register == taken else None for register, lane in picks]
    if len(used) == 1:
        return shuffle(out, element, lanes, value, "poison", order)
    for number in used[1:]:
        order = [lanes + lane if register == number else old
                 for old, (register, lane) in zip(order, picks, strict=True)]
        value = shuffle(out, element, lanes, value, registers[number], order)
        order = [None if old is None else lane for lane, old in enumerate(order)]
    return value


def interleave(out: Emitter, element: str, lanes: int, registers: Sequence[str]) -> list[str]:
    """A power of two of registers, transposed: lane l of register r is element l * len(registers) + r."""
    merged = [lane // 2 + lane % 2 * lanes for lane in range(2 * lanes)]
    rows, half = list(registers), len(registers) // 2
    for _ in range(half.bit_length()):
        rows = [shuffle(out, element, lanes, a, b, order)
                for a, b in zip(rows[:half], rows[half:], strict=True)
                for order in (merged[:lanes], merged[lanes:])]
    return rows


def deinterleave(out: Emitter, element: str, lanes: int, registers: Sequence[str]) -> list[str]:
    """What `interleave` was given, from its result."""
    rows, half = list(registers), len(registers) // 2
    for _ in range(half.bit_length()):
        rows = [shuffle(out, element, lanes, a, b, range(first, 2 * lanes, 2))
                for first in (0, 1) for a, b in zip(rows[::2], rows[1::2], strict=True)]
    return rows
