"""Optimizers that look at a tensor as a whole: its length, or the matrix that it is."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from pluggrad.errors import ValueRangeError
from pluggrad.graph import build
from pluggrad.graph.scalar import HostValue
from pluggrad.ir.node import Node
from pluggrad.nn.optim.adam import shrunk
from pluggrad.nn.optim.descent import Update, decayed
from pluggrad.nn.optim.groups import ParamGroup
from pluggrad.nn.optim.nodes import add, divide, multiply, norm, repeat, scale, subtract, where_positive
from pluggrad.nn.optim.optimizer import Optimizer, zeros_like
from pluggrad.tensor import Tensor

Adjust: TypeAlias = Literal["original", "match_rms_adamw"]
Coefficients: TypeAlias = tuple[float, float, float]


class LARS(Optimizer):
    """SGD with momentum, each tensor's learning rate in proportion to its length over its gradient's.

    The rate is `lr * tcoef * |p| / (|grad| + weight_decay * |p|)`, or lr where a length is 0 (or tcoef is).
    classic: the rate is inside the momentum, `v = momentum * v + rate * g; p -= v`. pre_wd: weight decay is
    part of g, else `p *= 1 - lr * weight_decay` before the step.
    Y. You, I. Gitman and B. Ginsburg, "Large Batch Training of Convolutional Networks",
    https://arxiv.org/abs/1708.03888.
    """

    def __init__(self, params: object, lr: float = 0.001, momentum: float = 0.9, weight_decay: float = 1e-4,
                 nesterov: bool = False, classic: bool = True, pre_wd: bool = True, tcoef: float = 0.001, *,
                 maximize: bool = False) -> None:
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov,
                         classic=classic, pre_wd=pre_wd, tcoef=tcoef, maximize=maximize)

    def _initial(self, param: Tensor, group: ParamGroup) -> dict[str, Tensor]:
        return {"velocity": zeros_like(param)} if group["momentum"] else {}

    def _update(self, group: ParamGroup, count: HostValue, param: Node, grad: Node,
                kept: dict[str, Node]) -> Update:
        trust = _trust(group, param, grad) if group["tcoef"] else None
        states: dict[str, Node] = {}
        if group["pre_wd"]:
            grad = decayed(group, param, grad)
        if group["classic"]:
            grad = _scaled(group, grad, trust)
        if kept:
            velocity = states["velocity"] = add(scale(kept["velocity"], group.read("momentum")), grad)
            grad = add(grad, scale(velocity, group.read("momentum"))) if group["nesterov"] else velocity
        if not group["pre_wd"]:
            param = shrunk(group, param)
        return subtract(param, grad if group["classic"] else _scaled(group, grad, trust)), states


def _trust(group: ParamGroup, param: Node, grad: Node) -> Node:
    """The share of the learning rate that suits the tensor, as one element."""
    length, slope = norm(param), norm(grad)
    total = add(slope, scale(length, group.read("weight_decay"))) if group["weight_decay"] else slope
    return where_positive(length, slope, divide(scale(length, group.read("tcoef")), total))


def _scaled(group: ParamGroup, grad: Node, trust: Node | None) -> Node:
    scaled = scale(grad, group.read("lr"))
    return scaled if trust is None else multiply(scaled, repeat(trust, grad))


class Muon(Optimizer):
    """Momentum, made orthogonal: the step of a matrix has singular values of about 1.

    `v = momentum * v + g; u = g + momentum * v` (or v without `nesterov`), which `ns_steps` of Newton and
    Schulz's iteration with `ns_coefficients` make orthogonal; `p = p * (1 - lr * weight_decay) - lr * u`.
    Axes but the first count as one. Meant for the weights inside a network: give embeddings, biases and
    the last layer to AdamW. adjust_lr_fn: "original" multiplies the step by sqrt(max(1, rows / columns)),
    "match_rms_adamw" by 0.2 sqrt(max(rows, columns)), None by 1.
    K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
    """

    def __init__(self, params: object, lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.1,
                 ns_steps: int = 5, ns_coefficients: Coefficients = (3.4445, -4.775, 2.0315),
                 nesterov: bool = True, *, eps: float = 1e-7, adjust_lr_fn: Adjust | None = None,
                 maximize: bool = False) -> None:
        if adjust_lr_fn not in (None, *_ADJUSTMENTS):
            expected = f"an adjust_lr_fn among {', '.join(_ADJUSTMENTS)}, None"
            raise ValueRangeError(op="Muon", expected=expected, got=repr(adjust_lr_fn))
        # a tuple: options that are numbers may be changed between captured steps, the number of steps not
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov,
                         newton_schulz=(ns_steps, tuple(ns_coefficients), eps), adjust_lr_fn=adjust_lr_fn,
                         maximize=maximize)

    def _initial(self, param: Tensor, group: ParamGroup) -> dict[str, Tensor]:
        if not param.ndim:
            raise ValueRangeError(op="Muon", expected="tensors with at least one axis", got="shape ()")
        return {"velocity": zeros_like(param)}

    def _update(self, group: ParamGroup, count: HostValue, param: Node, grad: Node,
                kept: dict[str, Node]) -> Update:
        velocity = add(scale(kept["velocity"], group.read("momentum")), grad)
        direction = add(grad, scale(velocity, group.read("momentum"))) if group["nesterov"] else velocity
        steps, coefficients, eps = group["newton_schulz"]
        rows, columns = param.shape[0], math.prod(param.shape[1:])
        matrix = Tensor._of(build.reshape(direction, (rows, columns)))
        step = build.reshape(matrix.newton_schulz(steps, coefficients, eps).node, param.shape)
        step = scale(step, group.read("lr"))
        if group["adjust_lr_fn"] is not None:
            step = scale(step, _ADJUSTMENTS[group["adjust_lr_fn"]](rows, columns))
        return subtract(shrunk(group, param), step), {"velocity": velocity}


_ADJUSTMENTS: Final[dict[str, Callable[[int, int], float]]] = {
    "original": lambda rows, columns: math.sqrt(max(1.0, rows / columns)),
    "match_rms_adamw": lambda rows, columns: 0.2 * math.sqrt(max(rows, columns)),
}
