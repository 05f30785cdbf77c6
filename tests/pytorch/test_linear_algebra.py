"""Linear algebra, einsum, attention and interpolate beside PyTorch's, with gradients and second gradients."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor
from tests.pytorch.compare import compare, draw

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("device")]

A, B = draw(2, 3, 3), draw(2, 3, 2)
TALL, WIDE = draw(4, 3), draw(3, 4)


def in_torch(function):
    import torch

    def apply(x, *rest):
        return function(torch, x, *rest)

    return apply


CASES = {
    "inv": (lambda x: x.inv(), lambda t, x: t.linalg.inv(x), A),
    "solve": (lambda x, y: x.solve(y), lambda t, x, y: t.linalg.solve(x, y), A, B),
    "det": (lambda x: x.det(), lambda t, x: t.linalg.det(x), A),
    "logabsdet": (lambda x: x.slogdet()[1], lambda t, x: t.linalg.slogdet(x)[1], A),
    "cholesky": (lambda x: (x @ x.mT + Tensor.eye(3, dtype="float64")).cholesky(),
                 lambda t, x: t.linalg.cholesky(x @ x.mT + t.eye(3, dtype=x.dtype)), A),
    "tall qr": (lambda x: x.qr()[0] @ x.qr()[1].sin(),
                lambda t, x: t.linalg.qr(x)[0] @ t.linalg.qr(x)[1].sin(), TALL),
    "wide qr": (lambda x: x.qr()[1], lambda t, x: t.linalg.qr(x)[1], WIDE),
    "svd": (lambda x: (x.svd(False)[0] * x.svd(False)[1].sin()) @ x.svd(False)[2],
            lambda t, x: (lambda u, s, v: (u * s.sin()) @ v)(*t.linalg.svd(x, full_matrices=False)), TALL),
    "full svd": (lambda x: x.svd()[1], lambda t, x: t.linalg.svdvals(x), TALL),
    "eigh": (lambda x: (lambda w, v: (v * w.sin().unsqueeze(-2)) @ v.mT)(*(x + x.mT).eigh()),
             lambda t, x: (lambda w, v: (v * w.sin().unsqueeze(-2)) @ v.mT)(*t.linalg.eigh(x + x.mT)), A),
    "eigvalsh": (lambda x: (x + x.mT).eigvalsh(), lambda t, x: t.linalg.eigvalsh(x + x.mT), A),
    "pinv": (lambda x: x.pinv(), lambda t, x: t.linalg.pinv(x), TALL),
    "lstsq": (lambda x, y: x.lstsq(y).solution, lambda t, x, y: t.linalg.lstsq(x, y).solution, TALL,
              draw(4, 2, seed=1)),
    "matrix_exp": (lambda x: x.matrix_exp(), lambda t, x: t.linalg.matrix_exp(x), A),
    "matrix_power": (lambda x: x.matrix_power(-2), lambda t, x: t.linalg.matrix_power(x, -2), A),
    "solve_triangular": (lambda x, y: x.solve_triangular(y, upper=False),
                         lambda t, x, y: t.linalg.solve_triangular(x, y, upper=False), A, B),
    "nuclear norm": (lambda x: x.matrix_norm("nuc"), lambda t, x: t.linalg.matrix_norm(x, "nuc"), TALL),
    "norm 2": (lambda x: x.matrix_norm(2), lambda t, x: t.linalg.matrix_norm(x, 2), TALL),
    "norm 3": (lambda x: x.vector_norm(3, -1), lambda t, x: t.linalg.vector_norm(x, 3, -1), TALL),
    "cond": (lambda x: x.cond(), lambda t, x: t.linalg.cond(x), A),
    "cross": (lambda x, y: x.cross(y), lambda t, x, y: t.linalg.cross(x, y), A[0], A[1]),
    "vecdot": (lambda x, y: x.vecdot(y), lambda t, x, y: t.linalg.vecdot(x, y), A[0], A[1]),
    "kron": (lambda x, y: x.kron(y), lambda t, x, y: t.kron(x, y), TALL, draw(2)),
    "diag_embed": (lambda x: x.diag_embed(-1, 0, 2), lambda t, x: t.diag_embed(x, -1, 0, 2), TALL),
    "einsum": (lambda x, y: Tensor.einsum("bij,bjk,bil->kl", x, y, x),
               lambda t, x, y: t.einsum("bij,bjk,bil->kl", x, y, x), A, B),
    "einsum of diagonals": (lambda x: Tensor.einsum("...ii->...i", x),
                            lambda t, x: t.einsum("...ii->...i", x), A),
}


@pytest.mark.parametrize("name", CASES)
def test_linear_algebra(name):
    ours, theirs, *arrays = CASES[name]
    compare(ours, in_torch(theirs), *arrays, dtype="float64")


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"scale": 0.3}, {"enable_gqa": True}], ids=str)
def test_attention(options):
    import torch

    heads = 2 if options.get("enable_gqa") else 4
    arrays = draw(1, 4, 3, 8), draw(1, heads, 5, 8, seed=1), draw(1, heads, 5, 2, seed=2)
    compare(lambda q, k, v: q.scaled_dot_product_attention(k, v, **options),
            lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v, **options), *arrays,
            dtype="float64")


@pytest.mark.parametrize("added", [False, True])
def test_queries_that_see_nothing(added):
    import torch

    mask = np.array([[True, False, True], [False, False, False]])
    given = np.where(mask, 0.5, -np.inf) if added else mask
    arrays = draw(2, 4), draw(3, 4, seed=1), draw(3, 2, seed=2)
    compare(lambda q, k, v: q.scaled_dot_product_attention(k, v, Tensor(given)),
            lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v, torch.tensor(given)),
            *arrays, dtype="float64", order=1)


IMAGE = (1, 1, 4, 5)
SMOOTH = {"linear": (1, 2, 5), "bilinear": IMAGE, "trilinear": (1, 1, 3, 2, 3), "bicubic": IMAGE}
SHAPES = {**SMOOTH, "nearest": (1, 2, 5), "nearest-exact": IMAGE, "area": IMAGE}


def resized(shape, mode, size=None, **options):
    import torch

    resize = torch.nn.functional.interpolate
    compare(lambda x: x.interpolate(size, mode, **options), lambda x: resize(x, size, mode=mode, **options),
            draw(*shape), dtype="float64", order=1)


@pytest.mark.parametrize("mode", SHAPES)
@pytest.mark.parametrize("factor", [0.6, 1.5, 2])
def test_interpolate(mode, factor):
    shape = SHAPES[mode]
    size = tuple([int(dim * factor) for dim in shape[2:]])
    resized(shape, mode, size)
    if mode in SMOOTH:
        resized(shape, mode, size, align_corners=True)
    if mode != "area":
        resized(shape, mode, scale_factor=factor)
