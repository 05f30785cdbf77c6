"""Gradients: which tensors get one, and how they are filled."""
from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any, Final, Self

from pluggrad import autograd, runtime
from pluggrad.autograd import Trace
from pluggrad.errors import DTypeError, GradientError, PluggradWarning, ShapeError, TransformError
from pluggrad.graph import build, ops
from pluggrad.graph.leaf import Identity
from pluggrad.graph.template import RESULT, expand
from pluggrad.ir.node import Node
from pluggrad.ir.walk import substitute
from pluggrad.tensor.base import TensorBase
from pluggrad.tensor.data import Data
from pluggrad.tensor.grad_mode import no_grad
from pluggrad.tensor.tracing import active

_LEFT_OUT: Final = object()  # stands in `_grad` of a leaf that backward passed by because others were marked

# told before a captured function touches a `.grad`, and whether it reads what is there
watching: Callable[[Any, bool], None] | None = None


class Differentiable(Data):
    """`backward`, `gradient` and what they need to know."""

    __slots__ = ()

    no_grad = no_grad

    @property
    def grad(self) -> Self | None:
        """The gradient that `backward` has added up here, or None. Assign None to reset."""
        found = self._promised_grad()
        if found is not None and found._node is None:
            found._awaited()
        return found

    @grad.setter
    def grad(self, value: Self | None) -> None:
        if value is not None and not isinstance(value, TensorBase):
            raise DTypeError(op="grad", expected="a tensor or None", got=type(value).__name__)
        if value is not None and value.shape != self.shape:
            raise ShapeError(op="grad", expected=f"a gradient of shape {self.shape}", got=str(value.shape))
        if value is not None:
            build.same_device("grad", self.node, value.node)
        if watching is not None:
            watching(self, False)
        self._grad = value

    def _promised_grad(self) -> Self | None:
        """`grad`, of which the node may be promised only."""
        if watching is not None:
            watching(self, True)
        if self._grad is _LEFT_OUT:
            self._grad = None
            warnings.warn(
                "this tensor got no gradient because the graph holds tensors that are marked as parameters, "
                "and then only those get one. Call requires_grad_() on it before, or use loss.gradient(x)",
                PluggradWarning,
                stacklevel=3,
            )
        return self._grad  # type: ignore[no-any-return]

    @property
    def requires_grad(self) -> bool:
        """True if this tensor is marked as a parameter."""
        return self._identity is not None and self._identity.marked

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    @property
    def is_param(self) -> bool:
        """Another name for `requires_grad`."""
        return self.requires_grad

    def is_param_(self, is_param: bool = True) -> Self:
        """Another name for `requires_grad_`."""
        return self.requires_grad_(is_param)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Mark as a parameter, also in graphs that hold it already; False: no leaf any more. Returns itself.

        A computed tensor becomes a leaf here, and a view a tensor of its own; one set to False is left alone
        by optimizers. GradientError unless the dtype is float.
        """
        self._frozen = not requires_grad
        if not requires_grad:
            if self._identity is not None:
                self._identity.handle, self._identity = None, None
                self._node = build.detach(self._node)
            return self
        if self._identity is None:
            node = self.node
            self._base = None
            self._become_leaf(node, True)
        else:
            self._identity.marked = True
        return self

    def backward(self, gradient: Any = None) -> Self:
        """Add the gradient of this scalar to `.grad` of what it was computed from. Returns itself.

        Those are the marked tensors (`requires_grad=True`); if the graph holds none, every float tensor that
        the user made. gradient: the gradient at this tensor, needed unless it is one element. GradientError
        with the reason if nothing gets a gradient.
        """
        if active.traces:
            raise TransformError(op="backward", expected="a call outside of transformed functions",
                                 got=f"one in a function that {active.traces[-1].op} calls",
                                 hint="Use gradient() or grad(), which return gradients")
        root = self.node
        seed = self._seed("backward", gradient)
        keeps = gradient is None and watching is None and runtime.calls_pay()
        way = autograd.WayBack(root, keeps)
        identities = set(way.leaves.values())
        marked = {identity for identity in identities if identity.marked}
        receivers = {identity: identity.live() for identity in marked or identities}
        wanted = {identity for identity, tensor in receivers.items() if tensor is not None}
        if not wanted:
            raise _nothing_to_differentiate("backward", root, autograd.trace(root))
        if runtime.realize_written(receivers.values()):
            root = self._let_go_of_writes(root, way.leaves)
            way = autograd.WayBack(root, keeps)
        for identity, part in way.gradients(seed, wanted).items():
            receivers[identity]._receive(part)
        if marked:
            _note_left_out(identities - marked)
        # what reads the gradients next computes this value with them, instead of computing its graph again
        if self._base is None:
            runtime.add_pending(self, way.brief)
        else:
            runtime.add_pending(self._base)
        return self

    def _receive(self, part: Node) -> None:
        """Add what `backward` brings to `grad`."""
        if watching is not None:
            watching(self, True)
        before = self._grad
        if before is None or before is _LEFT_OUT:
            self._grad = self._promising(part) if part.op is RESULT else self._of(part)
        else:
            part, = expand((part,))
            self._grad = self._of(build.binary(ops.ADD, before.node, part))

    def _let_go_of_writes(self, root: Node, leaves: Iterable[Node]) -> Node:
        """The graph on leaves as they are stored now: a loop that writes to its weights itself takes a step
        each time, and there is no graph of all its steps."""
        stored = {leaf: version for leaf in leaves
                  if leaf.realized is not None and (version := leaf.realized()) is not None}
        rebuilt, = substitute((root,), stored)
        if self._base is None and self._identity is None:
            self._node = rebuilt
        return rebuilt

    def gradient(self, *targets: Self, gradient: Any = None) -> list[Self]:
        """The gradients of this scalar with respect to any tensors that it was computed from.

        Changes no `.grad`, and can be differentiated again. gradient: as in `backward`. GradientError if this
        tensor does not depend on a target.
        """
        root = self.node
        seed = self._seed("gradient", gradient)
        found = autograd.trace(root)
        places = [_places(found, target) for target in targets]
        everywhere = [node for nodes in places for node in nodes]
        filled = autograd.propagate(found.order, {root: seed}, everywhere)
        result = []
        for position, nodes in enumerate(places):
            parts = [filled[node] for node in nodes if node in filled]
            if not parts:
                raise _independent(position, root, found)
            total = parts[0]
            for part in parts[1:]:
                total = build.binary(ops.ADD, total, part)
            result.append(self._new(total))
        return result

    def _seed(self, op: str, gradient: Any) -> Node:
        root = self.node
        if not root.dtype.is_float:
            raise GradientError(op=op, expected="a float tensor", got=root.dtype.name,
                                hint="Integers have no gradient: compute it from float tensors")
        if gradient is None:
            if root.type.size != 1:
                raise GradientError(
                    op=op,
                    expected="a scalar, or a gradient for every element",
                    got=f"shape {root.shape}",
                    hint=f"Reduce it, as in x.sum().{op}(), or pass gradient=",
                )
            return build.const(1.0, root.dtype, root.device, root.shape)
        seed = build.cast(self._operand(gradient, op), root.dtype)
        if seed.shape != root.shape:
            raise GradientError(op=op, expected=f"a gradient of shape {root.shape}", got=str(seed.shape),
                                hint="It holds one number for each element of the tensor")
        return seed


def _note_left_out(identities: set[Identity]) -> None:
    for identity in identities:
        tensor = identity.live()
        if tensor is not None and tensor._grad is None:
            tensor._grad = _LEFT_OUT


def _places(found: Trace, target: Differentiable) -> list[Node]:
    """The nodes that stand for a tensor in a graph: leaves, its node, or what that was computed from."""
    identity = target._identity
    if identity is not None:
        return [node for node, leaf in found.leaves.items() if leaf is identity]
    node, inside = target.node, set(found.order)
    while node not in inside and node.op is ops.BUFFER and node.arg.history is not None:
        node = node.arg.history
    return [node] if node in inside else []


_ADVICE = "Compute it anew from tensors that live, outside no_grad() and without detach()"


def _reason(root: Node, found: Trace) -> str:
    if found.cut:
        return (
            "its history was dropped because it was longer than the setting HISTORY_LIMIT allows: raise "
            "that, or mark what you differentiate with requires_grad_()"
        )
    if found.detached:
        return "its history ends where no_grad() was in force or detach() was called"
    if found.leaves:
        return "the tensors it was computed from exist no longer, or have been assigned since"
    if root.op is ops.BUFFER:
        return "it is a stored value whose history was not kept"
    return "it was not computed from float tensors, or by what has no slope: floor, comparisons, integers"


def _nothing_to_differentiate(op: str, root: Node, found: Trace) -> GradientError:
    return GradientError(op=op, expected="a value that depends on a float tensor",
                         got=f"nothing to differentiate: {_reason(root, found)}", hint=_ADVICE)


def _independent(position: int, root: Node, found: Trace) -> GradientError:
    return GradientError(op="gradient", expected="a value that depends on every target",
                         got=f"one that does not depend on target {position}; as to its history: "
                         f"{_reason(root, found)}", hint=_ADVICE)
