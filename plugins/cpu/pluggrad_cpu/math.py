"""Elementary functions as polynomials on whole registers: no call into a C library, one accuracy everywhere.

A function is written for an element type and a number of lanes when an instruction of the module first asks
for it, and inlined by LLVM. Arguments are reduced as in W. J. Cody and W. Waite, "Software Manual for the
Elementary Functions" (1980).
"""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pluggrad_cpu import radians
from pluggrad_cpu.emit import Emitter, mangled, vector
from pluggrad_cpu.register import Register

# Largest error in units in the last place, with and without fused multiply-add, for every finite argument.
ERROR_BOUNDS: Final[dict[str, dict[str, float]]] = {
    "EXP": {"float32": 1.0, "float64": 1.1},
    "EXP2": {"float32": 1.3, "float64": 1.3},
    "LOG": {"float32": 0.9, "float64": 0.9},
    "LOG2": {"float32": 0.9, "float64": 0.9},
    "SIN": {"float32": 1.6, "float64": 2.5},
    "COS": {"float32": 1.6, "float64": 2.5},
    "TANH": {"float32": 1.4, "float64": 1.4},
    "ERF": {"float32": 1.5, "float64": 1.5},
}


def _exp(r: Register, x: str) -> str:
    high, low = r.format.ln2
    x = r.clamp(x, *r.format.exp_range)
    n, power = r.rounded(r.mul_add(x, math.log2(math.e), r.format.round_number))
    rest = r.mul_add(n, -low, r.mul_add(n, -high, x))
    tail = r.mul_add(r.op("fmul", rest, rest), r.polynomial(rest, "EXP"), rest)
    return r.scale(r.op("fadd", tail, 1.0), n, power)


def _exp2(r: Register, x: str) -> str:
    f = r.format
    x = r.clamp(x, -float(f.bias + f.mantissa + 1), float(f.bias + 2))
    n, power = r.rounded(r.op("fadd", x, f.round_number))
    rest = r.op("fsub", x, n)
    return r.scale(r.mul_add(rest, r.polynomial(rest, "EXP2"), 1.0), n, power)


@dataclass(frozen=True, slots=True)
class _Log:
    """log(x) = exponent*log(2) + f - half_square + tail, with x = 2**exponent * (1 + f)."""

    exponent: str
    f: str
    half_square: str
    tail: str


def _log_parts(r: Register, x: str) -> _Log:
    """As in FreeBSD's k_log.h: s = f/(2+f) makes the series even, f - f*f/2 carries the leading digits."""
    fmt = r.format
    tiny = r.op("fcmp olt", x, 2.0 ** (1 - fmt.bias))
    lift = fmt.mantissa + 2
    x = r.select(tiny, r.op("fmul", x, 2.0**lift), x)
    distance = r.int_op("sub", r.bits(x), fmt.sqrt_half)
    power = r.int_op("ashr", distance, fmt.mantissa)
    fraction = r.as_float(r.int_op("sub", r.bits(x), r.int_op("shl", power, fmt.mantissa)))
    exponent = r.op("fsub", r.number(power), r.select(tiny, float(lift), 0.0))
    f = r.op("fsub", fraction, 1.0)
    s = r.op("fdiv", f, r.op("fadd", f, 2.0))
    square = r.op("fmul", s, s)
    half_square = r.op("fmul", r.op("fmul", f, 0.5), f)
    series = r.op("fmul", square, r.polynomial(square, "LOG"))
    return _Log(exponent, f, half_square, r.op("fmul", s, r.op("fadd", half_square, series)))


def _log_specials(r: Register, x: str, value: str) -> str:
    value = r.select(r.op("fcmp oeq", x, math.inf), math.inf, value)
    value = r.select(r.op("fcmp oeq", x, 0.0), -math.inf, value)
    return r.select(r.op("fcmp ult", x, 0.0), math.nan, value)


def _log(r: Register, x: str) -> str:
    parts, (high, low) = _log_parts(r, x), r.format.ln2
    small = r.op("fsub", parts.half_square, r.mul_add(parts.exponent, low, parts.tail))
    value = r.mul_add(parts.exponent, high, r.op("fsub", parts.f, small))
    return _log_specials(r, x, value)


