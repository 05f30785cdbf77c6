"""What each elementwise row of graph/ops.py means, on NumPy arrays: what every device has to compute.

How values are held: bool, integers, float16, float32 and float64 as NumPy has them, rounded after each op;
bfloat16, which NumPy lacks, as float32 rounded after each op. Conversions to bfloat16 pass through float32.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.kernel.reductions import identity

Array = np.ndarray[Any, np.dtype[Any]]
Function = Callable[..., Array]


def value_dtype(dtype: DType) -> np.dtype[Any]:
    """The NumPy dtype in which values of `dtype` are held."""
    return np.dtype(np.float32) if dtype is dtypes.bfloat16 else dtype.numpy


def decode(stored: Array, dtype: DType) -> Array:
    """Values from storage."""
    if dtype is not dtypes.bfloat16:
        return stored
    return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)


def encode(values: Array, dtype: DType) -> Array:
    """Storage from values; bfloat16 values are already rounded."""
    if dtype is not dtypes.bfloat16:
        return values
    return (np.asarray(values, order="C").view(np.uint32) >> np.uint32(16)).astype(np.uint16)


def round_bfloat16(values: Array) -> Array:
    """float32 values rounded to the nearest bfloat16, ties to even; NaN stays NaN."""
    bits = np.asarray(values, np.float32, order="C").view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    # the carry of a rounding could turn a NaN into infinity or zero: keep its sign, make it quiet
    quiet = (bits & np.uint32(0x80000000)) | np.uint32(0x7FC00000)
    kept = np.where(np.isnan(values), quiet, rounded & np.uint32(0xFFFF0000))
    return kept.view(np.float32)


def _erf(x: Array) -> Array:
    flat = np.fromiter(map(math.erf, x.ravel().tolist()), np.float64, x.size)  # NumPy has no erf
    return flat.astype(x.dtype).reshape(x.shape)


def _power(x: Array, y: Array) -> Array:
    powers: Array = np.power(x, y if x.dtype.kind != "i" else np.maximum(y, x.dtype.type(0)))
    if x.dtype.kind != "i":
        return powers
    zero, one = x.dtype.type(0), x.dtype.type(1)
    of_minus_one = np.where(y & one, -one, one)
    inverse = np.where(x == one, one, np.where(x == -one, of_minus_one, zero))
    return np.where(y < 0, inverse, powers)


def _floor_divide(x: Array, y: Array) -> Array:
    zero = y == 0
    return np.where(zero, x.dtype.type(0), np.floor_divide(x, np.where(zero, x.dtype.type(1), y)))


def _modulo(x: Array, y: Array) -> Array:
    if x.dtype.kind == "f":
        result: Array = np.remainder(x, y)
        return result
    zero = y == 0
    return np.where(zero, x.dtype.type(0), np.remainder(x, np.where(zero, x.dtype.type(1), y)))


def _in_width(y: Array) -> Array:
    return (y >= 0) & (y < 8 * y.dtype.itemsize)


def _shift_left(x: Array, y: Array) -> Array:
    fits = _in_width(y)
    return np.where(fits, np.left_shift(x, np.where(fits, y, y.dtype.type(0))), x.dtype.type(0))


def _shift_right(x: Array, y: Array) -> Array:
    last = y.dtype.type(8 * y.dtype.itemsize - 1)  # shifts a signed value down to its sign
    shifted: Array = np.right_shift(x, np.where(_in_width(y), y, last))
    return shifted if x.dtype.kind == "i" else np.where(_in_width(y), shifted, x.dtype.type(0))


def _divide_toward_zero(x: Array, y: Array) -> Array:
    quotient: Array = np.floor_divide(x - np.fmod(x, y), y)
    return quotient


def _halves(x: Array) -> tuple[Array, Array]:
    """The two bfloat16 in each uint32, low half first."""
    return (x << 16).view(np.float32), (x & 0xFFFF0000).view(np.float32)


def _dot2(a: Array, x: Array, y: Array) -> Array:
    (x_low, x_high), (y_low, y_high) = _halves(x), _halves(y)
    total: Array = a + x_low * y_low + x_high * y_high
    return total


ELEMENTWISE: Final[dict[str, Function]] = {
    "NEG": np.negative, "ABS": np.absolute, "RECIP": np.reciprocal, "SQRT": np.sqrt,
    "EXP": np.exp, "EXP2": np.exp2, "LOG": np.log, "LOG2": np.log2,
    "SIN": np.sin, "COS": np.cos, "TANH": np.tanh, "ERF": _erf,
    "FLOOR": np.floor, "CEIL": np.ceil, "TRUNC": np.trunc, "ROUND": np.rint, "NOT": np.invert,
    "ADD": np.add, "SUB": np.subtract, "MUL": np.multiply, "DIV": np.divide,
    "IDIV": _floor_divide, "MOD": _modulo, "POW": _power, "MAX": np.maximum, "MIN": np.minimum,
    "AND": np.bitwise_and, "OR": np.bitwise_or, "XOR": np.bitwise_xor,
    "SHL": _shift_left, "SHR": _shift_right,
    "LT": np.less, "LE": np.less_equal, "EQ": np.equal, "NE": np.not_equal, "WHERE": np.where,
    "CDIV": _divide_toward_zero, "CMOD": np.fmod, "DOT2": _dot2,
}


def _saturate(x: Array, dtype: DType) -> Array:
    """Float to integer: toward zero, clamped to the range, NaN to 0."""
    whole = np.trunc(x.astype(np.float64))
    lowest, above = float(dtype.min), float(int(dtype.max) + 1)  # both exact: powers of two, or 0
    inside = (whole >= lowest) & (whole < above)
    result = np.where(inside, whole, 0.0).astype(dtype.numpy)
    result[whole >= above] = dtype.max
    result[whole < lowest] = dtype.min
    return result


def cast(source: DType, target: DType) -> Function:
    """The conversion from `source` to `target`."""
    if source is target:
        return lambda x: x
    if source.is_float and target.is_int:
        return lambda x: _saturate(x, target)
    if target is dtypes.bfloat16:
        return lambda x: round_bfloat16(x.astype(np.float32))
    held = value_dtype(target)
    return lambda x: x.astype(held)


def bitcast(source: DType, target: DType) -> Function:
    """The same bits as another dtype of equal size."""
    return lambda x: decode(encode(x, source).view(target.numpy), target)


def elementwise(name: str, dtype: DType) -> Function:
    """The function of row `name` whose result is of `dtype`."""
    function = ELEMENTWISE[name]
    # choosing rounds nothing: only arithmetic leaves bfloat16
    if dtype is dtypes.bfloat16 and name != "WHERE":
        return lambda *sources: round_bfloat16(function(*sources))
    return function


_REDUCTIONS: Final[dict[str, np.ufunc]] = {
    "ADD": np.add, "MUL": np.multiply, "MAX": np.maximum, "MIN": np.minimum,
}


def reduction(name: str, dtype: DType) -> Callable[[Array, tuple[int, ...]], Array]:
    """Reduce over dimensions, which stay with size 1; the identity where there is nothing.

    bfloat16 is combined in float32 and rounded once.
    """
    ufunc, held = _REDUCTIONS[name], value_dtype(dtype)
    initial = held.type(identity(name, dtype))

    def reduce(x: Array, dimensions: tuple[int, ...]) -> Array:
        result: Array = ufunc.reduce(x, axis=dimensions, dtype=held, keepdims=True, initial=initial)
        return round_bfloat16(result) if dtype is dtypes.bfloat16 else result

    return reduce


def running(name: str, dtype: DType) -> Callable[[Array, int], Array]:
    """Combine along a dimension up to each place. bfloat16 only where that rounds nothing."""
    ufunc, held = _REDUCTIONS[name], value_dtype(dtype)
    return lambda x, dimension: ufunc.accumulate(x, axis=dimension, dtype=held)


def combine_at(name: str) -> Callable[[Array, Array, Array], None]:
    """Combine values with the elements at the given indices of a buffer, one after another in their order.

    Never of a half, which the graph combines as float32.
    """
    ufunc = _REDUCTIONS[name]
    return lambda buffer, index, values: ufunc.at(buffer, index, values.astype(buffer.dtype, copy=False))
