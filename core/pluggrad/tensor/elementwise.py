"""Arithmetic, comparisons, bits, and the operators that spell them.

A second operand is a tensor on the same device, a Python number (weak: it takes the tensor's dtype where its
kind allows) or anything that NumPy reads as an array. Dtypes promote, shapes broadcast; ShapeError,
DTypeError or MixedDevices say what did not fit. Methods with `reverse=True` swap the operands.
"""
from __future__ import annotations

from typing import Any, Self

from pluggrad import dtypes
from pluggrad.errors import DTypeError, ValueRangeError
from pluggrad.graph import build, ops
from pluggrad.ir.node import Node, Op
from pluggrad.tensor.base import TensorBase

_LARGEST_UNROLLED_POWER = 8


def _float_pair(x: Node, y: Node) -> tuple[Node, Node]:
    dtype = dtypes.least_upper_float(dtypes.promote(x.dtype, y.dtype))
    return build.cast(x, dtype), build.cast(y, dtype)


def _int_if_bool(x: Node) -> Node:
    return build.cast(x, dtypes.default_int) if x.dtype is dtypes.bool_ else x


class Elementwise(TensorBase):
    """Operators between tensors."""

    __slots__ = ()

    # ---- arithmetic ----------------------------------------------------------------------------------------
    def add(self, x: Any, reverse: bool = False) -> Self:
        """Elementwise sum; of bools: or."""
        return self._binary(ops.ADD, x, reverse)

    def sub(self, x: Any, reverse: bool = False) -> Self:
        """Elementwise difference; integers wrap."""
        a, b = self._pair(x, "sub")
        if a.type.dtype.kind == "b" and b.type.dtype.kind == "b":
            a, b = _int_if_bool(a), _int_if_bool(b)
        return self._new(build.binary(ops.SUB, b, a) if reverse else build.binary(ops.SUB, a, b))

    def mul(self, x: Any, reverse: bool = False) -> Self:
        """Elementwise product; integers wrap; of bools: and."""
        return self._binary(ops.MUL, x, reverse)

    def div(self, x: Any, reverse: bool = False, rounding_mode: str | None = None) -> Self:
        """Elementwise quotient, a float: integers divide in the default float.

        rounding_mode: "floor" or "trunc" round it and keep the promoted dtype; integers divided by 0 then
        give 0.
        """
        a, b = self._pair(x, "div")
        if reverse:
            a, b = b, a
        if rounding_mode is None:
            return self._new(build.binary(ops.DIV, *_float_pair(a, b)))
        if rounding_mode not in ("floor", "trunc"):
            raise ValueRangeError(
                op="div", expected="rounding_mode None, 'floor' or 'trunc'", got=repr(rounding_mode)
            )
        if rounding_mode == "floor":
            return self._new(_floor_divided(a, b))
        return self._new(_truncated_division(a, b))

    def idiv(self, x: Any, reverse: bool = False) -> Self:
        """`self // x`: the quotient rounded down, in the promoted dtype; integers divided by 0 give 0."""
        return self.div(x, reverse, rounding_mode="floor")

    def mod(self, x: Any, reverse: bool = False) -> Self:
        """`self % x`, with the sign of the divisor; integers give 0 where it is 0, floats NaN."""
        a, b = self._pair(x, "mod")
        a, b = _int_if_bool(a), _int_if_bool(b)
        return self._new(build.binary(ops.MOD, b, a) if reverse else build.binary(ops.MOD, a, b))

    def fmod(self, x: Any) -> Self:
        """The remainder of the division rounded toward zero: it has the sign of `self`."""
        a, b = self._pair(x, "fmod")
        a, b = _int_if_bool(a), _int_if_bool(b)
        if dtypes.promote(a.dtype, b.dtype).is_int:
            whole = build.binary(ops.MUL, _truncated_division(a, b), b)
            return self._new(build.binary(ops.SUB, a, whole))
        rest = build.binary(ops.MOD, build.unary(ops.ABS, a), build.unary(ops.ABS, b))
        negative = build.binary(ops.LT, a, build.const(0, a.dtype, a.device))
        return self._new(build.where(negative, build.unary(ops.NEG, rest), rest))

    def remainder(self, x: Any) -> Self:
        """`self % x`, PyTorch's name for `mod`."""
        return self.mod(x)

    def pow(self, x: Any, reverse: bool = False) -> Self:
        """`self ** x`, in the promoted dtype.

        Small whole exponents multiply, 0.5 takes the square root; integers to a negative power give 0 unless
        they are 1 or -1.
        """
        if not reverse and isinstance(x, (int, float)):
            quick = _constant_power(self.node, x)
            if quick is not None:
                return self._new(quick)
        a, b = self._pair(x, "pow")
        a, b = _int_if_bool(a), _int_if_bool(b)
        return self._new(build.binary(ops.POW, b, a) if reverse else build.binary(ops.POW, a, b))

    def maximum(self, x: Any) -> Self:
        """Elementwise larger; NaN if either is NaN. The gradient splits evenly between equals."""
        return self._binary(ops.MAX, x)

    def minimum(self, x: Any) -> Self:
        """Elementwise smaller; NaN if either is NaN. The gradient splits evenly between equals."""
        return self._binary(ops.MIN, x)

    def neg(self) -> Self:
        """Elementwise negative; integers wrap, bool negates logically."""
        x = self.node
        return self._new(build.unary(ops.NOT if x.type.dtype.kind == "b" else ops.NEG, x))

    # ---- bits ----------------------------------------------------------------------------------------------
    def bitwise_and(self, x: Any, reverse: bool = False) -> Self:
        """Bitwise and of integers, logical of bools; DTypeError for floats."""
        return self._binary(ops.AND, x, reverse)

    def bitwise_or(self, x: Any, reverse: bool = False) -> Self:
        """Bitwise or of integers, logical of bools; DTypeError for floats."""
        return self._binary(ops.OR, x, reverse)

    def bitwise_xor(self, x: Any, reverse: bool = False) -> Self:
        """Bitwise exclusive or of integers, logical of bools; DTypeError for floats."""
        return self._binary(ops.XOR, x, reverse)

    def bitwise_not(self) -> Self:
        """Bitwise complement of integers, logical of bools; DTypeError for floats."""
        return self._new(build.unary(ops.NOT, self.node))

    def lshift(self, x: Any, reverse: bool = False) -> Self:
        """`self << x`, integers; 0 where x is negative or at least the width."""
        return self._binary(ops.SHL, x, reverse)

    def rshift(self, x: Any, reverse: bool = False) -> Self:
        """`self >> x`, integers, keeping the sign; the sign or 0 where x is negative or at least the width.
        """
        return self._binary(ops.SHR, x, reverse)

    def logical_not(self) -> Self:
        """True where the element is zero; bool."""
        x = self.node
        return self._new(build.binary(ops.EQ, x, build.const(0, x.dtype, x.device, x.shape)))

    # ---- comparisons, all bool -----------------------------------------------------------------------------
    def eq(self, x: Any) -> Self:
        """Elementwise equality, bool; false where either is NaN."""
        return self._compare(ops.EQ, x)

    def ne(self, x: Any) -> Self:
        """Elementwise inequality, bool; true where either is NaN."""
        return self._compare(ops.NE, x)

    def _compare(self, op: Op, x: Any, reverse: bool = False) -> Self:
        if isinstance(x, (int, float)) and self.node.dtype.is_int:
            return self._new(_compared_with_number(op, self.node, x))
        a, b = self._pair(x, op.name.lower())
        return self._new(build.binary(op, b, a) if reverse else build.binary(op, a, b))

    def where(self, x: Any, y: Any) -> Self:
        """`x` where this bool tensor holds, else `y`: tensors or numbers, promoted and broadcast.

        The gradient goes to the one chosen. DTypeError if `self` is not bool.
        """
        condition = self.node
        if isinstance(x, TensorBase):
            a, b = x._pair(y, "where")
        elif isinstance(y, TensorBase):
            b, a = y._pair(x, "where")
        else:
            a = self._from_data(x, None, condition.device, False).node
            b = self._from_data(y, None, condition.device, False).node
        return self._new(build.where(condition, a, b))

    # ---- operators -----------------------------------------------------------------------------------------
    def __add__(self, x: Any) -> Self:
        return self._binary(ops.ADD, x)

    def __radd__(self, x: Any) -> Self:
        return self._binary(ops.ADD, x, True)

    def __sub__(self, x: Any) -> Self:
        return self.sub(x)

    def __rsub__(self, x: Any) -> Self:
        return self.sub(x, True)

    def __mul__(self, x: Any) -> Self:
        return self._binary(ops.MUL, x)

    def __rmul__(self, x: Any) -> Self:
        return self._binary(ops.MUL, x, True)

    def __truediv__(self, x: Any) -> Self:
        return self.div(x)

    def __rtruediv__(self, x: Any) -> Self:
        return self.div(x, True)

    def __floordiv__(self, x: Any) -> Self:
        return self.idiv(x)

    def __rfloordiv__(self, x: Any) -> Self:
        return self.idiv(x, True)

    def __mod__(self, x: Any) -> Self:
        return self.mod(x)

    def __rmod__(self, x: Any) -> Self:
        return self.mod(x, True)

    def __divmod__(self, x: Any) -> tuple[Self, Self]:
        return self.idiv(x), self.mod(x)

    def __pow__(self, x: Any) -> Self:
        return self.pow(x)

    def __rpow__(self, x: Any) -> Self:
        return self.pow(x, True)

    def __neg__(self) -> Self:
        return self.neg()

    def __pos__(self) -> Self:
        return self

    def __and__(self, x: Any) -> Self:
        return self.bitwise_and(x)

    def __rand__(self, x: Any) -> Self:
        return self.bitwise_and(x, True)

    def __or__(self, x: Any) -> Self:
        return self.bitwise_or(x)

    def __ror__(self, x: Any) -> Self:
        return self.bitwise_or(x, True)

    def __xor__(self, x: Any) -> Self:
        return self.bitwise_xor(x)

    def __rxor__(self, x: Any) -> Self:
        return self.bitwise_xor(x, True)

    def __invert__(self) -> Self:
        return self.bitwise_not()

    def __lshift__(self, x: Any) -> Self:
        return self.lshift(x)

    def __rlshift__(self, x: Any) -> Self:
        return self.lshift(x, True)

    def __rshift__(self, x: Any) -> Self:
        return self.rshift(x)

    def __rrshift__(self, x: Any) -> Self:
        return self.rshift(x, True)

    def __lt__(self, x: Any) -> Self:
        return self._compare(ops.LT, x)

    def __le__(self, x: Any) -> Self:
        return self._compare(ops.LE, x)

    def __gt__(self, x: Any) -> Self:
        return self._greater(ops.LT, x)

    def __ge__(self, x: Any) -> Self:
        return self._greater(ops.LE, x)

    def _greater(self, op: Op, x: Any) -> Self:
        # a > b is b < a, which is false for NaN on either side, as it should be
        if isinstance(x, (int, float)) and self.node.dtype.is_int:
            return self._new(_compared_with_number(op, self.node, x, number_first=True))
        return self._compare(op, x, reverse=True)

    def __eq__(self, x: object) -> Self:  # type: ignore[override]
        return NotImplemented if x is None or isinstance(x, str) else self._compare(ops.EQ, x)

    def __ne__(self, x: object) -> Self:  # type: ignore[override]
        return NotImplemented if x is None or isinstance(x, str) else self._compare(ops.NE, x)

    __hash__ = object.__hash__

    # ---- in place ------------------------------------------------------------------------------------------
    def _replaced_by(self, result: TensorBase) -> Self:
        self._write(result.node)
        return self

    def __iadd__(self, x: Any) -> Self:
        return self._replaced_by(self.add(x))

    def __isub__(self, x: Any) -> Self:
        return self._replaced_by(self.sub(x))

    def __imul__(self, x: Any) -> Self:
        return self._replaced_by(self.mul(x))

    def __itruediv__(self, x: Any) -> Self:
        if not self.dtype.is_float:
            raise DTypeError(
                op="/=", expected="a float tensor to hold the quotient", got=self.dtype.name, hint="use //="
            )
        return self._replaced_by(self.div(x))

    def __ifloordiv__(self, x: Any) -> Self:
        return self._replaced_by(self.idiv(x))

    def __imod__(self, x: Any) -> Self:
        return self._replaced_by(self.mod(x))

    def __ipow__(self, x: Any) -> Self:
        return self._replaced_by(self.pow(x))

    def __iand__(self, x: Any) -> Self:
        return self._replaced_by(self.bitwise_and(x))

    def __ior__(self, x: Any) -> Self:
        return self._replaced_by(self.bitwise_or(x))

    def __ixor__(self, x: Any) -> Self:
        return self._replaced_by(self.bitwise_xor(x))

    def __ilshift__(self, x: Any) -> Self:
        return self._replaced_by(self.lshift(x))

    def __irshift__(self, x: Any) -> Self:
        return self._replaced_by(self.rshift(x))


