"""Gradient clipping, between `backward` and the optimizer's `step`."""
from __future__ import annotations

import math
from collections.abc import Iterator

from pluggrad import dtypes
from pluggrad.errors import ValueRangeError
from pluggrad.nn.state import get_parameters
from pluggrad.tensor import Tensor


def clip_grad_norm_(parameters: object, max_norm: float, norm_type: float = 2.0,
                    error_if_nonfinite: bool = False) -> Tensor:
    """Scale all gradients by one factor, so that their norm as one vector is at most `max_norm`.

    parameters: a module, or tensors in lists and dictionaries; those without a gradient do not count.
    Returns the norm before, a scalar tensor (0 if there is no gradient). norm_type: 2, any other power above
    0, or infinity for the largest absolute value. error_if_nonfinite: computes the norm now, and raises
    ValueRangeError if it is infinite or NaN; else gradients are scaled by what comes out.
    """
    if norm_type <= 0:
        raise ValueRangeError(op="clip_grad_norm_", expected="a norm_type above 0", got=str(norm_type))
    tensors = [tensor for tensor in _listed(parameters) if tensor.grad is not None]
    if not tensors:
        return Tensor(0.0)
    grads = [tensor.grad.detach() for tensor in tensors if tensor.grad is not None]
    total = _total_norm(grads, norm_type)
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise ValueRangeError(op="clip_grad_norm_", expected="gradients with a finite norm",
                              got=str(total.item()))
    factor = (max_norm / (total + 1e-6)).minimum(1.0)
    for tensor, grad in zip(tensors, grads, strict=True):
        tensor.grad = (grad * factor.to(grad.device)).cast(grad.dtype)
    return total


def clip_grad_value_(parameters: object, clip_value: float) -> None:
    """Bring every element of the gradients into [-clip_value, clip_value]; parameters as above."""
    if clip_value < 0:
        raise ValueRangeError(op="clip_grad_value_", expected="a clip_value of at least 0",
                              got=str(clip_value))
    for tensor in _listed(parameters):
        if tensor.grad is not None:
            tensor.grad = tensor.grad.detach().clamp(-clip_value, clip_value)


def _listed(parameters: object) -> list[Tensor]:
    return get_parameters(list(parameters) if isinstance(parameters, Iterator) else parameters)


def _total_norm(grads: list[Tensor], norm_type: float) -> Tensor:
    """The norm of all gradients as one vector, in float32 at least, on the device of the first."""
    wide = [grad.cast(dtypes.accumulator_dtype(grad.dtype)).abs() for grad in grads]
    place = grads[0].device
    if norm_type == math.inf:
        parts = [grad.max().to(place) for grad in wide]
        return Tensor.stack(*parts).max()
    parts = [(grad.square() if norm_type == 2 else grad.pow(norm_type)).sum().to(place) for grad in wide]
    total = sum(parts[1:], parts[0])
    return total.sqrt() if norm_type == 2 else total.pow(1 / norm_type)
