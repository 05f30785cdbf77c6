"""Convolutions: each is a product of windows and weights, summed over channels and places in one contraction.

A transposed convolution sums over channels alone and folds what that gives.
"""
from __future__ import annotations

from typing import Any, Self

from pluggrad import dtypes
from pluggrad.errors import ShapeError, ValueRangeError
from pluggrad.graph import build, ops
from pluggrad.ir.node import Node
from pluggrad.shape.broadcast import check_axis
from pluggrad.shape.dims import Shape
from pluggrad.tensor.functional import Functional
from pluggrad.tensor.spatial import Windows, per_axis, too_small, windows


def _contracted(op: str, x: Node, weight: Node, groups: int, frame: Windows) -> Node:
    """(N, G * Ci, *S), already padded, with weights (G * Co, Ci, *K): (N, G * Co, *positions)."""
    batch, (channels, inner, *kernel), rank = x.shape[0], weight.shape, len(frame.sizes)
    rows = [row for row in frame.rows if row[1:3] != (1, 1)]
    placed = build.window(x, rows, op)
    positions = placed.shape[2:2 + rank]
    left = build.reshape(placed, (batch, groups, 1, inner, *positions, *kernel))
    total = build.reduce(ops.SUM, _product(left, weight, groups), (3, *range(4 + rank, 4 + 2 * rank)))
    return build.reshape(total, (batch, channels, *positions))


def _transposed(x: Node, weight: Node, groups: int, frame: Windows, sizes: Shape) -> Node:
    """The adjoint of `_contracted` with its padding: (N, G * Ci, *S) gives (N, G * Co, *sizes)."""
    batch, (channels, inner, *kernel), positions = x.shape[0], weight.shape, x.shape[2:]
    left = build.reshape(x, (batch, groups, 1, inner, *positions, *(1,) * len(kernel)))
    total = build.reduce(ops.SUM, _product(left, weight, groups), (3,))
    covered = [(dim - 1) * stride + reach
               for dim, stride, reach in zip(positions, frame.strides, frame.reaches, strict=True)]
    spread = build.fold(build.reshape(total, (batch, channels, *positions, *kernel)), frame.rows,
                        (batch, channels, *covered))
    missing = [(0, max(size + sum(pad) - dim, 0))
               for size, pad, dim in zip(sizes, frame.pads, covered, strict=True)]
    spread = build.pad(spread, ((0, 0), (0, 0), *missing))
    kept = [(before, size, 1) for size, (before, _) in zip(sizes, frame.pads, strict=True)]
    return build.slice(spread, [(0, batch, 1), (0, channels, 1), *kept])


def _product(left: Node, weight: Node, groups: int) -> Node:
    """(N, G, 1, Ci, *O, *K or ones) times weights (G * Co, Ci, *K): (N, G, Co, Ci, *O, *K)."""
    channels, inner, *kernel = weight.shape
    batch, _, _, _, *places = left.shape
    positions, outer = places[:len(kernel)], channels // groups
    shape = (batch, groups, outer, inner, *positions, *kernel)
    right = build.reshape(weight, (1, groups, outer, inner, *(1,) * len(kernel), *kernel))
    return build.binary(ops.MUL, build.expand(left, shape), build.expand(right, shape))


