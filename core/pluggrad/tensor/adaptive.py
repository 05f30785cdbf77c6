"""Adaptive pooling: the last axes split into a given number of parts, each reduced to one element."""
from __future__ import annotations

from math import gcd
from typing import Any, Self

from pluggrad.errors import ShapeError
from pluggrad.shape.dims import Shape
from pluggrad.tensor.pooling import Pooling
from pluggrad.tensor.spatial import per_axis


class AdaptivePooling(Pooling):
    """Part o of m parts of n elements goes from floor(o n / m) to ceil((o + 1) n / m); parts may overlap."""

    __slots__ = ()

    def adaptive_avg_pool1d(self, output_size: Any) -> Self:
        """Means over `output_size` parts of the last axis; see `adaptive_avg_pool2d`."""
        return self._part_means("adaptive_avg_pool1d", output_size, 1)

    def adaptive_avg_pool2d(self, output_size: Any) -> Self:
        """Means over `output_size` parts of each of the last 2 axes, of nearly equal sizes; a float.

        output_size: an integer, or one per axis; None keeps an axis. Part o of m parts of n elements goes
        from floor(o n / m) to ceil((o + 1) n / m).
        """
        return self._part_means("adaptive_avg_pool2d", output_size, 2)

    def adaptive_avg_pool3d(self, output_size: Any) -> Self:
        """Means over `output_size` parts of each of the last 3 axes; see `adaptive_avg_pool2d`."""
        return self._part_means("adaptive_avg_pool3d", output_size, 3)

    def adaptive_max_pool1d(self, output_size: Any) -> Self:
        """Largest elements in `output_size` parts of the last axis; see `adaptive_max_pool2d`."""
        return self._part_maxima("adaptive_max_pool1d", output_size, 1)

    def adaptive_max_pool2d(self, output_size: Any) -> Self:
        """Largest elements in `output_size` parts of each of the last 2 axes; NaN if any is.

        The parts are those of `adaptive_avg_pool2d`. Equals share the gradient evenly.
        """
        return self._part_maxima("adaptive_max_pool2d", output_size, 2)

    def adaptive_max_pool3d(self, output_size: Any) -> Self:
        """Largest elements in `output_size` parts of each of the last 3 axes; see `adaptive_max_pool2d`."""
        return self._part_maxima("adaptive_max_pool3d", output_size, 3)

    def _part_means(self, op: str, output_size: Any, rank: int) -> Self:
        parts = _parts(op, self.shape, output_size, rank)
        tiled, _, inner = self._wide()._tiled(*_even(self.shape, parts))
        x = tiled.mean(inner)
        for axis in _uneven_axes(x.shape, parts):
            split, first, end = x._overlapping(axis, parts[axis - x.ndim])
            total = split._within(axis + 2, first, end).where(split, 0.0).sum(axis + 2)
            x = (total / (end - first).squeeze(1)).flatten(axis, axis + 1)
        return x._narrow(self)

    def _part_maxima(self, op: str, output_size: Any, rank: int) -> Self:
        parts = _parts(op, self.shape, output_size, rank)
        tiled, _, inner = self._tiled(*_even(self.shape, parts))
        x = tiled.max(inner)
        for axis in _uneven_axes(x.shape, parts):
            split, first, end = x._overlapping(axis, parts[axis - x.ndim])
            inside = split._within(axis + 2, first, end)
            x = inside.where(split, self.dtype.min).max(axis + 2).flatten(axis, axis + 1)
        return x

    def _overlapping(self, axis: int, parts: int) -> tuple[Self, Self, Self]:
        """An axis as (periods, 1, elements of a period), and where the parts of a period begin and end.

        Boundaries repeat gcd(size, parts) times along the axis: few elements are looked at in vain.
        """
        size, after = self.shape[axis], self.ndim - axis - 1
        periods = gcd(size, parts)
        size, parts = size // periods, parts // periods
        split = self.reshape(*self.shape[:axis], periods, 1, size, *self.shape[axis + 1:])
        part = self._iota(parts, 0, 2 + after)
        return split, part * size // parts, ((part + 1) * size + parts - 1) // parts

    def _within(self, axis: int, first: Self, end: Self) -> Self:
        """bool: which elements along an axis lie from `first` to below `end`, aligned at the last axes."""
        element = self._iota(self.shape[axis], axis - self.ndim + first.ndim, first.ndim)
        return (element >= first) & (element < end)


def _parts(op: str, shape: Shape, output_size: Any, rank: int) -> Shape:
    """How many parts each of the last `rank` axes is split into."""
    if len(shape) < rank:
        raise ShapeError(op=op, expected=f"at least {rank} dimensions", got=str(shape))
    if 0 in shape[-rank:]:
        raise ShapeError(op=op, expected="at least one element along each axis that is split", got=str(shape))
    given = list(output_size) if isinstance(output_size, (tuple, list)) else [output_size] * rank
    if len(given) == rank:
        given = [dim if parts is None else parts for dim, parts in zip(shape[-rank:], given, strict=True)]
    return per_axis(op, "output_size", given, rank, least=1)


def _even(shape: Shape, parts: Shape) -> tuple[Shape, Shape]:
    """Tiles that make the parts of the axes which they divide evenly, and leave the others as they are."""
    dims = shape[-len(parts):]
    positions = tuple([dim if dim % count else count for dim, count in zip(dims, parts, strict=True)])
    return positions, tuple([dim // count for dim, count in zip(dims, positions, strict=True)])


def _uneven_axes(shape: Shape, parts: Shape) -> list[int]:
    lead = len(shape) - len(parts)
    return [lead + i for i, count in enumerate(parts) if shape[lead + i] != count]
