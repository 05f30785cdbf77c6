"""Reduction of an angle of any size to |x| <= pi/4 and a quadrant.

Large angles follow M. Payne and R. Hanek, "Radian reduction for trigonometric functions" (1983).
"""
from __future__ import annotations

import math
from functools import cache
from typing import Final

from pluggrad_cpu.emit import Emitter, float_literal
from pluggrad_cpu.register import Register

# pi/2 in parts of 33 bits, so that products with integers below 2**20 are exact, and what remains, as in
# FreeBSD's e_rem_pio2.c; float32 needs no more than three
_HALF_PI: Final = (1.57079632673412561417, 6.07710050630396597660e-11, 2.02226624871116645580e-21,
                   8.47842766036889956997e-32)
_NEAR: Final = 2.0**20  # beyond, the quadrant number would no longer multiply exactly
_HUGE: Final = "pluggrad.reduce_radians"
_WINDOW: Final = 192  # digits of 2/pi for one argument: 2 for the quadrant, 61 may cancel, 53 blur with x's
_LEAD: Final = 64  # zero bits before the table's first digit, for arguments that end behind the binary point
_TABLE_BITS: Final = 1232  # up to the last digit that the largest double needs, whole bytes


def reduce(r: Register, x: str) -> tuple[str, str]:
    """For x >= 0 the rest of x / (pi/2) in radians, and the quadrant: an integer of whose bits two count."""
    out, lanes = r.out, r.lanes
    wide = Register(out, "double", lanes)
    if r.element == "float":
        x = out.op(f"fpext {r.kind} {x} to {wide.kind}")
    n, quadrant = wide.rounded(wide.mul_add(x, 2 / math.pi, wide.format.round_number))
    rest = x
    for part in _HALF_PI[: 3 if r.element == "float" else 4]:
        rest = wide.mul_add(n, -part, rest)
    rest, quadrant = _where_huge(wide, x, rest, quadrant)
    if r.element == "float":
        rest = out.op(f"fptrunc {wide.kind} {rest} to {r.kind}")
        quadrant = out.op(f"trunc {wide.ints} {quadrant} to {r.ints}")
    return rest, quadrant


def _where_huge(r: Register, x: str, rest: str, quadrant: str) -> tuple[str, str]:
    """The same, with lanes that are too large for the fast way done one after another, when there are any."""
    out, lanes = r.out, r.lanes
    huge = r.op("fcmp ogt", x, _NEAR)
    some = out.call("i1", f"llvm.vector.reduce.or.v{lanes}i1", [(r.bools, huge)]) if lanes else huge
    start, far, join = out.label, out.name("far"), out.name("join")
    out.do(f"br i1 {some}, label %{far}, label %{join}")
    out.block(far)
    _require_huge(out.pieces)
    slow_rest, slow_quadrant = _each_lane(r, x) if lanes else _call_huge(out, x)
    slow_rest = r.select(huge, slow_rest, rest)
    slow_quadrant = out.select(huge, lanes, r.ints, slow_quadrant, quadrant)
    end = out.label
    out.do(f"br label %{join}")
    out.block(join)
    return (out.op(f"phi {r.kind} [ {rest}, %{start} ], [ {slow_rest}, %{end} ]"),
            out.op(f"phi {r.ints} [ {quadrant}, %{start} ], [ {slow_quadrant}, %{end} ]"))


def _each_lane(r: Register, x: str) -> tuple[str, str]:
    out, before = r.out, r.out.label
    loop, done = out.name("lane"), out.name("lanes_done")
    lane, following, rests, quadrants, rest, quadrant = (f"%{out.name()}" for _ in range(6))
    out.do(f"br label %{loop}")
    out.block(loop)
    out.do(f"{lane} = phi i64 [ 0, %{before} ], [ {following}, %{loop} ]")
    out.do(f"{rests} = phi {r.kind} [ poison, %{before} ], [ {rest}, %{loop} ]")
    out.do(f"{quadrants} = phi {r.ints} [ poison, %{before} ], [ {quadrant}, %{loop} ]")
    one_rest, one_quadrant = _call_huge(out, out.op(f"extractelement {r.kind} {x}, i64 {lane}"))
    out.do(f"{rest} = insertelement {r.kind} {rests}, double {one_rest}, i64 {lane}")
    out.do(f"{quadrant} = insertelement {r.ints} {quadrants}, i64 {one_quadrant}, i64 {lane}")
    out.do(f"{following} = add i64 {lane}, 1")
    out.do(f"br i1 {out.op(f'icmp ult i64 {following}, {r.lanes}')}, label %{loop}, label %{done}")
    out.block(done)
    return rest, quadrant


