"""Optimizers: SGD, Adam, AdamW, with the numbers of PyTorch's.

Learning rates and step counts are values on the host that graphs read at run time: changing one compiles
nothing and reaches captured functions. Updates are built as graph nodes, without Tensors between them, and
realized in one call.
"""
from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import numpy as np

from pluggrad import dtypes
from pluggrad.dtypes import Scalar
from pluggrad.errors import ValueRangeError
from pluggrad.graph import build, ops
from pluggrad.graph.scalar import Derive, HostRead, HostValue
from pluggrad.ir.node import Node
from pluggrad.nn.state import get_parameters
from pluggrad.tensor import Tensor

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]


class Optimizer(ABC):
    """What optimizers share: the tensors they change, the learning rate, and the step.

    `params` is a module, a tensor, or any nesting of them in lists and dictionaries. All float tensors in it
    are marked `requires_grad`: to leave some alone, pass the others.
    """

    def __init__(self, params: object, lr: float) -> None:
        _check(type(self).__name__, lr=lr)
        self._lr = HostValue(float(lr), "lr")
        self._counts: list[HostValue] = []  # steps taken, by those that count them
        self.params = _trainable(params)
        if not self.params:
            raise ValueRangeError(op=type(self).__name__, expected="at least one float tensor to change",
                                  got="none", hint="pass a module or a list of tensors")
        # stored from the start: the first step then has the same graph, and the same kernels, as all others
        Tensor.realize(*self.params)

    @property
    def lr(self) -> float:
        """The learning rate; a new one holds from the next step on, in captured functions too."""
        return float(self._lr.value)

    @lr.setter
    def lr(self, lr: float) -> None:
        _check(type(self).__name__, lr=lr)
        self._lr.value = float(lr)

    def zero_grad(self) -> None:
        """Forget the gradients: `grad` is None until the next `backward`."""
        for param in self.params:
            param.grad = None

    def step(self) -> None:
        """Change every tensor that has a gradient, and compute all that is pending with it in one go.

        If that fails, or is interrupted, the tensors are as they were before.
        """
        tensors = [t for index, param in enumerate(self.params) for t in (param, *self._states(index))]
        # versions, not nodes: who holds the node of a value keeps it from being overwritten in place
        before = [(t, t.node.arg) for t in tensors if t.node.op is ops.BUFFER]
        counts = [(count, count.value) for count in self._counts]
        try:
            changed = self.schedule_step()
            if changed:
                Tensor.realize(*changed)
        except BaseException:
            if any(tensor.node.op is not ops.BUFFER for tensor, _ in before):  # else it was done
                for tensor, version in before:
                    tensor._take_back(version)
                for count, value in counts:
                    count.value = value
            raise

    def schedule_step(self) -> list[Tensor]:
        """As `step`, but computing nothing yet: the tensors to realize, together with others if you like."""
        changed: list[Tensor] = []
        for index, grad in self._gradients().items():
            changed += self._assign(index, grad)
        return changed

    def _gradients(self) -> dict[int, Tensor]:
        """The gradients that there are, by the position of their tensor."""
        grads = ((index, param.grad) for index, param in enumerate(self.params))
        return {index: grad for index, grad in grads if grad is not None}

    def _assign(self, index: int, grad: Tensor) -> Iterator[Tensor]:
        param, states = self.params[index], self._states(index)
        before = param.node
        for state in states:
            if state.node.device != before.device:  # the model was moved since
                state.to_(before.device)
        working = dtypes.accumulator_dtype(before.dtype)
        value, *new_states = self._update(index, build.cast(before, working), build.cast(grad.node, working),
                                          *(state.node for state in states))
        param._write(build.cast(value, before.dtype), as_leaf=True)
        yield param
        for state, new in zip(states, new_states, strict=True):
            state._write(build.detach(new))
            yield state
        # stored too: its graph would keep the old values alive, and compute them again when read
        grad.rebind(build.detach(grad.node))
        yield grad

    def _states(self, index: int) -> tuple[Tensor, ...]:
        """What is kept beside tensor `index` from step to step."""
        return ()

    @abstractmethod
    def _update(self, index: int, param: Node, grad: Node, *states: Node) -> tuple[Node, ...]:
        """The new value of tensor `index`, then those of its states, all in the dtype that states have."""


