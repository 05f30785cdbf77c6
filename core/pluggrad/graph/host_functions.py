"""The host functions that EXTERN calls, a row each: what they mean, and the shapes of their results.

Sources are stacks of matrices (..., m, n) of one float dtype, with equal leading axes; results are stacks of
what a row says, of that dtype. A device computes none of this: the runtime calls NumPy (runtime/lapack.py).
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from pluggrad.shape.dims import Shape


class HostFunction(NamedTuple):
    """results: from the last two axes of each source, and attributes, to the trailing shapes of the results.
    requires: what every matrix of the stack has to be."""

    doc: str
    results: Callable[..., tuple[Shape, ...]]
    requires: str = "finite numbers"


def _qr(a: Shape, complete: bool) -> tuple[Shape, ...]:
    m, n = a
    inner = m if complete else min(a)
    return (m, inner), (inner, n)


def _svd(a: Shape, full: bool) -> tuple[Shape, ...]:
    m, n = a
    return ((m, m), (min(a),), (n, n)) if full else ((m, min(a)), (min(a),), (min(a), n))


_INVERTIBLE: Final = "an invertible matrix"
HOST_FUNCTIONS: Final[dict[str, HostFunction]] = {
    "inv": HostFunction("the inverse", lambda a: (a,), _INVERTIBLE),
    "solve": HostFunction("x of a @ x = b", lambda a, b: (b,), _INVERTIBLE),
    "det": HostFunction("the determinant", lambda a: ((),)),
    "cofactor": HostFunction("the gradient of the determinant, of singular matrices too", lambda a: (a,)),
    "slogdet": HostFunction("sign and logarithm of the size of the determinant", lambda a: ((), ())),
    "cholesky": HostFunction("lower l of l @ l.mT = a, whose upper triangle is not read", lambda a: (a,),
                             "a positive definite matrix"),
    "qr": HostFunction("orthonormal q and upper r of q @ r = a", _qr),
    "svd": HostFunction("u, singular values and v.mT", _svd),
    "svdvals": HostFunction("singular values, largest first", lambda a: ((min(a),),)),
    "eigh": HostFunction("eigenvalues, smallest first, and vectors of what the lower triangle tells of a "
                         "symmetric matrix", lambda a: (a[:1], a)),
    "eigvalsh": HostFunction("the eigenvalues of eigh", lambda a: (a[:1],)),
    "pinv": HostFunction("the pseudoinverse; singular values of at most max(atol, rtol * largest) count as 0",
                         lambda a, rtol, atol: (a[::-1],)),
    "matrix_exp": HostFunction("the exponential", lambda a: (a,)),
}
