"""Linear algebra of dense matrices: equations, determinants, factorizations and norms.

Every method takes stacks of matrices (..., m, n) and computes for each of them, in float32 or float64;
halves compute in float32 and integers give the default float. The host computes, by NumPy's LAPACK, whatever
the device. Results are differentiable, gradients too. NaN in gives NaN or LinearAlgebraError.
"""
from __future__ import annotations

import math
from typing import Any, NamedTuple, Self

from pluggrad import dtypes
from pluggrad.errors import DTypeError, ShapeError, ValueRangeError
from pluggrad.graph import build
from pluggrad.ir.node import Node
from pluggrad.shape.broadcast import broadcast_shapes, check_axis
from pluggrad.tensor.attention import Attention
from pluggrad.tensor.mathematics import widened


class QR(NamedTuple):
    """What `qr` returns."""

    Q: Any
    R: Any


class SVD(NamedTuple):
    """What `svd` returns: `Vh` is transposed, so that the matrix is `U * S @ Vh`."""

    U: Any
    S: Any
    Vh: Any


class Eigh(NamedTuple):
    """What `eigh` returns: column i of `eigenvectors` belongs to `eigenvalues[i]`."""

    eigenvalues: Any
    eigenvectors: Any


class SlogDet(NamedTuple):
    """What `slogdet` returns."""

    sign: Any
    logabsdet: Any


class LeastSquares(NamedTuple):
    """What `lstsq` returns."""

    solution: Any
    residuals: Any
    rank: Any
    singular_values: Any


