"""Basic indexing: integers, slices with any step, None and Ellipsis. All of it is views, read and written."""
from __future__ import annotations

from collections.abc import Iterator
from operator import index
from typing import Any, Self

from pluggrad import dtypes
from pluggrad.errors import TensorIndexError
from pluggrad.graph import build
from pluggrad.shape.dims import Shape
from pluggrad.tensor.base import is_view_of_same
from pluggrad.tensor.reduction import Reduction


def index_steps(key: Any, shape: Shape) -> tuple[build.Step, ...]:
    """The movement steps of `x[key]`: a slice, a flip for negative steps, a reshape for integers and None.

    TensorIndexError for an integer out of range, too many indices, or an index of another kind.
    """
    parts: list[tuple[int, int, int]] = []
    flips: list[int] = []
    result: list[int] = []
    for part in _expanded(key, len(shape)):
        if part is None:
            result.append(1)
            continue
        axis, dim = len(parts), shape[len(parts)]
        if isinstance(part, slice):
            start, size, step = _slice_range(part, dim)
            if step < 0:
                flips.append(axis)
                start, step = start + (size - 1) * step if size else 0, -step
            parts.append((start, size, step))
            result.append(size)
        else:
            parts.append((_position(part, axis, dim), 1, 1))
    steps: list[build.Step] = []
    if parts != [(0, dim, 1) for dim in shape]:
        steps.append(("slice", tuple(parts)))
    if flips:
        steps.append(("flip", tuple(flips)))
    if tuple(result) != tuple([size for _, size, _ in parts]):
        steps.append(("reshape", tuple(result)))
    return tuple(steps)


def _expanded(key: Any, rank: int) -> list[Any]:
    """The key with Ellipsis written out and an entry for every axis."""
    entries = list(key) if isinstance(key, tuple) else [key]
    taken = sum(entry is not None and entry is not Ellipsis for entry in entries)
    if taken > rank:
        raise TensorIndexError(op="index", expected=f"at most {rank} indices", got=str(taken))
    dots = [i for i, entry in enumerate(entries) if entry is Ellipsis]
    if len(dots) > 1:
        raise TensorIndexError(op="index", expected="at most one ...", got=str(len(dots)))
    place = dots[0] if dots else len(entries)
    return [*entries[:place], *[slice(None)] * (rank - taken), *entries[place + 1 :]]


def _slice_range(part: slice, dim: int) -> tuple[int, int, int]:
    try:
        start, stop, step = part.indices(dim)
    except TypeError as error:
        raise TensorIndexError(op="index", expected="integers in a slice", got=str(part)) from error
    except ValueError as error:
        raise TensorIndexError(op="index", expected="a slice step other than 0", got=str(part)) from error
    return start, len(range(start, stop, step)), step


def _position(part: Any, axis: int, dim: int) -> int:
    if isinstance(part, (bool, Reduction)) or not hasattr(part, "__index__"):
        raise TensorIndexError(op="index", expected="integers, slices, None or ...", got=type(part).__name__,
                               hint="Indexing by tensors, lists and masks is not supported")
    position = index(part)
    if not -dim <= position < dim:
        raise TensorIndexError(
            op="index",
            expected=f"an index in [{-dim}, {dim - 1}] on axis {axis} of size {dim}",
            got=str(position),
        )
    return position + dim if position < 0 else position


class Indexing(Reduction):
    """`x[...]` in both directions."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Self:
        x = self.node
        steps = index_steps(key, x.shape)
        return self._view(build.move(x, steps), *steps)

    def __setitem__(self, key: Any, value: Any) -> None:
        steps = index_steps(key, self.shape)
        if not is_view_of_same(value, self, steps):
            self._write(self._value_to_write(value), steps)

    def _value_to_write(self, value: Any) -> Any:
        x = self.node
        if isinstance(value, Reduction):
            return value.node
        if isinstance(value, (int, float)):
            dtypes.weak_result(x.dtype, value, "setitem")  # an integer has to fit
            return build.const(value, x.dtype, x.device)
        return self._from_data(value, None, x.device, False).node

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __iter__(self) -> Iterator[Self]:
        if not self.shape:
            raise TypeError("iteration over a 0-d tensor")
        return (self[i] for i in range(self.shape[0]))

    def __contains__(self, value: Any) -> bool:
        return bool((self == value).any())
