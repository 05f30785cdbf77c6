"""Activations as layers, for those who build networks of layers alone: `Tensor.relu` does as well."""
from __future__ import annotations

from pluggrad.nn.module import Module
from pluggrad.tensor import Tensor


class ReLU(Module):
    """max(x, 0)."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.relu()


class LeakyReLU(Module):
    """x above 0, negative_slope * x below."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope

    def __call__(self, x: Tensor) -> Tensor:
        return x.leaky_relu(self.negative_slope)

    def __repr__(self) -> str:
        return f"LeakyReLU(negative_slope={self.negative_slope})"


class GELU(Module):
    """x times the normal distribution function of x; `approximate` is "none" (by erf) or "tanh"."""

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate

    def __call__(self, x: Tensor) -> Tensor:
        return x.gelu(self.approximate)

    def __repr__(self) -> str:
        return f"GELU(approximate={self.approximate!r})"


class SiLU(Module):
    """x sigmoid(x)."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.silu()


class Tanh(Module):
    """Hyperbolic tangent."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.tanh()


class Sigmoid(Module):
    """1 / (1 + e**-x)."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.sigmoid()


class Softmax(Module):
    """e ** x divided by its sum along an axis."""

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def __call__(self, x: Tensor) -> Tensor:
        return x.softmax(self.dim)

    def __repr__(self) -> str:
        return f"Softmax(dim={self.dim})"
