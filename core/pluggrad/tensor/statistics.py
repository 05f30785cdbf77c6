"""Order statistics and counts: medians, quantiles, histograms."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Self

import numpy as np

from pluggrad import dtypes, runtime
from pluggrad.errors import DTypeError, ShapeError, ValueRangeError
from pluggrad.graph import build
from pluggrad.graph.searching import added_up
from pluggrad.graph.sorting import leading_order, sorting_order
from pluggrad.shape.broadcast import check_axis
from pluggrad.tensor.searching import Searching
from pluggrad.tensor.sorting import back, last


class Statistics(Searching):
    """Medians, quantiles and histograms."""

    __slots__ = ()

    # ---- elements by their rank ----------------------------------------------------------------------------
    def kthvalue(self, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Self, Self]:
        """The `k`-th smallest element along `dim`, from 1 on, and where it is, int32; of equals as `sort`."""
        rows, axis = self._rows("kthvalue", dim)
        if not 1 <= k <= rows.shape[-1]:
            raise ValueRangeError(op="kthvalue", got=str(k),
                                  expected=f"a k from 1 to {rows.shape[-1]}, the size of axis {axis}")
        order = leading_order(build.detach(rows.node), k)
        place = build.slice(order, [*[(0, d, 1) for d in order.shape[:-1]], (k - 1, 1, 1)])
        return self._at(rows, rows._new(place), axis, keepdim)

    def median(self, dim: int | None = None, keepdim: bool = False) -> Any:
        """The element in the middle, the lower of two; NaN where there is one.

        dim: None for that of all elements; else (values, indices) along it, the indices int32.
        """
        return self._middle("median", dim, keepdim, skip_nan=False)

    def nanmedian(self, dim: int | None = None, keepdim: bool = False) -> Any:
        """`median` of what is not NaN."""
        return self._middle("nanmedian", dim, keepdim, skip_nan=True)

    def _middle(self, op: str, dim: int | None, keepdim: bool, *, skip_nan: bool) -> Any:
        if dim is None:
            return self.flatten()._middle(op, 0, False, skip_nan=skip_nan)[0]
        rows, axis = self._rows(op, dim)
        order = rows._new(sorting_order(build.detach(rows.node)))
        numbers = rows.eq(rows).sum(-1, keepdim=True, dtype=dtypes.int32)  # NaN lies behind them
        middle = (numbers - 1).maximum(0) // 2
        if not skip_nan:
            middle = (numbers < rows.shape[-1]).where(numbers, middle)
        return self._at(rows, order.gather(-1, middle), axis, keepdim)

    def _rows(self, op: str, dim: int) -> tuple[Self, int]:
        """This tensor with an axis moved to the end; it has elements."""
        axis = check_axis(op, dim, self.ndim)
        rows = self.permute(*last(axis, self.ndim)) if self.ndim else self.reshape(1)
        if rows.shape[-1] == 0:
            raise ShapeError(op=op, expected="at least one element",
                             got=f"shape {self.shape} along axis {axis}")
        return rows, axis

    def _at(self, rows: Self, place: Self, axis: int, keepdim: bool) -> tuple[Self, Self]:
        """The elements at one place of each row, and the places."""
        found = rows._new(build.gather(rows.node, place.node, rows.ndim - 1, None, unique=True))
        if not keepdim or not self.ndim:
            return found.squeeze(-1), place.squeeze(-1)
        order = back(axis, self.ndim)
        return found.permute(*order), place.permute(*order)

    def quantile(self, q: Any, dim: int | None = None, keepdim: bool = False,
                 interpolation: str = "linear") -> Self:
        """The value below which a share `q` of the elements lies, along `dim` or of all; NaN if one is.

        q: a number in [0, 1], or a vector of them, whose axis comes first in the result. interpolation:
        between two elements "linear", "midpoint", or the "lower", the "higher" or the "nearest" of them.
        """
        return self._quantile("quantile", q, dim, keepdim, interpolation, skip_nan=False)

    def nanquantile(self, q: Any, dim: int | None = None, keepdim: bool = False,
                    interpolation: str = "linear") -> Self:
        """`quantile` of what is not NaN."""
        return self._quantile("nanquantile", q, dim, keepdim, interpolation, skip_nan=True)

    def _quantile(self, op: str, q: Any, dim: int | None, keepdim: bool, interpolation: str, *,
                  skip_nan: bool) -> Self:
        if interpolation not in _BETWEEN:
            raise ValueRangeError(op=op, expected=f"one of {', '.join(_BETWEEN)}", got=repr(interpolation))
        if not self.dtype.is_float:
            raise DTypeError(op=op, expected="a float dtype", got=self.dtype.name, hint="cast first")
        shares = self._shares(op, q)
        rows, axis = self._rows(op, dim) if dim is not None else self.flatten()._rows(op, 0)
        ordered = rows.sort(-1)[0]
        kept = (*rows.shape[:-1], math.prod(shares.shape))
        rank = shares.reshape(-1) * (rows.shape[-1] - 1)
        if skip_nan:
            numbers = rows.eq(rows).sum(-1, keepdim=True, dtype=dtypes.float64)
            rank = shares.reshape(-1) * (numbers - 1).maximum(0.0)
        rank = rank.expand(kept)
        low, high = [rank.floor(), rank.ceil()]
        if interpolation == "nearest":
            low = high = rank.round()
        below, above = [ordered.gather(-1, place.cast(dtypes.int32)) for place in (low, high)]
        found: Self = _BETWEEN[interpolation](below, above, (rank - low).cast(self.dtype))
        if not skip_nan:
            found = ordered[..., -1:].isnan().where(ordered[..., -1:], found)
        found = found.permute(rows.ndim - 1, *range(rows.ndim - 1))
        if keepdim:
            ones = (1,) * self.ndim
            found = found.reshape(kept[-1], *ones) if dim is None else found.unsqueeze(axis + 1)
        return found if shares.ndim else found.squeeze(0)

    def _shares(self, op: str, q: Any) -> Self:
        """The shares of a quantile in float64, a number or a vector; those known are in [0, 1]."""
        if not isinstance(q, Statistics):
            known = np.asarray(q, np.float64)
            if not ((known >= 0) & (known <= 1)).all():
                raise ValueRangeError(op=op, expected="q in [0, 1]", got=str(q))
            q = self._from_data(known, dtypes.float64, self.node.device, False)
        if q.ndim > 1:
            raise ShapeError(op=op, expected="a number or a vector q", got=f"shape {q.shape}")
        return q.cast(dtypes.float64)  # type: ignore[no-any-return]

    # ---- counts --------------------------------------------------------------------------------------------
    def bincount(self, weights: Any = None, minlength: int = 0) -> Self:
        """How often each of 0, 1, 2, ... occurs in a vector of integers, int64; or what it weighs.

        weights: a vector as long; their sums have its dtype, floats. minlength: the least length of the
        result, which goes to the largest integer. Computes the value. ValueRangeError for negative integers.
        """
        x = self.node
        if len(x.shape) != 1 or not x.dtype.is_int:
            raise ShapeError(op="bincount", expected="a vector of integers",
                             got=f"{x.dtype.name}{list(x.shape)}")
        if minlength < 0:
            raise ValueRangeError(op="bincount", expected="a minlength of at least 0", got=str(minlength))
        value = build.const(1, dtypes.int64, x.device, x.shape)
        if weights is not None:
            value = self._operand(weights, "bincount")
            value = value if value.dtype.is_float else build.cast(value, dtypes.float64)
        if value.shape != x.shape:
            raise ShapeError(op="bincount", expected=f"weights of shape {x.shape}", got=str(value.shape))
        least, most = runtime.fetch(self.min().stack(self.max())).tolist() if x.type.size else (0, -1)
        if least < 0:
            raise ValueRangeError(op="bincount", expected="integers of at least 0", got=str(least))
        size = max(most + 1, minlength)
        return self._counted(self.cast(dtypes.int64), self._new(value), size)

    def histc(self, bins: int = 100, min: float = 0, max: float = 0) -> Self:
        """How many elements fall into each of `bins` bins of one width from `min` to `max`, in this dtype.

        The last bin holds `max`, too; what lies outside is left out. Both 0: from the smallest element to the
        largest.
        """
        return self.histogram(bins, None if min == max == 0 else (min, max))[0]

    def histogram(self, bins: Any, range: tuple[float, float] | None = None, weight: Any = None,
                  density: bool = False) -> tuple[Self, Self]:
        """How many elements fall into bins, and the edges of the bins, both in this tensor's float dtype.

        bins: how many of one width, or a sorted vector of edges. A bin holds its lower edge, the last both.
        range: the outer edges, by default the smallest and the largest element. weight: of each element.
        density: divided by the total and the width of the bin.
        """
        x = self.flatten()._as_float()._detached()
        edges = x._edges(bins, range)
        count = edges.shape[0] - 1
        if weight is None:
            weights = x._new(build.const(1, x.dtype, x.node.device, x.shape))
        else:
            weights = x._new(x._operand(weight, "histogram")).flatten().cast(x.dtype)
        place = edges.searchsorted(x, right=True).cast(dtypes.int64) - 1
        place = x.eq(edges[-1]).where(count - 1, place)
        place = ((x >= edges[0]) & (x <= edges[-1])).where(place, count)
        found = x._counted(place, weights, count)
        if density:
            found = found / found.sum() / (edges[1:] - edges[:-1])
        return found, edges

    def _edges(self, bins: Any, limits: Sequence[float] | None) -> Self:
        if not isinstance(bins, int):
            edges = self._new(bins.node if isinstance(bins, Statistics)
                              else self._sorted_data("histogram", bins).node)
            if edges.ndim != 1 or edges.shape[0] < 2:
                raise ShapeError(op="histogram", expected="a vector of at least two edges",
                                 got=str(edges.shape))
            return edges.cast(self.dtype)
        if bins < 1 or (limits is not None and not limits[0] <= limits[1]):
            raise ValueRangeError(op="histogram", expected="at least one bin, and edges in order",
                                  got=f"{bins} bins and range {limits}")
        if limits is not None:
            low, high = [self._new(build.const(limit, self.dtype, self.node.device)) for limit in limits]
        else:
            low, high = (self.min(), self.max()) if self.shape[0] else (self.sum(),) * 2
        alike = low.eq(high)  # bins without a width: half a unit to both sides
        low, high = alike.where(low - 0.5, low), alike.where(high + 0.5, high)
        number = self._new(build.iota(bins + 1, dtypes.int64, self.node.device)).cast(self.dtype)
        last_edge = number.eq(bins)
        return last_edge.where(high, low + number * ((high - low) / bins))

    def _counted(self, place: Self, value: Self, size: int) -> Self:
        """The sum of the values at each place below `size`."""
        if size == 0 or place.shape[0] == 0:
            return self._new(build.const(0, value.dtype, value.node.device, (size,)))
        return self._new(added_up(place.node, value.node, size))


_BETWEEN: Final[dict[str, Any]] = {
    "linear": lambda below, above, share: below.eq(above).where(below, below + share * (above - below)),
    "midpoint": lambda below, above, share: below.eq(above).where(below, (below + above) / 2),
    "lower": lambda below, above, share: below,
    "higher": lambda below, above, share: above,
    "nearest": lambda below, above, share: below,
}
