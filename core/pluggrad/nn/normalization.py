"""Normalization layers. Statistics are computed in float32 at least; results have the dtype of the input."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pluggrad import dtypes
from pluggrad.errors import ShapeError
from pluggrad.nn.module import Module
from pluggrad.tensor import Tensor


class BatchNorm(Module):
    """(N, C, ...) with mean 0 and variance 1 over everything but the channels, then scaled and shifted.

    While `Tensor.training`, or without `track_running_stats`, by the batch's own mean and biased variance;
    each call moves the running mean and the running unbiased variance toward them by the share `momentum`
    (None: all batches count alike). Else by the running ones.
    weight, bias: (C,) ones and zeros, or None without `affine`. running_mean, running_var: (C,), and
    num_batches_tracked: no parameters. ShapeError where a batch has one value per channel.
    S. Ioffe and C. Szegedy, "Batch Normalization", 2015, https://arxiv.org/abs/1502.03167.
    """

    def __init__(self, sz: int, eps: float = 1e-5, affine: bool = True, track_running_stats: bool = True,
                 momentum: float | None = 0.1) -> None:
        self.sz, self.eps, self.affine, self.momentum = sz, eps, affine, momentum
        self.track_running_stats = track_running_stats
        self.weight, self.bias = _affine((sz,), affine)
        if track_running_stats:
            self.num_batches_tracked = Tensor(0, dtype=dtypes.int64)
            self.running_mean = Tensor.zeros(sz, requires_grad=False)
            self.running_var = Tensor.ones(sz, requires_grad=False)

    def __call__(self, x: Tensor) -> Tensor:
        _check_channels("BatchNorm", x, self.sz)
        working = dtypes.accumulator_dtype(dtypes.least_upper_float(x.dtype))
        if self.track_running_stats and not Tensor.training:
            mean, variance = self.running_mean.cast(working), self.running_var.cast(working)
        else:
            mean, variance = self._statistics(x.cast(working))
        return x.batchnorm(self.weight, self.bias, mean, (variance + self.eps).rsqrt())

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance of each channel; the running ones take note."""
        count = math.prod(x.shape) // max(self.sz, 1)
        if count == 1:
            raise ShapeError(op="BatchNorm", got=f"shape {x.shape}",
                             expected="more than one value per channel while training",
                             hint="Use a larger batch, or evaluate with Tensor.training = False")
        axes = tuple([axis for axis in range(x.ndim) if axis != 1])
        mean = x.mean(axes)
        # E[dd] - E[d]E[d] is the variance whatever constant d is shifted by. Shifted by the mean, E[d] is but
        # a rounding error, taken off here, and the way back has no sum that waits for another.
        shifted = x - mean.detach().reshape(1, -1, *[1] * (x.ndim - 2))
        variance = shifted.square().mean(axes) - shifted.mean(axes).square()
        if self.track_running_stats and count:  # an empty batch has no mean
            self._track(mean, variance * (count / (count - 1)))
        return mean, variance

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        batches = self.num_batches_tracked + 1
        share: Any = batches.cast(mean.dtype).reciprocal() if self.momentum is None else self.momentum
        for running, new in ((self.running_mean, mean), (self.running_var, variance)):
            running.assign(running + (new - running) * share)
        self.num_batches_tracked.assign(batches)

    def __repr__(self) -> str:
        return (f"BatchNorm({self.sz}, eps={self.eps}, affine={self.affine}, "
                f"track_running_stats={self.track_running_stats}, momentum={self.momentum})")


BatchNorm1d = BatchNorm2d = BatchNorm3d = BatchNorm


