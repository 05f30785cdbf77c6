"""Elementwise functions of one tensor, and a few of two, as compositions of primitives.

Unless said otherwise a float tensor keeps its dtype, and integers and bool give the default float; the shape
stays. NaN stays NaN.
"""
from __future__ import annotations

import math
from typing import Any, Self

from pluggrad import dtypes
from pluggrad.errors import ValueRangeError
from pluggrad.graph import build, ops
from pluggrad.ir.node import Node, Op
from pluggrad.tensor.bits import bitcast_node
from pluggrad.tensor.elementwise import Elementwise


class Mathematics(Elementwise):
    """Elementwise functions."""

    __slots__ = ()

    def _const(self, value: float) -> Self:
        """A constant of this tensor's float dtype and shape."""
        x = self.node
        return self._new(build.const(value, dtypes.least_upper_float(x.dtype), x.device, x.shape))

    def _as_float(self) -> Self:
        x = self.node
        return self if x.dtype.is_float else self._new(build.cast(x, dtypes.default_float))

    def _detached(self) -> Self:
        return self._new(build.detach(self.node))

    # ---- powers, exponentials, logarithms ------------------------------------------------------------------
    def reciprocal(self) -> Self:
        """1 / x; of 0 an infinity with its sign."""
        return self._unary(ops.RECIP)

    def sqrt(self) -> Self:
        """Square root; NaN below 0."""
        return self._unary(ops.SQRT)

    def rsqrt(self) -> Self:
        """1 / sqrt(x)."""
        return self.sqrt().reciprocal()

    def square(self) -> Self:
        """x * x, in the same dtype."""
        return self * self

    def exp(self) -> Self:
        """e ** x."""
        return self._unary(ops.EXP)

    def exp2(self) -> Self:
        """2 ** x."""
        return self._unary(ops.EXP2)

    def expm1(self) -> Self:
        """e ** x - 1, precise near 0."""
        x = self._as_float()
        grown = x.exp()
        rough = grown - 1
        # Kahan's correction; its gradient is zero, so `rough` alone carries the exact one
        usual = (rough.eq(0) | grown.eq(math.inf) | rough.eq(-1)).logical_not()
        exact = rough * x / usual.where(grown, math.e).log()
        return (
            rough + usual.where(exact, rough.eq(0).where(x, rough)).sub(rough)._finite_or_zero()._detached()
        )

    def log(self) -> Self:
        """Natural logarithm; -inf at 0, NaN below."""
        return self._unary(ops.LOG)

    def log2(self) -> Self:
        """Binary logarithm; -inf at 0, NaN below."""
        return self._unary(ops.LOG2)

    def log10(self) -> Self:
        """Decimal logarithm; -inf at 0, NaN below."""
        return self.log() * (1 / math.log(10))

    def log1p(self) -> Self:
        """log(1 + x), precise near 0."""
        x = self._as_float()
        rough = x + 1
        # what rounding took from 1 + x, to first order; its gradient is zero
        lost = x - (rough - 1)
        return rough.log() + (lost.abs() > 0).where(lost / rough, 0.0)._finite_or_zero()._detached()

    def _finite_or_zero(self) -> Self:
        return self.isfinite().where(self, 0.0)

    def logaddexp(self, other: Any) -> Self:
        """log(e ** x + e ** y) without overflow."""
        x = self._as_float()
        y = x._new(x._operand(other, "logaddexp"))
        largest = x.maximum(y)
        shift = largest._finite_or_zero()._detached()
        return (x - shift).exp().add((y - shift).exp()).log() + shift

    # ---- trigonometry --------------------------------------------------------------------------------------
    def sin(self) -> Self:
        """Sine of radians; NaN at infinity."""
        return self._unary(ops.SIN)

    def cos(self) -> Self:
        """Cosine of radians; NaN at infinity."""
        return self._unary(ops.COS)

    def tan(self) -> Self:
        """Tangent of radians; NaN at infinity."""
        return self.sin() / self.cos()

    def atan(self) -> Self:
        """Arc tangent, in radians.

        One Newton step from a rough value y: atan(x) = y + atan((x - tan y) / (1 + x tan y)), the last one by
        its series. The rough value is a constant to the gradient, which the step gets exactly.
        """
        x = self._as_float().clip(-1e18, 1e18) if self.dtype is not dtypes.float16 else self
        size = x.abs()
        steep = size > 1
        inner = steep.where(1 / steep.where(size, 1.0), size)
        angle = inner * (math.pi / 4 + 0.273 * (1 - inner))
        rough = (steep.where(math.pi / 2 - angle, angle) * x.sign())._detached()
        sine, cosine = rough.sin(), rough.cos()
        step = (x * cosine - sine) / (cosine + x * sine)
        cube = step * step * step
        return rough + (step - cube * (1 / 3) + cube * step * step * (1 / 5))

    def atan2(self, other: Any) -> Self:
        """The angle of the point (other, self), in radians, in [-pi, pi]: the sign of a zero counts."""
        y = self._as_float()
        x = y._new(y._operand(other, "atan2"))
        dtype = dtypes.promote(x.dtype, y.dtype)
        y, x = y.cast(dtype), x.cast(dtype)
        below, left = y._has_sign(), x._has_sign()
        steep = y.abs() > x.abs()
        top, bottom = steep.where(x, y), steep.where(y, x)
        corner = x.abs().eq(math.inf) & y.abs().eq(math.inf)
        along = below.eq(left).where(y._const(1.0), -1.0)
        angle = corner.where(along, top / bottom.eq(0).where(1.0, bottom)).atan()
        turn = steep.where(y._const(math.pi / 2), left.where(y._const(math.pi), 0.0))
        return below.where(-turn, turn) + steep.where(-angle, angle)

    def asin(self) -> Self:
        """Arc sine, in radians; NaN outside [-1, 1]."""
        x = self._as_float()
        return (x / ((1 - x * x).sqrt() + 1)).atan() * 2

    def acos(self) -> Self:
        """Arc cosine, in radians; NaN outside [-1, 1]."""
        return math.pi / 2 - self.asin()

    def sinh(self) -> Self:
        """Hyperbolic sine."""
        return (self.expm1() - (-self._as_float()).expm1()) * 0.5

    def cosh(self) -> Self:
        """Hyperbolic cosine."""
        return (self.exp() + (-self._as_float()).exp()) * 0.5

    def tanh(self) -> Self:
        """Hyperbolic tangent."""
        return self._unary(ops.TANH)

    def asinh(self) -> Self:
        """Inverse hyperbolic sine."""
        x = self._as_float()
        negative, large = x < 0, x.abs() > 1e9
        size = negative.where(-x, x)
        moderate = large.where(1.0, size)
        square = moderate * moderate
        result = (moderate + square / ((square + 1).sqrt() + 1)).log1p()
        result = large.where(large.where(size, 1.0).log() + math.log(2), result)
        return negative.where(-result, result)

    def acosh(self) -> Self:
        """Inverse hyperbolic cosine; NaN below 1."""
        x = self._as_float()
        return (x + (x - 1).sqrt() * (x + 1).sqrt()).log()

    def atanh(self) -> Self:
        """Inverse hyperbolic tangent; NaN outside [-1, 1]."""
        x = self._as_float()
        return (x.log1p() - (-x).log1p()) * 0.5

    def erf(self) -> Self:
        """Error function."""
        return self._unary(ops.ERF)

    def hypot(self, other: Any) -> Self:
        """sqrt(x*x + y*y) without overflow in between."""
        x = self._as_float()
        y = x._new(x._operand(other, "hypot"))
        scale = x.abs().maximum(y.abs())._detached()
        safe = (scale.eq(0) | scale.eq(math.inf)).where(1.0, scale)
        size = ((x / safe).square() + (y / safe).square()).sqrt() * safe
        return (x.isinf() | y.isinf()).where(math.inf, size)  # beside NaN, too

    # ---- rounding and signs; integers and bool stay as they are --------------------------------------------
    def abs(self) -> Self:
        """Absolute value, in the same dtype; gradient 0 at 0."""
        x = self.node
        return self if x.dtype.kind in "bu" else self._new(build.unary(ops.ABS, x))

    def __abs__(self) -> Self:
        return self.abs()

    def sign(self) -> Self:
        """-1, 0 or 1 in the same dtype; NaN for NaN. Gradient 0."""
        x = self.node
        if x.dtype.kind in "bu":
            return self._new(build.cast(build.cast(x, dtypes.bool_), x.dtype))
        x = build.detach(x)
        zero, one, minus_one = (build.const(v, x.dtype, x.device, x.shape) for v in (0, 1, -1))
        below = build.where(build.binary(ops.LT, x, zero), minus_one, x)
        return self._new(build.where(build.binary(ops.LT, zero, x), one, below))

    def _rounded(self, op: Op) -> Self:
        x = self.node
        return self._new(build.unary(op, x)) if x.dtype.is_float else self

    def floor(self) -> Self:
        """Round down; gradient 0."""
        return self._rounded(ops.FLOOR)

    def ceil(self) -> Self:
        """Round up; gradient 0."""
        return self._rounded(ops.CEIL)

    def trunc(self) -> Self:
        """Round toward zero; gradient 0."""
        return self._rounded(ops.TRUNC)

    def round(self) -> Self:
        """Round to nearest, ties to even; gradient 0."""
        return self._rounded(ops.ROUND)

    def __round__(self, digits: int | None = None) -> Self:
        if not digits:
            return self.round()
        scale = float(10**digits)
        return (self * scale).round() / scale

    def copysign(self, other: Any) -> Self:
        """The size of `self` with the sign of `other`, also that of -0.0."""
        x = self._as_float()
        y = x._new(build.cast(x._operand(other, "copysign"), x.dtype))
        return y._has_sign().where(-x.abs(), x.abs())

    def _has_sign(self) -> Self:
        """bool: true below zero and for -0.0."""
        return (self < 0) | (self.eq(0) & (self.reciprocal() < 0))

    # ---- classification: bool ------------------------------------------------------------------------------
    def isnan(self) -> Self:
        """True where NaN."""
        return self != self

    def isinf(self, detect_positive: bool = True, detect_negative: bool = True) -> Self:
        """True where infinite."""
        positive = self.eq(math.inf) & detect_positive
        return positive | (self.eq(-math.inf) & detect_negative)

    def isfinite(self) -> Self:
        """True where neither infinite nor NaN."""
        return self.abs() < math.inf if self.dtype.is_float else self == self

    def isclose(self, other: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Self:
        """True where |self - other| <= atol + rtol * |other|; also for equal infinities, or NaN if asked."""
        x, y = (self._new(n)._as_float() for n in self._pair(other, "isclose"))
        build.same_device("isclose", x.node, y.node)
        close = (x.isfinite() & y.isfinite() & ((x - y).abs() <= y.abs() * rtol + atol)) | (x == y)
        return close | (x.isnan() & y.isnan()) if equal_nan else close

    # ---- bounds and choices --------------------------------------------------------------------------------
    def clamp(self, min_: Any = None, max_: Any = None) -> Self:
        """Limit to [min_, max_], of which one may be None; `max_` wins. Gradient 1 at a numeric bound."""
        if min_ is None and max_ is None:
            raise ValueRangeError(op="clamp", expected="min_ or max_", got="neither")
        result = self
        if min_ is not None:
            result = (
                (result < min_).where(min_, result)
                if isinstance(min_, (int, float))
                else result.maximum(result._new(result._operand(min_, "clamp")))
            )
        if max_ is not None:
            result = (
                (result > max_).where(max_, result)
                if isinstance(max_, (int, float))
                else result.minimum(result._new(result._operand(max_, "clamp")))
            )
        return result

    def clip(self, min_: Any = None, max_: Any = None) -> Self:
        """NumPy's name for `clamp`."""
        return self.clamp(min_, max_)

    def masked_fill(self, mask: Any, value: Any) -> Self:
        """`value` where the bool `mask`, which broadcasts, holds; else this tensor."""
        condition = self._new(self._operand(mask, "masked_fill"))
        return condition.where(value, self)

    def lerp(self, end: Any, weight: Any) -> Self:
        """self + (end - self) * weight."""
        way = self._new(self._operand(end, "lerp")) - self
        return self + way * way._new(way._operand(weight, "lerp"))

    # ---- dtype ---------------------------------------------------------------------------------------------
    def cast(self, dtype: Any) -> Self:
        """The values in another dtype: float to int saturates, NaN to 0; int to int wraps; to bool is `!= 0`.
        """
        return self._new(build.cast(self.node, dtypes.to_dtype(dtype)))

    def bitcast(self, dtype: Any) -> Self:
        """The same bytes read as another dtype, without a gradient; NumPy's and PyTorch's `view(dtype)`.

        Where the sizes differ, the last axis grows or shrinks: (2, 3) of float32 gives (2, 12) of uint8 and
        back, the lowest byte first. ShapeError if it does not divide. A byte read as bool is True unless 0.
        """
        return self._new(bitcast_node(self.node, dtypes.to_dtype(dtype)))


def widened(x: Node) -> Node:
    """`x` as a float of at least 32 bits, in which sums and exponentials are taken."""
    return build.cast(x, dtypes.accumulator_dtype(dtypes.least_upper_float(x.dtype)))
