"""Conversions between dtypes, as the op CAST defines them, for values as they are held in registers."""
from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.render.arithmetic import Arithmetic
from pluggrad.render.source import Value

F32, F64, U32 = dtypes.float32, dtypes.float64, dtypes.uint32


def cast(a: Arithmetic, value: Value, source: DType, target: DType) -> Value:
    """Float to int saturates, NaN gives 0, int to int wraps, to bool is `!= 0`; else rounded to nearest."""
    if source is target:
        return value
    own = a.dialect.own_cast(value, source, target, a.out)
    if own is not None:
        return own
    if source.kind == "b":
        return _of_bool(a, value, target)
    if target.kind == "b":
        return a.compare("!=", value if _computes(a, source) else a.infix("&", value, 0x7FFF), 0)
    if not _computes(a, source):
        return cast(a, _widen(a, value, source), F32, target)
    if not _computes(a, target):
        return _narrow(a, value, source, target)
    if source.is_float and target.is_int:
        return _saturate(a, value, source, target)
    return a.convert(value, target)


def bitcast(a: Arithmetic, value: Value, source: DType, target: DType) -> Value:
    """The same bits as another dtype of equal size; a bool has the bits of its byte."""
    if source.kind == "b":
        return a.reinterpret(_of_bool(a, value, dtypes.uint8), target)
    if target.kind == "b":
        return a.compare("!=", value, 0)
    return a.reinterpret(value, a.dialect.held(target))


def _computes(a: Arithmetic, dtype: DType) -> bool:
    return a.dialect.held(dtype) is dtype


def _of_bool(a: Arithmetic, value: Value, target: DType) -> Value:
    if value.lanes == 1 and _computes(a, target):
        return a.convert(value, target)
    one, zero = (a.constant(number, target, value.lanes) for number in (1, 0))
    return a.select(value, one, zero)


# ---- float to integer --------------------------------------------------------------------------------------
def _saturate(a: Arithmetic, value: Value, source: DType, target: DType) -> Value:
    if source.itemsize < 4:  # whose range does not reach the bounds of wide integers
        value, source = a.convert(value, F32), F32
    low, high = int(target.min), int(target.max)
    beyond = max(0, high.bit_length() - (24 if source is F32 else 53))
    reachable = high >> beyond << beyond

    def clamped(inner: Arithmetic, x: Value) -> Value:
        """Before the conversion, which is undefined out of range."""
        number = inner.let(inner.select(inner.compare("==", x, x), x, 0.0))
        number = inner.let(inner.select(inner.compare(">", number, float(low)), number, float(low)))
        within = inner.select(inner.compare("<", number, float(reachable)), number, float(reachable))
        result = inner.convert(within, target)
        if reachable == high:
            return result
        return inner.select(inner.compare(">=", x, float(high + 1)), high, result)

    return a.defined(f"{source.name}_to_{target.name}", value, target, clamped)


# ---- halves that are not computed in: integer arithmetic on their bits -------------------------------------
def _widen(a: Arithmetic, value: Value, source: DType) -> Value:
    own = a.dialect.own_cast(value, source, F32, a.out)
    return own or a.defined(f"{source.name}_to_float32", value, F32, _WIDEN[source.name])


def _narrow(a: Arithmetic, value: Value, source: DType, target: DType) -> Value:
    if source is F64 and target is dtypes.float16:
        # a second rounding follows: the first must not hide which way it went
        value = a.defined("float64_to_odd_float32", value, F32, _round_to_odd)
    narrow = a.convert(value, F32)
    own = a.dialect.own_cast(narrow, F32, target, a.out)
    return own or a.defined(f"float32_to_{target.name}", narrow, dtypes.uint16, _NARROW[target.name])


def _round_to_odd(a: Arithmetic, x: Value) -> Value:
    """double to float, the last bit set where inexact: rounding once more then gives the nearest value."""
    near = a.let(a.convert(x, F32))
    back = a.let(a.convert(near, F64))
    fabs = a.dialect.functions["ABS"][F64.name]
    above = a.compare(">", a.call(fabs, [back], F64), a.call(fabs, [x], F64))
    one, zero = (a.constant(number, U32, x.lanes) for number in (1, 0))
    truncated = a.infix("-", a.reinterpret(near, U32), a.select(above, one, zero))
    return a.reinterpret(a.infix("|", truncated, a.select(a.compare("!=", back, x), one, zero)), F32)


def _widen_float16(a: Arithmetic, x: Value) -> Value:
    wide = a.let(a.convert(x, U32))
    shifted = a.let(a.infix("<<", a.infix("&", wide, 0x7FFF), 13))
    # the difference of the exponent biases; subnormals become normal on the way
    scaled = a.reinterpret(a.infix("*", a.reinterpret(shifted, F32), 2.0**112), U32)
    special = a.compare(">=", shifted, 0x7C00 << 13)
    magnitude = a.select(special, a.infix("|", shifted, 0x7F800000), scaled)
    sign = a.infix("<<", a.infix("&", wide, 0x8000), 16)
    return a.reinterpret(a.infix("|", magnitude, sign), F32)


def _widen_bfloat16(a: Arithmetic, x: Value) -> Value:
    return a.reinterpret(a.infix("<<", a.convert(x, U32), 16), F32)


def _narrow_float16(a: Arithmetic, x: Value) -> Value:
    bits = a.let(a.reinterpret(x, U32))
    magnitude = a.let(a.infix("&", bits, 0x7FFFFFFF))
    # adding 0.5 lines a subnormal's last bit up with the last bit of the sum, rounding on the way
    sum_ = a.reinterpret(a.infix("+", a.reinterpret(magnitude, F32), 0.5), U32)
    subnormal = a.infix("-", sum_, 0x3F000000)
    odd = a.infix("&", a.infix(">>", magnitude, 13), 1)
    rebased = a.infix("-", a.infix("+", magnitude, odd), ((127 - 15) << 23) - 0xFFF)
    result = a.let(a.select(a.compare("<", magnitude, 113 << 23), subnormal, a.infix(">>", rebased, 13)))
    result = a.let(a.select(a.compare(">=", magnitude, 143 << 23), 0x7C00, result))
    result = a.let(a.select(a.compare(">", magnitude, 0x7F800000), 0x7E00, result))
    sign = a.infix("&", a.infix(">>", bits, 16), 0x8000)
    return a.convert(a.infix("|", result, sign), dtypes.uint16)


def _narrow_bfloat16(a: Arithmetic, x: Value) -> Value:
    bits = a.let(a.reinterpret(x, U32))
    high = a.let(a.infix(">>", bits, 16))
    rounded = a.infix(">>", a.infix("+", a.infix("+", bits, 0x7FFF), a.infix("&", high, 1)), 16)
    quiet = a.infix("|", high, 0x40)
    return a.convert(a.select(a.compare("!=", x, x), quiet, rounded), dtypes.uint16)


_Conversion = Callable[[Arithmetic, Value], Value]
_WIDEN: Final[dict[str, _Conversion]] = {"float16": _widen_float16, "bfloat16": _widen_bfloat16}
_NARROW: Final[dict[str, _Conversion]] = {"float16": _narrow_float16, "bfloat16": _narrow_bfloat16}
