"""The rows of graph/host_functions.py on NumPy arrays, and their errors."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pluggrad.errors import LinearAlgebraError
from pluggrad.graph.host_functions import HOST_FUNCTIONS
from pluggrad.graph.ops import HostCall

Array = npt.NDArray[Any]


def call(host_call: HostCall, arrays: Sequence[Array]) -> tuple[Array, ...]:
    """All results of a host function; LinearAlgebraError names the function and the matrix at fault."""
    name, attributes = host_call.function, dict(host_call.attributes)

    def compute(*matrices: Array) -> Any:
        with np.errstate(all="ignore"):  # what overflows or divides by 0 is in the result
            return _FUNCTIONS[name](*matrices, **attributes)

    try:
        found = compute(*arrays)
    except np.linalg.LinAlgError as error:
        place = _first_failing(compute, arrays)
        which = "" if not place else f" at {place} of the batch"
        raise LinearAlgebraError(
            op=name, expected=HOST_FUNCTIONS[name].requires, got=f"{str(error).lower().rstrip('.')}{which}"
        ) from None
    return found if isinstance(found, tuple) else (found,)


def _first_failing(compute: Callable[..., Any], arrays: Sequence[Array]) -> tuple[int, ...]:
    for place in np.ndindex(arrays[0].shape[:-2]):
        try:
            compute(*[array[place] for array in arrays])
        except np.linalg.LinAlgError:
            return place
    return ()


def _cofactor(a: Array) -> Array:
    """det(u) det(v) u diag(products of the other singular values) v.mT."""
    if a.shape[-1] == 0:
        return a
    u, s, vt = np.linalg.svd(a)
    others = np.where(np.eye(s.shape[-1], dtype=bool), 1, s[..., None, :]).prod(-1)
    signs = np.linalg.det(u) * np.linalg.det(vt)
    return np.asarray((u * (others * signs[..., None])[..., None, :]) @ vt)


def _svd(a: Array, full: bool) -> tuple[Array, ...]:
    return tuple(np.linalg.svd(a, full_matrices=full))


def _pinv(a: Array, rtol: float, atol: float) -> Array:
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    cutoff = np.maximum(rtol * s.max(-1, keepdims=True, initial=0), atol)
    inverse = np.where(s > cutoff, 1 / s, 0)
    return np.asarray(np.swapaxes(vt, -1, -2) @ (inverse[..., None] * np.swapaxes(u, -1, -2)))


# coefficients of the Pade approximant of degree 13 of exp, and the norm up to which it is exact in float64
_PADE: Final = tuple([math.comb(13, k) * math.factorial(26 - k) // math.factorial(13) for k in range(14)])
_PADE_NORM: Final = 5.37


def _matrix_exp(a: Array) -> Array:
    """Scaling and squaring with a Pade approximant (Higham 2005)."""
    if a.size == 0:
        return a
    wide = a.astype(np.float64)
    norm = np.abs(wide).sum(-2).max(-1)
    halvings = np.ceil(np.log2(np.maximum(norm / _PADE_NORM, 1)))
    halvings = np.where(np.isfinite(halvings), halvings, 0)
    wide = wide / np.exp2(halvings)[..., None, None]
    square, power = wide @ wide, np.broadcast_to(np.eye(a.shape[-1]), wide.shape)
    even, odd = np.zeros_like(wide), np.zeros_like(wide)
    for k in range(0, 14, 2):
        even, odd, power = even + _PADE[k] * power, odd + _PADE[k + 1] * power, power @ square
    odd = wide @ odd
    result = np.linalg.solve(even - odd, even + odd)
    for step in range(int(halvings.max())):
        result = np.where((step < halvings)[..., None, None], result @ result, result)
    return np.asarray(result, a.dtype)


_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "inv": np.linalg.inv,
    "solve": np.linalg.solve,
    "det": np.linalg.det,
    "cofactor": _cofactor,
    "slogdet": lambda a: tuple(np.linalg.slogdet(a)),
    "cholesky": np.linalg.cholesky,
    "qr": lambda a, complete: tuple(np.linalg.qr(a, "complete" if complete else "reduced")),
    "svd": _svd,
    "svdvals": lambda a: np.linalg.svd(a, compute_uv=False),
    "eigh": lambda a: tuple(np.linalg.eigh(a)),
    "eigvalsh": np.linalg.eigvalsh,
    "pinv": _pinv,
    "matrix_exp": _matrix_exp,
}
