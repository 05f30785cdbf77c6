"""Conversions between element types, in any number of lanes."""
from __future__ import annotations

from pluggrad.plugin_api import DType
from pluggrad_cpu.emit import BITS, REGISTER, Emitter, float_literal, intrinsic, splat, vector

_HALVES = ("float16", "bfloat16")


def cast(out: Emitter, value: str, source: DType, target: DType, lanes: int) -> str:
    """`value` converted: float to int saturates and NaN gives 0, int to int wraps, to bool is `!= 0`."""
    if source is target:
        return value
    element = REGISTER[source.name]
    if source.name in _HALVES:
        value, element = _widen_half(out, value, source.name, lanes), "float"
    if target.name in _HALVES:
        value = _to_float(out, value, element, source, "float", lanes)
        return _narrow_half(out, value, target.name, lanes)
    if target.kind == "b":
        return _not_zero(out, value, element, lanes)
    if target.kind == "f":
        return _to_float(out, value, element, source, REGISTER[target.name], lanes, exact=True)
    if source.is_float:
        return _saturate(out, value, element, target, lanes)
    return _resize(out, value, element, REGISTER[target.name], source.kind == "i", lanes)


def _convert(out: Emitter, op: str, value: str, element: str, target: str, lanes: int) -> str:
    return out.op(f"{op} {vector(element, lanes)} {value} to {vector(target, lanes)}")


def _not_zero(out: Emitter, value: str, element: str, lanes: int) -> str:
    test, zero = ("fcmp une", "0.0") if element in ("float", "double") else ("icmp ne", "0")
    return out.op(f"{test} {vector(element, lanes)} {value}, {splat(zero, element, lanes)}")


def _resize(out: Emitter, value: str, element: str, target: str, signed: bool, lanes: int) -> str:
    if BITS[element] == BITS[target]:
        return value
    op = "trunc" if BITS[element] > BITS[target] else "sext" if signed else "zext"
    return _convert(out, op, value, element, target, lanes)


def _to_float(out: Emitter, value: str, element: str, source: DType, target: str, lanes: int,
              exact: bool = False) -> str:
    if element == target:
        return value
    if element == "float":
        return _convert(out, "fpext", value, element, target, lanes)
    if element == "double":
        # on the way to a half format a second rounding follows, so the first must not hide which way it went
        if not exact:
            return _round_to_odd(out, value, lanes)
        return _convert(out, "fptrunc", value, element, target, lanes)
    return _convert(out, "sitofp" if source.kind == "i" else "uitofp", value, element, target, lanes)


def _round_to_odd(out: Emitter, value: str, lanes: int) -> str:
    """double to float, the last bit set where inexact: rounding once more then gives the nearest value."""
    double, single, ints = vector("double", lanes), vector("float", lanes), vector("i32", lanes)
    near = _convert(out, "fptrunc", value, "double", "float", lanes)
    back = _convert(out, "fpext", near, "float", "double", lanes)
    magnitude = out.call(double, intrinsic("fabs", "double", lanes), [(double, value)])
    reached = out.call(double, intrinsic("fabs", "double", lanes), [(double, back)])
    above = _convert(out, "zext", out.op(f"fcmp ogt {double} {reached}, {magnitude}"), "i1", "i32", lanes)
    inexact = _convert(out, "zext", out.op(f"fcmp one {double} {back}, {value}"), "i1", "i32", lanes)
    bits = out.op(f"bitcast {single} {near} to {ints}")
    truncated = out.op(f"sub {ints} {bits}, {above}")
    return out.op(f"bitcast {ints} {out.op(f'or {ints} {truncated}, {inexact}')} to {single}")


def _saturate(out: Emitter, value: str, element: str, target: DType, lanes: int) -> str:
    """Clamped before the conversion. LLVM's saturating conversions do the same, one lane at a time."""
    register, kind = REGISTER[target.name], vector(element, lanes)
    low, high = int(target.min), int(target.max)
    digits = 24 if element == "float" else 53
    reachable = high >> max(0, high.bit_length() - digits) << max(0, high.bit_length() - digits)

    def bound(limit: int) -> str:
        return splat(float_literal(float(limit), element), element, lanes)

    ordered = out.op(f"fcmp ord {kind} {value}, {value}")
    number = out.select(ordered, lanes, kind, value, splat("0.0", element, lanes))
    number = out.select(out.op(f"fcmp ogt {kind} {number}, {bound(low)}"), lanes, kind, number, bound(low))
    number = out.select(out.op(f"fcmp olt {kind} {number}, {bound(reachable)}"), lanes, kind, number,
                        bound(reachable))
    result = _convert(out, "fptosi" if target.kind == "i" else "fptoui", number, element, register, lanes)
    if reachable == high:
        return result
    above = out.op(f"fcmp oge {kind} {value}, {bound(high + 1)}")
    return out.select(above, lanes, vector(register, lanes), splat(str(high), register, lanes), result)


