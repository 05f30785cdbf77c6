"""Values as text: shortened as NumPy does, with what else there is to say about them."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pluggrad.shape.dims import Shape

Array = npt.NDArray[Any]
Read = Callable[[int, int], Array]  # where to begin in row-major order, and how many elements

_PREFIX: Final = "Tensor("
_READ_WHOLE: Final = 4096  # elements that are faster read together than in pieces


def is_shortened(shape: Shape) -> bool:
    """Whether NumPy's print options shorten the text of values of this shape."""
    options = np.get_printoptions()
    return math.prod(shape) > options["threshold"] and max(shape, default=0) > 2 * options["edgeitems"]


def edges(shape: Shape, read: Read) -> Array:
    """The values that a shortened text shows: both edges of each long axis, and zeros between them.

    The zeros make the axis too long to be shown whole, so that an ellipsis stands for them.
    """
    edge: int = np.get_printoptions()["edgeitems"]
    shown = [[*range(edge), *range(dim - edge, dim)] if dim > 2 * edge else list(range(dim)) for dim in shape]
    values = _read_shown(shape, shown, read, 0)
    for axis, dim in enumerate(shape):
        if dim > 2 * edge:
            values = np.insert(values, edge, 0, axis)
    return values


def _read_shown(shape: Shape, shown: Sequence[list[int]], read: Read, start: int) -> Array:
    size, first = math.prod(shape), shown[0]
    if size <= _READ_WHOLE:
        return read(start, size).reshape(shape)[np.ix_(*shown)]
    if len(shape) > 1:
        inner = size // shape[0]
        rows = [_read_shown(shape[1:], shown[1:], read, start + row * inner) for row in first]
        return np.stack(rows)
    if len(first) == size:
        return read(start, size)
    edge = len(first) // 2
    return np.concatenate([read(start, edge), read(start + size - edge, edge)])


def values_text(values: Array, shortened: bool) -> str:
    """The elements as NumPy's print options have them; `shortened`: they are `edges`."""
    if values.size == 0:
        return "[]"
    return np.array2string(values, separator=", ", prefix=_PREFIX, suffix=",",
                           threshold=0 if shortened else None)


def tensor_text(values: str, facts: Sequence[str]) -> str:
    """`Tensor([1., 2.], dtype=float32, device=ref)`, the facts on a line of their own if there is no room."""
    known = ", ".join(facts)
    last_line = (_PREFIX + values).rpartition("\n")[2]
    fits = len(f"{last_line}, {known})") <= np.get_printoptions()["linewidth"]
    return f"{_PREFIX}{values},{' ' if fits else chr(10) + ' ' * len(_PREFIX)}{known})"
