"""Matrix units: products as precise as their factors, of whatever sizes, however they lie in memory."""
from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from pluggrad import dtypes
from pluggrad.config import Context
from pluggrad.kernel.tolerance import FORMATS
from pluggrad.tensor import Tensor
from pluggrad.testing.conformance import samples
from pluggrad.testing.conformance.reference import Array, rounded
from pluggrad.testing.conformance.registry import conformance, product
from pluggrad.testing.conformance.requirement import Requirement, requires
from pluggrad.testing.conformance.subject import Subject

INPUTS: Final = ("float16", "bfloat16", "float32")
# a block or two; a remainder along each axis; more blocks, and more steps than panels hold at a time
SIZES: Final = tuple(map(samples.Sizes, ((128, 128, 128), (129, 165, 67), (192, 256, 264))))
_SPACING: Final = FORMATS["float32"].spacing
_BITS: Final = 13  # of a float32 that are rounded away where it is multiplied
_LOST: Final = {"float32": _SPACING * 2.0**_BITS * 1.001}  # of a product, by rounding its factors


def _needs(dtype: str, **_: object) -> Requirement:
    return requires(dtype=(dtype, "float32"), matrix_unit=dtype)


def _drawn(dtype: str, *shapes: tuple[int, ...]) -> list[Array]:
    rng = samples.seeded("matrix-units", dtype, *map(str, shapes))
    return [rounded(rng.uniform(-1, 1, shape), dtypes.by_name(dtype)) for shape in shapes]


def _whole(*shapes: tuple[int, ...]) -> list[Array]:
    """Numbers that every format holds, and whose sums are exact."""
    rng = samples.seeded("matrix-units", *map(str, shapes))
    return [rng.integers(-3, 4, shape).astype(np.float32) for shape in shapes]


def _wide(x: Tensor, y: Tensor) -> Tensor:
    """Their product in float32."""
    return x.float() @ y.float()


def _values(x: Tensor) -> Array:
    """Computed where float32 may be rounded to be multiplied."""
    with Context(MATMUL_PRECISION="tf32"):
        return x.numpy()


