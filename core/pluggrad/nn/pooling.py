"""Pooling layers, without tensors: the options of the Tensor methods, in PyTorch's order."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from pluggrad.nn.module import Module
from pluggrad.tensor import Tensor


class _Pooling(Module):
    """A Tensor method with its options."""

    method: ClassVar[Callable[..., Any]]

    def __init__(self, **options: Any) -> None:
        self.options = options

    def __call__(self, x: Tensor) -> Any:
        return type(self).method(x, **self.options)

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{type(self).__name__}({options})"


class MaxPool2d(_Pooling):
    """Largest elements of windows over the last 2 axes; see `Tensor.max_pool2d`."""

    method = Tensor.max_pool2d

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
                 return_indices: bool = False, ceil_mode: bool = False) -> None:
        super().__init__(kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation,
                         return_indices=return_indices, ceil_mode=ceil_mode)


class MaxPool1d(MaxPool2d):
    """Largest elements of windows over the last axis; see `Tensor.max_pool2d`."""

    method = Tensor.max_pool1d


class MaxPool3d(MaxPool2d):
    """Largest elements of windows over the last 3 axes; see `Tensor.max_pool2d`."""

    method = Tensor.max_pool3d


class AvgPool2d(_Pooling):
    """Means of windows over the last 2 axes; see `Tensor.avg_pool2d`."""

    method = Tensor.avg_pool2d

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True) -> None:
        super().__init__(kernel_size=kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode,
                         count_include_pad=count_include_pad)


class AvgPool1d(AvgPool2d):
    """Means of windows over the last axis; see `Tensor.avg_pool2d`."""

    method = Tensor.avg_pool1d


class AvgPool3d(AvgPool2d):
    """Means of windows over the last 3 axes; see `Tensor.avg_pool2d`."""

    method = Tensor.avg_pool3d


class AdaptiveAvgPool2d(_Pooling):
    """Means over `output_size` parts of the last 2 axes; see `Tensor.adaptive_avg_pool2d`."""

    method = Tensor.adaptive_avg_pool2d

    def __init__(self, output_size: Any) -> None:
        super().__init__(output_size=output_size)


class AdaptiveAvgPool1d(AdaptiveAvgPool2d):
    """Means over `output_size` parts of the last axis."""

    method = Tensor.adaptive_avg_pool1d


class AdaptiveAvgPool3d(AdaptiveAvgPool2d):
    """Means over `output_size` parts of the last 3 axes."""

    method = Tensor.adaptive_avg_pool3d


class AdaptiveMaxPool2d(AdaptiveAvgPool2d):
    """Largest elements in `output_size` parts of the last 2 axes; see `Tensor.adaptive_max_pool2d`."""

    method = Tensor.adaptive_max_pool2d


class AdaptiveMaxPool1d(AdaptiveAvgPool2d):
    """Largest elements in `output_size` parts of the last axis."""

    method = Tensor.adaptive_max_pool1d


class AdaptiveMaxPool3d(AdaptiveAvgPool2d):
    """Largest elements in `output_size` parts of the last 3 axes."""

    method = Tensor.adaptive_max_pool3d
