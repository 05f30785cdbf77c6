"""Resizing: each axis in turn, a few elements of the input weighted for each of the output."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Self

from pluggrad import dtypes
from pluggrad.errors import ShapeError, ValueRangeError
from pluggrad.graph import build
from pluggrad.tensor.formulas import Formulas
from pluggrad.tensor.spatial import integers

_STEEPNESS: Final = -0.75  # of the cubic kernel, as OpenCV and PyTorch have it


class Axis(NamedTuple):
    """An axis that is resized to `size`, with `step` elements of the input to one of the output."""

    number: int
    size: int
    step: float


class Interpolation(Formulas):
    """Resizing."""

    __slots__ = ()

    def interpolate(self, size: Any, mode: str = "linear", align_corners: bool = False, *,
                    scale_factor: Any = None) -> Self:
        """Resized along its last axes.

        size: the new sizes of as many axes at the end, or an integer for all behind batch and channels; None
        with scale_factor, a factor or one for each of those axes. mode: "linear" ("bilinear", "trilinear"),
        "bicubic", "nearest" (rounds positions down), "nearest-exact", "area" (means of parts; behind batch
        and channels only). align_corners: the first and last elements stay at the ends, for "linear" and
        "bicubic". Floats compute in float32 at least, integers are rounded back.
        """
        axes = self._resized_axes(size, scale_factor)
        if mode == "area":
            return self._part_means("interpolate", [axis.size for axis in axes], len(axes))
        if mode not in {**_SMOOTH, **_HALVES}:
            raise ValueRangeError(op="interpolate", got=repr(mode),
                                  expected=f"one of {', '.join([*_SMOOTH, *_HALVES, 'area'])}")
        if mode in _HALVES:
            if align_corners:
                raise ValueRangeError(op="interpolate", expected="align_corners with 'linear' or 'bicubic'",
                                      got=repr(mode))
            chosen = self
            for axis in axes:
                chosen = chosen._nearest(axis, _HALVES[mode])
            return chosen
        x = self._wide()
        for axis in axes:
            corners = (x.shape[axis.number] - 1) / max(axis.size - 1, 1)
            x = _SMOOTH[mode](x, axis._replace(step=corners) if align_corners else axis, align_corners)
        return x._narrow(self) if self.dtype.is_float else x.round().cast(self.dtype)

    def _resized_axes(self, size: Any, scale_factor: Any) -> list[Axis]:
        """The last axes, with new sizes."""
        shape, spatial = self.shape, max(self.ndim - 2, 1)
        if (size is None) == (scale_factor is None):
            raise ValueRangeError(op="interpolate", expected="size or scale_factor",
                                  got="neither" if size is None else "both")
        if size is not None:
            sizes = integers("interpolate", "size", size, spatial)
            first = len(shape) - len(sizes)
            steps = [dim / new if new else 0.0 for dim, new in zip(shape[max(first, 0):], sizes)]
        else:
            several = isinstance(scale_factor, (tuple, list))
            factors = tuple(map(float, scale_factor if several else (scale_factor,) * spatial))
            first = len(shape) - len(factors)
            sizes = tuple([math.floor(dim * f) for dim, f in zip(shape[max(first, 0):], factors)])
            steps = [1 / f if f > 0 else 0.0 for f in factors]
        if first < 0 or not sizes:
            raise ShapeError(op="interpolate", expected=f"sizes of at most {len(shape)} axes",
                             got=str(len(sizes)))
        if min(sizes) < 1 or 0 in shape[first:]:
            raise ShapeError(op="interpolate", expected="at least 1 element along an axis, before and after",
                             got=f"{shape[first:]} and {tuple(sizes)}")
        return [Axis(first + i, new, step) for i, (new, step) in enumerate(zip(sizes, steps, strict=True))]

    # ---- one axis ------------------------------------------------------------------------------------------
    def _taken(self, axis: Axis, places: Self) -> Self:
        """The elements at these places along the axis, those beyond its ends from the ends."""
        index = self._along_axis(places.clamp(0, self.shape[axis.number] - 1).cast(dtypes.int32), axis)
        shape = [axis.size if i == axis.number else dim for i, dim in enumerate(self.shape)]
        return self._new(build.gather(self.node, index.expand(shape).node, axis.number, None))

    def _along_axis(self, values: Self, axis: Axis) -> Self:
        return values.reshape([axis.size if i == axis.number else 1 for i in range(self.ndim)])

    def _numbers(self, axis: Axis, dtype: dtypes.DType) -> Self:
        """0, 1, 2, ... along the new axis."""
        return self._new(build.cast(build.iota(axis.size, dtypes.int32, self.node.device), dtype))

    def _positions(self, axis: Axis, align_corners: bool) -> Self:
        """Where the new elements lie among the old ones."""
        number = self._numbers(axis, self.dtype)
        return number * axis.step if align_corners else (number + 0.5) * axis.step - 0.5

    def _linear(self, axis: Axis, align_corners: bool) -> Self:
        position = self._positions(axis, align_corners).clamp(min_=0)
        place = position.floor()
        weight = self._along_axis(position - place, axis)
        return self._taken(axis, place) * (1 - weight) + self._taken(axis, place + 1) * weight

    def _cubic(self, axis: Axis, align_corners: bool) -> Self:
        position = self._positions(axis, align_corners)
        place = position.floor()
        way, a = position - place, _STEEPNESS
        near = [((a + 2) * t - (a + 3)) * t * t + 1 for t in (way, 1 - way)]
        far = [((a * t - 5 * a) * t + 8 * a) * t - 4 * a for t in (way + 1, 2 - way)]
        weights = (far[0], *near, far[1])
        terms = [self._taken(axis, place + i) * self._along_axis(weight, axis)
                 for i, weight in zip((-1, 0, 1, 2), weights, strict=True)]
        return terms[0] + terms[1] + terms[2] + terms[3]

    def _nearest(self, axis: Axis, halves: int) -> Self:
        """The element at (number + halves / 2) * step, rounded down."""
        old, new = self.shape[axis.number], axis.size
        if axis.step != old / new:
            places = ((self._numbers(axis, dtypes.float32) + halves / 2) * axis.step).floor()
        elif new % old == 0:
            return self.repeat_interleave(new // old, dim=axis.number)
        else:
            wide = dtypes.int32 if 2 * old * new <= dtypes.int32.max else dtypes.int64
            places = (self._numbers(axis, wide) * 2 + halves) * old // (2 * new)
        return self._taken(axis, places)


_SMOOTH: Final[dict[str, Callable[..., Any]]] = {
    **dict.fromkeys(("linear", "bilinear", "trilinear"), Interpolation._linear),
    **dict.fromkeys(("cubic", "bicubic"), Interpolation._cubic),
}
_HALVES: Final = {"nearest": 0, "nearest-exact": 1}
