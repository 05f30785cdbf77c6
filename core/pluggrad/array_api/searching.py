"""Positions of elements, and elements by position. Positions are int64."""
from __future__ import annotations

from typing import Any, Literal

from pluggrad.array_api.arguments import INDEX, Axes, array, one_axis, operands
from pluggrad.errors import ShapeError
from pluggrad.tensor import Tensor


def argmax(x: Tensor, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Position of the largest element, the first of equals; of the flattened array with None."""
    return array("argmax", x).argmax(axis, keepdims).cast(INDEX)


def argmin(x: Tensor, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Position of the smallest element, the first of equals; of the flattened array with None."""
    return array("argmin", x).argmin(axis, keepdims).cast(INDEX)


def count_nonzero(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """How many elements are not zero, along axes or in all."""
    return array("count_nonzero", x).bool().sum(axis, keepdims, INDEX)


def nonzero(x: Tensor, /) -> tuple[Tensor, ...]:
    """Positions of the elements that are not zero, an array for each axis. The values are read."""
    if not array("nonzero", x).ndim:
        raise ShapeError(op="nonzero", expected="at least one axis", got="an array of none")
    return x.nonzero().cast(INDEX).unbind(1)


def where(condition: Tensor, x1: Any, x2: Any, /) -> Tensor:
    """`x1` where the condition holds, else `x2`; one or both may be Python scalars."""
    if isinstance(x1, Tensor) or isinstance(x2, Tensor):
        x1, x2 = operands("where", x1, x2)
    return array("where", condition).where(x1, x2)


def searchsorted(x1: Tensor, x2: Tensor, /, *, side: Literal["left", "right"] = "left",
                 sorter: Tensor | None = None) -> Tensor:
    """Where each `x2` would be put into the sorted array `x1`: before equals with "left", else behind them.

    sorter: positions that sort `x1`, which need not be sorted then.
    """
    ordered = array("searchsorted", x1) if sorter is None else take(x1, sorter)
    return ordered.searchsorted(operands("searchsorted", x1, x2)[1], right=side == "right").cast(INDEX)


def take(x: Tensor, indices: Tensor, /, *, axis: int | None = None) -> Tensor:
    """The elements at positions (of one axis) along an axis, which may be left out where there is one."""
    if axis is None and array("take", x).ndim != 1:
        raise ShapeError(op="take", expected="an axis, or an array of one", got=f"shape {x.shape}")
    along, position = one_axis("take", array("take", x), axis)
    return along.index_select(position, array("take", indices))


def take_along_axis(x: Tensor, indices: Tensor, /, *, axis: int = -1) -> Tensor:
    """The element at each position along an axis; other axes broadcast."""
    return array("take_along_axis", x).take_along_dim(array("take_along_axis", indices), axis)
