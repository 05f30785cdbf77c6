"""jit: capture what a function of tensors runs on its first call, and replay it after that.

Tensors in the arguments (in lists, tuples and dicts too) are slots. Tensors that the function reads from
elsewhere are looked up through their handles on every replay, and handles that it assigns (parameters,
optimizer state) are assigned anew. Random draws, learning rates and step counts advance. Everything else in
Python is frozen as it was at the first call: a print happens once, an `if` is decided once. `jit(check=True)`
finds what was frozen and changed.
"""
from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, ParamSpec, TypeVar, overload
from weakref import ref

from pluggrad import config, runtime
from pluggrad.device.registry import REGISTRY
from pluggrad.errors import JitError
from pluggrad.graph import ops
from pluggrad.graph import scalar as host_values
from pluggrad.jit.capture import Capture, stand_in
from pluggrad.jit.closure import store
from pluggrad.jit.frozen import frozen, give
from pluggrad.jit.inlining import function
from pluggrad.jit.replay import Replay, fresh, restore, write_back
from pluggrad.runtime import BufferVersion
from pluggrad.runtime import normalize as normalizing
from pluggrad.runtime import realization as realizing
from pluggrad.tensor import Tensor
from pluggrad.tensor import gradient as gradients
from pluggrad.tensor.grad_mode import mode
from pluggrad.tensor.precision import mode as autocasting
from pluggrad.tensor.tracing import active
from pluggrad.tensor.variable import BoundVariable
from pluggrad.transform.containers import ONE_TENSOR, flatten, rebuild

P = ParamSpec("P")
R = TypeVar("R")
_STATES = 8  # captures kept of calls that differ only in what their variables hold
__all__ = ["TinyJit", "function", "jit"]


class CapturedFunction(Generic[P, R]):
    """What `jit` returns: call it like the function. `captures` counts the captures so far; `reset()` forgets
    them."""

    def __init__(self, function: Callable[P, R], check: bool = False) -> None:
        self._function, self._check = function, check
        self._replays: dict[Any, deque[tuple[Replay, Any]]] = {}
        # the last key and what it found: equal keys mostly hold the same objects, whose hashes cost more
        self._recent: tuple[Any, Sequence[tuple[Replay, Any]]] = (None, ())
        self._methods: dict[int, tuple[ref[Any], CapturedFunction[..., R]]] = {}
        self.captures = 0
        functools.update_wrapper(self, function, updated=())  # its attributes may be ours

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """As a method: each instance has captures of its own, which end with it."""
        if instance is None:
            return self
        known = self._methods.get(id(instance))
        if known is None or known[0]() is not instance:
            weak = ref(instance, functools.partial(_forget, self._methods, id(instance)))
            known = weak, CapturedFunction(_method(self._function, weak), self._check)
            self._methods[id(instance)] = known
        return CapturedMethod(known[1], instance)

    def reset(self) -> None:
        """Forget every capture: the next call captures anew."""
        self._replays.clear()
        self._recent = (None, ())

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        with realizing.lock:
            if realizing.recorder is not None or active.traces:  # part of another capture or transformation
                return self._function(*args, **kwargs)
            if realizing.inspecting is not None:  # in anomaly(), which looks at graphs
                return self._function(*args, **kwargs)
            tensors: list[Tensor] = []
            description = _describe(args, kwargs, tensors)
            kinds, versions = _kinds(tensors)
            key = (description, kinds, Tensor.training, mode.enabled, autocasting.casting,
                   REGISTRY.resolve(None), config.traced())
            recent, found = self._recent
            if recent != key:
                found = self._replays.get(key, ())
                self._recent = key, found
            for known in found:
                if known[0].fits(tensors):
                    break
            else:
                return self._capture(key, description, tensors, versions)
            if self._check:
                self._compare(known, description, tensors, versions)
            results = known[0].run(tensors, versions)
            if known[1] == ONE_TENSOR:
                return results[0]  # type: ignore[return-value]
            return rebuild(known[1], results.__getitem__)  # type: ignore[no-any-return]

    def _capture(self, key: Any, description: Any, tensors: list[Tensor],
                 versions: list[BufferVersion]) -> R:
        """Run the function with stand-ins for its arguments, and record what it ran."""
        stand_ins, replay, outcome, results = self._record(description, tensors, versions)
        for tensor, stand in zip(tensors, stand_ins, strict=True):
            tensor._grad = stand._grad
        nodes = {i: stand_ins[i].node for i in replay.overwritten}
        write_back(tensors, {i: fresh(n.arg, n.type) for i, n in nodes.items()})
        self._replays.setdefault(key, deque(maxlen=_STATES)).append((replay, outcome))
        self._recent = key, self._replays[key]
        self.captures += 1
        return rebuild(outcome, results.__getitem__)  # type: ignore[no-any-return]

    def _record(self, description: Any, tensors: list[Tensor], versions: list[BufferVersion]) -> Any:
        store(self._function, tensors)
        once = {id(tensor): stand_in(tensor, held) for tensor, held in zip(tensors, versions, strict=True)}
        stand_ins = [once[id(tensor)] for tensor in tensors]
        capture = Capture(stand_ins)
        realizing.recorder, host_values.reading = capture, capture.host_read
        gradients.watching, normalizing.captured = capture.gradient_touched, capture.computed
        try:
            args, kwargs = _arguments(description, stand_ins)
            outcome, outputs = _call(self._function, args, kwargs)
            del args, kwargs
            left = [*outputs, *capture.left()]
            runtime.realize(left)
            runtime.realize_pending()
            _own([t for t in left if t.node.op.name != "BUFFER"])
        finally:
            realizing.recorder = host_values.reading = gradients.watching = normalizing.captured = None
        values = [capture.value(t) for t in outputs]
        results = [fresh(t.node.arg, t.node.type) for t in outputs]
        del left, outputs
        return stand_ins, capture.finish(values), outcome, results

    def _compare(self, known: tuple[Replay, Any], description: Any, tensors: list[Tensor],
                 versions: list[BufferVersion]) -> None:
        """Run the function for real and compare: a Python value that is no argument must not have changed."""
        saved = known[0].save()
        try:
            _, replay, outcome, _ = self._record(description, tensors, versions)
            replay.rewind()
        finally:
            restore(saved)
        difference = known[0].difference(replay) or ("" if outcome == known[1] else "another result")
        if difference:
            raise JitError(op="jit(check=True)", expected="the same work as when the function was captured",
                           got=f"{difference}: a Python value that is not an argument has changed",
                           hint="Pass it as an argument, or make it a tensor")