class Matrices(Attention):
    """Functions of matrices."""

    __slots__ = ()

    # ---- operands and results ------------------------------------------------------------------------------
    def _matrices(self, op: str, *, square: bool = False) -> Node:
        """This stack of matrices in the dtype that is computed in."""
        x = self.node
        if len(x.shape) < 2:
            raise ShapeError(op=op, expected="matrices: at least 2 dimensions", got=str(x.shape))
        if square and x.shape[-1] != x.shape[-2]:
            raise ShapeError(op=op, expected="square matrices (..., n, n)", got=str(x.shape))
        return widened(x)

    def _result(self, node: Node) -> Self:
        """A result of this tensor's float dtype."""
        return self._new(build.cast(node, dtypes.least_upper_float(self.dtype)))

    def _of_host(self, op: str, *, square: bool = False, **attributes: Any) -> list[Self]:
        """The results of the host function of this name."""
        x = self._matrices(op, square=square)
        return [self._result(found) for found in build.extern(op, x, **attributes)]

    # ---- equations -----------------------------------------------------------------------------------------
    def inv(self) -> Self:
        """The inverse of square matrices. LinearAlgebraError names a singular one."""
        return self._of_host("inv", square=True)[0]

    def solve(self, B: Any, *, left: bool = True) -> Self:
        """X of `self @ X = B`, or, not `left`, of `X @ self = B`.

        self: square (..., n, n). B: a vector (n,) or matrices (..., n, k), whose leading axes broadcast; the
        result is shaped alike. LinearAlgebraError names a singular matrix.
        """
        a, b = self._matrices("solve", square=True), self._operand(B, "solve")
        size, vector = a.shape[-1], len(b.shape) == 1
        if b.shape[-1 if vector or not left else -2:][:1] != (size,):
            raise ShapeError(op="solve", expected=f"a right side ({size},) or (..., {size}, k)",
                             got=str(b.shape), hint="Give each matrix one vector with B.unsqueeze(-1)")
        dtype = dtypes.least_upper_float(dtypes.promote(self.dtype, b.dtype))
        x, y = [self._new(build.cast(n, dtypes.accumulator_dtype(dtype))) for n in (a, b)]
        y = y.unsqueeze(-1) if vector else y if left else y.mT
        outer = broadcast_shapes("solve", x.shape[:-2], y.shape[:-2])
        sources = [t.broadcast_to((*outer, *t.shape[-2:])).node for t in (x if left else x.mT, y)]
        found = self._new(build.cast(build.extern("solve", *sources)[0], dtype))
        return found.squeeze(-1) if vector else found if left else found.mT

    def solve_triangular(self, B: Any, *, upper: bool, left: bool = True,
                         unitriangular: bool = False) -> Self:
        """`solve` with the upper or lower triangle of this tensor, whose other elements are not read.

        unitriangular: take the diagonal as ones.
        """
        self._matrices("solve_triangular", square=True)
        triangle = self.triu(int(unitriangular)) if upper else self.tril(-int(unitriangular))
        return (triangle._plus_identity() if unitriangular else triangle).solve(B, left=left)

    def _plus_identity(self) -> Self:
        """1 added along the diagonal."""
        below = self._band("matrix_power", 0)
        return (below & below.mT).where(self + 1, self)

    def lstsq(self, B: Any, rcond: float | None = None) -> LeastSquares:
        """X that makes the sum of squares of `self @ X - B` least, and of those the smallest.

        self: (..., m, n). B: a vector (m,) or matrices (..., m, k). Returns the named tuple (solution,
        residuals, rank, singular_values); residuals are sums of squares (..., k) where m > n, else (..., 0).
        rcond: singular values of at most that times the largest count as 0; default max(m, n) * eps.
        """
        rows, columns = self._matrices("lstsq").shape[-2:]
        b = self._new(self._operand(B, "lstsq"))
        vector = b.ndim == 1
        b = b.unsqueeze(-1) if vector else b
        if b.ndim < 2 or b.shape[-2] != rows:
            raise ShapeError(op="lstsq", expected=f"a right side ({rows},) or (..., {rows}, k)",
                             got=str(b.shape))
        solution = self.pinv(rtol=rcond) @ b
        residuals = (self @ solution - b).square().sum(-2)
        if rows <= columns:
            residuals = residuals.narrow(-1, 0, 0)
        return LeastSquares(solution.squeeze(-1) if vector else solution, residuals,
                            self.matrix_rank(rtol=rcond), self.svdvals())

    def pinv(self, *, atol: float | None = None, rtol: float | None = None) -> Self:
        """The pseudoinverse (..., n, m) of matrices (..., m, n).

        Singular values of at most max(atol, rtol * the largest) count as 0. rtol: default max(m, n) * eps
        where there is no atol.
        """
        atol, rtol = self._tolerances("pinv", atol, rtol)
        return self._of_host("pinv", rtol=rtol, atol=atol)[0]

    def _tolerances(self, op: str, atol: float | None, rtol: float | None) -> tuple[float, float]:
        x = self._matrices(op)
        default = max(x.shape[-2:]) * dtypes.finfo(x.dtype).eps if atol is None else 0.0
        return float(atol or 0.0), float(default if rtol is None else rtol)

    # ---- determinants and powers ---------------------------------------------------------------------------
    def det(self) -> Self:
        """The determinant of square matrices (..., n, n), shape (...); its gradient holds for singular ones
        too."""
        return self._of_host("det", square=True)[0]

    def slogdet(self) -> SlogDet:
        """Sign and natural logarithm of the size of the determinant; 0 and -inf of a singular matrix.

        Returns the named tuple (sign, logabsdet), each of shape (...).
        """
        return SlogDet(*self._of_host("slogdet", square=True))

    def logdet(self) -> Self:
        """Natural logarithm of the determinant; NaN where that is negative, -inf where it is 0."""
        sign, size = self.slogdet()
        return (sign < 0).where(math.nan, size)  # type: ignore[no-any-return]

    def matrix_power(self, n: int) -> Self:
        """Square matrices multiplied with themselves; their inverses for a negative `n`."""
        self._matrices("matrix_power", square=True)
        if not isinstance(n, int):
            raise DTypeError(op="matrix_power", expected="an integer power", got=type(n).__name__)
        if n == 0:
            x = self.node
            return self._new(build.const(0, x.dtype, x.device, x.shape))._plus_identity()
        square, power = self if n > 0 else self.inv(), None
        for bit in reversed(f"{abs(n):b}"):
            if bit == "1":
                power = square if power is None else power @ square
            square = square @ square
        assert power is not None
        return power

    def matrix_exp(self) -> Self:
        """The exponential of square matrices: I + x + x @ x / 2 + ..."""
        return self._of_host("matrix_exp", square=True)[0]

    # ---- factorizations ------------------------------------------------------------------------------------
    def cholesky(self, upper: bool = False) -> Self:
        """Lower triangular L of `L @ L.mT`, or its transpose, of symmetric positive definite matrices.

        Only the lower triangle is read; the gradient is symmetric. LinearAlgebraError names a matrix that is
        not positive definite.
        """
        lower = self._of_host("cholesky", square=True)[0]
        return lower.mT if upper else lower

    def qr(self, mode: str = "reduced") -> QR:
        """Orthonormal Q and upper triangular R of matrices (..., m, n): the named tuple (Q, R).

        With k = min(m, n), Q is (..., m, k) and R (..., k, n); mode "complete" makes Q (..., m, m) and R
        (..., m, n), which has no gradient where m > n.
        """
        if mode not in ("reduced", "complete"):
            raise ValueRangeError(op="qr", expected="mode 'reduced' or 'complete'", got=repr(mode))
        return QR(*self._of_host("qr", complete=mode == "complete"))

    def svd(self, full_matrices: bool = True) -> SVD:
        """Singular value decomposition of matrices (..., m, n): the named tuple (U, S, Vh).

        S is (..., k) with k = min(m, n), largest first. U is (..., m, m) and Vh (..., n, n), or (..., m, k)
        and (..., k, n) without `full_matrices`; gradients flow through the first k columns and rows. Those of
        U and Vh are not finite where singular values are equal.
        """
        return SVD(*self._of_host("svd", full=bool(full_matrices)))

    def svdvals(self) -> Self:
        """The singular values (..., min(m, n)) of matrices (..., m, n), largest first."""
        return self._of_host("svdvals")[0]

    def eigh(self, UPLO: str = "L") -> Eigh:
        """Eigenvalues (..., n), smallest first, and eigenvectors (..., n, n) of symmetric matrices.

        Returns the named tuple (eigenvalues, eigenvectors), vectors as columns. UPLO: which triangle is read,
        "L" or "U". Gradients of vectors are not finite where eigenvalues are equal.
        """
        return Eigh(*self._lower("eigh", UPLO)._of_host("eigh", square=True))

    def eigvalsh(self, UPLO: str = "L") -> Self:
        """The eigenvalues (..., n) of symmetric matrices, smallest first."""
        return self._lower("eigvalsh", UPLO)._of_host("eigvalsh", square=True)[0]

    def _lower(self, op: str, triangle: str) -> Self:
        """A tensor whose lower triangle is the one asked for."""
        if triangle.upper() not in ("L", "U"):
            raise ValueRangeError(op=op, expected="UPLO 'L' or 'U'", got=repr(triangle))
        self._matrices(op, square=True)
        return self if triangle.upper() == "L" else self.mT

    # ---- norms ---------------------------------------------------------------------------------------------
    def vector_norm(self, ord: float = 2, dim: Any = None, keepdim: bool = False) -> Self:
        """`norm` with PyTorch's names: of all elements, or along `dim`."""
        return self.norm(ord, dim, keepdim)

    def matrix_norm(self, ord: float | str = "fro", dim: tuple[int, int] = (-2, -1),
                    keepdim: bool = False) -> Self:
        """A norm of matrices, which lie along the two axes `dim`.

        ord: "fro" (root of the sum of squares), "nuc" (sum of singular values), 2 and -2 (largest and
        smallest singular value), 1 and -1 (largest and smallest sum of sizes in a column), inf and -inf (in a
        row).
        """
        first, second = [check_axis("matrix_norm", axis, self.ndim) for axis in dim]
        if first == second:
            raise ShapeError(op="matrix_norm", expected="two different axes", got=str(dim))
        if ord == "fro":
            return self.norm(2, (first, second), keepdim)
        matrices = self.movedim((first, second), (-2, -1))
        if ord in ("nuc", 2, -2):
            values = matrices.svdvals()
            found = values.sum(-1) if ord == "nuc" else values.max(-1) if ord == 2 else values.min(-1)
        elif ord in (1, -1, math.inf, -math.inf):
            sums = matrices.norm(1, -2 if abs(ord) == 1 else -1)
            found = sums.max(-1) if ord > 0 else sums.min(-1)
        else:
            raise ValueRangeError(op="matrix_norm", got=repr(ord),
                                  expected="ord 'fro', 'nuc', 1, 2, inf or a negative of them")
        if not keepdim:
            return found
        return found.reshape([1 if i in (first, second) else dim for i, dim in enumerate(self.shape)])

    def matrix_rank(self, *, atol: float | None = None, rtol: float | None = None) -> Self:
        """How many singular values are larger than max(atol, rtol * the largest), as `pinv` has them."""
        atol, rtol = self._tolerances("matrix_rank", atol, rtol)
        values = self.svdvals()
        largest = values.max(-1, keepdim=True) if values.shape[-1] else values
        return (values > (largest * rtol).maximum(atol)).sum(-1)

    def cond(self, p: float | str | None = None) -> Self:
        """Condition numbers: the largest singular value by the smallest; for another `p` than None and 2,
        `matrix_norm(p)` of square matrices times that of their inverses."""
        if p in (None, 2, -2):
            values = self.svdvals()
            ratio = values.select(-1, 0) / values.select(-1, values.shape[-1] - 1)
            return ratio.reciprocal() if p == -2 else ratio
        return self.matrix_norm(p) * self.inv().matrix_norm(p)
