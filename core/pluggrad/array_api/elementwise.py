"""Elementwise functions. Of two operands one may be a Python scalar; dtypes promote, shapes broadcast."""
from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final

from pluggrad import dtypes
from pluggrad.array_api.arguments import array, operands
from pluggrad.tensor import Tensor

Unary = Callable[[Tensor], Tensor]
Binary = Callable[[Any, Any], Tensor]


def _unary(name: str, compute: Unary, doc: str) -> Unary:
    def function(x: Tensor, /) -> Tensor:
        return compute(array(name, x))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def _binary(name: str, compute: Binary, doc: str) -> Binary:
    def function(x1: Tensor | Any, x2: Tensor | Any, /) -> Tensor:
        return compute(*operands(name, x1, x2))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


_SIGNED: Final = {2: dtypes.int16, 4: dtypes.int32, 8: dtypes.int64}


def _bits(x: Tensor) -> Tensor:
    return x.bitcast(_SIGNED[x.dtype.itemsize])


def _next(x: Tensor, toward: Tensor) -> Tensor:
    """The neighbor of `x` on the side of `toward`: floats of one sign are ordered as their bits are."""
    dtype = dtypes.promote(x.dtype, toward.dtype)
    x, toward = x.cast(dtype), toward.cast(dtype)
    grows = (x < toward).eq(x > 0)
    stepped = (_bits(x) + grows.where(1, -1).cast(_SIGNED[dtype.itemsize])).bitcast(dtype)
    smallest = Tensor.full((), 1, dtype=_SIGNED[dtype.itemsize], device=x.device).bitcast(dtype)
    moved = x.eq(0).where((toward > 0).where(smallest, -smallest), stepped)
    return (x.isnan() | toward.isnan()).where(x + toward, x.eq(toward).where(toward, moved))


def _whole(x: Tensor) -> Tensor:
    return x


abs = _unary("abs", Tensor.abs, "Magnitudes.")
acos = _unary("acos", Tensor.acos, "Inverse cosine, radians; NaN outside of [-1, 1].")
acosh = _unary("acosh", Tensor.acosh, "Inverse hyperbolic cosine; NaN below 1.")
asin = _unary("asin", Tensor.asin, "Inverse sine, radians; NaN outside of [-1, 1].")
asinh = _unary("asinh", Tensor.asinh, "Inverse hyperbolic sine.")
atan = _unary("atan", Tensor.atan, "Inverse tangent, radians.")
atanh = _unary("atanh", Tensor.atanh, "Inverse hyperbolic tangent; NaN outside of [-1, 1].")
bitwise_invert = _unary("bitwise_invert", Tensor.bitwise_not, "Complement of integers, logical of bools.")
ceil = _unary("ceil", Tensor.ceil, "Rounded up; integers stay.")
conj = _unary("conj", _whole, "Complex conjugate: the array itself, since all numbers are real.")
cos = _unary("cos", Tensor.cos, "Cosine of radians.")
cosh = _unary("cosh", Tensor.cosh, "Hyperbolic cosine.")
exp = _unary("exp", Tensor.exp, "e to the power of x.")
expm1 = _unary("expm1", Tensor.expm1, "e to the power of x, less 1, exact near 0.")
floor = _unary("floor", Tensor.floor, "Rounded down; integers stay.")
imag = _unary("imag", Tensor.zeros_like, "Imaginary parts: zeros, since all numbers are real.")
isfinite = _unary("isfinite", Tensor.isfinite, "Whether neither infinite nor NaN.")
isinf = _unary("isinf", Tensor.isinf, "Whether infinite, of either sign.")
isnan = _unary("isnan", Tensor.isnan, "Whether NaN.")
log = _unary("log", Tensor.log, "Natural logarithm; NaN below 0.")
log1p = _unary("log1p", Tensor.log1p, "Natural logarithm of 1 + x, exact near 0.")
log2 = _unary("log2", Tensor.log2, "Binary logarithm.")
log10 = _unary("log10", Tensor.log10, "Decimal logarithm.")
logical_not = _unary("logical_not", Tensor.logical_not, "Whether zero.")
negative = _unary("negative", Tensor.neg, "-x; integers wrap.")
positive = _unary("positive", _whole, "x.")
real = _unary("real", _whole, "Real parts: the array itself, since all numbers are real.")
reciprocal = _unary("reciprocal", Tensor.reciprocal, "1 / x.")
round = _unary("round", Tensor.round, "Rounded to the nearest integer, ties to even; integers stay.")
sign = _unary("sign", Tensor.sign, "-1, 0 or 1; NaN stays.")
signbit = _unary("signbit", lambda x: _bits(x) < 0, "Whether the sign is set, of -0 and NaN too.")
sin = _unary("sin", Tensor.sin, "Sine of radians.")
sinh = _unary("sinh", Tensor.sinh, "Hyperbolic sine.")
sqrt = _unary("sqrt", Tensor.sqrt, "Square root; NaN below 0.")
square = _unary("square", Tensor.square, "x * x.")
tan = _unary("tan", Tensor.tan, "Tangent of radians.")
tanh = _unary("tanh", Tensor.tanh, "Hyperbolic tangent.")
trunc = _unary("trunc", Tensor.trunc, "Rounded toward zero; integers stay.")

