"""Products of matrices: a broadcast product and a sum, which is all that a contraction is to later stages."""
from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.errors import ShapeError
from pluggrad.graph import build, ops
from pluggrad.ir.node import Node
from pluggrad.shape.broadcast import broadcast_shapes
from pluggrad.shape.dims import Shape

MANY: Final = 1 << 22  # elements of a product that are computed again rather than kept for a gradient


def matmul(a: Node, b: Node, dtype: DType | None = None, op: str = "matmul") -> Node:
    """(..., m, k) @ (..., k, n) as a broadcast product and a sum.

    A single axis counts as a row of `a`, a column of `b`, and disappears.
    """
    build.same_device(op, a, b)
    if not a.shape or not b.shape or a.shape[-1] != b.shape[-2 if len(b.shape) > 1 else 0]:
        raise _mismatch(op, a.shape, b.shape)
    promoted = dtypes.promote(a.dtype, b.dtype)
    working = dtypes.accumulator_dtype(promoted) if promoted.is_float else dtypes.sum_dtype(promoted)
    plan = _shapes(op, a.shape, b.shape)
    left, right = build.reshaped(build.cast(a, working), plan.left), build.cast(b, working)
    if plan.order:
        right = build.permuted(right, plan.order)
    right, shape = build.reshaped(right, plan.right), plan.product
    product = build.binary(ops.MUL, build.broadcast_to(left, shape, op), build.broadcast_to(right, shape, op))
    return build.cast(build.reduce(ops.SUM, product, len(shape) - 1), dtype or promoted)


class _Shapes(NamedTuple):
    """Shapes that the operands take, the order of the axes of the second before, and that of the product."""

    left: Shape
    order: tuple[int, ...]
    right: Shape
    product: Shape


@lru_cache(maxsize=4096)
def _shapes(op: str, a: Shape, b: Shape) -> _Shapes:
    outer_a, outer_b = a[:-2], b[:-2]
    try:
        outer = broadcast_shapes(op, outer_a, outer_b) if outer_a or outer_b else ()
    except ShapeError as error:
        raise ShapeError(op=op, expected="leading axes that broadcast (equal dims, or 1)",
                         got=f"{a} and {b}", hint=error.hint) from None
    rows = a[-2:-1]
    inner, columns = a[-1], b[-1:] if len(b) > 1 else ()
    return _Shapes(
        (*outer_a, *rows, *(1,) * len(columns), inner),
        (*range(len(outer_b)), len(outer_b) + 1, len(outer_b)) if columns else (),
        (*outer_b, *(1,) * len(rows), *columns, inner),
        (*outer, *rows, *columns, inner))


def _mismatch(op: str, a: Shape, b: Shape) -> ShapeError:
    """The error for inner sizes that differ: both shapes, and the transpose that would fit."""
    hint = "The last axis of the first has to be as long as the second to last (or only) one of the second"
    if not a or not b:
        hint = "Use * for a tensor without axes"
    elif len(b) > 1 and a[-1] == b[-1]:
        hint = "Transpose the second: y.mT"
    elif len(a) > 1 and a[-2] == b[-2 if len(b) > 1 else 0]:
        hint = "Transpose the first: x.mT"
    return ShapeError(op=op, expected="shapes (..., m, k) and (..., k, n)", got=f"{a} and {b}", hint=hint)
