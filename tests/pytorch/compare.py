"""Values, gradients and second gradients of one function in both libraries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pluggrad import Tensor

TOLERANCE = {"float32": 2e-4, "float64": 1e-10, "float16": 4e-3, "bfloat16": 3e-2}


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    """Distinct normal numbers: no two of them tie for a maximum."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def in_torch(array: np.ndarray, dtype: str, requires_grad: bool = True) -> Any:
    import torch

    made = torch.tensor(array)
    return made.to(getattr(torch, dtype)).requires_grad_() if requires_grad else made


def close(ours: Tensor, theirs: Any, dtype: str, what: str = "value") -> None:
    import torch

    actual, expected = ours.cast("float64").numpy(), theirs.detach().to(torch.float64).numpy()
    assert actual.shape == expected.shape, what
    tolerance = TOLERANCE[dtype]
    scale = max(1.0, float(np.abs(expected).max())) if expected.size else 1.0
    np.testing.assert_allclose(actual, expected, tolerance, tolerance * scale, err_msg=what)


def compare(ours: Callable[..., Any], theirs: Callable[..., Any], *arrays: np.ndarray, dtype: str = "float32",
            order: int = 2) -> None:
    """`ours` and `theirs` of the same float arrays agree, as do their gradients up to `order`.

    The sum of sines, weighted, makes a number of the result whose second gradient does not vanish.
    """
    import torch

    x, t = [Tensor(a, dtype=dtype) for a in arrays], [in_torch(a, dtype) for a in arrays]
    value, expected = ours(*x), theirs(*t)
    assert value.dtype.name == dtype
    close(value, expected, dtype)
    weights = draw(*value.shape, seed=1)
    total = (value.sin() * Tensor(weights, dtype=dtype)).sum()
    wanted = (expected.sin() * in_torch(weights, dtype).detach()).sum()
    for level in range(1, order + 1):
        slopes, right = total.gradient(*x), torch.autograd.grad(wanted, t, create_graph=level < order)
        for number, (slope, other) in enumerate(zip(slopes, right, strict=True)):
            close(slope, other, dtype, f"gradient {level} of operand {number}")
        total, wanted = _weighted(slopes, dtype), _weighted_in_torch(right, dtype)


def _weighted(parts: Sequence[Tensor], dtype: str) -> Any:
    return sum((part * Tensor(draw(*part.shape, seed=2), dtype=dtype)).sum() for part in parts)


def _weighted_in_torch(parts: Sequence[Any], dtype: str) -> Any:
    return sum((part * in_torch(draw(*part.shape, seed=2), dtype).detach()).sum() for part in parts)