def _widen_half(out: Emitter, value: str, name: str, lanes: int) -> str:
    """The bits of a half format as float32, exactly."""
    ints, single = vector("i32", lanes), vector("float", lanes)
    if name == "bfloat16":
        shifted = _Bits(out, lanes).op("shl", _convert(out, "zext", value, "i16", "i32", lanes), 16)
        return out.op(f"bitcast {ints} {shifted} to {single}")
    if out.machine.half:
        half = out.op(f"bitcast {vector('i16', lanes)} {value} to {vector('half', lanes)}")
        return _convert(out, "fpext", half, "half", "float", lanes)
    return _Bits(out, lanes).widen_float16(value)


def _narrow_half(out: Emitter, value: str, name: str, lanes: int) -> str:
    if name == "bfloat16":
        return _Bits(out, lanes).narrow_bfloat16(value)
    if out.machine.half:
        half = _convert(out, "fptrunc", value, "float", "half", lanes)
        return out.op(f"bitcast {vector('half', lanes)} {half} to {vector('i16', lanes)}")
    return _Bits(out, lanes).narrow_float16(value)


class _Bits:
    """Half formats in 32-bit integer arithmetic, for machines without the instructions."""

    def __init__(self, out: Emitter, lanes: int) -> None:
        self.out, self.lanes = out, lanes
        self.ints, self.floats = vector("i32", lanes), vector("float", lanes)

    def op(self, name: str, a: str, b: str | int) -> str:
        return self.out.op(f"{name} {self.ints} {a}, {self.number(b) if isinstance(b, int) else b}")

    def number(self, value: int) -> str:
        return splat(str(value), "i32", self.lanes)

    def select(self, condition: str, yes: str | int, no: str) -> str:
        chosen = self.number(yes) if isinstance(yes, int) else yes
        return self.out.select(condition, self.lanes, self.ints, chosen, no)

    def of_float(self, value: str) -> str:
        return self.out.op(f"bitcast {self.floats} {value} to {self.ints}")

    def as_float(self, value: str) -> str:
        return self.out.op(f"bitcast {self.ints} {value} to {self.floats}")

    def to_i16(self, value: str) -> str:
        return _convert(self.out, "trunc", value, "i32", "i16", self.lanes)

    def narrow_bfloat16(self, value: str) -> str:
        bits = self.of_float(value)
        odd = self.op("and", self.op("lshr", bits, 16), 1)
        rounded = self.op("lshr", self.op("add", self.op("add", bits, 0x7FFF), odd), 16)
        quiet = self.op("or", self.op("lshr", bits, 16), 0x40)
        nan = self.out.op(f"fcmp uno {self.floats} {value}, {value}")
        return self.to_i16(self.select(nan, quiet, rounded))

    def widen_float16(self, value: str) -> str:
        wide = _convert(self.out, "zext", value, "i16", "i32", self.lanes)
        shifted = self.op("shl", self.op("and", wide, 0x7FFF), 13)
        # the difference of the exponent biases; subnormals become normal on the way
        scale = splat(float_literal(2.0**112, "float"), "float", self.lanes)
        scaled = self.of_float(self.out.op(f"fmul {self.floats} {self.as_float(shifted)}, {scale}"))
        special = self.op("icmp uge", shifted, 0x7C00 << 13)
        magnitude = self.select(special, self.op("or", shifted, 0x7F800000), scaled)
        sign = self.op("shl", self.op("and", wide, 0x8000), 16)
        return self.as_float(self.op("or", magnitude, sign))

    def narrow_float16(self, value: str) -> str:
        bits = self.of_float(value)
        sign = self.op("and", self.op("lshr", bits, 16), 0x8000)
        magnitude = self.op("and", bits, 0x7FFFFFFF)
        # adding 0.5 lines a subnormal's last bit up with the last bit of the sum, rounding on the way
        half = splat(float_literal(0.5, "float"), "float", self.lanes)
        sum_ = self.of_float(self.out.op(f"fadd {self.floats} {self.as_float(magnitude)}, {half}"))
        subnormal = self.op("sub", sum_, 0x3F000000)
        odd = self.op("and", self.op("lshr", magnitude, 13), 1)
        rebased = self.op("add", self.op("add", magnitude, ((15 - 127) << 23) + 0xFFF), odd)
        normal = self.op("lshr", rebased, 13)
        result = self.select(self.op("icmp ult", magnitude, 113 << 23), subnormal, normal)
        result = self.select(self.op("icmp uge", magnitude, 143 << 23), 0x7C00, result)
        result = self.select(self.op("icmp ugt", magnitude, 0x7F800000), 0x7E00, result)
        return self.to_i16(self.op("or", result, sign))
