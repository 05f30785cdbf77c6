"""How a test says what is wrong: expected, got, where, and which defect that looks like."""
from __future__ import annotations

from typing import Any, Final

import numpy as np

from pluggrad.dtypes import DType
from pluggrad.kernel.tolerance import Kind, agree

_SHOWN: Final = 6  # elements around the first wrong one


class Mismatch(AssertionError):
    """A device did something else than its contract says. Every field is text for people; most may be empty.

    where: the first wrong element. suggests: the defect that this looks like, if it shows one.
    """

    def __init__(self, message: str = "", *, op: str = "", dtype: str = "", expected: str = "", got: str = "",
                 where: str = "", suggests: str = "") -> None:
        self.message, self.op, self.dtype, self.expected, self.got = message, op, dtype, expected, got
        self.where, self.suggests = where, suggests
        parts = [message, op, f"expected {expected}" if expected else "", f"got {got}" if got else "",
                 f"at {where}" if where else ""]
        super().__init__("; ".join(part for part in parts if part))


def expect(condition: object, message: str, *, suggests: str = "", **fields: str) -> None:
    """Mismatch with this message unless the condition holds."""
    if not condition:
        raise Mismatch(message, suggests=suggests, **fields)


def expect_values(have: Any, want: Any, dtype: DType, kind: Kind = "exact", *, op: str = "",
                  widening: float = 1.0, suggests: str = "") -> None:
    """Mismatch unless the arrays agree within the dtype's tolerance; bfloat16 comes as float32 values."""
    have, want = np.asarray(have), np.asarray(want)
    if have.shape != want.shape:
        raise Mismatch(op=op, dtype=dtype.name, expected=f"shape {want.shape}", got=f"shape {have.shape}",
                       suggests=suggests)
    _expect_all(agree(have, want, dtype, kind, widening=widening), have, want, dtype, op, suggests)


def expect_within(have: Any, want: Any, bound: Any, dtype: DType, *, op: str = "") -> None:
    """Mismatch unless each value lies as near to the right one as its own bound says."""
    have, want = np.asarray(have), np.asarray(want)
    expect(have.shape == want.shape, op, expected=f"shape {want.shape}", got=f"shape {have.shape}")
    near = np.abs(have.astype(np.float64) - want) <= bound
    _expect_all(near, have, want, dtype, op, "")


def _expect_all(right: Any, have: Any, want: Any, dtype: DType, op: str, suggests: str) -> None:
    if np.all(right):
        return
    wrong = np.argwhere(~np.atleast_1d(right))
    first = tuple(int(i) for i in wrong[0][:have.ndim])
    raise Mismatch(f"{len(wrong)} of {have.size} elements are wrong", op=op, dtype=dtype.name,
                   expected=_around(want, first), got=_around(have, first), where=f"element {first}",
                   suggests=pattern(have, want, np.asarray(right)) or suggests)


def _around(array: Any, first: tuple[int, ...]) -> str:
    """The value at `first`, and those that follow it in row-major order."""
    flat = array.reshape(-1)
    start = int(np.ravel_multi_index(first, array.shape)) if first else 0
    shown = ", ".join(str(value) for value in flat[start:start + _SHOWN].tolist())
    return f"{shown}, ..." if flat.size > start + _SHOWN else shown


def pattern(have: Any, want: Any, right: Any) -> str:
    """The defect that the places of wrong elements show, or nothing."""
    flat, wanted, good = have.reshape(-1), want.reshape(-1), right.reshape(-1)
    count, bad = good.size, np.flatnonzero(~good)
    if len(bad) < count and bad[0] == count - len(bad) and len(bad) < max(count // 2, 2):
        return f"only the last {len(bad)} of {count} elements are wrong: a tail is lost"
    if np.issubdtype(wanted.dtype, np.floating) and np.all(np.isnan(wanted[bad])):
        return "a NaN is not passed on"
    if np.issubdtype(wanted.dtype, np.floating) and np.all(np.isnan(flat[bad])):
        return "NaN where there should be a number"
    if count > 1 and len(bad) == count and not flat.any() and wanted.any():
        return "everything is 0: nothing was computed, or nothing was stored"
    shift = _shift(flat, wanted)
    return f"the values are right and stand {shift} elements further on: an offset is wrong" if shift else ""


def _shift(have: Any, want: Any) -> int:
    """By how many elements `have` is `want` moved; 0 if it is not."""
    if len(have) < 8 or len(np.unique(want)) < 4:
        return 0
    for shift in range(1, len(have) // 2):
        if np.array_equal(have[shift:], want[:-shift]):
            return shift
        if np.array_equal(have[:-shift], want[shift:]):
            return -shift
    return 0
