"""Layers: small modules whose tensors are marked `requires_grad` when they are made."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pluggrad.errors import ShapeError, ValueRangeError
from pluggrad.nn.module import Module
from pluggrad.tensor import Tensor


class Linear(Module):
    """`x @ weight.T + bias` over the last axis: (..., in_features) to (..., out_features).

    weight: (out_features, in_features); bias: (out_features,) or None. Both start uniform within
    1/sqrt(in_features).
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self.in_features, self.out_features = in_features, out_features
        bound = 1 / math.sqrt(in_features) if in_features > 0 else 0.0
        self.weight = Tensor.uniform(out_features, in_features, low=-bound, high=bound, requires_grad=True)
        self.bias = Tensor.uniform(out_features, low=-bound, high=bound, requires_grad=True) if bias else None

    def __call__(self, x: Tensor) -> Tensor:
        return x.linear(self.weight.transpose(), self.bias)

    def __repr__(self) -> str:
        return (f"Linear(in_features={self.in_features}, out_features={self.out_features}, "
                f"bias={self.bias is not None})")


class LayerNorm(Module):
    """Mean 0 and variance 1 (biased) over the last axes, then scaled and shifted: (..., *normalized_shape).

    weight, bias: ones and zeros of `normalized_shape`, or None without `elementwise_affine`.
    J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer Normalization", 2016, https://arxiv.org/abs/1607.06450.
    """

    def __init__(self, normalized_shape: int | Sequence[int], eps: float = 1e-5,
                 elementwise_affine: bool = True) -> None:
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape = shape
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.weight = Tensor.ones(*shape, requires_grad=True) if elementwise_affine else None
        self.bias = Tensor.zeros(*shape, requires_grad=True) if elementwise_affine else None

    def __call__(self, x: Tensor) -> Tensor:
        rank = len(self.normalized_shape)
        if x.shape[-rank:] != self.normalized_shape:
            expected = f"a shape that ends in {self.normalized_shape}"
            raise ShapeError(op="layernorm", expected=expected, got=str(x.shape))
        normal = x.layernorm(axis=tuple(range(-rank, 0)), eps=self.eps)
        if self.weight is None or self.bias is None:
            return normal
        return normal * self.weight + self.bias

    def __repr__(self) -> str:
        return (f"LayerNorm({self.normalized_shape}, eps={self.eps}, "
                f"elementwise_affine={self.elementwise_affine})")


class Dropout(Module):
    """While `Tensor.training`, each element is zero with probability `p` and the rest are scaled by 1/(1-p).

    N. Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", 2014.
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueRangeError(op="Dropout", expected="a probability p from 0 to 1", got=str(p))
        self.p = p

    def __call__(self, x: Tensor) -> Tensor:
        return x.dropout(self.p)

    def __repr__(self) -> str:
        return f"Dropout(p={self.p})"


class Sequential(Module):
    """Layers and functions called one after another; its tensors are named "0.weight", "0.bias", "2.weight".

    Takes the layers as arguments or as one list. Slices are Sequentials over the same layers.
    """

    def __init__(self, *layers: Callable[[Any], Any] | Sequence[Callable[[Any], Any]]) -> None:
        given = layers[0] if len(layers) == 1 and isinstance(layers[0], list | tuple) else layers
        # attributes named by their position, so that state dicts have PyTorch's names
        vars(self).update({str(index): layer for index, layer in enumerate(given)})

    def __iter__(self) -> Iterator[Callable[[Any], Any]]:
        return (layer for name, layer in vars(self).items() if name.isdigit())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, index: int | slice) -> Any:
        chosen = list(self)[index]
        return Sequential(chosen) if isinstance(index, slice) else chosen

    def __call__(self, x: Any) -> Any:
        for layer in self:
            x = layer(x)
        return x
