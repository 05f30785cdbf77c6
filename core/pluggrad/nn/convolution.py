"""Convolution layers. Weights and biases start uniform within 1/sqrt(in_channels / groups * prod(kernel))."""
from __future__ import annotations

import math
from typing import Any, ClassVar

from pluggrad.errors import ShapeError
from pluggrad.nn.module import Module
from pluggrad.tensor import Tensor
from pluggrad.tensor.spatial import per_axis


class _Convolution(Module):
    """What convolutions of all kinds hold: weight, bias and how the windows lie."""

    rank: ClassVar[int]

    def _build(self, channels: tuple[int, int], kernel_size: Any, stride: Any, padding: Any, dilation: Any,
               groups: int, bias: bool, transposed: bool) -> None:
        op = type(self).__name__
        self.in_channels, self.out_channels = channels
        if groups < 1 or any(count % groups for count in channels):
            expected = f"groups that divide {channels[0]} input and {channels[1]} output channels"
            raise ShapeError(op=op, expected=expected, got=str(groups))
        self.kernel_size = per_axis(op, "kernel_size", kernel_size, self.rank, least=1)
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        first, second = channels if transposed else channels[::-1]
        fan_in = self.in_channels // groups * math.prod(self.kernel_size)
        bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
        self.weight = Tensor.uniform(first, second // groups, *self.kernel_size, low=-bound, high=bound,
                                     requires_grad=True)
        self.bias = (Tensor.uniform(self.out_channels, low=-bound, high=bound, requires_grad=True)
                     if bias else None)

    def __repr__(self) -> str:
        shown = {"kernel_size": self.kernel_size, "stride": self.stride, "padding": self.padding,
                 "dilation": self.dilation, "groups": self.groups, "bias": self.bias is not None}
        options = ", ".join(f"{name}={value}" for name, value in shown.items())
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, {options})"


class Conv2d(_Convolution):
    """(N, in_channels, H, W) to (N, out_channels, H', W'), as `Tensor.conv2d` has it.

    weight: (out_channels, in_channels / groups, *kernel_size); bias: (out_channels,) or None. padding: in the
    forms of `Tensor.conv2d`. ShapeError if the groups do not divide the channels.
    """

    rank = 2

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1,
                 padding: Any = 0, dilation: Any = 1, groups: int = 1, bias: bool = True) -> None:
        self._build((in_channels, out_channels), kernel_size, stride, padding, dilation, groups, bias, False)

    def __call__(self, x: Tensor) -> Tensor:
        return x.conv2d(self.weight, self.bias, self.groups, self.stride, self.dilation, self.padding)


class Conv1d(Conv2d):
    """(N, in_channels, L) to (N, out_channels, L'); see `Conv2d`."""

    rank = 1


class Conv3d(Conv2d):
    """(N, in_channels, D, H, W) to (N, out_channels, D', H', W'); see `Conv2d`."""

    rank = 3


class ConvTranspose2d(_Convolution):
    """(N, in_channels, H, W) to (N, out_channels, H', W'), as `Tensor.conv_transpose2d` has it.

    weight: (in_channels, out_channels / groups, *kernel_size); bias: (out_channels,) or None.
    """

    rank = 2

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1,
                 padding: Any = 0, output_padding: Any = 0, dilation: Any = 1, groups: int = 1,
                 bias: bool = True) -> None:
        self.output_padding = output_padding
        self._build((in_channels, out_channels), kernel_size, stride, padding, dilation, groups, bias, True)

    def __call__(self, x: Tensor) -> Tensor:
        return x.conv_transpose2d(self.weight, self.bias, self.groups, self.stride, self.dilation,
                                  self.padding, self.output_padding)


class ConvTranspose1d(ConvTranspose2d):
    """(N, in_channels, L) to (N, out_channels, L'); see `ConvTranspose2d`."""

    rank = 1


class ConvTranspose3d(ConvTranspose2d):
    """(N, in_channels, D, H, W) to (N, out_channels, D', H', W'); see `ConvTranspose2d`."""

    rank = 3
