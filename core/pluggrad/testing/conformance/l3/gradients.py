"""Gradients of whole expressions against finite differences, to second order."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from pluggrad.tensor import Tensor
from pluggrad.testing.conformance import samples
from pluggrad.testing.conformance.registry import conformance, product
from pluggrad.testing.conformance.requirement import requires
from pluggrad.testing.conformance.subject import Subject
from pluggrad.testing.gradcheck import gradcheck

_EXPRESSIONS: Final[Mapping[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]]] = {
    "linear": (lambda x, w, b: (x @ w + b).tanh(), ((3, 4), (4, 2), (2,))),
    "softmax": (lambda x: x.log_softmax(-1), ((2, 5),)),
    "layer-norm": (lambda x: x.layernorm(-1), ((3, 4),)),
    "convolution": (lambda x, w: x.conv2d(w, padding=1), ((1, 2, 4, 3), (2, 2, 3, 3))),
    "pooling": (lambda x: x.max_pool2d((2, 2)), ((1, 1, 4, 4),)),
    "functions": (lambda x: x.exp().sin() + (x * x + 1).log() + (x * x + 1).sqrt() + x.sigmoid() + x.erf(),
                  ((3, 3),)),
    "division": (lambda x, y: x / (y * y + 1) + (x * x + 1) ** y, ((2, 3), (2, 3))),
    "movement": (lambda x: x.T.reshape(2, 6).pad(((0, 1), (1, 0))).flip(1)[:, ::2] * 3, ((4, 3),)),
    "equations": (lambda a, b: (a * 0.1 + Tensor.eye(3, dtype=a.dtype, device=a.device)).solve(b).sin(),
                  ((3, 3), (3, 2))),
    "extremes": (lambda x: x.max(1) + x.min(0).sum() + x.relu().prod(1), ((3, 3),)),
}


@conformance("L3", cases=product(expression=_EXPRESSIONS, order=(1, 2)), requires=requires(dtype="float64"),
             suggests="a gradient of {expression} is wrong in float64")
def gradients(subject: Subject, expression: str, order: int) -> None:
    """First and second gradients in float64."""
    function, shapes = _EXPRESSIONS[expression]
    rng = samples.seeded("gradients", expression)
    gradcheck(function, [rng.uniform(-1.5, 1.5, shape) for shape in shapes], order=order,
              rtol=1e-5 if order == 1 else 1e-4, atol=1e-6, device=subject.name)


@conformance("L3", cases=product(expression=_EXPRESSIONS), requires=requires(dtype="float32"),
             suggests="a gradient of {expression} is not that of the reference")
def gradients_of_the_reference(subject: Subject, expression: str) -> None:
    """Gradients in float32 are those of the reference device."""
    function, shapes = _EXPRESSIONS[expression]
    rng = samples.seeded("reference", expression)
    arrays = [rng.uniform(-1.5, 1.5, shape).astype(np.float32) for shape in shapes]

    def found(device: str) -> list[Any]:
        tensors = [Tensor(array, device=device) for array in arrays]
        return [gradient.numpy() for gradient in function(*tensors).square().sum().gradient(*tensors)]

    for place, (have, want) in enumerate(zip(found(subject.name), found("ref"), strict=True)):
        subject.expect(have, want, "float32", "sum", op=f"gradient {place} of {expression}")