def _call_huge(out: Emitter, x: str) -> tuple[str, str]:
    pair = out.op(f"call {{ double, i64 }} @{_HUGE}(double {x})")
    rest, quadrant = (out.op(f"extractvalue {{ double, i64 }} {pair}, {field}") for field in (0, 1))
    return rest, quadrant


def _require_huge(pieces: dict[str, str]) -> None:
    """The digits of x times those digits of 2/pi that make more than whole turns.

    x = m * 2**e with an integer m below 2**53. Digits of 2/pi before the e-th only add multiples of 4; 192
    from there on give the quadrant and 190 - 53 good digits behind the point. For x below 2**20 the result is
    of no use.
    """
    if _HUGE in pieces:
        return
    pieces[_HUGE + ".table"] = _table()
    ints = f"i{_WINDOW}"
    last = _TABLE_BITS - _WINDOW - _LEAD + 1077  # 1075 makes the biased exponent that of an integer m
    pieces[_HUGE] = f"""\
define internal {{ double, i64 }} @{_HUGE}(double %x) noinline nounwind cold {{
entry:
  %bits = bitcast double %x to i64
  %biased = lshr i64 %bits, 52
  %exponent = call i64 @llvm.umax.i64(i64 %biased, i64 {1023 + 20})
  %digits = and i64 %bits, {(1 << 52) - 1}
  %mantissa = or i64 %digits, {1 << 52}
  %shift = sub i64 {last}, %exponent
  %byte = lshr i64 %shift, 3
  %bit = and i64 %shift, 7
  %where = getelementptr i8, ptr @{_HUGE}.table, i64 %byte
  %loaded = load i256, ptr %where, align 1
  %by = zext i64 %bit to i256
  %aligned = lshr i256 %loaded, %by
  %window = trunc i256 %aligned to {ints}
  %factor = zext i64 %mantissa to {ints}
  %product = mul {ints} %window, %factor
  %top = lshr {ints} %product, {_WINDOW - 2}
  %whole = trunc {ints} %top to i64
  %fraction = shl {ints} %product, 2
  %over_half = icmp slt {ints} %fraction, 0
  %one = zext i1 %over_half to i64
  %quadrant = add i64 %whole, %one
  %high_digits = lshr {ints} %fraction, {_WINDOW - 64}
  %high = trunc {ints} %high_digits to i64
  %low_digits = lshr {ints} %fraction, {_WINDOW - 128}
  %low = trunc {ints} %low_digits to i64
  %high_float = sitofp i64 %high to double
  %low_float = uitofp i64 %low to double
  %high_part = fmul double %high_float, {float_literal(2.0**-64, "double")}
  %low_part = fmul double %low_float, {float_literal(2.0**-128, "double")}
  %turns = fadd double %high_part, %low_part
  %rest = fmul double %turns, {float_literal(math.pi / 2, "double")}
  %finite = fcmp one double %x, {float_literal(math.inf, "double")}
  %checked = select i1 %finite, double %rest, double {float_literal(math.nan, "double")}
  %first = insertvalue {{ double, i64 }} poison, double %checked, 0
  %both = insertvalue {{ double, i64 }} %first, i64 %quadrant, 1
  ret {{ double, i64 }} %both
}}"""


@cache
def _table() -> str:
    """The digits of 2/pi as one little-endian integer; zeros before them, and 8 bytes for the widest load."""
    data = _two_over_pi(_TABLE_BITS - _LEAD).to_bytes(_TABLE_BITS // 8 + 8, "little")
    text = "".join(f"\\{byte:02X}" for byte in data)
    return f'@{_HUGE}.table = internal unnamed_addr constant [{len(data)} x i8] c"{text}"'


def _two_over_pi(digits: int) -> int:
    """floor(2/pi * 2**digits), pi by Machin's formula with 64 bits to spare."""
    one = 1 << digits + 64
    pi = 4 * (4 * _arctan_of_inverse(5, one) - _arctan_of_inverse(239, one))
    return (2 * one << digits) // pi


def _arctan_of_inverse(x: int, one: int) -> int:
    power, total, n = one // x, 0, 1
    while power:
        total += power // n if n % 4 == 1 else -(power // n)
        power //= x * x
        n += 2
    return total