def _expect(subject: Subject, have: Tensor, a: Array, b: Array, dtype: str, *, added: Array | float = 0.0,
            then: Callable[[Array], Array] = np.array, op: str) -> None:
    """That a product of factors of `dtype`, with something added, is as near as its precision allows.

    then: is done with the sum, and moves no two values further apart. Each step of a sum, in float32, may
    cut off a spacing of all that is in it; so may the result, once.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    want, form = then(a @ b + added), FORMATS[have.dtype.name]
    lost = (_LOST.get(dtype, 0.0) + _SPACING * a.shape[-1]) * (np.abs(a) @ np.abs(b) + np.abs(added))
    bound = lost + form.spacing * (np.abs(want) + form.smallest_normal)
    subject.expect_within(_values(have), want, bound, have.dtype, op=f"{op} of {dtype}")


@conformance("L4", "matrix-units/products", cases=product(
    dtype=INPUTS, size=SIZES, transposed=samples.TRANSPOSED), requires=_needs,
    suggests="elements of a panel, or of the sums, are not where the matrix unit takes them to be")
def products(subject: Subject, dtype: str, size: samples.Sizes, transposed: str) -> None:
    """(m, k) by (k, n), either operand read the other way round, kept in float32 or rounded."""
    a, b = _drawn(dtype, *samples.stored_shapes(size, transposed))
    x, y = samples.as_multiplied(subject.tensor(a, dtype), subject.tensor(b, dtype), transposed)
    a, b = samples.as_multiplied(a, b, transposed)
    _expect(subject, _wide(x, y), a, b, dtype, op=f"matmul {size}, in float32,")
    if dtype != "float32":
        _expect(subject, x @ y, a, b, dtype, op=f"matmul {size}")


@conformance("L4", "matrix-units/stacks", cases=product(dtype=INPUTS), requires=_needs,
             suggests="a stack of products by a matrix unit reads or stores a wrong matrix")
def stacks(subject: Subject, dtype: str) -> None:
    """Stacks, a matrix for all of a stack, and products with which more is done."""
    a, b, c, row = _drawn(dtype, (3, 96, 72), (3, 72, 130), (72, 130), (130,))
    x, y, z, v = [subject.tensor(each, dtype) for each in (a, b, c, row)]
    _expect(subject, _wide(x, y), a, b, dtype, op="a stack")
    _expect(subject, _wide(x, z), a, c, dtype, op="one matrix for all")
    _expect(subject, _wide(x, z) + v.float(), a, c, dtype, added=row.astype(np.float64), op="a row added")
    _expect(subject, (x @ y).relu(), a, b, dtype, then=lambda total: np.maximum(total, 0), op="what follows")


@conformance("L4", "matrix-units/attention", cases=product(dtype=("float16", "bfloat16")), requires=_needs,
             suggests="of attention's two products by a matrix unit, one reads or stores wrong elements")
def attention(subject: Subject, dtype: str) -> None:
    """Two heads; weights may be rounded to the dtype of the values that they weigh."""
    arrays = _drawn(dtype, (2, 130, 64), (2, 165, 64), (2, 165, 72))
    q, k, v = [array.astype(np.float64) for array in arrays]
    scores, moved = q @ k.swapaxes(-1, -2), _SPACING * (np.abs(q) @ np.abs(k).swapaxes(-1, -2)).max()
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    form, (queries, keys, values) = FORMATS[dtype], [subject.tensor(array, dtype) for array in arrays]
    have = queries.scaled_dot_product_attention(keys, values, scale=1.0)
    lost = form.spacing + 2 * moved * q.shape[-1] + _SPACING * k.shape[-2]
    bound = lost * (weights @ np.abs(v)) + form.spacing * np.abs(weights @ v)
    subject.expect_within(have.numpy(), weights @ v, bound, have.dtype, op=f"attention of {dtype}")


@conformance("L4", "matrix-units/whole-numbers", cases=product(dtype=INPUTS, size=SIZES), requires=_needs,
             suggests="products are left out, or added twice")
def whole_numbers(subject: Subject, dtype: str, size: samples.Sizes) -> None:
    """Sums without any rounding."""
    m, n, k = size
    a, b = _whole((m, k), (k, n))
    have = _values(_wide(subject.tensor(a, dtype), subject.tensor(b, dtype)))
    subject.expect(have, a @ b + 0.0, "float32", "rounded", op=f"matmul {size} of {dtype}")


@conformance("L4", "matrix-units/not-finite", cases=product(dtype=INPUTS), requires=_needs,
             suggests="NaN or infinity is lost where factors are rounded or multiplied")
def not_finite(subject: Subject, dtype: str) -> None:
    """What is not finite reaches its row or its column, and nothing else."""
    a, b = _whole((128, 160), (160, 128))
    b += 4 * (b == 0)
    least = np.array([0x7F800001], np.uint32).view(np.float32)  # the NaN that is next to infinity
    a[5, 7:8] = least if dtype == "float32" else np.nan
    a[9, 3], b[2, 11] = np.inf, -np.inf
    a[:, 2] = np.where(a[:, 2] == 0, 1, a[:, 2])
    with np.errstate(invalid="ignore"):
        want = a @ b
    have = _values(_wide(subject.tensor(a, dtype), subject.tensor(b, dtype)))
    subject.expect(have, want, "float32", "rounded", op=f"matmul of {dtype} with NaN and infinity")


@conformance("L4", "matrix-units/wide-sums", cases=product(dtype=("float16",)), requires=_needs,
             suggests="sums are kept in the dtype of the factors")
def wide_sums(subject: Subject, dtype: str) -> None:
    """Sums beyond the largest number of their factors' dtype, and finer than its spacing."""
    a, b = _drawn(dtype, (128, 192), (192, 128))
    a, b = rounded(a * 999, dtypes.float16), rounded(b * 999, dtypes.float16)
    have = _wide(subject.tensor(a, dtype), subject.tensor(b, dtype))
    _expect(subject, have, a, b, dtype, op="large products")


@conformance("L4", "matrix-units/rounding", cases=product(dtype=("float32",), transposed=("none", "both")),
             requires=_needs, suggests="factors are cut off to the unit's precision, in place of rounded")
def rounding(subject: Subject, dtype: str, transposed: str) -> None:
    """float32 is rounded to the nearest: what is just below a number of 10 bits becomes that."""
    tens, below = np.uint32(1 << _BITS), np.uint32(1 << _BITS - 6)
    a, b = [((x + 2).view(np.uint32) // tens * tens - below).view(np.float32)
            for x in _drawn(dtype, (128, 136), (136, 144))]
    if transposed == "both":
        x, y = [subject.tensor(each.T.copy(), dtype).T for each in (a, b)]
    else:
        x, y = subject.tensor(a, dtype), subject.tensor(b, dtype)
    _expect(subject, x @ y, a, b, dtype, op="numbers just below those of 10 bits")
