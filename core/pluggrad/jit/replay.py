"""Replay: the command lists of one call, run again with other inputs, scalars and results."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple
from weakref import ref

import numpy as np

from pluggrad import runtime
from pluggrad.dtypes import Scalar as PythonScalar
from pluggrad.graph import ops
from pluggrad.graph.scalar import HostRead, HostValue
from pluggrad.graph.types import TensorType
from pluggrad.ir.node import Node
from pluggrad.jit.direct import Direct
from pluggrad.jit.steps import (
    ApartReplay,
    ApartStep,
    Emptied,
    ListReplay,
    Source,
    Step,
    bind,
    identity_of,
)
from pluggrad.runtime import BufferVersion, Handle, buffer
from pluggrad.runtime.execution import raise_reported, shared
from pluggrad.runtime.interrupts import held
from pluggrad.runtime.storage import stored
from pluggrad.tensor import Tensor


class Value(NamedTuple):
    """A source and the type of what comes from it."""

    source: Source
    kind: TensorType


class State(NamedTuple):
    """A handle that the function reads from outside."""

    number: int
    handle: Handle
    kind: TensorType


class Written(NamedTuple):
    """A handle that outlives the call and holds one of its results."""

    handle: Handle
    value: Value


class Gradient(NamedTuple):
    """The gradient of a tensor, or of argument `owner`: whether there was one (None: it does not matter),
    which state it was, whether it is another now, and which (None: `plain` stands there)."""

    owner: Tensor | int
    before: bool | None
    state: int | None
    changed: bool
    after: Value | None
    plain: Any


class _Result(NamedTuple):
    """Where among the values of a run one is that it gives out, its type, and what is told of its leaf."""

    position: int
    kind: TensorType
    keep: Callable[[Node], None] | None

    def of(self, values: list[BufferVersion]) -> Tensor:
        """A tensor of its own with this value."""
        made = fresh(values[self.position], self.kind)
        if self.keep is not None:
            self.keep(made.node)
        return made


class Replay:
    """Repeats one call of `arguments` tensors. Handles that the function read or assigned are kept alive."""

    def __init__(self, arguments: int, steps: list[Step | ApartStep], states: list[State],
                 constants: list[tuple[BufferVersion, TensorType]],
                 hosts: dict[HostValue, tuple[PythonScalar, PythonScalar]], written: list[Written],
                 overwritten: dict[int, Value], gradients: list[Gradient], outputs: list[Value]) -> None:
        self._arguments, self._steps, self._states, self._constants = arguments, steps, states, constants
        self._hosts, self._written, self.overwritten = hosts, written, overwritten
        self._gradients, self._outputs = gradients, outputs
        # a gradient from before the call is found through its tensor: every backward makes a new one
        self._through = {g.state: g.owner for g in gradients if g.state is not None}
        self._handles, self._kinds = [state.handle for state in states], [state.kind for state in states]
        self._prepare()

    def _prepare(self) -> None:
        """Work out what is the same at every replay."""
        first = len(self._states) + self._arguments
        self._first = {"argument": 0, "state": self._arguments, "constant": first}
        self._starts: list[int] = []  # of each step's results among the values
        start = first + len(self._constants)
        for step in self._steps:
            self._starts.append(start)
            start += step.results
        self._constant_versions = [version for version, _ in self._constants]
        # readings of host values: many scalars share one
        sources = [s.source for step in self._steps if isinstance(step, Step) for s in step.scalars]
        self._reads = list(dict.fromkeys([read for read in sources if read is not None]))
        number = {read: i for i, read in enumerate(self._reads)}
        self._ready = [ListReplay(step, self._position, number) if isinstance(step, Step)
                       else ApartReplay(step, self._position) for step in self._steps]
        self._bound = [(w.handle, self._position(w.value.source), w.value.kind) for w in self._written]
        self._bound_last = {id(handle) for handle, _, _ in self._bound}
        self._given = [self._result(value) for value in self._outputs]
        self._advancing = [(host, change) for host, (_, change) in self._hosts.items() if change]
        changed = [gradient for gradient in self._gradients if gradient.changed]
        self._left = [(g.owner, None if g.after is None else self._result(g.after), g.plain) for g in changed]
        # nobody asks what these were before: their memory is free for what they will be
        self._forgotten = [g.owner for g in changed if g.before is None and g.state is None]
        self._rewritten = {i: self._result(value) for i, value in self.overwritten.items()}
        overwrites = any(isinstance(step, Step) and step.overwrites for step in self._steps)
        # it leaves more than its results: Ctrl-C must find all of that done, or none of it
        self._lasting = bool(overwrites or self._bound or self._advancing or self._left or self.overwritten)
        only = self._ready[0] if len(self._ready) == 1 else None
        self._direct: Direct | None = None
        if isinstance(only, ListReplay) and not (self._lasting or self._states or self._gradients):
            self._direct = only.direct(self._constant_versions,
                                       [value.source.root for value in self._outputs
                                        if value.source.kind == "result"])

    def _position(self, source: Source) -> int:
        if source.kind == "result":
            return self._starts[source.number] + source.root
        return self._first[source.kind] + source.number

    def _result(self, value: Value) -> _Result:
        """Where a value of each run is."""
        source = value.source
        keep = partial(self._ready[source.number].keep, source.root) if source.kind == "result" else None
        return _Result(self._position(source), value.kind, keep)

    # ---- does it fit? --------------------------------------------------------------------------------------
    def fits(self, arguments: Sequence[Tensor]) -> bool:
        """Whether the state from outside is as it was: shapes, dtypes, devices, which gradients there are."""
        if not self._kinds and not self._gradients:
            return True
        for gradient in self._gradients:
            present = isinstance(_tensor(gradient.owner, arguments)._grad, Tensor)
            if gradient.before not in (None, present):
                return False
        for handle, kind in zip(self._present_handles(arguments), self._kinds):
            if handle.node.type is not kind:
                return False
        return True

    def _present_handles(self, arguments: Sequence[Tensor]) -> list[Handle]:
        """The handle of each state now."""
        if not self._through:
            return self._handles
        handles = self._handles.copy()
        for number, owner in self._through.items():
            handles[number] = _tensor(owner, arguments)._grad
        return handles

    # ---- run -----------------------------------------------------------------------------------------------
    def run(self, arguments: Sequence[Tensor], versions: Sequence[BufferVersion]) -> list[Tensor]:
        """Everything again with these arguments, whose memory `versions` are; fresh tensors for the results.

        If a step fails, handles keep the values that complete steps gave them.
        """
        direct = None if self._direct is None else self._direct(versions)
        if direct is not None:
            return direct
        handles = self._present_handles(arguments)
        for handle in handles:
            if handle.node.op is not ops.BUFFER:
                runtime.realize_pending()
                runtime.realize(handles)
                break
        if not self._lasting:
            results = self._run(arguments, versions, handles)
        else:
            leaves = [argument.node for argument in arguments]  # held: an argument may be state, too
            with held:
                results = self._run(arguments, versions, handles)
            del leaves
        raise_reported()
        return results

    def _run(self, arguments: Sequence[Tensor], versions: Sequence[BufferVersion],
             handles: list[Handle]) -> list[Tensor]:
        values = [*versions, *[handle.node.arg for handle in handles], *self._constant_versions]
        numbers = [self._present(read) for read in self._reads] if self._reads else ()
        emptied: list[Emptied] = []
        for owner in self._forgotten:
            _tensor(owner, arguments)._grad = None
        try:
            for step in self._ready:
                step.run(values, handles, numbers, emptied)
        except BaseException:
            for handle, position, kind in emptied:
                bind(handle, values[position], kind)
            raise
        for handle, position, kind in emptied:
            if id(handle) not in self._bound_last:
                bind(handle, values[position], kind)
        for handle, position, kind in self._bound:
            bind(handle, values[position], kind)
        for host, change in self._advancing:
            host.value = host.value + change
        results = [result.of(values) for result in self._given]
        for owner, result, plain in self._left:
            _tensor(owner, arguments)._grad = plain if result is None else result.of(values)
        if self._rewritten:
            write_back(arguments, {i: result.of(values) for i, result in self._rewritten.items()})
        return results

    def _present(self, read: HostRead) -> PythonScalar:
        """What a reading gives now."""
        present = [host.value + (seen - self._hosts[host][0])
                   for host, seen in zip(read.hosts, read.seen, strict=True)]
        return read.at(*present)

    # ---- comparing -----------------------------------------------------------------------------------------
    def save(self) -> list[Any]:
        """What a call may change outside: values, gradients, host values."""
        handles = dict.fromkeys([*[s.handle for s in self._states], *[w.handle for w in self._written]])
        tensors = [g.owner for g in self._gradients if isinstance(g.owner, Tensor)]
        hosts = [(host, host.value) for host in self._hosts]
        return [[(h, h.node) for h in handles], [(t, t._grad) for t in tensors], hosts]

    def rewind(self) -> None:
        """Set the host values back to what they were before the call."""
        for host, (before, _) in self._hosts.items():
            host.value = before

    def difference(self, other: Replay) -> str:
        """What another capture of the same call did otherwise, or ""."""
        if [step.work() for step in self._steps] != [step.work() for step in other._steps]:
            return "other kernels or other constants"
        if not all(map(_same_state, self._states, other._states)):
            return "other tensors"
        if not all(map(_same_values, self._constants, other._constants)):
            return "other data"
        return ""


def restore(saved: list[Any]) -> None:
    """Undo a call that was only made to compare."""
    values, gradients, hosts = saved
    for handle, leaf in values:
        if leaf.op is ops.BUFFER:
            leaf.arg.identity = identity_of(handle)  # an assignment gave the handle a new one
        handle.rebind(leaf)
    for tensor, gradient in gradients:
        tensor._grad = gradient
    for host, value in hosts:
        host.value = value


def fresh(version: BufferVersion, kind: TensorType) -> Tensor:
    """A tensor with this value that no handle shares a version with: no leaf, no history."""
    if version.owner is not None or version.identity is not None or version.history is not None:
        version = shared(version, None)
    made = Tensor._of(stored(version, kind))
    version.owner = ref(made)
    return made


def write_back(arguments: Sequence[Tensor], values: dict[int, Tensor]) -> None:
    """Give arguments what the function wrote to them."""
    for i, value in values.items():
        arguments[i].assign(value)
    if values:
        Tensor.realize(*[arguments[i] for i in values])


def _tensor(owner: Tensor | int, arguments: Sequence[Tensor]) -> Tensor:
    return arguments[owner] if isinstance(owner, int) else owner


def _same_state(one: State, other: State) -> bool:
    if one.handle is other.handle:
        return True
    first, second = one.handle.node, other.handle.node
    stored = first.op.name == second.op.name == "BUFFER"
    return stored and _same_values((first.arg, first.type), (second.arg, second.type))


def _same_values(one: tuple[BufferVersion, TensorType], other: tuple[BufferVersion, TensorType]) -> bool:
    if one[1] is not other[1]:
        return False
    first, second = [runtime.read(buffer(version, kind.shape, kind.dtype)) for version, kind in (one, other)]
    return np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