class SGD(Optimizer):
    """Gradient descent, with momentum and weight decay (L2) if asked for.

    `g = grad + weight_decay * p; v = momentum * v + g; p -= lr * v`, or `p -= lr * (g + momentum * v)` with
    `nesterov`.
    I. Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.
    """

    def __init__(self, params: object, lr: float = 0.001, momentum: float = 0.0, weight_decay: float = 0.0,
                 nesterov: bool = False) -> None:
        _check("SGD", momentum=momentum, weight_decay=weight_decay)
        if nesterov and momentum == 0:
            raise ValueRangeError(op="SGD", expected="a momentum above 0 for nesterov", got="momentum=0")
        super().__init__(params, lr)
        self.momentum, self.weight_decay, self.nesterov = momentum, weight_decay, nesterov
        self.velocity = _zeros_like(self.params) if momentum else []

    def _states(self, index: int) -> tuple[Tensor, ...]:
        return (self.velocity[index],) if self.momentum else ()

    def _update(self, index: int, param: Node, grad: Node, *states: Node) -> tuple[Node, ...]:
        if self.weight_decay:
            grad = _add(grad, _scale(param, self.weight_decay))
        if not self.momentum:
            return (_subtract(param, _scale(grad, self._lr.read())),)
        velocity = _add(_scale(states[0], self.momentum), grad)
        direction = _add(grad, _scale(velocity, self.momentum)) if self.nesterov else velocity
        return _subtract(param, _scale(direction, self._lr.read())), velocity

    def __repr__(self) -> str:
        return (f"SGD({len(self.params)} tensors, lr={self.lr}, momentum={self.momentum}, "
                f"weight_decay={self.weight_decay}, nesterov={self.nesterov})")


class Adam(Optimizer):
    """Steps by running averages of the gradient and its square; weight decay is added to the gradient (L2).

    D. P. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", https://arxiv.org/abs/1412.6980.
    """

    def __init__(self, params: object, lr: float = 0.001, b1: float = 0.9, b2: float = 0.999,
                 eps: float = 1e-8, weight_decay: float = 0.0) -> None:
        _check(type(self).__name__, eps=eps, weight_decay=weight_decay)
        for name, beta in (("b1", b1), ("b2", b2)):
            if not 0 <= beta < 1:
                expected = f"{name} from 0 to below 1"
                raise ValueRangeError(op=type(self).__name__, expected=expected, got=str(beta))
        super().__init__(params, lr)
        self.b1, self.b2, self.eps, self.weight_decay = b1, b2, eps, weight_decay
        self.m, self.v = _zeros_like(self.params), _zeros_like(self.params)
        # steps that each tensor took so far; tensors that never missed one share a count
        self._counts = [HostValue(0, "step", counts=True)] * len(self.params)

    def schedule_step(self) -> list[Tensor]:
        """As `step`, but computing nothing yet: the tensors to realize."""
        counts = self._counts_of(list(self._gradients()))
        changed = super().schedule_step()
        for count in counts:  # after they were read: a replay reads them as they are before its step, too
            count.value += 1
        return changed

    def _counts_of(self, indices: list[int]) -> list[HostValue]:
        """The counts of these tensors; where only some of those that share one take a step, they part."""
        sharing, stepping = Counter(self._counts), Counter(self._counts[index] for index in indices)
        parted = {count: count if stepping[count] == sharing[count]
                  else HostValue(count.value, "step", counts=True) for count in stepping}
        for index in indices:
            self._counts[index] = parted[self._counts[index]]
        return list(parted.values())

    def _states(self, index: int) -> tuple[Tensor, ...]:
        return self.m[index], self.v[index]

    def _update(self, index: int, param: Node, grad: Node, *states: Node) -> tuple[Node, ...]:
        count = self._counts[index]
        param, grad = self._decayed(param, grad)
        m = _add(states[0], _scale(_subtract(grad, states[0]), 1 - self.b1))
        v = _add(_scale(states[1], self.b2), _scale(build.binary(ops.MUL, grad, grad), 1 - self.b2))
        mean = _scale(m, count.read(_unbias(self.b1)))
        spread = _scale(build.unary(ops.SQRT, v), count.read(_unbias_root(self.b2)))
        direction = build.binary(ops.DIV, mean, _add(spread, _constant(self.eps, spread)))
        return _subtract(param, _scale(direction, self._lr.read())), m, v

    def _decayed(self, param: Node, grad: Node) -> tuple[Node, Node]:
        """Weight decay, where this optimizer applies it."""
        return param, _add(grad, _scale(param, self.weight_decay)) if self.weight_decay else grad

    def __repr__(self) -> str:
        return (f"{type(self).__name__}({len(self.params)} tensors, lr={self.lr}, b1={self.b1}, "
                f"b2={self.b2}, eps={self.eps}, weight_decay={self.weight_decay})")


