"""Functions with a gradient rule of their own."""
from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, ParamSpec, TypeVar

from pluggrad.errors import GradientError
from pluggrad.graph import custom
from pluggrad.ir.node import Node
from pluggrad.tensor import Tensor
from pluggrad.tensor.grad_mode import enable_grad, mode
from pluggrad.transform.containers import flatten, leaves, rebuild

P = ParamSpec("P")
R = TypeVar("R")


class custom_vjp(Generic[P, R]):
    """A function of tensors whose gradient is given by rules, as a decorator.

    `f.defvjp(forward, backward)` sets them. `forward(*args)` returns the result and what is saved for the
    gradient; it may call `f` itself. `backward(saved, gradient)` returns a tuple with the gradient of each
    argument, shaped like it; None where there is none. Arguments, results and what is saved may be lists,
    tuples and dicts with tensors; a gradient then has the same form. Arguments numbered in `nondiff_argnums`
    get no gradient and come first in the call of `backward`.

    Rules are made of tensor operations, so gradients of any order exist. What is computed but not used costs
    nothing. The gradient reaches arguments only, not tensors that the function finds elsewhere.

        @pluggrad.custom_vjp
        def clipped(x):
            return x
        clipped.defvjp(lambda x: (x, None), lambda saved, g: (g.clip(-1, 1),))
    """

    def __init__(self, function: Callable[P, R], nondiff_argnums: Sequence[int] = ()) -> None:
        self._function, self._nondiff = function, frozenset(nondiff_argnums)
        self._forward: Callable[..., tuple[R, Any]] | None = None
        self._backward: Callable[..., Any] | None = None
        self._entered = threading.local()
        functools.update_wrapper(self, function, updated=())

    def defvjp(self, forward: Callable[..., tuple[R, Any]], backward: Callable[..., Any]) -> None:
        """Set the rules; see the class."""
        self._forward, self._backward = forward, backward

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._forward is None or self._backward is None:
            raise GradientError(op="custom_vjp", expected="rules for the gradient", got="none",
                                hint=f"Call {_name(self._function)}.defvjp(forward, backward) first")
        if not mode.enabled or getattr(self._entered, "now", False):
            return self._function(*args, **kwargs)
        if kwargs:
            raise GradientError(op="custom_vjp", expected="arguments by position", got=f"{sorted(kwargs)}",
                                hint="The gradients that the rule returns are by position")
        self._entered.now = True
        try:
            returned: Any = self._forward(*args)
        finally:
            self._entered.now = False
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise GradientError(op="custom_vjp", got=type(returned).__name__,
                                expected="the pair (result, what is saved) from the forward rule")
        return self._wrapped(args, *returned)

    def _wrapped(self, args: tuple[Any, ...], result: R, kept: Any) -> R:
        """The result with the rule attached."""
        inputs: list[Tensor] = []
        outputs: list[Tensor] = []
        saved: list[Tensor] = []
        described = [_VALUE if i in self._nondiff else flatten(arg, inputs) for i, arg in enumerate(args)]
        form, saved_form = flatten(result, outputs), flatten(kept, saved)
        if not inputs or not outputs:
            return result
        first = [args[i] for i in sorted(self._nondiff)]
        backward = functools.partial(self._pull_back, first, described, form, saved_form)
        nodes = custom.custom_vjp([t.node for t in outputs], [t.node for t in inputs],
                                  [t.node for t in saved], backward)
        return rebuild(form, lambda i: outputs[i]._new(nodes[i]))  # type: ignore[no-any-return]

    def _pull_back(self, first: list[Any], described: list[Any], form: Any, saved_form: Any,
                   saved: tuple[Node, ...], cotangents: tuple[Node | None, ...]) -> list[Node | None]:
        """The rule, from nodes to nodes."""
        kept = rebuild(saved_form, lambda i: Tensor._of(saved[i]))
        given = [None if g is None else Tensor._of(g) for g in cotangents]
        with enable_grad():
            returned = self._backward(*first, kept, rebuild(form, given.__getitem__))  # type: ignore[misc]
        wanted = [form for form in described if form is not _VALUE]
        if not isinstance(returned, (tuple, list)):
            returned = (returned,)
        if len(returned) != len(wanted):
            raise GradientError(op="custom_vjp", expected=f"{len(wanted)} gradients, one for each argument",
                                got=f"{len(returned)} from {_name(self._backward)}",
                                hint="None stands for no gradient")
        found: list[Node | None] = []
        for number, (form, gradient) in enumerate(zip(wanted, returned, strict=True)):
            found += _matched(form, gradient, number)
        return found


_VALUE = object()  # described as: an argument without a gradient


def _name(function: Any) -> str:
    return getattr(function, "__name__", "the function")


def _matched(form: Any, gradient: Any, number: int) -> list[Node | None]:
    """The nodes of a gradient, which has the form of its argument or is None."""
    places: list[int] = []
    rebuild(form, places.append)
    if gradient is None or not places:
        return [None] * len(places)
    parts = leaves(gradient)
    if len(parts) != len(places) or any(not (part is None or isinstance(part, Tensor)) for part in parts):
        raise GradientError(op="custom_vjp", got=f"{len(parts)} values in a {type(gradient).__name__}",
                            expected=f"a gradient with {len(places)} tensors, as argument {number} has")
    return [None if part is None else part.node for part in parts]

