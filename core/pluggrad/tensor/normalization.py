"""Normalization: less the mean, divided by the spread. Computed in float32 at least, whatever the dtype."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

from pluggrad.errors import ShapeError
from pluggrad.shape.broadcast import check_axes
from pluggrad.tensor.adaptive import AdaptivePooling


class Normalization(AdaptivePooling):
    """Functional forms of normalization layers: the result has the shape, and if float the dtype, of `self`.
    """

    __slots__ = ()

    def layernorm(self, axis: int | Sequence[int] = -1, eps: float = 1e-05) -> Self:
        """Mean 0 and variance 1 along the axes: (x - mean) / sqrt(var + eps), var without correction."""
        return self._wide()._standardized(axis, eps)._narrow(self)

    def layer_norm(self, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None,
                   eps: float = 1e-05) -> Self:
        """`layernorm` over the last axes, of `normalized_shape`, times `weight` plus `bias` of that shape."""
        axes = self._trailing("layer_norm", normalized_shape)
        normal = self._wide()._standardized(axes, eps)
        return normal._scaled("layer_norm", weight, bias, axes)._narrow(self)

    def rms_norm(self, normalized_shape: int | Sequence[int], weight: Any = None, eps: float = 1e-06) -> Self:
        """x / sqrt(mean(x*x) + eps) over the last axes, of `normalized_shape`, times `weight` of that shape.
        """
        axes = self._trailing("rms_norm", normalized_shape)
        x = self._wide()
        normal = x * (x.square().mean(axes, keepdim=True) + eps).rsqrt()
        return normal._scaled("rms_norm", weight, None, axes)._narrow(self)

    def group_norm(self, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-05) -> Self:
        """(N, C, ...) with mean 0 and variance 1 over each of `num_groups` parts of the channels.

        weight, bias: (C,). ShapeError if the groups do not divide the channels.
        """
        return self._group_norm("group_norm", num_groups, weight, bias, eps)

    def instance_norm(self, weight: Any = None, bias: Any = None, eps: float = 1e-05) -> Self:
        """(N, C, *S) with mean 0 and variance 1 over the S of each channel of each example.

        weight, bias: (C,). ShapeError unless S has more than one element.
        """
        if self.ndim < 3 or math.prod(self.shape[2:]) == 1:
            raise ShapeError(op="instance_norm", got=str(self.shape),
                             expected="(batch, channels, *spatial) with more than one element per channel")
        return self._group_norm("instance_norm", self.shape[1], weight, bias, eps)

    def batchnorm(self, weight: Any, bias: Any, mean: Any, invstd: Any,
                  axis: int | Sequence[int] = 1) -> Self:
        """(x - mean) * invstd * weight + bias, each with one element for each position of `axis`.

        weight and bias may be None. ShapeError names one of another size.
        """
        axes = check_axes("batchnorm", axis, self.ndim)
        along = [self._along_axes("batchnorm", name, value, axes)
                 for name, value in (("mean", mean), ("invstd", invstd))]
        normal = (self._wide() - along[0]) * along[1]
        return normal._scaled("batchnorm", weight, bias, axes)._narrow(self)

    def _group_norm(self, op: str, num_groups: int, weight: Any, bias: Any, eps: float) -> Self:
        if self.ndim < 2:
            raise ShapeError(op=op, expected="(batch, channels, ...)", got=str(self.shape))
        batch, channels = self.shape[:2]
        if num_groups < 1 or channels % num_groups:
            raise ShapeError(op=op, expected=f"groups that divide the {channels} channels of {self.shape}",
                             got=str(num_groups))
        per_group = channels // num_groups * math.prod(self.shape[2:])
        normal = self._wide().reshape(batch, num_groups, per_group)._standardized(-1, eps)
        return normal.reshape(self.shape)._scaled(op, weight, bias, (1,))._narrow(self)

    def _standardized(self, axis: int | Sequence[int], eps: float) -> Self:
        centered = self - self.mean(axis, keepdim=True)
        return centered * (centered.square().mean(axis, keepdim=True) + eps).rsqrt()

    def _scaled(self, op: str, weight: Any, bias: Any, axes: tuple[int, ...]) -> Self:
        """Times `weight` and plus `bias`, where given, which lie along the axes."""
        x = self if weight is None else self * self._along_axes(op, "weight", weight, axes)
        return x if bias is None else x + self._along_axes(op, "bias", bias, axes)

    def _along_axes(self, op: str, name: str, value: Any, axes: tuple[int, ...]) -> Self:
        """`value`, with an element for each position of the axes, as it broadcasts against this tensor."""
        given = self._new(self._operand(value, op))
        sizes = tuple([self.shape[axis] for axis in axes])
        if math.prod(given.shape) != math.prod(sizes):
            raise ShapeError(op=op, expected=f"a {name} of shape {sizes}, for axes {axes} of {self.shape}",
                             got=str(given.shape))
        return given.reshape([dim if axis in axes else 1 for axis, dim in enumerate(self.shape)])

    def _trailing(self, op: str, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
        """The last axes, whose sizes are `normalized_shape`."""
        wanted = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        if not wanted or self.shape[-len(wanted):] != wanted:
            raise ShapeError(op=op, expected=f"a shape that ends in {wanted}", got=str(self.shape))
        return tuple(range(self.ndim - len(wanted), self.ndim))