class AdamW(Adam):
    """Adam with weight decay apart from the gradient: `p *= 1 - lr * weight_decay` before the step.

    I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", https://arxiv.org/abs/1711.05101.
    """

    def __init__(self, params: object, lr: float = 0.001, b1: float = 0.9, b2: float = 0.999,
                 eps: float = 1e-8, weight_decay: float = 0.01) -> None:
        super().__init__(params, lr, b1, b2, eps, weight_decay)

    def _decayed(self, param: Node, grad: Node) -> tuple[Node, Node]:
        if not self.weight_decay:
            return param, grad
        return _scale(param, self._lr.read(_remainder(self.weight_decay))), grad


# ---- host values: one function per coefficient, as graphs that differ in it share no plan --------
@cache
def _unbias(beta: float) -> Derive:
    """What makes a running average that began at zero unbiased, from the number of steps before this one."""
    return lambda steps: 1 / (1 - beta ** (steps + 1))


@cache
def _unbias_root(beta: float) -> Derive:
    """The same for the root of a running average."""
    return lambda steps: 1 / math.sqrt(1 - beta ** (steps + 1))


@cache
def _remainder(weight_decay: float) -> Derive:
    """1 - lr * weight_decay: what a step leaves of a weight."""
    return lambda lr: 1 - lr * weight_decay


# ---- node arithmetic -----------------------------------------------------------------------------
def _constant(value: Scalar | HostRead, like: Node) -> Node:
    return build.const(value, like.dtype, like.device, like.shape)


def _scale(x: Node, factor: Scalar | HostRead) -> Node:
    return build.binary(ops.MUL, x, _constant(factor, x))


def _add(x: Node, y: Node) -> Node:
    return build.binary(ops.ADD, x, y)


def _subtract(x: Node, y: Node) -> Node:
    return build.binary(ops.SUB, x, y)


# ---- what optimizers are given -------------------------------------------------------------------
def _trainable(params: object) -> list[Tensor]:
    """The float tensors in `params`, each once and marked; those that are `requires_grad=False` stay out."""
    found = get_parameters(list(params) if isinstance(params, Iterator) else params)
    return [tensor.requires_grad_() for tensor in found if tensor.dtype.is_float and not tensor._frozen]


def _zeros_like(params: Iterable[Tensor]) -> list[Tensor]:
    """Stored zeros beside each tensor, in the dtype that sums of its elements have."""
    return [_zeros(param.shape, dtypes.accumulator_dtype(param.dtype), param.device) for param in params]


def _zeros(shape: tuple[int, ...], dtype: dtypes.DType, device: Any) -> Tensor:
    return Tensor(np.zeros(shape, dtype.numpy), device=device, requires_grad=False)


def _check(op: str, **values: float) -> None:
    """ValueRangeError for a negative value, infinity or NaN."""
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueRangeError(op=op, expected=f"a finite {name} of at least 0", got=str(value))