class Convolution(Functional):
    """Convolutions over 1 to 3 spatial axes. Halves add up in float32."""

    __slots__ = ()

    def conv2d(self, weight: Any, bias: Any = None, groups: int = 1, stride: Any = 1, dilation: Any = 1,
               padding: Any = 0, dtype: Any = None) -> Self:
        """(N, Ci, *S) with weights (Co, Ci / groups, *K): (N, Co, *O), for 1 to 3 spatial axes.

        O = (S + padding - (K - 1) * dilation - 1) // stride + 1; weights are not flipped, as in every network
        library. bias: (Co,). groups: inputs and outputs in as many parts, each seeing its own inputs only.
        stride, dilation: an integer, or one per axis. padding: an integer, one per axis, or (before, after)
        per axis in one flat tuple from the last axis backward; or "same" or "valid".
        dtype: of the result. ShapeError names what does not fit.
        """
        return self._convolved("conv2d", (3, 4, 5), weight, bias, groups, stride, dilation, padding, dtype)

    def conv1d(self, weight: Any, bias: Any = None, groups: int = 1, stride: Any = 1, dilation: Any = 1,
               padding: Any = 0, dtype: Any = None) -> Self:
        """(N, Ci, S) with weights (Co, Ci / groups, K): (N, Co, O); see `conv2d`."""
        return self._convolved("conv1d", (3,), weight, bias, groups, stride, dilation, padding, dtype)

    def conv3d(self, weight: Any, bias: Any = None, groups: int = 1, stride: Any = 1, dilation: Any = 1,
               padding: Any = 0, dtype: Any = None) -> Self:
        """(N, Ci, *S) with weights (Co, Ci / groups, *K), 3 spatial axes: (N, Co, *O); see `conv2d`."""
        return self._convolved("conv3d", (5,), weight, bias, groups, stride, dilation, padding, dtype)

    def conv_transpose2d(self, weight: Any, bias: Any = None, groups: int = 1, stride: Any = 1,
                         dilation: Any = 1, padding: Any = 0, output_padding: Any = 0) -> Self:
        """(N, Ci, *S) with weights (Ci, Co / groups, *K): (N, Co, *O), for 1 to 3 spatial axes.

        The adjoint of `conv2d`: O = (S - 1) * stride + (K - 1) * dilation + 1 - padding + output_padding.
        output_padding: further results at the end, fewer than the stride or the dilation, since several sizes
        have the same number of windows. The other arguments are those of `conv2d`.
        """
        return self._spread("conv_transpose2d", (3, 4, 5), weight, bias, groups, stride, dilation, padding,
                            output_padding)

    def conv_transpose1d(self, weight: Any, bias: Any = None, groups: int = 1, stride: Any = 1,
                         dilation: Any = 1, padding: Any = 0, output_padding: Any = 0) -> Self:
        """(N, Ci, S) with weights (Ci, Co / groups, K): (N, Co, O); see `conv_transpose2d`."""
        return self._spread("conv_transpose1d", (3,), weight, bias, groups, stride, dilation, padding,
                            output_padding)

    def conv_transpose3d(self, weight: Any, bias: Any = None, groups: int = 1, stride: Any = 1,
                         dilation: Any = 1, padding: Any = 0, output_padding: Any = 0) -> Self:
        """(N, Ci, *S) with weights (Ci, Co / groups, *K), 3 spatial axes; see `conv_transpose2d`."""
        return self._spread("conv_transpose3d", (5,), weight, bias, groups, stride, dilation, padding,
                            output_padding)

    def unfold(self, dim: int, size: int, step: int) -> Self:
        """Windows of `size` elements every `step` along an axis, their elements along a new last axis."""
        axis = check_axis("unfold", dim, self.ndim)
        return self._new(build.window(self.node, ((axis, size, step, 1),), "unfold"))

    def _convolved(self, op: str, ranks: tuple[int, ...], weight: Any, bias: Any, groups: int, stride: Any,
                   dilation: Any, padding: Any, dtype: Any) -> Self:
        x, w = self._pair(weight, op)
        _check_ranks(op, x, w, ranks)
        if groups < 1 or w.shape[0] % groups:
            raise _indivisible(op, w.shape[0], "output channels", groups)
        if x.shape[1] != w.shape[1] * groups:
            raise _mismatched(op, x, w, groups, w.shape[1] * groups)
        frame = windows(op, w.shape[2:], stride, dilation, padding)
        for axis, (dim, reach, pad) in enumerate(zip(x.shape[2:], frame.reaches, frame.pads, strict=True)):
            if dim + sum(pad) < reach:
                raise too_small(op, x.shape, axis, frame)
        x, w, promoted = _widened(x, w)
        padded = build.pad(x, frame.widths(len(x.shape)))
        total = _contracted(op, padded, w, groups, frame)
        return self._biased(op, total, bias, promoted if dtype is None else dtypes.to_dtype(dtype))

    def _spread(self, op: str, ranks: tuple[int, ...], weight: Any, bias: Any, groups: int, stride: Any,
                dilation: Any, padding: Any, output_padding: Any) -> Self:
        x, w = self._pair(weight, op)
        _check_ranks(op, x, w, ranks)
        if groups < 1 or w.shape[0] % groups:
            raise _indivisible(op, w.shape[0], "input channels", groups)
        if x.shape[1] != w.shape[0]:
            raise _mismatched(op, x, w, groups, w.shape[0])
        frame = windows(op, w.shape[2:], stride, dilation, padding)
        sizes = _spread_sizes(op, x.shape[2:], frame, output_padding)
        x, w, promoted = _widened(x, w)
        inner, outer, kernel = w.shape[0] // groups, w.shape[1], w.shape[2:]
        w = build.permute(build.reshape(w, (groups, inner, outer, *kernel)),
                          (0, 2, 1, *range(3, 3 + len(kernel))))
        w = build.reshape(w, (groups * outer, inner, *kernel))
        return self._biased(op, _transposed(x, w, groups, frame, sizes), bias, promoted)

    def _biased(self, op: str, total: Node, bias: Any, dtype: dtypes.DType) -> Self:
        """`total` plus a number for each channel, in `dtype`."""
        if bias is None:
            return self._new(build.cast(total, dtype))
        added, channels = self._operand(bias, op), total.shape[1]
        if added.shape != (channels,):
            raise ShapeError(op=op, expected=f"a bias of shape ({channels},)", got=str(added.shape))
        added = build.reshape(added, (channels, *(1,) * (len(total.shape) - 2)))
        return self._new(build.cast(build.binary(ops.ADD, total, added), dtype))


