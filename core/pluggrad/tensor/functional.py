"""What networks are made of: softmax and its family, linear layers, dropout."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

from pluggrad import dtypes
from pluggrad.errors import ShapeError, ValueRangeError
from pluggrad.graph import build, ops
from pluggrad.shape.broadcast import check_axis
from pluggrad.tensor.distributions import uniform_node
from pluggrad.tensor.sampling import Sampling


class Functional(Sampling):
    """Functional forms of layers."""

    __slots__ = ()

    def softmax(self, axis: int | Sequence[int] = -1, dtype: Any = None) -> Self:
        """e ** x divided by its sum along the axes, without overflow; computed in float32 at least.

        dtype: cast to it first. A row of nothing but -inf gives NaN.
        """
        x, grown = self._shifted("softmax", axis, dtype)
        grown = grown.exp()
        return (grown / grown.sum(axis, keepdim=True))._narrow(x)

    def softmin(self, axis: int | Sequence[int] = -1, dtype: Any = None) -> Self:
        """Softmax of the negative."""
        return (-self._as_float()).softmax(axis, dtype)

    def log_softmax(self, axis: int | Sequence[int] = -1, dtype: Any = None) -> Self:
        """The logarithm of `softmax`, computed without taking it."""
        x, shifted = self._shifted("log_softmax", axis, dtype)
        return (shifted - shifted.exp().sum(axis, keepdim=True).log())._narrow(x)

    def _shifted(self, op: str, axis: int | Sequence[int], dtype: Any) -> tuple[Self, Self]:
        """The input in `dtype`; and in float32 at least, less its maximum, which is held constant."""
        x = self if dtype is None else self.cast(dtype)
        wide = x._wide()
        return x, wide - wide.max(axis, keepdim=True)._detached() if self._count(op, axis) else wide

    def glu(self, dim: int = -1) -> Self:
        """Gated linear unit: the first half of an axis, of even size, times the sigmoid of the second."""
        size = self.shape[check_axis("glu", dim, self.ndim)]
        if size % 2:
            raise ShapeError(op="glu", expected="an axis of even size", got=f"{size} in shape {self.shape}")
        values, gates = self.split(size // 2, dim) if size else (self, self)
        return values * gates.sigmoid()

    def linear(self, weight: Any, bias: Any = None, dtype: Any = None) -> Self:
        """x @ weight + bias, with `weight` (inputs, outputs), or (inputs,) which multiplies elementwise.

        dtype: cast all three to it first.
        """
        if dtype is not None:
            casts = [None if t is None else t.cast(dtype) for t in (weight, bias)]
            return self.cast(dtype).linear(*casts)
        if len(weight.shape) == 1:
            product = self * self._new(self._operand(weight, "linear"))
        else:
            product = self._product("linear", weight, False, None)
        if bias is None:
            return product
        return self._new(build.binary(ops.ADD, product.node, product._operand(bias, "linear")))

    def sequential(self, ll: Sequence[Callable[[Any], Any]]) -> Self:
        """The tensor passed through a list of layers or functions, one after another."""
        x = self
        for layer in ll:
            x = layer(x)
        return x

    def dropout(self, p: float = 0.5) -> Self:
        """While `Tensor.training`: zeros with probability `p`, the rest divided by 1 - p. Else itself."""
        if not 0 <= p <= 1:
            raise ValueRangeError(op="dropout", expected="a probability in [0, 1]", got=str(p))
        if not type(self).training or p == 0:
            return self
        x = self._as_float()
        node = x.node
        if p == 1:
            return x._new(build.where(build.const(False, dtypes.bool_, node.device, node.shape), node,
                                      build.const(0.0, node.dtype, node.device, node.shape)))
        uniform = uniform_node(node.shape, dtypes.float32, node.device)
        kept = build.binary(ops.LE, build.const(p, dtypes.float32, node.device, node.shape), uniform)
        return x._new(kept).where(x * (1 / (1 - p)), 0.0)
