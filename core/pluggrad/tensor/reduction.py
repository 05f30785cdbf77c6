"""Reductions over axes: None (all), one axis or several; with `keepdim` the reduced axes stay with size 1."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

from pluggrad import dtypes
from pluggrad.errors import ShapeError, ValueRangeError
from pluggrad.graph import build, ops
from pluggrad.ir.node import Node, Op
from pluggrad.shape.broadcast import check_axes, check_axis
from pluggrad.tensor.mathematics import widened
from pluggrad.tensor.movement import Movement

Axis = int | Sequence[int] | None


def _kept(reduced: Node, shape: tuple[int, ...], axes: tuple[int, ...]) -> Node:
    return build.reshape(reduced, [1 if axis in axes else dim for axis, dim in enumerate(shape)])


def _reduce(op: Op, name: str, x: Node, axis: Axis, keepdim: bool) -> Node:
    axes = check_axes(name, axis, len(x.shape))
    reduced = build.reduce(op, x, axes, name)
    return _kept(reduced, x.shape, axes) if keepdim else reduced


class Reduction(Movement):
    """Reductions."""

    __slots__ = ()

    def _count(self, op: str, axis: Axis) -> int:
        shape = self.shape
        return math.prod(shape[i] for i in check_axes(op, axis, len(shape)))

    def sum(self, axis: Axis = None, keepdim: bool = False, dtype: Any = None) -> Self:
        """Sum; 0 of nothing. Bool and small integers add up in the default int, halves in float32.

        dtype: cast to it first.
        """
        x = self.node
        target = dtypes.sum_dtype(x.type.dtype) if dtype is None else dtypes.to_dtype(dtype)
        return self._new(_reduce(ops.SUM, "sum", build.cast(x, target), axis, keepdim))

    def prod(self, axis: Axis = None, keepdim: bool = False, dtype: Any = None) -> Self:
        """Product; 1 of nothing. dtypes as for `sum`."""
        x = self.node
        target = dtypes.sum_dtype(x.dtype) if dtype is None else dtypes.to_dtype(dtype)
        return self._new(_reduce(ops.PROD, "prod", build.cast(x, target), axis, keepdim))

    def max(self, axis: Axis = None, keepdim: bool = False) -> Self:
        """Largest element; NaN if any is. ShapeError of nothing. Equals share the gradient evenly."""
        return self._new(_reduce(ops.RMAX, "max", self.node, axis, keepdim))

    def min(self, axis: Axis = None, keepdim: bool = False) -> Self:
        """Smallest element; NaN if any is. ShapeError of nothing. Equals share the gradient evenly."""
        return self._new(_reduce(ops.RMIN, "min", self.node, axis, keepdim))

    def mean(self, axis: Axis = None, keepdim: bool = False) -> Self:
        """Arithmetic mean, a float (integers give the default float); NaN of nothing."""
        x = self.node
        dtype = dtypes.least_upper_float(x.dtype)
        total = _reduce(ops.SUM, "mean", widened(x), axis, keepdim)
        size = x.type.size if axis is None else self._count("mean", axis)
        count = build.const(size, total.dtype, total.device, total.shape)
        return self._new(build.cast(build.binary(ops.DIV, total, count), dtype))

    def var(self, axis: Axis = None, keepdim: bool = False, correction: int = 1) -> Self:
        """Variance: squared distances from the mean, added up and divided by the count less `correction`."""
        return self.var_mean(axis, keepdim, correction)[0]

    def std(self, axis: Axis = None, keepdim: bool = False, correction: int = 1) -> Self:
        """Standard deviation: the square root of `var`; gradient 0 at 0."""
        return self.std_mean(axis, keepdim, correction)[0]

    def var_mean(self, axis: Axis = None, keepdim: bool = False, correction: int = 1) -> tuple[Self, Self]:
        """Variance and mean."""
        x = self._wide()
        mean = x.mean(axis, keepdim=True)
        total = (x - mean).square().sum(axis, keepdim)
        var = total / max(self._count("var", axis) - correction, 0)
        if not keepdim:
            mean = mean.reshape(var.shape)
        return var._narrow(self), mean._narrow(self)

    def std_mean(self, axis: Axis = None, keepdim: bool = False, correction: int = 1) -> tuple[Self, Self]:
        """Standard deviation and mean."""
        var, mean = self._wide().var_mean(axis, keepdim, correction)  # a half may hold the root alone
        return var._root(2.0)._narrow(self), mean._narrow(self)

    def any(self, axis: Axis = None, keepdim: bool = False) -> Self:
        """bool: true where some element is not zero; false of nothing."""
        return self._truth(ops.RMAX, "any", axis, keepdim)

    def all(self, axis: Axis = None, keepdim: bool = False) -> Self:
        """bool: true where no element is zero; true of nothing."""
        return self._truth(ops.RMIN, "all", axis, keepdim)

    def _truth(self, op: Op, name: str, axis: Axis, keepdim: bool) -> Self:
        x = build.cast(self.node, dtypes.bool_)
        if self._count(name, axis):
            return self._new(_reduce(op, name, x, axis, keepdim))
        # nothing to reduce: a product of bools is its neutral element, and so is a sum
        return self._new(_reduce(ops.PROD if op is ops.RMIN else ops.SUM, name, x, axis, keepdim))

    def count_nonzero(self, axis: Axis = None, keepdim: bool = False) -> Self:
        """How many elements are not zero, in the default int."""
        return self.cast(dtypes.bool_).sum(axis, keepdim)

    def argmax(self, axis: int | None = None, keepdim: bool = False) -> Self:
        """Position of the largest element, int32: the first of equals, the first NaN if there is one.

        axis None: in the flattened tensor.
        """
        return self._position("argmax", ops.RMAX, axis, keepdim)

    def argmin(self, axis: int | None = None, keepdim: bool = False) -> Self:
        """Position of the smallest element, as `argmax`."""
        return self._position("argmin", ops.RMIN, axis, keepdim)

    def _position(self, name: str, op: Op, axis: int | None, keepdim: bool) -> Self:
        if axis is None:
            found = self.flatten()._position(name, op, 0, False)
            return found.reshape((1,) * self.ndim) if keepdim else found
        position = check_axis(name, axis, self.ndim)
        x = self.node if self.ndim else build.reshape(self.node, (1,))
        size = x.shape[position]
        best = _reduce(op, name, x, position, True)
        hit = build.binary(ops.EQ, x, best)
        if x.dtype.is_float:
            hit = build.binary(ops.OR, hit, build.binary(ops.NE, x, x))
        counted = build.iota(size, dtypes.int32, x.device)
        along = build.reshape(counted, [size if i == position else 1 for i in range(len(x.shape))])
        first = build.where(hit, along, build.const(size, dtypes.int32, x.device))
        return self._new(_reduce(ops.RMIN, name, first, position, keepdim and self.ndim > 0))

    def logsumexp(self, axis: Axis = None, keepdim: bool = False) -> Self:
        """log(sum(e ** x)) without overflow; -inf of nothing."""
        x = self._wide()
        if not self._count("logsumexp", axis):
            return x.exp().sum(axis, keepdim).log()._narrow(self)
        # an infinite maximum would make NaN of x - max
        shift = x.max(axis, keepdim=True)._finite_or_zero()._detached()
        result = (x - shift).exp().sum(axis, keepdim=True).log() + shift
        if not keepdim:
            axes = check_axes("logsumexp", axis, self.ndim)
            result = result.reshape([dim for i, dim in enumerate(result.shape) if i not in axes])
        return result._narrow(self)

    def norm(self, p: float | str = 2.0, dim: Axis = None, keepdim: bool = False) -> Self:
        """Vector norm of order `p` over the axes, a float, computed in float32 at least; gradient 0 at 0.

        p: a number, inf, -inf, 0 (how many are not 0) or "fro", which is 2. Norms of matrices: `matrix_norm`.
        """
        if isinstance(p, str) and p != "fro":
            raise ValueRangeError(op="norm", expected="p: a number or 'fro'", got=repr(p),
                                  hint="Use matrix_norm" if p == "nuc" else "")
        order, size = 2.0 if p == "fro" else float(p), self._wide().abs()
        if order in (math.inf, -math.inf):
            return (size.max(dim, keepdim) if order > 0 else size.min(dim, keepdim))._narrow(self)
        if order == 0:
            return size.ne(0).sum(dim, keepdim).cast(size.dtype)._narrow(self)
        if order == 1:
            return size.sum(dim, keepdim)._narrow(self)
        total = (size.square() if order == 2 else size.pow(order)).sum(dim, keepdim)
        return total._root(order)._narrow(self)

    def _root(self, order: float) -> Self:
        """The root of numbers of at least 0, with gradient 0 at 0, where it has no slope."""
        zero = self.eq(0)
        above = zero.where(1.0, self)
        return zero.where(0.0, above.sqrt() if order == 2 else above.pow(1 / order))

    def normalize(self, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Self:
        """Divided by its norm along an axis, which counts as at least `eps`."""
        return self / self.norm(p, dim, keepdim=True).maximum(eps)

    def allclose(self, other: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
        """True if every element is close, as `isclose` says. Computes the value."""
        if isinstance(other, Movement) and 0 in other.shape + self.shape and other.shape != self.shape:
            raise ShapeError(op="allclose", expected="equal shapes", got=f"{self.shape} and {other.shape}")
        return bool(self.isclose(other, rtol, atol, equal_nan).all())