def _floor_divided(a: Node, b: Node) -> Node:
    a, b = _int_if_bool(a), _int_if_bool(b)
    if dtypes.promote(a.dtype, b.dtype).is_int:
        return build.binary(ops.IDIV, a, b)
    a, b = _float_pair(a, b)
    quotient = build.binary(ops.DIV, a, b)
    # without its rest the dividend is a multiple of the divisor, and the quotient next to a whole number
    whole = build.binary(ops.DIV, build.binary(ops.SUB, a, build.binary(ops.MOD, a, b)), b)
    zero, minus_one = (build.const(value, a.dtype, a.device) for value in (0, -1))
    differ = build.binary(ops.NE, build.binary(ops.LT, a, zero), build.binary(ops.LT, b, zero))
    below = build.binary(ops.AND, differ, build.binary(ops.NE, a, zero))
    # too small for the dtype, or by an infinity: what lies just below zero is a zero, and there is no rest
    vanished = build.binary(ops.AND, below, build.binary(ops.EQ, quotient, zero))
    found = build.where(build.binary(ops.EQ, b, zero), quotient, build.unary(ops.ROUND, whole))
    return build.where(vanished, minus_one, found)


def _truncated_division(a: Node, b: Node) -> Node:
    if not dtypes.promote(a.dtype, b.dtype).is_int:
        return build.unary(ops.TRUNC, build.binary(ops.DIV, *_float_pair(a, b)))
    # one more than the floor where the signs differ and something is left over
    floor, left = build.binary(ops.IDIV, a, b), build.binary(ops.MOD, a, b)
    zero = build.const(0, left.dtype, left.device, left.shape)
    differ = build.binary(ops.LT, build.binary(ops.XOR, a, b), zero)
    inexact = build.binary(ops.AND, build.binary(ops.NE, left, zero), differ)
    return build.binary(ops.ADD, floor, build.cast(inexact, floor.dtype))


