"""Gradient descent and its relatives that scale a gradient by the size of those before it."""
from __future__ import annotations

from pluggrad.errors import ValueRangeError
from pluggrad.graph.scalar import HostValue
from pluggrad.ir.node import Node
from pluggrad.nn.optim.groups import ParamGroup
from pluggrad.nn.optim.nodes import add, constant, divide, lerp, multiply, root, scale, subtract
from pluggrad.nn.optim.optimizer import Optimizer, zeros_like
from pluggrad.tensor import Tensor

Update = tuple[Node, dict[str, Node]]


def decayed(group: ParamGroup, param: Node, grad: Node) -> Node:
    """The gradient with weight decay (L2) in it."""
    return add(grad, scale(param, group.read("weight_decay"))) if group["weight_decay"] else grad


class SGD(Optimizer):
    """Gradient descent, with momentum and weight decay (L2) if asked for.

    `g = grad + weight_decay * p; v = momentum * v + (1 - dampening) * g; p -= lr * v`, or
    `p -= lr * (g + momentum * v)` with `nesterov`; the first v is g. classic: the learning rate is inside v,
    so that a new one does not change the speed gathered before: `v = momentum * v + lr * g; p -= v`.
    I. Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.
    """

    def __init__(self, params: object, lr: float = 0.001, momentum: float = 0.0, weight_decay: float = 0.0,
                 nesterov: bool = False, classic: bool = False, *, dampening: float = 0.0,
                 maximize: bool = False) -> None:
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov,
                         classic=classic, dampening=dampening, maximize=maximize)

    @property
    def velocity(self) -> list[Tensor]:
        """The momentum beside each tensor that has one."""
        return [kept["velocity"] for kept in self.state if "velocity" in kept]

    def _initial(self, param: Tensor, group: ParamGroup) -> dict[str, Tensor]:
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            got = f"momentum={group['momentum']}, dampening={group['dampening']}"
            raise ValueRangeError(op="SGD", got=got,
                                  expected="a momentum above 0 and no dampening for nesterov")
        return {"velocity": zeros_like(param)} if group["momentum"] else {}

    def _update(self, group: ParamGroup, count: HostValue, param: Node, grad: Node,
                kept: dict[str, Node]) -> Update:
        grad = decayed(group, param, grad)
        if group["classic"]:
            grad = scale(grad, group.read("lr"))
        direction, states = grad, {}
        if kept:
            direction, velocity = _with_momentum(group, count, grad, kept["velocity"])
            states = {"velocity": velocity}
        if not group["classic"]:
            direction = scale(direction, group.read("lr"))
        return subtract(param, direction), states


def _with_momentum(group: ParamGroup, count: HostValue, grad: Node, velocity: Node) -> tuple[Node, Node]:
    """Where to go, and the new velocity."""
    gained = grad
    if group["dampening"]:
        gained = scale(grad, group.read_after(count, "dampening", through=_undamped))
    velocity = add(scale(velocity, group.read("momentum")), gained)
    return add(grad, scale(velocity, group.read("momentum"))) if group["nesterov"] else velocity, velocity


def _undamped(steps: float, dampening: float) -> float:
    """What of a gradient goes into the momentum; all of the first one."""
    return 1 - dampening if steps else 1.0


class RMSprop(Optimizer):
    """The gradient divided by a running root of its mean square; with momentum if asked for.

    `s = alpha * s + (1 - alpha) * g*g; p -= lr * g / (sqrt(s) + eps)`; centered: s less the square of the
    running mean of g.
    G. Hinton, "Neural Networks for Machine Learning", lecture 6, 2012.
    """

    def __init__(self, params: object, lr: float = 0.01, alpha: float = 0.99, eps: float = 1e-8,
                 weight_decay: float = 0.0, momentum: float = 0.0, centered: bool = False, *,
                 maximize: bool = False) -> None:
        super().__init__(params, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum,
                         centered=centered, maximize=maximize)

    def _initial(self, param: Tensor, group: ParamGroup) -> dict[str, Tensor]:
        names = ["square", *["mean"] * group["centered"], *["velocity"] * (group["momentum"] > 0)]
        return {name: zeros_like(param) for name in names}

    def _update(self, group: ParamGroup, count: HostValue, param: Node, grad: Node,
                kept: dict[str, Node]) -> Update:
        grad = decayed(group, param, grad)
        share = group.read("alpha", through=rest)
        states = {"square": lerp(kept["square"], multiply(grad, grad), share)}
        spread = states["square"]
        if "mean" in kept:
            states["mean"] = lerp(kept["mean"], grad, share)
            spread = subtract(spread, multiply(states["mean"], states["mean"]))
        direction = divide(grad, add(root(spread), constant(group.read("eps"), spread)))
        if "velocity" in kept:
            direction = add(scale(kept["velocity"], group.read("momentum")), direction)
            states["velocity"] = direction
        return subtract(param, scale(direction, group.read("lr"))), states


class Adagrad(Optimizer):
    """The gradient divided by the root of the sum of all its squares; the learning rate falls by `lr_decay`.

    J. Duchi, E. Hazan and Y. Singer, "Adaptive Subgradient Methods", 2011.
    """

    def __init__(self, params: object, lr: float = 0.01, lr_decay: float = 0.0, weight_decay: float = 0.0,
                 initial_accumulator_value: float = 0.0, eps: float = 1e-10, *,
                 maximize: bool = False) -> None:
        super().__init__(params, lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, eps=eps,
                         initial_accumulator_value=initial_accumulator_value, maximize=maximize)

    def _initial(self, param: Tensor, group: ParamGroup) -> dict[str, Tensor]:
        return {"sum": zeros_like(param, group["initial_accumulator_value"])}

    def _update(self, group: ParamGroup, count: HostValue, param: Node, grad: Node,
                kept: dict[str, Node]) -> Update:
        grad = decayed(group, param, grad)
        total = add(kept["sum"], multiply(grad, grad))
        direction = divide(grad, add(root(total), constant(group.read("eps"), total)))
        lr = group.read_after(count, "lr", "lr_decay", through=_fallen)
        return subtract(param, scale(direction, lr)), {"sum": total}


class Adadelta(Optimizer):
    """Steps in the proportion of two running roots: of the squares of past steps, and of the gradients.

    M. D. Zeiler, "ADADELTA: An Adaptive Learning Rate Method", https://arxiv.org/abs/1212.5701.
    """

    def __init__(self, params: object, lr: float = 1.0, rho: float = 0.9, eps: float = 1e-6,
                 weight_decay: float = 0.0, *, maximize: bool = False) -> None:
        super().__init__(params, lr=lr, rho=rho, eps=eps, weight_decay=weight_decay, maximize=maximize)

    def _initial(self, param: Tensor, group: ParamGroup) -> dict[str, Tensor]:
        return {"square": zeros_like(param), "steps": zeros_like(param)}

    def _update(self, group: ParamGroup, count: HostValue, param: Node, grad: Node,
                kept: dict[str, Node]) -> Update:
        grad = decayed(group, param, grad)
        share, eps = group.read("rho", through=rest), constant(group.read("eps"), grad)
        square = lerp(kept["square"], multiply(grad, grad), share)
        direction = multiply(divide(root(add(kept["steps"], eps)), root(add(square, eps))), grad)
        steps = lerp(kept["steps"], multiply(direction, direction), share)
        return subtract(param, scale(direction, group.read("lr"))), {"square": square, "steps": steps}


def rest(share: float) -> float:
    """What an average that keeps `share` of the past takes of the present."""
    return 1 - share


def _fallen(steps: float, lr: float, decay: float) -> float:
    return lr / (1 + steps * decay)
