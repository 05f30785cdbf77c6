"""Rows of linear algebra."""

from __future__ import annotations

import numpy as np

from pluggrad import Tensor
from pluggrad.errors import AxisError, PluggradError, ShapeError
from tests.unit.api.rows import Make, Row, uniform


def well_conditioned(*shape: int) -> Make:
    """Square matrices with a heavy diagonal."""
    return lambda rng: rng.uniform(-1, 1, shape) + 3 * np.eye(shape[-1])


def symmetric(x):
    """Symmetric, with eigenvalues apart."""
    return x + x.swapaxes(-1, -2) + np.diag([0.0, 4.0, 9.0])


def symmetric_tensor(x):
    return x + x.mT + Tensor(np.diag([0.0, 4.0, 9.0]), dtype=x.dtype)


def signed(vectors):
    """Columns by the sign of their first element, which no convention fixes."""
    first = vectors[..., :1, :]
    return vectors * (first / abs(first))


def square(name, reference, call=None, **fields):
    """Of square matrices; another shape is refused."""
    fields = {"error": lambda x: (call or getattr(Tensor, name))(x[..., :2]), "raises": ShapeError} | fields
    return Row(name, reference, (well_conditioned(2, 3, 3),), call=call, **fields)


def product(name, reference, x=(2, 3), y=(3, 4), **fields):
    inputs = (uniform(*x), uniform(*y))
    fields = {"error": lambda a, b: getattr(a, name)(Tensor.ones(7, 7)), "raises": ShapeError} | fields
    return Row(name, reference, inputs, ints="same", **fields)


def eigh(x):
    values, vectors = np.linalg.eigh(symmetric(x))
    return values, signed(vectors)


def eigh_of_tensor(x):
    values, vectors = symmetric_tensor(x).eigh()
    return values, signed(vectors)


def svd(x):
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    return u * np.sign(u[..., :1, :]), s, vh * np.sign(u[..., 0, :])[..., None]


def svd_of_tensor(x):
    u, s, vh = x.svd(full_matrices=False)
    sign = u[..., :1, :].sign().detach()
    return u * sign, s, vh * sign.mT


def qr(x):
    q, r = np.linalg.qr(x)
    sign = np.sign(np.diagonal(r, axis1=-2, axis2=-1))
    return q * sign[..., None, :], r * sign[..., None]


def qr_of_tensor(x):
    q, r = x.qr()
    sign = r.diagonal(0, -2, -1).sign().detach()
    return q * sign.unsqueeze(-2), r * sign.unsqueeze(-1)


def iterated(x, params=(2.0, -1.5, 0.5), steps=2):
    """x -> a x + b (x x') x + c (x x')^2 x, after a division by the Frobenius norm."""
    y = x / (np.linalg.norm(x) + 1e-7)
    for _ in range(steps):
        g = y @ y.T
        y = params[0] * y + params[1] * g @ y + params[2] * g @ g @ y
    return y


ROWS = [
    product("dot", np.dot),
    product("matmul", np.matmul, (2, 2, 3), (3, 4)),
    product("mm", np.matmul),
    product("bmm", np.matmul, (2, 2, 3), (2, 3, 4)),
    product("outer", np.outer, (3,), (4,)),
    product(
        "kron", np.kron, (2, 2), (2, 3), error=lambda x, y: x.kron(np.array(["a"])), raises=PluggradError
    ),
    product(
        "tensordot",
        lambda x, y: np.tensordot(x, y, 1),
        call=lambda x, y: x.tensordot(y, 1),
        error=lambda x, y: x.tensordot(y, 2),
    ),
    Row(
        "einsum",
        lambda x, y: np.einsum("ij,jk->k", x, y),
        (uniform(2, 3), uniform(3, 4)),
        ints="same",
        call=lambda x, y: Tensor.einsum("ij,jk->k", x, y),
        error=lambda x, y: Tensor.einsum("ij,jj->k", x, y),
    ),
    Row("trace", np.trace, (uniform(3, 3),), ints="same", error=lambda x: x[0].trace(), raises=AxisError),
    square("inv", np.linalg.inv),
    square("det", np.linalg.det),
    square("matrix_power", lambda x: np.linalg.matrix_power(x, 3), lambda x: x.matrix_power(3)),
    square(
        "cholesky",
        lambda x: np.linalg.cholesky(x @ x.swapaxes(-1, -2)),
        lambda x: (x @ x.mT).cholesky(),
        error=lambda x: x[..., :2].cholesky(),
    ),
    square("eigh", eigh, eigh_of_tensor, order=1, error=lambda x: x[..., :2].eigh()),
    Row(
        "solve",
        lambda a, b: np.linalg.solve(a, b),
        (well_conditioned(2, 3, 3), uniform(2, 3, 2)),
        error=lambda a, b: a[..., :2].solve(b),
        raises=ShapeError,
    ),
    Row(
        "lstsq",
        lambda a, b: np.linalg.lstsq(a, b, rcond=None)[0],
        (uniform(5, 3), uniform(5, 2)),
        call=lambda a, b: a.lstsq(b)[0],
        order=1,
        error=lambda a, b: a.lstsq(b[:2]),
        raises=ShapeError,
    ),
    Row(
        "qr",
        qr,
        (uniform(2, 4, 3),),
        call=qr_of_tensor,
        order=1,
        error=lambda x: x[0, 0].qr(),
        raises=ShapeError,
    ),
    Row(
        "svd",
        svd,
        (uniform(2, 4, 3),),
        call=svd_of_tensor,
        order=1,
        error=lambda x: x[0, 0].svd(),
        raises=ShapeError,
    ),
    Row(
        "newton_schulz",
        iterated,
        (uniform(3, 4),),
        call=lambda x: x.newton_schulz(2, (2.0, -1.5, 0.5)),
        error=lambda x: x[0].newton_schulz(2, (2.0, -1.5, 0.5)),
    ),
]
