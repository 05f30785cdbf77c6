"""Adam and its variants: steps by running averages of the gradient and of its square."""
from __future__ import annotations

import math

from pluggrad.graph.scalar import HostValue
from pluggrad.ir.node import Node
from pluggrad.nn.optim.descent import Update, decayed, rest
from pluggrad.nn.optim.groups import ParamGroup
from pluggrad.nn.optim.nodes import (
    add,
    constant,
    divide,
    lerp,
    maximum,
    multiply,
    norm,
        repeat,
    root,
    scale,
    subtract,
    where_positive,
)
from pluggrad.nn.optim.optimizer import Optimizer, zeros_like
from pluggrad.tensor import Tensor

Betas = tuple[float, float]


class _Moments(Optimizer):
    """What optimizers with both averages share."""

    @property
    def m(self) -> list[Tensor]:
        """The running average of the gradient of each tensor."""
        return [kept["m"] for kept in self.state]

    @property
    def v(self) -> list[Tensor]:
        """The running average of the squared gradient of each tensor."""
        return [kept["v"] for kept in self.state]

    def _initial(self, param: Tensor, group: ParamGroup) -> dict[str, Tensor]:
        return {"m": zeros_like(param), "v": zeros_like(param)}

    def _moved(self, group: ParamGroup, grad: Node, kept: dict[str, Node]) -> dict[str, Node]:
        """Both averages after this gradient."""
        return {"m": lerp(kept["m"], grad, group.read("b1", through=rest)),
                "v": add(scale(kept["v"], group.read("b2")),
                         scale(multiply(grad, grad), group.read("b2", through=rest)))}

    def _direction(self, group: ParamGroup, count: HostValue, mean: Node, square: Node) -> Node:
        """The averages, both made unbiased, divided."""
        mean = scale(mean, group.read_after(count, "b1", through=_unbias))
        spread = scale(root(square), group.read_after(count, "b2", through=_unbias_root))
        return divide(mean, add(spread, constant(group.read("eps"), spread)))


class Adam(_Moments):
    """Steps by running averages of the gradient and its square; weight decay is added to the gradient (L2).

    betas: both shares that the averages keep, as PyTorch has them, in place of b1 and b2. amsgrad: divides by
    the largest average so far.
    D. P. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", https://arxiv.org/abs/1412.6980.
    """

    def __init__(self, params: object, lr: float = 0.001, b1: float = 0.9, b2: float = 0.999,
                 eps: float = 1e-8, weight_decay: float = 0.0, *, betas: Betas | None = None,
                 amsgrad: bool = False, maximize: bool = False) -> None:
        b1, b2 = (b1, b2) if betas is None else betas
        super().__init__(params, lr=lr, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad,
                         maximize=maximize)

    def _initial(self, param: Tensor, group: ParamGroup) -> dict[str, Tensor]:
        kept = super()._initial(param, group)
        return {**kept, "largest": zeros_like(param)} if group["amsgrad"] else kept

    def _update(self, group: ParamGroup, count: HostValue, param: Node, grad: Node,
                kept: dict[str, Node]) -> Update:
        param, grad = self._decayed(group, param, grad)
        states = self._moved(group, grad, kept)
        square = states["v"]
        if "largest" in kept:
            square = states["largest"] = maximum(kept["largest"], square)
        direction = self._direction(group, count, states["m"], square)
        return subtract(param, scale(direction, group.read("lr"))), states

    def _decayed(self, group: ParamGroup, param: Node, grad: Node) -> tuple[Node, Node]:
        """Weight decay, where this optimizer applies it."""
        return param, decayed(group, param, grad)


class AdamW(Adam):
    """Adam with weight decay apart from the gradient: `p *= 1 - lr * weight_decay` before the step.

    I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", https://arxiv.org/abs/1711.05101.
    """

    def __init__(self, params: object, lr: float = 0.001, b1: float = 0.9, b2: float = 0.999,
                 eps: float = 1e-8, weight_decay: float = 0.01, *, betas: Betas | None = None,
                 amsgrad: bool = False, maximize: bool = False) -> None:
        super().__init__(params, lr, b1, b2, eps, weight_decay, betas=betas, amsgrad=amsgrad,
                         maximize=maximize)

    def _decayed(self, group: ParamGroup, param: Node, grad: Node) -> tuple[Node, Node]:
        return shrunk(group, param), grad


class LAMB(_Moments):
    """AdamW's direction, with each tensor's step as long as `lr` times the tensor itself.

    A tensor that is 0, or whose direction is, takes the step as it is. adam: all take it so.
    Y. You et al., "Large Batch Optimization for Deep Learning", https://arxiv.org/abs/1904.00962.
    """

    def __init__(self, params: object, lr: float = 0.001, b1: float = 0.9, b2: float = 0.999,
                 eps: float = 1e-6, weight_decay: float = 0.0, adam: bool = False, *,
                 betas: Betas | None = None, maximize: bool = False) -> None:
        b1, b2 = (b1, b2) if betas is None else betas
        super().__init__(params, lr=lr, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, adam=adam,
                         maximize=maximize)

    def _update(self, group: ParamGroup, count: HostValue, param: Node, grad: Node,
                kept: dict[str, Node]) -> Update:
        states = self._moved(group, grad, kept)
        direction = decayed(group, param, self._direction(group, count, states["m"], states["v"]))
        if not group["adam"]:
            length, stride = norm(param), norm(direction)
            trust = where_positive(length, stride, divide(length, stride))
            direction = multiply(direction, repeat(trust, direction))
        return subtract(param, scale(direction, group.read("lr"))), states


def shrunk(group: ParamGroup, param: Node) -> Node:
    """What decoupled weight decay leaves of a tensor."""
    if not group["weight_decay"]:
        return param
    return scale(param, group.read("lr", "weight_decay", through=_remainder))


def _remainder(lr: float, weight_decay: float) -> float:
    return 1 - lr * weight_decay


def _unbias(steps: float, beta: float) -> float:
    """What makes a running average that began at zero unbiased, from the number of steps before this one."""
    return 1 / (1 - math.pow(beta, steps + 1))


def _unbias_root(steps: float, beta: float) -> float:
    """The same for the root of a running average."""
    return 1 / math.sqrt(1 - math.pow(beta, steps + 1))
