"""The elementwise rows on single Python numbers, written from graph/ops.py alone."""
from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

from pluggrad.dtypes import DType, Scalar, float32

# precision in bits, exponent of the smallest subnormal, exponent that overflows
FORMATS = {"float16": (11, -24, 16), "bfloat16": (8, -133, 128), "float32": (24, -149, 128),
           "float64": (53, -1074, 1024)}


def rounded(x: float | int | Fraction, dtype: DType) -> float:
    """The nearest value of a float format, ties to even."""
    if isinstance(x, float) and (not math.isfinite(x) or x == 0):
        return x
    exact = Fraction(x)
    if exact == 0:
        return 0.0
    precision, smallest, overflow = FORMATS[dtype.name]
    exponent = exact.numerator.bit_length() - exact.denominator.bit_length()
    exponent -= abs(exact) < Fraction(2) ** exponent
    unit = Fraction(2) ** max(exponent - precision + 1, smallest)
    nearest = round(exact / unit) * unit
    if abs(nearest) >= Fraction(2) ** overflow:
        return math.copysign(math.inf, exact)
    return math.copysign(float(nearest), exact)


def wrapped(x: int, dtype: DType) -> int:
    bits = x % (1 << dtype.bits)
    return bits - (1 << dtype.bits) if dtype.kind == "i" and bits >> (dtype.bits - 1) else bits


def cast(x: Scalar, source: DType, target: DType) -> Scalar:
    if target.kind == "b":
        return x != 0
    if target.is_float:
        through = rounded(x, float32) if target.name == "bfloat16" else x
        return rounded(through, target)
    if not source.is_float:
        return wrapped(int(x), target)
    if math.isnan(x):
        return 0
    whole = x if math.isinf(x) else int(x)
    return int(min(max(whole, target.min), target.max))


def _or_inf(function: Callable[[float], float]) -> Callable[[float], float]:
    def guarded(x: float) -> float:
        try:
            return function(x)
        except OverflowError:
            return math.inf
    return guarded


def _domain(function: Callable[[float], float]) -> Callable[[float], float]:
    def guarded(x: float) -> float:
        return function(x) if math.isfinite(x) else math.nan
    return guarded


def _log(function: Callable[[float], float]) -> Callable[[float], float]:
    return lambda x: -math.inf if x == 0 else math.nan if x < 0 else function(x)


def _whole(function: Callable[[float], int]) -> Callable[[float], float]:
    return lambda x: math.copysign(float(function(x)), x) if math.isfinite(x) else x


def _divide(x: float, y: float) -> float:
    if y != 0:
        return x / y
    return math.nan if x == 0 or math.isnan(x) else math.copysign(math.inf, x) * math.copysign(1.0, y)


def _modulo(x: float, y: float) -> float:
    if math.isnan(x) or math.isnan(y) or math.isinf(x) or y == 0:
        return math.nan
    remainder = math.fmod(x, y)
    if remainder == 0:
        return math.copysign(0.0, y)
    return remainder + y if (remainder < 0) != (y < 0) else remainder


def _power(x: float, y: float) -> float:
    odd = math.isfinite(y) and y == int(y) and int(y) % 2 == 1
    try:
        return math.pow(x, y)
    except OverflowError:
        return -math.inf if x < 0 and odd else math.inf
    except ValueError:
        return math.nan if x != 0 else math.copysign(math.inf, x) if odd else math.inf


def _integer_power(x: int, y: int) -> int:
    if y >= 0:
        return pow(x, y, 1 << 64)
    return 1 if x == 1 or (x == -1 and y % 2 == 0) else -1 if x == -1 else 0


def _larger(x: float, y: float) -> float:
    return math.nan if math.isnan(x) or math.isnan(y) else max(x, y)


def _smaller(x: float, y: float) -> float:
    return math.nan if math.isnan(x) or math.isnan(y) else min(x, y)


# rows whose float results are correctly rounded, and rows that may be some units in the last place off
EXACT: dict[str, Callable[..., float]] = {
    "NEG": lambda x: -x, "ABS": abs, "RECIP": lambda x: _divide(1.0, x),
    "SQRT": lambda x: math.sqrt(x) if x >= 0 else math.nan,
    "FLOOR": _whole(math.floor), "CEIL": _whole(math.ceil),
    "TRUNC": _whole(math.trunc), "ROUND": _whole(round),
    "ADD": lambda x, y: x + y, "SUB": lambda x, y: x - y, "MUL": lambda x, y: x * y, "DIV": _divide,
    "MOD": _modulo, "MAX": _larger, "MIN": _smaller,
}
APPROXIMATE: dict[str, Callable[..., float]] = {
    "EXP": _or_inf(math.exp), "EXP2": _or_inf(lambda x: math.pow(2.0, x)),
    "LOG": _log(math.log), "LOG2": _log(math.log2), "SIN": _domain(math.sin), "COS": _domain(math.cos),
    "TANH": math.tanh, "ERF": math.erf, "POW": _power,
}
COMPARE: dict[str, Callable[..., bool]] = {
    "LT": lambda x, y: x < y, "LE": lambda x, y: x <= y, "EQ": lambda x, y: x == y, "NE": lambda x, y: x != y,
}


def integer(name: str, dtype: DType) -> Callable[..., int]:
    """A row on integers of `dtype`, wrapped."""
    outside: Callable[[int], bool] = lambda y: not 0 <= y < dtype.bits
    rows: dict[str, Callable[..., int]] = {
        "NEG": lambda x: -x, "ABS": abs, "NOT": lambda x: ~x,
        "ADD": lambda x, y: x + y, "SUB": lambda x, y: x - y, "MUL": lambda x, y: x * y,
        "IDIV": lambda x, y: x // y if y else 0, "MOD": lambda x, y: x % y if y else 0, "POW": _integer_power,
        "AND": lambda x, y: x & y, "OR": lambda x, y: x | y, "XOR": lambda x, y: x ^ y,
        "MAX": max, "MIN": min,
        "SHL": lambda x, y: 0 if outside(y) else x << y,
        "SHR": lambda x, y: (-1 if x < 0 else 0) if outside(y) else x >> y,
    }
    row = rows[name]
    return lambda *sources: wrapped(row(*sources), dtype)


BOOLEAN: dict[str, Callable[..., bool]] = {
    "NOT": lambda x: not x, "ADD": lambda x, y: x or y, "MUL": lambda x, y: x and y,
    "MAX": max, "MIN": min,
    "AND": lambda x, y: x and y, "OR": lambda x, y: x or y, "XOR": lambda x, y: x != y,
}
