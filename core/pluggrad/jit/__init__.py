"""jit: capture what a function of tensors runs on its first call, and replay it after that.

Tensors in the arguments (in lists, tuples and dicts too) are slots. Tensors that the function reads from elsewhere are
looked up through their handles on every replay, and handles that it assigns (parameters, optimizer state) are assigned
anew. Random draws, learning rates and step counts advance. Everything else in Python is frozen as it was at the first
call: a print happens once, an `if` is decided once. `jit(check=True)` finds what was frozen and changed.
"""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar, overload

from pluggrad import config, runtime
from pluggrad.errors import JitError
from pluggrad.graph import scalar as host_values
from pluggrad.jit.capture import Capture
from pluggrad.jit.containers import flatten, rebuild
from pluggrad.runtime import realization as realizing
from pluggrad.tensor import Tensor
from pluggrad.tensor.grad_mode import mode

P = ParamSpec("P")
R = TypeVar("R")
__all__ = ["TinyJit", "jit"]


class CapturedFunction(Generic[P, R]):
    """What `jit` returns: call it like the function. `captures` counts the captures so far; `reset()` forgets them."""

    def __init__(self, function: Callable[P, R], check: bool = False) -> None:
        self._function, self._check = function, check
        self._captures: dict[Any, tuple[Capture, Any]] = {}
        self._methods: dict[int, CapturedFunction[..., R]] = {}
        self.captures = 0
        functools.update_wrapper(self, function)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """As a method: each instance has captures of its own."""
        if instance is None:
            return self
        found = self._methods.get(id(instance))
        if found is None:
            found = self._methods[id(instance)] = CapturedFunction(self._function.__get__(instance), self._check)
        return found

    def reset(self) -> None:
        """Forget every capture: the next call captures anew."""
        self._captures.clear()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if realizing.recorder is not None:  # inside another capture: part of it
            return self._function(*args, **kwargs)
        with realizing.lock:
            tensors: list[Tensor] = []
            description = flatten((args, kwargs), tensors)
            unstored = [t for t in tensors if t.node.op.name != "BUFFER"]
            if unstored:
                Tensor.realize(*unstored)
            tensors = [t if t.node.op.name == "BUFFER" else t.contiguous().realize() for t in tensors]
            key = (description, _kinds(tensors), Tensor.training, mode.enabled, config.key())
            found = self._captures.get(key)
            if found is not None and found[0].fits():
                if self._check:
                    self._compare(found[0], tensors, args, kwargs)
                outputs = found[0].replay(tensors)
                return rebuild(found[1], outputs.__getitem__)  # type: ignore[no-any-return]
            capture, result, outcome = self._capture(tensors, args, kwargs)
            self._captures[key] = (capture, outcome)
            return result

    def _capture(self, tensors: list[Tensor], args: Any, kwargs: Any) -> tuple[Capture, R, Any]:
        """Run the function and record what it ran."""
        capture = Capture(tensors)
        realizing.recorder = capture.record
        host_values.reading = capture.host_read
        try:
            result = self._function(*args, **kwargs)
            outputs: list[Tensor] = []
            outcome = flatten(result, outputs, "result")
            runtime.realize(outputs)
            runtime.realize_pending()
        finally:
            realizing.recorder = host_values.reading = None
        capture.finish([t for t in outputs])
        self.captures += 1
        return capture, result, outcome

    def _compare(self, capture: Capture, tensors: list[Tensor], args: Any, kwargs: Any) -> None:
        """Run the function for real and compare: a Python value that is no argument must not have changed."""
        state = capture.save_state()
        try:
            again, _, _ = self._capture(tensors, args, kwargs)
        finally:
            capture.restore_state(state)
        if again.signature() != capture.signature():
            raise JitError(op="jit(check=True)", expected="the same work as when the function was captured",
                           got="other kernels or other constants: a Python value that is not an argument has changed",
                           hint="Pass it as an argument, or make it a tensor")


def _kinds(tensors: list[Tensor]) -> tuple[Any, ...]:
    """Types of the arguments, and which of them share memory."""
    first: dict[Any, int] = {}
    return tuple([(t.node.type, first.setdefault(t.node.arg.storage, i)) for i, t in enumerate(tensors)])


@overload
def jit(function: Callable[P, R]) -> CapturedFunction[P, R]: ...
@overload
def jit(*, check: bool = False) -> Callable[[Callable[P, R]], CapturedFunction[P, R]]: ...
def jit(function: Any = None, *, check: bool = False) -> Any:
    """Capture `function` on its first call and replay it afterwards; see the module's documentation.

    A change of shapes, dtypes, devices, Python arguments, training or gradient mode, or settings captures anew.
    Reading a value inside raises JitError. `check=True` runs the function beside every replay and raises JitError
    where a frozen Python value has changed (slow; for finding mistakes).
    """
    if function is None:
        return lambda f: CapturedFunction(f, check)
    return CapturedFunction(function, check)


TinyJit = jit
