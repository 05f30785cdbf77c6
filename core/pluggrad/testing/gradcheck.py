"""Gradients against central finite differences, in float64, to first and second order."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pluggrad import dtypes
from pluggrad.errors import GradientError
from pluggrad.tensor import Tensor

Array = np.ndarray[Any, np.dtype[np.float64]]
Function = Callable[..., Any]


def gradcheck(fn: Function, inputs: Sequence[Any], *, order: int = 1, eps: float = 1e-6, rtol: float = 1e-5,
              atol: float = 1e-7, seed: int = 0, device: str | None = None) -> None:
    """AssertionError unless the gradients of `fn(*inputs)` are those that finite differences give.

    fn: takes float64 tensors, returns a tensor of any shape or a sequence of them; it has to be smooth within
    `eps` of the inputs and give the same result each time. inputs: arrays or tensors, taken as float64.
    order: 2 checks second-order gradients too. device: where to compute (None: the default device).
    The outputs are summed with fixed random weights (`seed`), so that errors do not cancel.
    """
    arrays = [np.array(x.numpy() if isinstance(x, Tensor) else x, np.float64) for x in inputs]

    def loss(*tensors: Tensor) -> Tensor:
        return _weighted_sum(fn(*tensors), seed)

    def slope(*tensors: Tensor) -> Tensor:
        return _weighted_sum(_gradients(loss(*tensors), tensors), seed + 1)

    for name, function in (("gradient", loss), ("second-order gradient", slope))[:order]:
        tensors = [Tensor(array, dtype=dtypes.float64, device=device) for array in arrays]
        found = [gradient.numpy() for gradient in _gradients(function(*tensors), tensors)]
        for position, gradient in enumerate(found):
            expected = _finite_differences(function, arrays, position, eps, device)
            _compare(f"gradcheck: {name} of input {position}", gradient, expected, rtol, atol)


def _weighted_sum(outputs: Any, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    parts = [outputs] if isinstance(outputs, Tensor) else outputs
    weights = [rng.uniform(0.5, 1.5, part.shape) for part in parts]
    sums = [(part * Tensor(weight, dtype=dtypes.float64, device=part.device)).sum()
            for part, weight in zip(parts, weights)]
    total: Tensor = sum(sums[1:], sums[0])
    return total


def _gradients(value: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """One gradient a tensor; zeros where the value does not depend on it, as a slope of something linear."""
    found = []
    for tensor in tensors:
        try:
            found += value.gradient(tensor)
        except GradientError:
            found.append(Tensor(np.zeros(tensor.shape), dtype=dtypes.float64, device=tensor.device))
    return found


def _finite_differences(function: Function, arrays: Sequence[Array], position: int, eps: float,
                        device: str | None) -> Array:
    slopes = np.zeros_like(arrays[position])
    for element in np.ndindex(slopes.shape):
        values = []
        for step in (eps, -eps):
            moved = [array.copy() for array in arrays]
            moved[position][element] += step
            tensors = [Tensor(array, dtype=dtypes.float64, device=device) for array in moved]
            values.append(float(function(*tensors).numpy()))
        slopes[element] = (values[0] - values[1]) / (2 * eps)
    return slopes


def _compare(what: str, found: Array, expected: Array, rtol: float, atol: float) -> None:
    if found.shape != expected.shape:
        raise AssertionError(f"{what}: expected shape {expected.shape}, got {found.shape}")
    allowed = atol + rtol * np.abs(expected)
    wrong = np.argwhere(~(np.abs(found - expected) <= allowed))  # so that NaN is wrong too
    if len(wrong):
        first = tuple(wrong[0].tolist())
        raise AssertionError(f"{what}, element {first}: expected {expected[first]} by finite differences, "
                             f"got {found[first]} ({len(wrong)} of {found.size} elements differ)")
