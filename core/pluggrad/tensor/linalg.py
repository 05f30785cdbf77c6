"""Products of matrices and vectors."""
from __future__ import annotations

import math
from typing import Any, Self

from pluggrad import dtypes
from pluggrad.errors import ShapeError
from pluggrad.graph import build, ops
from pluggrad.graph.products import matmul
from pluggrad.shape.broadcast import broadcast_shapes, check_axis
from pluggrad.tensor.sets import Sets


class LinearAlgebra(Sets):
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

    def mv(self, vec: Any) -> Self:
        """The product of this matrix and a vector; ShapeError unless they have 2 axes and 1."""
        a, b = self.node, self._operand(vec, "mv")
        if len(a.shape) != 2 or len(b.shape) != 1:
            raise ShapeError(op="mv", expected="a matrix and a vector", got=f"{a.shape} and {b.shape}")
        return self._new(matmul(a, b, None, "mv"))

    def addmm(self, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1) -> Self:
        """beta * self + alpha * (mat1 @ mat2), of matrices; this tensor broadcasts."""
        return self * beta + self._new(self._operand(mat1, "addmm")).mm(mat2) * alpha

    def baddbmm(self, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1) -> Self:
        """beta * self + alpha * (batch1 @ batch2), of batches of matrices; this tensor broadcasts."""
        return self * beta + self._new(self._operand(batch1, "baddbmm")).bmm(batch2) * alpha

    def outer(self, x: Any) -> Self:
        """Every product of an element of this vector and one of `x`: shapes (m,) and (n,) give (m, n)."""
        a, b = self.node, self._operand(x, "outer")
        if len(a.shape) != 1 or len(b.shape) != 1:
            raise ShapeError(op="outer", expected="two vectors", got=f"{a.shape} and {b.shape}")
        return self._new(build.binary(ops.MUL, build.reshape(a, (a.shape[0], 1)), b))

    def inner(self, other: Any) -> Self:
        """Sums of products along the last axis of both: shapes (*a, n) and (*b, n) give (*a, *b)."""
        a, b = self.node, self._operand(other, "inner")
        if not a.shape or not b.shape:
            return self * self._new(b)
        return self.tensordot(self._new(b), ([-1], [-1]))

    def vecdot(self, x2: Any, dim: int = -1) -> Self:
        """Sums of products along `dim`; all axes broadcast. Adds up as `dot` does."""
        a, b = self.node, self._operand(x2, "vecdot")
        promoted = dtypes.promote(a.dtype, b.dtype)
        working = dtypes.accumulator_dtype(promoted) if promoted.is_float else dtypes.sum_dtype(promoted)
        product = build.binary(ops.MUL, build.cast(a, working), build.cast(b, working))
        axis = check_axis("vecdot", dim, len(product.shape))
        return self._new(build.cast(build.reduce(ops.SUM, product, axis), promoted))

    def cross(self, other: Any, dim: int = -1) -> Self:
        """Vectors orthogonal to both: the cross product along `dim`, of size 3; other axes broadcast."""
        a, b = self.node, self._operand(other, "cross")
        shape = broadcast_shapes("cross", a.shape, b.shape)
        axis = check_axis("cross", dim, len(shape))
        if shape[axis] != 3 or any(x.shape[axis - len(shape)] != 3 for x in (a, b)):
            raise ShapeError(op="cross", expected=f"3 elements along axis {dim}",
                             got=f"{a.shape} and {b.shape}")
        x, y = [self._new(build.broadcast_to(n, shape, "cross")) for n in (a, b)]
        return x._turned(axis, 1) * y._turned(axis, 2) - x._turned(axis, 2) * y._turned(axis, 1)

    def _turned(self, axis: int, by: int) -> Self:
        """Elements i + by along the axis, from its start again at its end, without a copy."""
        size = self.shape[axis]
        around = [(0, 0)] * self.ndim
        first, second = self.narrow(axis, by, size - by), self.narrow(axis, 0, by)
        return (first.pad([(0, by) if i == axis else w for i, w in enumerate(around)])
                + second.pad([(size - by, 0) if i == axis else w for i, w in enumerate(around)]))

    def kron(self, x: Any) -> Self:
        """Kronecker product: each element of this tensor times all of `x`, as blocks. The one with fewer axes
        gets leading ones."""
        a, b = self.node, self._operand(x, "kron")
        rank = max(len(a.shape), len(b.shape))
        sizes = [(1,) * (rank - len(n.shape)) + n.shape for n in (a, b)]
        left = build.reshape(a, [size for dim in sizes[0] for size in (dim, 1)])
        right = build.reshape(b, [size for dim in sizes[1] for size in (1, dim)])
        shape = [m * n for m, n in zip(*sizes, strict=True)]
        return self._new(build.reshape(build.binary(ops.MUL, left, right), shape))

    def trace(self) -> Self:
        """Sum of the diagonal of the first two axes."""
        return self.diagonal().sum(-1)

    def diag_embed(self, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Self:
        """Matrices along two new axes with the last axis as a diagonal; `offset` > 0 is above the main.

        The other elements are 0. ShapeError of a tensor without axes.
        """
        if self.ndim == 0:
            raise ShapeError(op="diag_embed", expected="at least 1 dimension", got="()")
        size = self.shape[-1] + abs(offset)
        first, second = [check_axis("diag_embed", dim, self.ndim + 1) for dim in (dim1, dim2)]
        if first == second:
            raise ShapeError(op="diag_embed", expected="two different axes", got=f"{dim1} and {dim2}")
        outer = [(0, 0)] * (self.ndim - 1)
        rows = self.pad([*outer, (max(-offset, 0), max(offset, 0))]).unsqueeze(-1)
        full = rows.expand([*rows.shape[:-1], size])
        return full.tril(offset).triu(offset).movedim((-2, -1), (first, second))

    def tensordot(self, other: Any, dims: Any = 2) -> Self:
        """Sums of products over the last `dims` axes and the first of `other`, or over two lists of axes."""
        a, b = self.node, self._operand(other, "tensordot")
        ranks = len(a.shape), len(b.shape)
        if isinstance(dims, int):
            if not 0 <= dims <= min(ranks):
                raise ShapeError(op="tensordot", expected=f"dims from 0 to {min(ranks)}", got=str(dims))
            dims = list(range(ranks[0] - dims, ranks[0])), list(range(dims))
        lists = [[dims[i]] if isinstance(dims[i], int) else list(dims[i]) for i in (0, 1)]
        left, right = [[check_axis("tensordot", axis, rank) for axis in axes]
                       for axes, rank in zip(lists, ranks, strict=True)]
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
