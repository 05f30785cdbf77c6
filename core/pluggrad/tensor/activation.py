"""Activation functions. Shapes stay; integers and bool give the default float."""
from __future__ import annotations

import math
from typing import Any, Self

from pluggrad import dtypes
from pluggrad.errors import ValueRangeError
from pluggrad.graph import build, ops
from pluggrad.tensor.mathematics import Mathematics

# the largest whole x with exp(x) finite, by size of the dtype
_EXP_LIMIT = {4: 88.0, 8: 709.0}


class Activation(Mathematics):
    """Activation functions."""

    __slots__ = ()

    def _wide(self) -> Self:
        """In float32 at least, where a half would overflow on the way."""
        x = self.node
        return self._new(build.cast(x, dtypes.accumulator_dtype(dtypes.least_upper_float(x.dtype))))

    def _narrow(self, like: Mathematics) -> Self:
        return self.cast(dtypes.least_upper_float(like.dtype))

    def relu(self) -> Self:
        """max(x, 0) in the same dtype; NaN stays NaN; gradient 0 at 0."""
        x = self.node
        zero = build.const(0, x.dtype, x.device, x.shape)
        return self._new(build.where(build.binary(ops.LE, x, zero), zero, x))

    def relu6(self) -> Self:
        """relu, at most 6."""
        return self.relu().clamp(max_=6)

    def sigmoid(self) -> Self:
        """1 / (1 + e**-x), precise in the left tail and with a finite gradient everywhere."""
        x = self._wide().node
        limit = build.const(-_EXP_LIMIT[x.dtype.itemsize], x.dtype, x.device, x.shape)
        one = build.const(1.0, x.dtype, x.device, x.shape)
        exp = build.unary(ops.EXP, build.unary(ops.NEG, build.binary(ops.MAX, x, limit)))
        return self._new(build.unary(ops.RECIP, build.binary(ops.ADD, exp, one)))._narrow(self)

    def logsigmoid(self) -> Self:
        """log(sigmoid(x)) without underflow."""
        return -(-self._as_float()).softplus()

    def softplus(self, beta: float = 1.0) -> Self:
        """log(1 + e**(beta x)) / beta without overflow."""
        x = self._wide() * beta
        # beyond this the two agree to the last bit, and the gradient is 1 on both sides
        limit = 20.0 if x.dtype is dtypes.float32 else 40.0
        return ((x > limit).where(x, x.minimum(limit).exp().log1p()) * (1 / beta))._narrow(self)

    def hardsigmoid(self, alpha: float = 1 / 6, beta: float = 0.5) -> Self:
        """alpha x + beta limited to [0, 1]."""
        return (self * alpha + beta).clamp(0.0, 1.0)

    def hardswish(self) -> Self:
        """x relu6(x + 3) / 6."""
        return self * (self + 3).relu6() * (1 / 6)

    def hardtanh(self, min_val: float = -1, max_val: float = 1) -> Self:
        """x limited to [min_val, max_val]."""
        return self.clamp(min_val, max_val)

    def leaky_relu(self, neg_slope: float = 0.01) -> Self:
        """x above 0, neg_slope x below."""
        x = self._as_float()
        return (x < 0).where(x * neg_slope, x)

    def prelu(self, weight: Any) -> Self:
        """x above 0, weight x below; `weight` broadcasts."""
        x = self._as_float()
        return (x < 0).where(x * x._new(x._operand(weight, "prelu")), x)

    def elu(self, alpha: float = 1.0) -> Self:
        """x above 0, alpha (e**x - 1) below."""
        x = self._as_float()
        return (x > 0).where(x, (x > 0).where(0.0, x).expm1() * alpha)

    def celu(self, alpha: float = 1.0) -> Self:
        """x above 0, alpha (e**(x / alpha) - 1) below."""
        x = self._as_float()
        return (x > 0).where(x, ((x > 0).where(0.0, x) * (1 / alpha)).expm1() * alpha)

    def selu(self, alpha: float = 1.67326, gamma: float = 1.0507) -> Self:
        """Scaled elu: gamma elu(x, alpha)."""
        return self.elu(alpha) * gamma

    def gelu(self, approximate: str = "tanh") -> Self:
        """x times the normal distribution function of x; `approximate` is "tanh" or "none" (by erf)."""
        x = self._as_float()
        if approximate == "none":
            return x * ((x * math.sqrt(0.5)).erf() + 1) * 0.5
        if approximate != "tanh":
            raise ValueRangeError(op="gelu", expected="approximate 'tanh' or 'none'", got=repr(approximate))
        # (1 + tanh(y)) / 2 = sigmoid(2y), which keeps its digits where tanh(y) is near -1
        return x * ((x + x * x * x * 0.044715) * (2 * math.sqrt(2 / math.pi))).sigmoid()

    def quick_gelu(self) -> Self:
        """x sigmoid(1.702 x)."""
        return self * (self * 1.702).sigmoid()

    def silu(self) -> Self:
        """x sigmoid(x)."""
        return self * self.sigmoid()

    def swish(self) -> Self:
        """Another name for `silu`."""
        return self.silu()

    def mish(self) -> Self:
        """x tanh(softplus(x))."""
        return self * self.softplus().tanh()

    def softsign(self) -> Self:
        """x / (1 + |x|)."""
        return self / (self.abs() + 1)
