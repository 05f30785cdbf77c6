"""Arguments as the standard has them: arrays, Python scalars beside arrays, shapes, axes."""
from __future__ import annotations

from typing import Any

from pluggrad import dtypes
from pluggrad.errors import DTypeError
from pluggrad.shape.broadcast import check_axis
from pluggrad.tensor import Tensor

Axes = int | tuple[int, ...] | None
INDEX = dtypes.int64  # of positions and counts


def array(op: str, x: object) -> Tensor:
    """`x`, which has to be an array; DTypeError otherwise."""
    if not isinstance(x, Tensor):
        raise DTypeError(op=op, expected="an array of pluggrad's", got=type(x).__name__,
                         hint="asarray makes one")
    return x


def operands(op: str, x1: object, x2: object) -> tuple[Tensor, Tensor]:
    """Two arrays, of which one may be a Python scalar: it takes the dtype of the other where its kind allows.

    DTypeError for two scalars, complex numbers, and what is neither array nor scalar.
    """
    if isinstance(x1, Tensor):
        return x1, x2 if isinstance(x2, Tensor) else _scalar(op, x2, x1)
    return _scalar(op, x1, array(op, x2)), array(op, x2)


def _scalar(op: str, x: object, other: Tensor) -> Tensor:
    if not isinstance(x, (bool, int, float)):
        raise DTypeError(op=op, expected="an array or a Python scalar that is real", got=type(x).__name__)
    return Tensor.full((), x, dtype=dtypes.weak_result(other.dtype, x, op), device=other.device)


def one_axis(op: str, x: Tensor, axis: int | None) -> tuple[Tensor, int]:
    """The array and its axis counted from 0; axis None: flattened."""
    return (x.flatten(), 0) if axis is None else (x, check_axis(op, axis, x.ndim))


def as_tuple(value: Any) -> tuple[Any, ...]:
    """`3` and `(3,)` alike."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)