def _log2(r: Register, x: str) -> str:
    """As in FreeBSD's e_log2.c: the leading digits alone, so that their product with log2(e) is exact."""
    parts, (high, low) = _log_parts(r, x), r.format.log2e
    keep = -1 << (12 if r.element == "float" else 32)
    lead = r.as_float(r.int_op("and", r.bits(r.op("fsub", parts.f, parts.half_square)), keep))
    rest = r.op("fadd", r.op("fsub", r.op("fsub", parts.f, lead), parts.half_square), parts.tail)
    product = r.op("fmul", lead, high)
    total = r.op("fadd", parts.exponent, product)
    lost = r.op("fadd", r.op("fsub", parts.exponent, total), product)
    small = r.mul_add(r.op("fadd", rest, lead), low, r.mul_add(rest, high, lost))
    return _log_specials(r, x, r.op("fadd", total, small))


def _tanh(r: Register, x: str) -> str:
    size = r.call("fabs", x)
    square = r.op("fmul", x, x)
    near = r.mul_add(r.op("fmul", size, square), r.polynomial(square, "TANH"), size)
    grown = _exp(r, r.op("fadd", size, size))
    far = r.op("fsub", 1.0, r.op("fdiv", 2.0, r.op("fadd", grown, 1.0)))
    return r.call("copysign", r.select(r.op("fcmp olt", size, 0.625), near, far), x)


def _erf(r: Register, x: str) -> str:
    size = r.call("fabs", x)
    square = r.op("fmul", x, x)
    near = r.mul_add(size, r.polynomial(square, "ERF"), size)
    limited = r.clamp(size, 0.0, r.format.erf_one)
    far = r.op("fsub", 1.0, _exp(r, r.out.op(f"fneg {r.kind} {r.polynomial(limited, 'ERFC')}")))
    return r.call("copysign", r.select(r.op("fcmp olt", size, 1.0), near, far), x)


def _sin(r: Register, x: str) -> str:
    size = r.call("fabs", x)
    rest, quadrant = radians.reduce(r, size)
    return r.flip_sign(_quadrant(r, rest, quadrant), r.bits(x))


def _cos(r: Register, x: str) -> str:
    rest, quadrant = radians.reduce(r, r.call("fabs", x))
    return _quadrant(r, rest, r.int_op("add", quadrant, 1))


def _quadrant(r: Register, x: str, quadrant: str) -> str:
    """sin(x + quadrant*pi/2) for |x| up to pi/4."""
    square = r.op("fmul", x, x)
    sine = r.mul_add(r.op("fmul", x, square), r.polynomial(square, "SIN"), x)
    half = r.op("fmul", square, 0.5)
    lead = r.op("fsub", 1.0, half)
    lost = r.op("fsub", r.op("fsub", 1.0, lead), half)
    cosine = r.op("fadd", lead, r.mul_add(r.op("fmul", square, square), r.polynomial(square, "COS"), lost))
    odd = r.out.op(f"trunc {r.ints} {quadrant} to {r.bools}")
    second_bit = r.int_op("shl", quadrant, r.format.sign_bit - 1)
    return r.flip_sign(r.select(odd, cosine, sine), second_bit)


FUNCTIONS: Final[dict[str, Callable[[Register, str], str]]] = {
    "EXP": _exp, "EXP2": _exp2, "LOG": _log, "LOG2": _log2, "SIN": _sin, "COS": _cos, "TANH": _tanh,
    "ERF": _erf,
}


def require(out: Emitter, op: str, element: str, lanes: int) -> str:
    """The name of a module's function for `op`, which is written where it is missing."""
    name, kind = f"pluggrad.{op.lower()}.{mangled(element, lanes)}", vector(element, lanes)
    if name not in out.pieces:
        body = Emitter(out.pieces, out.machine)
        result = FUNCTIONS[op](Register(body, element, lanes), "%x")
        head = f"define internal {kind} @{name}({kind} %x) alwaysinline nounwind {{"
        out.pieces[name] = "\n".join([head, "entry:", *body.lines, f"  ret {kind} {result}", "}"])
    return name
