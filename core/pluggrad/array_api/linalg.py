"""The extension `linalg`: matrices in the last two axes, others are batches."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from pluggrad.array_api.arguments import Axes, array
from pluggrad.array_api.data_types import result_type
from pluggrad.array_api.manipulation import matrix_transpose
from pluggrad.dtypes import DType
from pluggrad.errors import ShapeError
from pluggrad.shape.broadcast import check_axis
from pluggrad.tensor import Tensor


class Eigh(NamedTuple):
    """eigenvalues: ascending. eigenvectors: in columns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class QR(NamedTuple):
    """Q: orthonormal columns. R: upper triangular."""

    Q: Tensor
    R: Tensor


class Slogdet(NamedTuple):
    """sign: of the determinant. logabsdet: the logarithm of its magnitude."""

    sign: Tensor
    logabsdet: Tensor


class SVD(NamedTuple):
    """U, S (descending) and Vh, whose product is the matrix."""

    U: Tensor
    S: Tensor
    Vh: Tensor


def matmul(x1: Tensor, x2: Tensor, /) -> Tensor:
    """Matrix product; a vector is a row on the left and a column on the right."""
    return array("matmul", x1).matmul(array("matmul", x2)).cast(result_type(x1, x2))


def vecdot(x1: Tensor, x2: Tensor, /, *, axis: int = -1) -> Tensor:
    """Sums of products along an axis, counted from the end of both; other axes broadcast."""
    if not -min(array("vecdot", x1).ndim, array("vecdot", x2).ndim) <= axis < 0:
        check_axis("vecdot", axis, 0)
    if x1.shape[axis] != x2.shape[axis]:
        raise ShapeError(op="vecdot", expected=f"equal sizes along axis {axis}",
                         got=f"{x1.shape[axis]} and {x2.shape[axis]}")
    return (x1 * x2).sum(axis, dtype=result_type(x1, x2))


def tensordot(x1: Tensor, x2: Tensor, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Tensor:
    """Sums of products over the last axes of `x1` and the first of `x2`, or over pairs of axes."""
    return array("tensordot", x1).tensordot(array("tensordot", x2), axes).cast(result_type(x1, x2))


def outer(x1: Tensor, x2: Tensor, /) -> Tensor:
    """Products of each element of one vector with each of another."""
    return array("outer", x1).outer(array("outer", x2))


def cross(x1: Tensor, x2: Tensor, /, *, axis: int = -1) -> Tensor:
    """Cross products of vectors of 3 along an axis, counted from the end of both; others broadcast."""
    last = [array("cross", x).movedim(axis, -1) for x in (x1, x2)]
    if any(x.shape[-1] != 3 for x in last):
        raise ShapeError(op="cross", expected=f"size 3 along axis {axis}", got=f"{x1.shape} and {x2.shape}")
    (a, b, c), (d, e, f) = (x.unbind(-1) for x in last)
    return (b * f - c * e).stack(c * d - a * f, a * e - b * d, dim=-1).movedim(-1, axis)


def trace(x: Tensor, /, *, offset: int = 0, dtype: DType | None = None) -> Tensor:
    """Sums along the diagonal, or the `offset`-th above it."""
    return diagonal(x, offset=offset).sum(-1, dtype=dtype)


def diagonal(x: Tensor, /, *, offset: int = 0) -> Tensor:
    """The diagonal, or the `offset`-th above it, as the last axis."""
    return array("diagonal", x).diagonal(offset, -2, -1)


def cholesky(x: Tensor, /, *, upper: bool = False) -> Tensor:
    """The triangular factor of symmetric, positive definite matrices."""
    return array("cholesky", x).cholesky(upper=upper)


def det(x: Tensor, /) -> Tensor:
    """Determinants."""
    return array("det", x).det()


def slogdet(x: Tensor, /) -> Slogdet:
    """Determinants as sign and logarithm, which do not overflow."""
    return Slogdet(*array("slogdet", x).slogdet())


def eigh(x: Tensor, /) -> Eigh:
    """Eigenvalues and eigenvectors of symmetric matrices."""
    return Eigh(*array("eigh", x).eigh())


def eigvalsh(x: Tensor, /) -> Tensor:
    """Eigenvalues of symmetric matrices, ascending."""
    return eigh(x).eigenvalues


def inv(x: Tensor, /) -> Tensor:
    """Inverse matrices."""
    return array("inv", x).inv()


def pinv(x: Tensor, /, *, rtol: Any = None) -> Tensor:
    """Pseudo-inverses; singular values up to `rtol` times the largest count as 0."""
    return array("pinv", x).pinv(rtol=rtol)


def solve(x1: Tensor, x2: Tensor, /) -> Tensor:
    """What `x1` has to be multiplied with to give `x2`: a vector, or matrices."""
    return array("solve", x1).solve(array("solve", x2))


def qr(x: Tensor, /, *, mode: Literal["reduced", "complete"] = "reduced") -> QR:
    """A product of orthonormal columns and an upper triangle."""
    return QR(*array("qr", x).qr(mode=mode))


def svd(x: Tensor, /, *, full_matrices: bool = True) -> SVD:
    """Singular value decomposition."""
    return SVD(*array("svd", x).svd(full_matrices=full_matrices))


def svdvals(x: Tensor, /) -> Tensor:
    """Singular values, descending."""
    return svd(x, full_matrices=False).S


def matrix_power(x: Tensor, n: int, /) -> Tensor:
    """Square matrices multiplied with themselves; negative powers invert first."""
    return array("matrix_power", x).matrix_power(n)


def matrix_rank(x: Tensor, /, *, rtol: Any = None) -> Tensor:
    """How many singular values are larger than `rtol` times the largest."""
    return array("matrix_rank", x).matrix_rank(rtol=rtol)


def matrix_norm(x: Tensor, /, *, keepdims: bool = False,
                ord: float | Literal["fro", "nuc"] | None = "fro") -> Tensor:
    """Norms of matrices: "fro" (or None), "nuc", 1, -1, 2, -2, inf or -inf."""
    return array("matrix_norm", x).matrix_norm(ord="fro" if ord is None else ord, keepdim=keepdims)


def vector_norm(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False, ord: float = 2) -> Tensor:
    """Norms of vectors of any order along axes, or of all elements with None."""
    return array("vector_norm", x).norm(ord, axis, keepdims)


__all__ = ["cholesky", "cross", "det", "diagonal", "eigh", "eigvalsh", "inv", "matmul", "matrix_norm",
           "matrix_power", "matrix_rank", "matrix_transpose", "outer", "pinv", "qr", "slogdet", "solve",
           "svd", "svdvals", "tensordot", "trace", "vecdot", "vector_norm"]
