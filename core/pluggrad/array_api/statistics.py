"""Reductions, running sums, sorting. Integers add up in the default int, or in their own dtype if wider."""
from __future__ import annotations

from pluggrad import dtypes
from pluggrad.array_api.arguments import INDEX, Axes, array, one_axis
from pluggrad.array_api.manipulation import concat
from pluggrad.dtypes import DType
from pluggrad.errors import ShapeError
from pluggrad.tensor import Tensor


def sum(x: Tensor, /, *, axis: Axes = None, dtype: DType | None = None, keepdims: bool = False) -> Tensor:
    """Sum; 0 of nothing. dtype: cast to it first."""
    return array("sum", x).sum(axis, keepdims, dtype)


def prod(x: Tensor, /, *, axis: Axes = None, dtype: DType | None = None, keepdims: bool = False) -> Tensor:
    """Product; 1 of nothing. dtype: cast to it first."""
    return array("prod", x).prod(axis, keepdims, dtype)


def max(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Largest element; NaN if any is. ShapeError of nothing."""
    return array("max", x).max(axis, keepdims)


def min(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Smallest element; NaN if any is. ShapeError of nothing."""
    return array("min", x).min(axis, keepdims)


def mean(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Arithmetic mean, a float; NaN of nothing."""
    return array("mean", x).mean(axis, keepdims)


def var(x: Tensor, /, *, axis: Axes = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """Variance: squared distances from the mean divided by the count less `correction`."""
    return array("var", x).var(axis, keepdims, correction)  # type: ignore[arg-type]


def std(x: Tensor, /, *, axis: Axes = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """Standard deviation, the square root of `var`."""
    return var(x, axis=axis, correction=correction, keepdims=keepdims).sqrt()


def all(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """bool: whether no element is zero; true of nothing."""
    return array("all", x).all(axis, keepdims)


def any(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """bool: whether some element is not zero; false of nothing."""
    return array("any", x).any(axis, keepdims)


def _running(op: str, x: Tensor, axis: int | None, initial: int | None) -> tuple[Tensor, int]:
    """The array with `initial` in front, and its axis, which may be left out where there is one."""
    if axis is None and array(op, x).ndim != 1:
        raise ShapeError(op=op, expected="an axis, or an array of one", got=f"shape {x.shape}")
    along, position = one_axis(op, x, axis)
    if initial is None:
        return along, position
    edge = [1 if i == position else size for i, size in enumerate(along.shape)]
    first = Tensor.full(edge, initial, dtype=x.dtype, device=x.device)
    return concat([first, along], axis=position), position


def cumulative_sum(x: Tensor, /, *, axis: int | None = None, dtype: DType | None = None,
                   include_initial: bool = False) -> Tensor:
    """Sums of all elements up to each along an axis; `include_initial` puts a 0 in front."""
    kind = dtypes.sum_dtype(array("cumulative_sum", x).dtype) if dtype is None else dtype
    along, position = _running("cumulative_sum", x.cast(kind), axis, 0 if include_initial else None)
    return along.cumsum(position, kind)


def cumulative_prod(x: Tensor, /, *, axis: int | None = None, dtype: DType | None = None,
                    include_initial: bool = False) -> Tensor:
    """Products of all elements up to each along an axis; `include_initial` puts a 1 in front."""
    kind = dtypes.sum_dtype(array("cumulative_prod", x).dtype) if dtype is None else dtype
    along, position = _running("cumulative_prod", x.cast(kind), axis, 1 if include_initial else None)
    return along.cumprod(position, kind)


def diff(x: Tensor, /, *, axis: int = -1, n: int = 1, prepend: Tensor | None = None,
         append: Tensor | None = None) -> Tensor:
    """Differences of neighbors along an axis, taken `n` times, with arrays put before and behind first."""
    along, position = one_axis("diff", array("diff", x), axis)
    if n:
        parts = [part for part in (prepend, along, append) if part is not None]
        along = concat(parts, axis=position) if len(parts) > 1 else along
    for _ in range(n):
        length = along.shape[position]
        if not length:
            break
        later, earlier = along.narrow(position, 1, length - 1), along.narrow(position, 0, length - 1)
        along = later.ne(earlier) if along.dtype is dtypes.bool_ else later - earlier
    return along


def sort(x: Tensor, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """Sorted along an axis, NaN last; always stable."""
    return array("sort", x).sort(axis, descending)[0]


def argsort(x: Tensor, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """Positions that sort along an axis; always stable."""
    return array("argsort", x).argsort(axis, descending).cast(INDEX)