class CapturedMethod(Generic[R]):
    """A captured function as a method of one object."""

    __slots__ = ("_captured", "_instance")

    def __init__(self, captured: CapturedFunction[..., R], instance: object) -> None:
        self._captured, self._instance = captured, instance  # the captures themselves do not hold the object

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        return self._captured(*args, **kwargs)

    @property
    def captures(self) -> int:
        """Captures of this object's method so far."""
        return self._captured.captures

    def reset(self) -> None:
        """Forget them."""
        self._captured.reset()


def _method(function: Callable[..., R], weak: ref[Any]) -> Callable[..., R]:
    @functools.wraps(function)
    def method(*args: Any, **kwargs: Any) -> R:
        return function(weak(), *args, **kwargs)

    return method


def _forget(methods: dict[int, Any], number: int, weak: ref[Any]) -> None:
    if number in methods and methods[number][0] is weak:
        del methods[number]


def _describe(args: tuple[Any, ...], kwargs: dict[str, Any], tensors: list[Tensor]) -> Any:
    """What tells the arguments from others but for their tensors, which are added to `tensors`.

    Their number, where there is nothing else."""
    if not kwargs:
        for arg in args:
            if not isinstance(arg, Tensor):
                break
        else:
            tensors += args
            return len(args)
    bound: list[BoundVariable] = []
    description = flatten((args, kwargs), tensors, frozen("argument", bound))
    give(bound)
    return description


def _arguments(description: Any, tensors: list[Tensor]) -> Any:
    """The arguments that were described, with these tensors."""
    return (tensors, {}) if isinstance(description, int) else rebuild(description, tensors.__getitem__)


def _kinds(tensors: list[Tensor]) -> tuple[tuple[Any, ...], list[BufferVersion]]:
    """Types of the arguments, which are leaves, and which of them share memory; and the versions that hold
    them, in memory of their own each: views are copied."""
    kinds: list[Any] = []
    versions: list[BufferVersion] = []
    memory = set()
    for tensor in tensors:
        node = tensor._node
        if node is None or tensor._base is not None:
            node = tensor.node
        if node.op is not ops.BUFFER:
            versions = [held.node.arg for held in _stored(tensors)]
            kinds = [part for tensor in tensors for part in (tensor.node.type, tensor._flag())]
            memory = {version.storage for version in versions}
            break
        version = node.arg
        kinds.append(node.type)
        kinds.append(tensor._flag())
        versions.append(version)
        memory.add(version.storage)
    if len(memory) < len(versions):
        storages = [version.storage for version in versions]
        kinds += [storages.index(storage) for storage in storages]
    return tuple(kinds), versions


def _stored(tensors: list[Tensor]) -> list[Tensor]:
    """The arguments in memory of their own each."""
    Tensor.realize(*[t for t in tensors if t.node.op is not ops.BUFFER])
    copies = {id(t): t.detach().contiguous() for t in tensors if t.node.op is not ops.BUFFER}
    if copies:
        runtime.realize(list(copies.values()))
    return [copies.get(id(t), t) for t in tensors]


def _call(function: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Any, list[Tensor]]:
    """The description of the result and its tensors. Views are copied; what is still to be computed has no
    history, which would hold values that the call writes over."""
    outputs: list[Tensor] = []
    outcome = flatten(function(*args, **kwargs), outputs, frozen("result", []))
    return outcome, [_result(t) for t in outputs]


def _result(tensor: Tensor) -> Tensor:
    if tensor._base is not None:
        return tensor.detach().contiguous()
    return tensor if tensor.node.op is ops.BUFFER else tensor.detach()


def _own(detached: list[Tensor]) -> None:
    """Give another tensor's value, detached, a version of its own."""
    for tensor in detached:
        runtime.own(tensor)


@overload
def jit(function: Callable[P, R]) -> CapturedFunction[P, R]: ...
@overload
def jit(*, check: bool = False) -> Callable[[Callable[P, R]], CapturedFunction[P, R]]: ...
def jit(function: Any = None, *, check: bool = False) -> Any:
    """Capture `function` on its first call and replay it afterwards; see the module's documentation.

    A change of shapes, dtypes, devices, Python arguments, training or gradient mode, or settings captures
    anew. Reading a value inside raises JitError. `check=True` runs the function beside every replay and
    raises JitError where a frozen Python value has changed (slow; for finding mistakes).
    """
    if function is None:
        return lambda f: CapturedFunction(f, check)
    return CapturedFunction(function, check)


TinyJit = jit
