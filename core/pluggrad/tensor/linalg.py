"""Products of matrices and vectors."""
from __future__ import annotations

import math
from typing import Any, Self

from pluggrad import dtypes
from pluggrad.errors import ShapeError
from pluggrad.graph import build, ops
from pluggrad.graph.products import matmul
from pluggrad.tensor.scans import Scans


class LinearAlgebra(Scans):
    """Products."""

    __slots__ = ()

    def dot(self, w: Any, dtype: Any = None) -> Self:
        """The product along the last axis of `self` and the second to last (or only) axis of `w`.

        Shapes (..., m, k) and (..., k, n) give (..., m, n), leading axes broadcast; a 1-d operand is a row or
        a column that disappears. Halves add up in float32, small integers in the default int; the result has
        the promoted dtype, or `dtype`. ShapeError names both shapes.
        """
        return self._product("dot", w, False, dtype)

    def matmul(self, x: Any, reverse: bool = False, dtype: Any = None) -> Self:
        """`self @ x`; see `dot`."""
        return self._product("matmul", x, reverse, dtype)

    def _product(self, op: str, x: Any, reverse: bool, dtype: Any) -> Self:
        if isinstance(x, (int, float)):
            raise ShapeError(
                op=op,
                expected="shapes (..., m, k) and (..., k, n)",
                got=f"{self.shape} and a number",
                hint="use * for a number",
            )
        a, b = self._pair(x, op)
        if reverse:
            a, b = b, a
        return self._new(matmul(a, b, None if dtype is None else dtypes.to_dtype(dtype), op))

    def __matmul__(self, x: Any) -> Self:
        return self.matmul(x)

    def __rmatmul__(self, x: Any) -> Self:
        return self.matmul(x, True)

    def __imatmul__(self, x: Any) -> Self:
        return self._replaced_by(self.matmul(x))

    def mm(self, x: Any) -> Self:
        """The product of two matrices; ShapeError unless both have 2 axes."""
        return self._ranked("mm", x, 2)

    def bmm(self, x: Any) -> Self:
        """The products of two batches of matrices; ShapeError unless both have 3 axes."""
        return self._ranked("bmm", x, 3)

    def _ranked(self, op: str, x: Any, rank: int) -> Self:
        a, b = self.node, self._operand(x, op)
        if len(a.shape) != rank or len(b.shape) != rank:
            raise ShapeError(
                op=op, expected=f"two tensors of {rank} dimensions", got=f"{a.shape} and {b.shape}"
            )
        return self._new(matmul(a, b, None, op))

    def outer(self, x: Any) -> Self:
        """Every product of an element of this vector and one of `x`: shapes (m,) and (n,) give (m, n)."""
        a, b = self.node, self._operand(x, "outer")
        if len(a.shape) != 1 or len(b.shape) != 1:
            raise ShapeError(op="outer", expected="two vectors", got=f"{a.shape} and {b.shape}")
        return self._new(build.binary(ops.MUL, build.reshape(a, (-1 if a.shape[0] else 0, 1)), b))

    def kron(self, x: Any) -> Self:
        """Kronecker product of two tensors with equally many axes."""
        a, b = self.node, self._operand(x, "kron")
        if len(a.shape) != len(b.shape):
            raise ShapeError(op="kron", expected="equally many dimensions", got=f"{a.shape} and {b.shape}")
        left = build.reshape(a, [size for dim in a.shape for size in (dim, 1)])
        right = build.reshape(b, [size for dim in b.shape for size in (1, dim)])
        shape = [m * n for m, n in zip(a.shape, b.shape, strict=True)]
        return self._new(build.reshape(build.binary(ops.MUL, left, right), shape))

    def trace(self) -> Self:
        """Sum of the diagonal of the first two axes."""
        return self.diagonal().sum(-1)

    def tensordot(self, x: Any, axes: Any = 2) -> Self:
        """NumPy's `tensordot`: sums over the last `axes` axes and the first of `x`, or two lists."""
        a, b = self.node, self._operand(x, "tensordot")
        ranks = len(a.shape), len(b.shape)
        if isinstance(axes, int):
            axes = list(range(ranks[0] - axes, ranks[0])), list(range(axes))
        left, right = ([axes[i]] if isinstance(axes[i], int) else list(axes[i]) for i in (0, 1))
        left, right = [i % ranks[0] for i in left], [i % ranks[1] for i in right]
        summed = [a.shape[i] for i in left]
        if summed != [b.shape[i] for i in right]:
            raise ShapeError(
                op="tensordot", expected="equal sizes on the summed axes", got=f"{a.shape} and {b.shape}"
            )
        free_a = [i for i in range(ranks[0]) if i not in left]
        free_b = [i for i in range(ranks[1]) if i not in right]
        inner, rows, columns = math.prod(summed), [a.shape[i] for i in free_a], [b.shape[i] for i in free_b]
        first = build.reshape(build.permute(a, [*free_a, *left]), (math.prod(rows), inner))
        second = build.reshape(build.permute(b, [*right, *free_b]), (inner, math.prod(columns)))
        return self._new(build.reshape(matmul(first, second, None, "tensordot"), (*rows, *columns)))
