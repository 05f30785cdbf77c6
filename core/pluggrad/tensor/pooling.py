"""Pooling: windows over the last axes, reduced to their mean or their largest element."""
from __future__ import annotations

import math
from typing import Any, NamedTuple, Self

from pluggrad import dtypes
from pluggrad.errors import DTypeError, ShapeError, ValueRangeError
from pluggrad.graph import build
from pluggrad.shape.dims import Shape
from pluggrad.tensor.convolution import Convolution
from pluggrad.tensor.spatial import Pads, Windows, integers, per_axis, too_small, windows

Axes = tuple[int, ...]


class _Pool(NamedTuple):
    """Windows at `positions` per axis over an input padded by `widths`: the pads, more after in ceil mode."""

    frame: Windows
    positions: Shape
    widths: Pads


class Pooling(Convolution):
    """Pooling over the last axes; those before them are batch and channels, as many as there are."""

    __slots__ = ()

    # ---- mean ----------------------------------------------------------------------------------------------
    def avg_pool2d(self, kernel_size: Any = (2, 2), stride: Any = None, dilation: Any = 1, padding: Any = 0,
                   ceil_mode: bool = False, count_include_pad: bool = True) -> Self:
        """Means of windows over the last 2 axes, or as many as `kernel_size` has entries; a float.

        stride: default the kernel's size. padding: zeros around, at most half the kernel, in the forms of
        `conv2d`. ceil_mode: also windows that the end cuts short. count_include_pad: padded zeros count;
        what lies beyond the padding never does.
        """
        sizes = _sizes("avg_pool2d", kernel_size, 2)
        return self._averaged("avg_pool2d", sizes, stride, dilation, padding, ceil_mode, count_include_pad)

    def avg_pool1d(self, kernel_size: Any = 2, stride: Any = None, dilation: Any = 1, padding: Any = 0,
                   ceil_mode: bool = False, count_include_pad: bool = True) -> Self:
        """Means of windows over the last axis; see `avg_pool2d`."""
        sizes = per_axis("avg_pool1d", "kernel_size", kernel_size, 1, least=1)
        return self._averaged("avg_pool1d", sizes, stride, dilation, padding, ceil_mode, count_include_pad)

    def avg_pool3d(self, kernel_size: Any = 2, stride: Any = None, dilation: Any = 1, padding: Any = 0,
                   ceil_mode: bool = False, count_include_pad: bool = True) -> Self:
        """Means of windows over the last 3 axes; see `avg_pool2d`."""
        sizes = per_axis("avg_pool3d", "kernel_size", kernel_size, 3, least=1)
        return self._averaged("avg_pool3d", sizes, stride, dilation, padding, ceil_mode, count_include_pad)

    def _averaged(self, op: str, sizes: Shape, stride: Any, dilation: Any, padding: Any, ceil_mode: bool,
                  count_include_pad: bool) -> Self:
        pool = _pool(op, self.shape, sizes, stride, dilation, padding, ceil_mode)
        values, _, inner = self._wide()._padded(pool, 0)._windowed(pool)
        return (values.sum(inner) / self._counts(pool, count_include_pad))._narrow(self)

    def _counts(self, pool: _Pool, count_include_pad: bool) -> Self | int:
        """How many elements count in each window: a number if all agree, else a tensor that broadcasts."""
        counts: Self | int = 1
        rank = len(pool.positions)
        for axis, (dim, places, size, stride, step, (before, after)) in enumerate(zip(
                self.shape[-rank:], pool.positions, *pool.frame, strict=True)):
            low, high = (0, before + dim + after) if count_include_pad else (before, before + dim)
            if low == 0 and (places - 1) * stride + (size - 1) * step < high:
                counts = counts * size
                continue
            # of the elements start + k * step of a window, those from `low` to below `high`
            start = self._iota(places, axis, rank) * stride
            first = ((low + step - 1 - start) // step).maximum(0)
            last = ((high + step - 1 - start) // step).minimum(size)
            counts = (last - first) * counts
        return counts

    # ---- largest -------------------------------------------------------------------------------------------
    def max_pool2d(self, kernel_size: Any = (2, 2), stride: Any = None, dilation: Any = 1, padding: Any = 0,
                   ceil_mode: bool = False, return_indices: bool = False) -> Any:
        """Largest elements of windows over the last 2 axes, or as many as `kernel_size` has entries.

        NaN if any is; padding is never chosen; equals share the gradient evenly. Other arguments as in
        `avg_pool2d`. return_indices: gives (values, indices), the int32 positions in the flattened last axes
        of the input, of the first of equals or the first NaN.
        """
        sizes = _sizes("max_pool2d", kernel_size, 2)
        return self._largest("max_pool2d", sizes, stride, dilation, padding, ceil_mode, return_indices)

    def max_pool1d(self, kernel_size: Any = 2, stride: Any = None, dilation: Any = 1, padding: Any = 0,
                   ceil_mode: bool = False, return_indices: bool = False) -> Any:
        """Largest elements of windows over the last axis; see `max_pool2d`."""
        sizes = per_axis("max_pool1d", "kernel_size", kernel_size, 1, least=1)
        return self._largest("max_pool1d", sizes, stride, dilation, padding, ceil_mode, return_indices)

    def max_pool3d(self, kernel_size: Any = 2, stride: Any = None, dilation: Any = 1, padding: Any = 0,
                   ceil_mode: bool = False, return_indices: bool = False) -> Any:
        """Largest elements of windows over the last 3 axes; see `max_pool2d`."""
        sizes = per_axis("max_pool3d", "kernel_size", kernel_size, 3, least=1)
        return self._largest("max_pool3d", sizes, stride, dilation, padding, ceil_mode, return_indices)

    def _largest(self, op: str, sizes: Shape, stride: Any, dilation: Any, padding: Any, ceil_mode: bool,
                 return_indices: bool) -> Any:
        pool = _pool(op, self.shape, sizes, stride, dilation, padding, ceil_mode)
        values, outer, inner = self._padded(pool, self.dtype.min)._windowed(pool)
        result = values.max(inner)
        return (result, self._places(pool, values, outer, inner)) if return_indices else result

    def _places(self, pool: _Pool, values: Self, outer: Axes, inner: Axes) -> Self:
        """Where this tensor holds the largest element of each window."""
        hit = values == values.max(inner, keepdim=True)
        if values.dtype.is_float:
            hit = hit | values.isnan()
        place: Self | int = 0
        dims = self.shape[-len(inner):]
        for dim, by, along, (_, stride, step, (before, _)) in zip(
                dims, outer, inner, zip(*pool.frame, strict=True), strict=True):
            at = (self._iota(values.shape[by], by, values.ndim) * stride
                  + self._iota(values.shape[along], along, values.ndim) * step - before)
            hit = hit & (at >= 0) & (at < dim)
            place = at + place * dim
        return hit.where(place, math.prod(dims)).min(inner)

    def max_unpool2d(self, indices: Any, kernel_size: Any = (2, 2), stride: Any = None, dilation: Any = 1,
                     padding: Any = 0, output_size: Any = None) -> Self:
        """Elements put back to where `max_pool2d` took them from, zeros elsewhere.

        indices: what it returned, and the other arguments as they were. output_size: the shape of its input,
        or the last axes of it; default the smallest that it can have had. Where indices meet, the last window
        wins. IndexError for one out of range, when the result is computed.
        """
        op = "max_unpool2d"
        sizes = _sizes(op, kernel_size, 2)
        frame = windows(op, sizes, sizes if stride is None else stride, dilation, padding)
        places = self._new(self._operand(indices, op))
        if places.shape != self.shape:
            raise ShapeError(op=op, expected=f"indices of shape {self.shape}", got=str(places.shape))
        if not places.dtype.is_int:
            raise DTypeError(op=op, expected="integer indices", got=places.dtype.name)
        lead, outer = self.shape[:-len(sizes)], self.shape[-len(sizes):]
        dims = tuple([(n - 1) * stride + reach - sum(pad) for n, stride, reach, pad in zip(
            outer, frame.strides, frame.reaches, frame.pads, strict=True)])
        if output_size is not None:
            dims = integers(op, "output_size", output_size, len(sizes))[-len(sizes):]
        flat, x = (*lead, math.prod(outer)), self.node
        zeros = build.const(0, x.dtype, x.device, (*lead, math.prod(dims)))
        index, values = build.reshape(places.node, flat), build.reshape(x, flat)
        made = build.scatter(zeros, index, values, len(lead), check=op)
        return self._new(build.reshape(made, (*lead, *dims)))

    # ---- windows -------------------------------------------------------------------------------------------
    def _padded(self, pool: _Pool, value: dtypes.Scalar) -> Self:
        return self.pad(((0, 0),) * (self.ndim - len(pool.widths)) + pool.widths, value=value)

    def _windowed(self, pool: _Pool) -> tuple[Self, Axes, Axes]:
        """This tensor, padded, in windows; the axes of their positions, and those of their elements."""
        sizes, strides, dilations, _ = pool.frame
        if sizes == strides and set(dilations) == {1}:
            return self._tiled(pool.positions, sizes)
        rank = len(sizes)
        outer = tuple(range(self.ndim - rank, self.ndim))
        rows = list(zip(outer, sizes, strides, dilations, strict=True))
        return self._new(build.window(self.node, rows)), outer, tuple([axis + rank for axis in outer])

    def _tiled(self, positions: Shape, sizes: Shape) -> tuple[Self, Axes, Axes]:
        """As `_windowed`, of windows side by side, which are a reshape: so is the way back."""
        lead = self.ndim - len(sizes)
        pairs = list(zip(positions, sizes, strict=True))
        kept = self.shrink([None] * lead + [(0, places * size) for places, size in pairs])
        tiled = kept.reshape(*self.shape[:lead], *[dim for pair in pairs for dim in pair])
        outer = tuple(range(lead, tiled.ndim, 2))
        return tiled, outer, tuple([axis + 1 for axis in outer])

    def _iota(self, size: int, axis: int, rank: int) -> Self:
        """0, 1, ... along one of `rank` axes."""
        counted = build.iota(size, dtypes.int32, self.node.device)
        return self._new(build.reshape(counted, [size if i == axis else 1 for i in range(rank)]))


def _sizes(op: str, kernel_size: Any, rank: int) -> Shape:
    """One size for `rank` axes, or as many axes as sizes."""
    given = integers(op, "kernel_size", kernel_size, rank)
    return per_axis(op, "kernel_size", given, len(given) or rank, least=1)


def _pool(op: str, shape: Shape, sizes: Shape, stride: Any, dilation: Any, padding: Any,
          ceil_mode: bool) -> _Pool:
    rank = len(sizes)
    if len(shape) < rank:
        raise ShapeError(op=op, expected=f"at least {rank} dimensions", got=str(shape))
    frame = windows(op, sizes, sizes if stride is None else stride, dilation, padding)
    positions, widths = [], []
    for axis, (dim, step, reach, (before, after)) in enumerate(zip(
            shape[-rank:], frame.strides, frame.reaches, frame.pads, strict=True)):
        if max(before, after) * 2 > reach:
            raise ValueRangeError(op=op, expected="padding of at most half of what a window spans, "
                                                  f"{reach} elements", got=str(padding))
        free = dim + before + after - reach
        count = (-(-free // step) if ceil_mode else free // step) + 1
        if ceil_mode and (count - 1) * step >= dim + before:  # it would hold nothing but padding
            count -= 1
        if count < 1:
            raise too_small(op, shape, axis, frame)
        positions.append(count)
        widths.append((before, after + max((count - 1) * step - free, 0)))
    return _Pool(frame, tuple(positions), tuple(widths))