def _constant_power(x: Node, exponent: int | float) -> Node | None:
    """The power by multiplications or a square root, where that is exact enough, else None."""
    is_float = x.dtype.is_float
    if exponent == 0.5 and is_float:
        return build.unary(ops.SQRT, x)
    whole = int(exponent) if exponent == exponent and abs(exponent) <= _LARGEST_UNROLLED_POWER else None
    if (
        whole is None
        or whole != exponent
        or (isinstance(exponent, float) and not is_float)
        or x.dtype.kind == "b"
    ):
        return None
    if whole == 0:
        return build.const(1, x.dtype, x.device, x.shape)
    if whole < 0:
        return build.unary(ops.RECIP, _repeated_product(x, -whole)) if is_float else None
    return _repeated_product(x, whole)


def _repeated_product(x: Node, count: int) -> Node:
    result = None
    while count:
        if count & 1:
            result = x if result is None else build.binary(ops.MUL, result, x)
        count >>= 1
        if count:
            x = build.binary(ops.MUL, x, x)
    assert result is not None
    return result


def _compared_with_number(op: Op, x: Node, number: int | float, number_first: bool = False) -> Node:
    """Integers against a Python number; one beyond the dtype has the same answer everywhere."""
    dtype = x.dtype
    if isinstance(number, float):
        x, y = (
            build.cast(x, dtypes.default_float),
            build.const(number, dtypes.default_float, x.device, x.shape),
        )
    elif dtype.min <= number <= dtype.max:
        y = build.const(number, dtype, x.device, x.shape)
    else:
        above = number > dtype.max
        answer = op is ops.NE or (op in (ops.LT, ops.LE) and above is not number_first)
        return build.const(answer, dtypes.bool_, x.device, x.shape)
    return build.binary(op, y, x) if number_first else build.binary(op, x, y)
