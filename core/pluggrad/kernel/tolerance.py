"""How far the results of two correct devices may lie apart: one table by dtype, for everything that compares.

Integers, bool and what only moves values agree bit by bit. Floats differ by the rounding of one operation, by
the accuracy of a function, or by the order in which a sum is taken.
"""
from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from pluggrad.dtypes import DType

Kind = Literal["exact", "rounded", "function", "sum"]


class Format(NamedTuple):
    """A float format: its relative spacing, its smallest normal number, and what a long sum may lose."""

    spacing: float
    smallest_normal: float
    sum_error: float


FORMATS: Final[Mapping[str, Format]] = MappingProxyType({
    "float64": Format(2.0**-52, 2.0**-1022, 1e-9),
    "float32": Format(2.0**-23, 2.0**-126, 1e-4),
    "float16": Format(2.0**-10, 2.0**-14, 1e-2),
    "bfloat16": Format(2.0**-7, 2.0**-126, 5e-2)})

# float32 sums of products whose factors were rounded to 10 bits of fraction may lie so much further off
ROUNDED_FACTORS: Final = 20.0

# "rounded": arithmetic, square root and quotient; "function": exp, sin, erf, pow; in spacings of the result
SPACINGS: Final[Mapping[Kind, float]] = MappingProxyType({"exact": 0.0, "rounded": 3.0, "function": 16.0})


class Tolerance(NamedTuple):
    """`got` is right where |got - want| <= relative * |want| + absolute."""

    relative: float
    absolute: float


def tolerance(dtype: DType, kind: Kind, *, largest: float = 1.0, widening: float = 1.0) -> Tolerance:
    """What results of `dtype` may differ by.

    largest: magnitude of what was summed up, to which the error of a sum is relative. widening: a factor that
    a device declares for this dtype.
    """
    if not dtype.is_float or kind == "exact":
        return Tolerance(0.0, 0.0)
    form = FORMATS[dtype.name]
    if kind == "sum":
        return Tolerance(form.sum_error * widening, form.sum_error * widening * largest)
    relative = SPACINGS[kind] * form.spacing * widening
    # a function's zero is missed by its argument's rounding; subnormal numbers may be flushed to zero
    absolute = form.smallest_normal + (relative / 4 if kind == "function" else 0.0)
    return Tolerance(relative, absolute)


def agree(have: Any, want: Any, dtype: DType, kind: Kind, *, widening: float = 1.0) -> Any:
    """Where two arrays of decoded values agree, as an array of bool. NaN agrees with NaN only.

    Exact floats are compared by value and sign, so that -0.0 is not 0.0.
    """
    if not dtype.is_float:
        return have == want
    if kind == "exact":
        both_nan = np.isnan(have) & np.isnan(want)
        return both_nan | ((have == want) & (np.signbit(have) == np.signbit(want)))
    with np.errstate(invalid="ignore"):  # memory that nobody wrote may hold signaling NaNs
        have, want = np.asarray(have, np.float64), np.asarray(want, np.float64)
    largest = float(np.max(np.abs(want), initial=1.0, where=np.isfinite(want)))
    allowed = tolerance(dtype, kind, largest=largest, widening=widening)
    return np.isclose(have, want, rtol=allowed.relative, atol=allowed.absolute, equal_nan=True)
