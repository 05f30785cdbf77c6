"""Running reductions: each element combined with all before it along an axis. O(n), also backward."""
from __future__ import annotations

from typing import Any, Self, TypeVar

from pluggrad import dtypes
from pluggrad.graph import build, ops
from pluggrad.graph.scans import first_met
from pluggrad.shape.broadcast import check_axis
from pluggrad.tensor.selection import Selection

_Tensor = TypeVar("_Tensor", bound="Scans")


class Scans(Selection):
    """Running sums, products and extremes."""

    __slots__ = ()

    def cumsum(self, axis: int = 0, dtype: Any = None) -> Self:
        """The sum of the elements up to each place along `axis`, in the shape of this tensor.

        dtype: cast to it first; by default as of `sum`. Halves add up in float32. Long axes are added up in
        blocks, in an order that depends on the shape alone.
        """
        return self._running("cumsum", "ADD", axis, dtype)

    def cumprod(self, axis: int, dtype: Any = None) -> Self:
        """The product of the elements up to each place along `axis`; otherwise as `cumsum`."""
        return self._running("cumprod", "MUL", axis, dtype)

    def _running(self, op: str, name: ops.Running, axis: int, dtype: Any) -> Self:
        x = self.node
        target = dtypes.sum_dtype(x.dtype) if dtype is None else dtypes.to_dtype(dtype)
        along = check_axis(op, axis, self.ndim)
        x = build.cast(build.cast(x, target), dtypes.sum_dtype(target))  # bool has no sum of its own
        return self._new(build.cast(build.scan(name, x, along) if x.shape else x, target))

    def cummax(self, axis: int = 0) -> tuple[Self, Self]:
        """The largest element up to each place along `axis`, and where it is, int32: the first of equals.

        From the first NaN on it is NaN, at that place. The gradient goes to the element at that place.
        """
        return self._extremes("cummax", "MAX", axis)

    def cummin(self, axis: int = 0) -> tuple[Self, Self]:
        """The smallest element up to each place along `axis`, and where it is, as `cummax`."""
        return self._extremes("cummin", "MIN", axis)

    def _extremes(self, op: str, name: ops.Running, axis: int) -> tuple[Self, Self]:
        x = self.node
        along = check_axis(op, axis, self.ndim)
        if not x.shape or x.shape[along] < 2:
            return self._new(x), self._new(build.const(0, dtypes.int32, x.device, x.shape))
        numbers = build.cast(x, dtypes.uint8) if x.dtype.kind == "b" else x
        found = build.scan(name, numbers, along)
        place = build.cast(first_met(found), dtypes.int32)
        return self._new(build.cast(found, x.dtype)), self._new(place)

    def logcumsumexp(self, axis: int = 0) -> Self:
        """log(cumsum(e ** x)) along `axis` without overflow or underflow, a float."""
        along = check_axis("logcumsumexp", axis, self.ndim)
        x = self._wide()
        if not x.shape or 0 in x.shape:
            return x._narrow(self)
        order = (*[i for i in range(self.ndim) if i != along], along)
        found = _log_sums(x.permute(*order))
        return found.permute(*[order.index(i) for i in range(self.ndim)])._narrow(self)


def _log_sums(x: _Tensor) -> _Tensor:
    """Running logaddexp along the last axis: of pairs of neighbors first, then of what lies between, in O(n).

    A shift by the largest of all would lose what is far below it.
    """
    size = x.shape[-1]
    if size == 1:
        return x
    paired = size // 2 * 2
    odd = _log_sums(x[..., 0:paired:2].logaddexp(x[..., 1:paired:2]))
    even = x[..., :1].cat(odd[..., :(size - 1) // 2].logaddexp(x[..., 2::2]), dim=-1)
    woven = even[..., :size // 2].stack(odd, dim=-1).reshape(*x.shape[:-1], paired)
    return woven if paired == size else woven.cat(even[..., -1:], dim=-1)