add = _binary("add", operator.add, "x1 + x2.")
atan2 = _binary("atan2", Tensor.atan2, "The angle of the point (x2, x1), radians.")
bitwise_and = _binary("bitwise_and", operator.and_, "Bitwise and of integers, logical of bools.")
bitwise_left_shift = _binary("bitwise_left_shift", operator.lshift, "x1 << x2, integers.")
bitwise_or = _binary("bitwise_or", operator.or_, "Bitwise or of integers, logical of bools.")
bitwise_right_shift = _binary("bitwise_right_shift", operator.rshift, "x1 >> x2, keeping the sign, integers.")
bitwise_xor = _binary("bitwise_xor", operator.xor, "Bitwise exclusive or of integers, logical of bools.")
copysign = _binary("copysign", Tensor.copysign, "The magnitude of x1 with the sign of x2.")
divide = _binary("divide", operator.truediv, "x1 / x2, a float.")
equal = _binary("equal", operator.eq, "x1 == x2; false where either is NaN.")
floor_divide = _binary("floor_divide", operator.floordiv, "x1 / x2 rounded down; integers by 0 give 0.")
greater = _binary("greater", operator.gt, "x1 > x2; false where either is NaN.")
greater_equal = _binary("greater_equal", operator.ge, "x1 >= x2; false where either is NaN.")
hypot = _binary("hypot", Tensor.hypot, "The square root of x1 * x1 + x2 * x2, without overflow.")
less = _binary("less", operator.lt, "x1 < x2; false where either is NaN.")
less_equal = _binary("less_equal", operator.le, "x1 <= x2; false where either is NaN.")
logaddexp = _binary("logaddexp", Tensor.logaddexp, "log(exp(x1) + exp(x2)) without overflow.")
logical_and = _binary("logical_and", lambda x1, x2: x1.bool() & x2.bool(), "Whether both are not zero.")
logical_or = _binary("logical_or", lambda x1, x2: x1.bool() | x2.bool(), "Whether one is not zero.")
logical_xor = _binary("logical_xor", lambda x1, x2: x1.bool() ^ x2.bool(), "Whether just one is not zero.")
maximum = _binary("maximum", Tensor.maximum, "The larger of two; NaN if either is NaN.")
minimum = _binary("minimum", Tensor.minimum, "The smaller of two; NaN if either is NaN.")
multiply = _binary("multiply", operator.mul, "x1 * x2.")
nextafter = _binary("nextafter", _next, "The next float after x1 on the way to x2.")
not_equal = _binary("not_equal", operator.ne, "x1 != x2; true where either is NaN.")
pow = _binary("pow", operator.pow, "x1 to the power of x2.")
remainder = _binary("remainder", operator.mod, "x1 % x2, with the sign of x2; integers by 0 give 0.")
subtract = _binary("subtract", operator.sub, "x1 - x2.")


def clip(x: Tensor, /, min: Tensor | float | None = None, max: Tensor | float | None = None) -> Tensor:
    """`x` where it lies between the bounds, else the nearer one; in the dtype of `x`."""
    low, high = (None if bound is None else operands("clip", x, bound)[1] for bound in (min, max))
    bounded = array("clip", x) if low is None else x.maximum(low)
    return (bounded if high is None else bounded.minimum(high)).cast(x.dtype)