class GroupNorm(Module):
    """(N, C, ...) with mean 0 and variance 1 over each of `num_groups` parts of the channels, then scaled.

    weight, bias: (C,) ones and zeros, or None without `affine`.
    Y. Wu and K. He, "Group Normalization", 2018, https://arxiv.org/abs/1803.08494.
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        if num_groups < 1 or num_channels % num_groups:
            raise ShapeError(op="GroupNorm", expected=f"groups that divide {num_channels} channels",
                             got=str(num_groups))
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self.weight, self.bias = _affine((num_channels,), affine)

    def __call__(self, x: Tensor) -> Tensor:
        _check_channels("GroupNorm", x, self.num_channels)
        return x.group_norm(self.num_groups, self.weight, self.bias, self.eps)

    def __repr__(self) -> str:
        return f"GroupNorm({self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine})"


class InstanceNorm(Module):
    """(N, C, *S) with mean 0 and variance 1 over the S of each channel of each example, then scaled.

    weight, bias: (C,) ones and zeros, or None without `affine`.
    D. Ulyanov, A. Vedaldi and V. Lempitsky, "Instance Normalization", 2016, https://arxiv.org/abs/1607.08022.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, affine: bool = True) -> None:
        self.num_features, self.eps, self.affine = num_features, eps, affine
        self.weight, self.bias = _affine((num_features,), affine)

    def __call__(self, x: Tensor) -> Tensor:
        _check_channels("InstanceNorm", x, self.num_features)
        return x.instance_norm(self.weight, self.bias, self.eps)

    def __repr__(self) -> str:
        return f"InstanceNorm({self.num_features}, eps={self.eps}, affine={self.affine})"


InstanceNorm1d = InstanceNorm2d = InstanceNorm3d = InstanceNorm


class LayerNorm(Module):
    """Mean 0 and variance 1 (biased) over the last axes, then scaled and shifted: (..., *normalized_shape).

    weight, bias: ones and zeros of `normalized_shape`, or None without `elementwise_affine`; `bias=False`
    leaves out the bias alone.
    J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer Normalization", 2016, https://arxiv.org/abs/1607.06450.
    """

    def __init__(self, normalized_shape: int | Sequence[int], eps: float = 1e-5,
                 elementwise_affine: bool = True, *, bias: bool = True) -> None:
        self.normalized_shape = _as_shape(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.weight, self.bias = _affine(self.normalized_shape, elementwise_affine)
        if not bias:
            self.bias = None

    def __call__(self, x: Tensor) -> Tensor:
        return x.layer_norm(self.normalized_shape, self.weight, self.bias, self.eps)

    def __repr__(self) -> str:
        return (f"{type(self).__name__}({self.normalized_shape}, eps={self.eps}, "
                f"elementwise_affine={self.elementwise_affine})")


class LayerNorm2d(LayerNorm):
    """`LayerNorm` over the channels of (N, C, H, W)."""

    def __call__(self, x: Tensor) -> Tensor:
        if x.ndim != 4:
            raise ShapeError(op="LayerNorm2d", expected="(batch, channels, height, width)", got=str(x.shape))
        return super().__call__(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class RMSNorm(Module):
    """x / sqrt(mean(x*x) + eps) over the last axes, of size `dim`, then scaled: (..., *dim).

    weight: ones of `dim`, or None without `elementwise_affine`.
    B. Zhang and R. Sennrich, "Root Mean Square Layer Normalization", 2019, https://arxiv.org/abs/1910.07467.
    """

    def __init__(self, dim: int | Sequence[int], eps: float = 1e-6, elementwise_affine: bool = True) -> None:
        self.dim, self.eps, self.elementwise_affine = _as_shape(dim), eps, elementwise_affine
        self.weight = Tensor.ones(*self.dim, requires_grad=True) if elementwise_affine else None

    def __call__(self, x: Tensor) -> Tensor:
        return x.rms_norm(self.dim, self.weight, self.eps)

    def __repr__(self) -> str:
        return f"RMSNorm({self.dim}, eps={self.eps}, elementwise_affine={self.elementwise_affine})"


def _affine(shape: tuple[int, ...], wanted: bool) -> tuple[Tensor | None, Tensor | None]:
    """A weight of ones and a bias of zeros."""
    if not wanted:
        return None, None
    return Tensor.ones(*shape, requires_grad=True), Tensor.zeros(*shape, requires_grad=True)


def _as_shape(shape: int | Sequence[int]) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)


def _check_channels(op: str, x: Tensor, channels: int) -> None:
    if x.ndim < 2 or x.shape[1] != channels:
        raise ShapeError(op=op, expected=f"(batch, {channels} channels, ...)", got=str(x.shape))
