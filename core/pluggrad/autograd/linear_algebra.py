"""One row per result of a host function: how its gradient passes to each source.

As in rules.py, with graph nodes only, so that gradients of gradients come free. Where singular values or
eigenvalues are equal, the vectors that belong to them have no derivative, and their gradients are not finite.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pluggrad import dtypes
from pluggrad.errors import GradientError
from pluggrad.graph import build, ops
from pluggrad.graph.products import matmul
from pluggrad.ir.node import Node, Op

Rule = Callable[[Node, Node], Node]


# ---- matrices ----------------------------------------------------------------------------------------------
def _t(x: Node) -> Node:
    """The transpose of each matrix."""
    rank = len(x.shape)
    return build.permute(x, (*range(rank - 2), rank - 1, rank - 2))


def _plus(x: Node, y: Node) -> Node:
    return build.binary(ops.ADD, x, y)


def _minus(x: Node, y: Node) -> Node:
    return build.binary(ops.SUB, x, y)


def _times(x: Node, y: Node) -> Node:
    return build.binary(ops.MUL, x, y)


def _negative(x: Node) -> Node:
    return build.unary(ops.NEG, x)


def _chain(*factors: Node) -> Node:
    """The product of matrices, from the left."""
    product = factors[0]
    for factor in factors[1:]:
        product = matmul(product, factor)
    return product


def _row(x: Node) -> Node:
    """A vector that scales the columns of a matrix it is multiplied with."""
    return build.reshape(x, (*x.shape[:-1], 1, x.shape[-1]))


def _column(x: Node) -> Node:
    """A vector that scales the rows."""
    return build.reshape(x, (*x.shape, 1))


def _number(x: Node) -> Node:
    """A scalar that scales a whole matrix."""
    return build.reshape(x, (*x.shape, 1, 1))


def _part(x: Node, rows: tuple[int, int], columns: tuple[int, int]) -> Node:
    """Rows and columns from a start to an end."""
    outer = [(0, dim, 1) for dim in x.shape[:-2]]
    return build.slice(x, (*outer, *[(start, end - start, 1) for start, end in (rows, columns)]))


def _beside(x: Node, y: Node) -> Node:
    """Columns of `x`, then those of `y`."""
    return _plus(_placed(x, 0, 0, x.shape[-2], x.shape[-1] + y.shape[-1]),
                 _placed(y, 0, x.shape[-1], x.shape[-2], x.shape[-1] + y.shape[-1]))


def _placed(x: Node, row: int, column: int, rows: int, columns: int) -> Node:
    """`x` within zeros."""
    around = [(0, 0)] * (len(x.shape) - 2)
    return build.pad(x, (*around, (row, rows - row - x.shape[-2]), (column, columns - column - x.shape[-1])))


def _kept(relation: Op, x: Node, otherwise: float = 0.0) -> Node:
    """`x` where the column number has this relation to the row number: LT is below the diagonal."""
    rows, columns = [build.iota(size, dtypes.int32, x.device) for size in x.shape[-2:]]
    mask = build.broadcast_to(build.binary(relation, columns, _column(rows)), x.shape)
    return build.where(mask, x, build.const(otherwise, x.dtype, x.device, x.shape))


def _solve(a: Node, b: Node) -> Node:
    return build.extern("solve", a, b)[0]


def _inverse(a: Node) -> Node:
    return build.extern("inv", a)[0]


def _times_inverse(x: Node, a: Node) -> Node:
    """x @ inverse of a."""
    return _t(_solve(_t(a), _t(x)))


# ---- inverses and determinants -----------------------------------------------------------------------------
def _inv(g: Node, n: Node) -> Node:
    return _negative(_chain(_t(n), g, _t(n)))


def _solve_right(g: Node, n: Node) -> Node:
    return _solve(_t(n.src[0]), g)


def _solve_matrix(g: Node, n: Node) -> Node:
    return _negative(matmul(_solve_right(g, n), _t(n)))


def _det(g: Node, n: Node) -> Node:
    return _times(_number(g), build.extern("cofactor", n.src[0])[0])


def _cofactor(g: Node, n: Node) -> Node:
    """As the gradient of det(a) * inv(a).mT, so for invertible matrices only."""
    inverse = _t(_inverse(n.src[0]))
    scale = _number(build.reduce(ops.SUM, _times(g, n), (-2, -1)))
    return _minus(_times(scale, inverse), _chain(inverse, _t(g), n))


def _logdet(g: Node, n: Node) -> Node:
    return _times(_number(g), _t(_inverse(n.src[0])))


def _pinv(g: Node, n: Node) -> Node:
    """Golub and Pereyra: right while the rank stays."""
    a = n.src[0]
    from_left, from_right = _chain(_t(g), n, _t(n)), _chain(_t(n), n, _t(g))
    outside = _plus(_minus(from_left, _chain(a, n, from_left)), _minus(from_right, _chain(from_right, n, a)))
    return _minus(outside, _chain(_t(n), g, _t(n)))


def _matrix_exp(g: Node, n: Node) -> Node:
    """The upper right block of exp([[a.mT, g], [0, a.mT]])."""
    a, size = _t(n.src[0]), g.shape[-1]
    corners = _plus(_placed(a, 0, 0, 2 * size, 2 * size), _placed(a, size, size, 2 * size, 2 * size))
    block = _plus(corners, _placed(g, 0, size, 2 * size, 2 * size))
    return _part(build.extern("matrix_exp", block)[0], (0, size), (size, 2 * size))


# ---- factorizations ----------------------------------------------------------------------------------------
def _cholesky(g: Node, n: Node) -> Node:
    """Symmetric, as the matrix is taken to be."""
    inner = matmul(_t(n), g)
    half = _minus(_kept(ops.LE, inner), _halved(_kept(ops.EQ, inner)))
    found = _t(_solve(_t(n), _t(_solve(_t(n), half))))
    return _halved(_plus(found, _t(found)))


def _halved(x: Node) -> Node:
    return _times(x, build.const(0.5, x.dtype, x.device, x.shape))


def _qr_of(q: Node, r: Node, g_q: Node | None, g_r: Node | None) -> Node:
    """Of as many columns as `r` has rows."""
    inner = None if g_r is None else matmul(r, _t(g_r))
    if g_q is not None:
        from_q = _negative(matmul(_t(g_q), q))
        inner = from_q if inner is None else _plus(inner, from_q)
    assert inner is not None
    symmetric = _plus(_kept(ops.LE, inner), _t(_kept(ops.LT, inner)))
    found = matmul(q, symmetric)
    return _times_inverse(found if g_q is None else _plus(g_q, found), _t(r))


def _qr_factors(n: Node) -> tuple[Node, Node]:
    q, r = build.results_of(n)
    if q.shape[-1] > r.shape[-1]:
        raise GradientError(op="qr", expected="mode 'reduced', whose columns all depend on the matrix",
                            got=f"q of shape {q.shape} and r of {r.shape}")
    return q, r


def _qr_q(g: Node, n: Node) -> Node:
    q, r = _qr_factors(n)
    rows, columns = r.shape[-2:]
    found = _qr_of(q, _part(r, (0, rows), (0, rows)), g, None)
    return _placed(found, 0, 0, q.shape[-2], columns)


def _qr_r(g: Node, n: Node) -> Node:
    """Columns beyond the square of a wide matrix depend on q, and so on the square."""
    q, r = _qr_factors(n)
    rows, columns = r.shape[-2:]
    square, g_square = [_part(x, (0, rows), (0, rows)) for x in (r, g)]
    if rows == columns:
        return _qr_of(q, square, None, g)
    rest, g_rest = [_part(x, (0, x.shape[-2]), (rows, columns)) for x in (n.src[0], g)]
    return _beside(_qr_of(q, square, matmul(rest, _t(g_rest)), g_square), matmul(q, g_rest))


def _svd_factors(n: Node) -> tuple[Node, Node, Node]:
    """u (m, k), the singular values (k) and v (n, k): the columns that depend on the matrix."""
    u, s, vt = build.results_of(n)
    return _thin(u, s), s, _thin(_t(vt), s)


def _thin(x: Node, values: Node) -> Node:
    return _part(x, (0, x.shape[-2]), (0, values.shape[-1]))


def _svd_values(g: Node, n: Node) -> Node:
    u, _, v = _svd_factors(n)
    return matmul(_times(u, _row(g)), _t(v))


def _svd_vectors(g: Node, x: Node, s: Node) -> tuple[Node, Node]:
    """Of u: what reaches (..., m, k) before v.mT, within the space of u and outside of it."""
    turned = matmul(_t(x), g)
    within = build.binary(ops.DIV, _minus(turned, _t(turned)), _gaps(_times(s, s)))
    outside = _minus(g, matmul(x, turned))
    return within, build.binary(ops.DIV, outside, _row(s))


def _svd_u(g: Node, n: Node) -> Node:
    u, s, v = _svd_factors(n)
    within, outside = _svd_vectors(_thin(g, s), u, s)
    left = matmul(u, _times(within, _row(s)))
    return matmul(_plus(left, outside) if u.shape[-2] > s.shape[-1] else left, _t(v))


def _svd_vt(g: Node, n: Node) -> Node:
    u, s, v = _svd_factors(n)
    within, outside = _svd_vectors(_thin(_t(g), s), v, s)
    right = matmul(_times(_column(s), within), _t(v))
    return matmul(u, _plus(right, _t(outside)) if v.shape[-2] > s.shape[-1] else right)


def _svdvals(g: Node, n: Node) -> Node:
    return _svd_values(g, build.extern("svd", n.src[0], full=False)[1])


def _eigh_values(g: Node, n: Node) -> Node:
    _, vectors = build.results_of(n)
    return matmul(_times(vectors, _row(g)), _t(vectors))


def _eigh_vectors(g: Node, n: Node) -> Node:
    values, vectors = build.results_of(n)
    turned = build.binary(ops.DIV, _kept(ops.NE, matmul(_t(vectors), g)), _gaps(values))
    return _chain(vectors, turned, _t(vectors))


def _eigvalsh(g: Node, n: Node) -> Node:
    return _eigh_values(g, build.extern("eigh", n.src[0])[0])


def _gaps(values: Node) -> Node:
    """Value of the column minus value of the row; 1 on the diagonal."""
    return _kept(ops.NE, _minus(*[build.broadcast_to(x, (*values.shape, values.shape[-1]))
                                  for x in (_row(values), _column(values))]), 1.0)


HOST_RULES: Final[dict[tuple[str, int], tuple[Rule | None, ...]]] = {
    ("inv", 0): (_inv,),
    ("solve", 0): (_solve_matrix, _solve_right),
    ("det", 0): (_det,),
    ("cofactor", 0): (_cofactor,),
    ("slogdet", 0): (None,),  # the sign
    ("slogdet", 1): (_logdet,),
    ("cholesky", 0): (_cholesky,),
    ("qr", 0): (_qr_q,),
    ("qr", 1): (_qr_r,),
    ("svd", 0): (_svd_u,),
    ("svd", 1): (_svd_values,),
    ("svd", 2): (_svd_vt,),
    ("svdvals", 0): (_svdvals,),
    ("eigh", 0): (_eigh_values,),
    ("eigh", 1): (_eigh_vectors,),
    ("eigvalsh", 0): (_eigvalsh,),
    ("pinv", 0): (_pinv,),
    ("matrix_exp", 0): (_matrix_exp,),
}
