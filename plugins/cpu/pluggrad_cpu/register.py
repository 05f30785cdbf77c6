"""Arithmetic on one register of floats: the vocabulary in which the functions of math.py are written."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pluggrad_cpu import shuffle
from pluggrad_cpu.coefficients import COEFFICIENTS
from pluggrad_cpu.emit import Emitter, float_literal, intrinsic, splat, vector

_AS_SET: Final = 4  # rounding as the thread has it


@dataclass(frozen=True, slots=True)
class Format:
    """A float format, and constants split so that their products with small integers are exact."""

    integer: str
    mantissa: int  # explicit bits
    bias: int
    sqrt_half: int  # bits of sqrt(1/2)
    exp_range: tuple[float, float]  # beyond it exp is 0 or inf
    ln2: tuple[float, float]
    log2e: tuple[float, float]
    erf_one: float  # erf rounds to 1 from here on

    @property
    def wide_lanes(self) -> int:
        """Lanes of a register of 512 bits."""
        return 512 // (self.sign_bit + 1)

    @property
    def sign_bit(self) -> int:
        return self.mantissa + self.bias.bit_length() + 1

    @property
    def round_number(self) -> float:
        """Adding it rounds to an integer, which then stands in the low bits."""
        return 1.5 * 2.0**self.mantissa

    @property
    def round_bits(self) -> int:
        """Its bits."""
        return self.bias + self.mantissa << self.mantissa | 1 << self.mantissa - 1


_FORMATS: Final = {
    "float": Format(
        "i32", 23, 127, 0x3F3504F3, exp_range=(-104.0, 89.0), erf_one=4.0,
        ln2=(0.693359375, -2.12194440054690583e-4), log2e=(1.44287109375, -1.7605285393e-4)),
    "double": Format(
        "i64", 52, 1023, 0x3FE6A09E667F3BCD, exp_range=(-746.0, 710.0), erf_one=6.0,
        ln2=(6.93147180369123816490e-1, 1.90821492927058770002e-10),
        log2e=(1.44269504072144627571, 1.67517131648865118353e-10)),
}


class Register:
    """Arithmetic on `lanes` elements; operands are names of values or Python numbers."""

    def __init__(self, out: Emitter, element: str, lanes: int) -> None:
        self.out, self.element, self.lanes = out, element, lanes
        self.format = _FORMATS[element]
        self.kind, self.ints = vector(element, lanes), vector(self.format.integer, lanes)
        self.bools = vector("i1", lanes)

    def _float(self, value: str | float) -> str:
        if isinstance(value, str):
            return value
        return splat(float_literal(value, self.element), self.element, self.lanes)

    def op(self, name: str, a: str | float, b: str | float) -> str:
        """fadd, fsub, fmul, fdiv, or a comparison."""
        return self.out.op(f"{name} {self.kind} {self._float(a)}, {self._float(b)}")

    def int_op(self, name: str, a: str, b: str | int) -> str:
        other = splat(str(b), self.format.integer, self.lanes) if isinstance(b, int) else b
        return self.out.op(f"{name} {self.ints} {a}, {other}")

    def mul_add(self, a: str | float, b: str | float, c: str | float) -> str:
        """a*b + c, in one rounding where the machine has an instruction for it."""
        return self.call("fmuladd", a, b, c)

    def call(self, name: str, *arguments: str | float) -> str:
        """An intrinsic on values of this type."""
        listed = [(self.kind, self._float(a)) for a in arguments]
        return self.out.call(self.kind, intrinsic(name, self.element, self.lanes), listed)

    def select(self, condition: str, yes: str | float, no: str | float) -> str:
        return self.out.select(condition, self.lanes, self.kind, self._float(yes), self._float(no))

    def bits(self, value: str) -> str:
        return self.out.op(f"bitcast {self.kind} {value} to {self.ints}")

    def as_float(self, value: str) -> str:
        return self.out.op(f"bitcast {self.ints} {value} to {self.kind}")

    def polynomial(self, x: str, name: str) -> str:
        """Horner's rule, the coefficients from the table."""
        coefficients = COEFFICIENTS[self.element][name]
        total: str | float = coefficients[-1]
        for coefficient in coefficients[-2::-1]:
            total = self.mul_add(total, x, coefficient)
        return self._float(total)

    def number(self, integer: str) -> str:
        """A small integer as a float; no machine lacks the instructions for this."""
        shifted = self.as_float(self.int_op("add", integer, self.format.round_bits))
        return self.op("fsub", shifted, self.format.round_number)

    def clamp(self, x: str, low: float, high: float) -> str:
        """NaN stays NaN."""
        x = self.select(self.op("fcmp olt", x, low), low, x)
        return self.select(self.op("fcmp ogt", x, high), high, x)

    def rounded(self, shifted: str) -> tuple[str, str]:
        """The integer held by a sum with `round_number`, as a float and as an integer."""
        integer = self.int_op("sub", self.bits(shifted), self.format.round_bits)
        return self.op("fsub", shifted, self.format.round_number), integer

    def scale(self, x: str, n: str, power: str) -> str:
        """x * 2**n, which is rounded once; `power` is n as an integer.

        Without an instruction for it in two steps, so that neither factor over- or underflows before the
        product does.
        """
        if self.out.machine.wide_vectors and self.lanes and self.lanes % self.format.wide_lanes == 0:
            return self._scale_wide(x, n)
        first = self.int_op("ashr", power, 1)
        second = self.int_op("sub", power, first)
        for part in (first, second):
            exponent = self.int_op("shl", self.int_op("add", part, self.format.bias), self.format.mantissa)
            x = self.op("fmul", x, self.as_float(exponent))
        return x

    def _scale_wide(self, x: str, n: str) -> str:
        """AVX-512's `vscalef`, a machine register at a time."""
        lanes, name = self.format.wide_lanes, "pd" if self.element == "double" else "ps"
        kind, parts = vector(self.element, lanes), []
        for start in range(0, self.lanes, lanes):
            a, b = [shuffle.part(self.out, self.element, self.lanes, value, start, lanes) for value in (x, n)]
            listed = [(kind, a), (kind, b), (kind, "poison"), (f"i{lanes}", "-1"), ("i32", str(_AS_SET))]
            parts.append(self.out.call(kind, f"llvm.x86.avx512.mask.scalef.{name}.512", listed))
        return shuffle.join(self.out, self.element, lanes, parts)

    def flip_sign(self, x: str, by: str) -> str:
        """x negated where the highest bit of `by` is set."""
        sign = self.int_op("and", by, -1 << self.format.sign_bit)
        return self.as_float(self.int_op("xor", self.bits(x), sign))

    def to_integer(self, way: str, x: str) -> str:
        """floor, ceil, trunc or roundeven in plain arithmetic: a sum with 2**mantissa has no fraction."""
        size, limit = self.call("fabs", x), 2.0**self.format.mantissa
        near = self.op("fsub", self.op("fadd", size, limit), limit)
        base = size if way == "trunc" else x
        if way != "trunc":
            near = self.call("copysign", near, x)
        if way in ("floor", "trunc"):
            near = self.select(self.op("fcmp ogt", near, base), self.op("fsub", near, 1.0), near)
        elif way == "ceil":
            near = self.select(self.op("fcmp olt", near, base), self.op("fadd", near, 1.0), near)
        return self.select(self.op("fcmp olt", size, limit), self.call("copysign", near, x), x)