def _check_ranks(op: str, x: Node, weight: Node, ranks: tuple[int, ...]) -> None:
    build.same_device(op, x, weight)
    if len(weight.shape) not in ranks or len(x.shape) != len(weight.shape):
        allowed = " or ".join(map(str, ranks))
        raise ShapeError(op=op, expected=f"input and weight of {allowed} dimensions, equally many",
                         got=f"{x.shape} and {weight.shape}",
                         hint="The input is (batch, channels, *spatial): unsqueeze(0) adds a batch of one")


def _widened(x: Node, weight: Node) -> tuple[Node, Node, dtypes.DType]:
    """Both in the dtype that they add up in, and the dtype of the result."""
    promoted = dtypes.promote(x.dtype, weight.dtype)
    working = dtypes.accumulator_dtype(promoted) if promoted.is_float else dtypes.sum_dtype(promoted)
    return build.cast(x, working), build.cast(weight, working), promoted


def _spread_sizes(op: str, shape: Shape, frame: Windows, output_padding: Any) -> Shape:
    extra = per_axis(op, "output_padding", output_padding, len(shape), least=0)
    if any(more >= max(limits) for more, *limits in zip(extra, frame.strides, frame.dilations)):
        raise ValueRangeError(op=op, expected=f"an output_padding below the stride {frame.strides} or the "
                                              f"dilation {frame.dilations}", got=str(output_padding))
    sizes = tuple([(size - 1) * stride + reach - sum(pad) + more for size, stride, reach, pad, more in zip(
        shape, frame.strides, frame.reaches, frame.pads, extra, strict=True)])
    if any(size < 1 for size in sizes):
        raise ShapeError(op=op, expected="padding that leaves a result", got=f"sizes {sizes}",
                         hint="Less padding, or a larger input, kernel or stride")
    return sizes


def _indivisible(op: str, channels: int, what: str, groups: int) -> ShapeError:
    return ShapeError(op=op, expected=f"groups that divide the {channels} {what}", got=str(groups))


def _mismatched(op: str, x: Node, weight: Node, groups: int, channels: int) -> ShapeError:
    return ShapeError(op=op, expected=f"{channels} input channels, as weight {weight.shape} has with "
                                      f"groups={groups}", got=f"{x.shape[1]} in shape {x.shape}")
