"""Capture: records what a function runs, and where everything it reads comes from."""
from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import ref

from pluggrad.dtypes import Scalar as PythonScalar
from pluggrad.errors import JitError
from pluggrad.graph.leaf import Identity
from pluggrad.graph.scalar import HostRead, HostValue
from pluggrad.graph.types import TensorType
from pluggrad.jit.replay import Gradient, Replay, State, Value, Written
from pluggrad.jit.steps import ApartStep, Source, Step
from pluggrad.runtime import BufferVersion
from pluggrad.runtime.apart import Apart
from pluggrad.runtime.execution import shared
from pluggrad.runtime.realization import Run
from pluggrad.runtime.storage import stored
from pluggrad.tensor import Tensor


def stand_in(argument: Tensor, version: BufferVersion) -> Tensor:
    """A handle to an argument's memory: reading it is told from reading the same tensor as a variable."""
    made = Tensor._of(stored(shared(version, None), argument.node.type))
    if argument._identity is not None:
        made._identity = made.node.arg.identity = Identity(ref(made), argument.requires_grad)
    made._grad = argument._grad
    return made


class _Held(NamedTuple):
    """A tensor's gradient when the function first touched it, and whether it was read then, not set."""

    tensor: ref[Tensor]
    gradient: Any
    read: bool


class Capture:
    """Records one call. `arguments` are the stand-ins, which the function is called with."""

    def __init__(self, arguments: Sequence[Tensor]) -> None:
        self._arguments = list(arguments)
        self._argument = {t.node.arg: i for i, t in reversed(list(enumerate(arguments)))}
        self._thread = threading.get_ident()
        self._results: dict[BufferVersion, Source] = {}
        self._states: dict[Any, State] = {}
        self._constants: list[tuple[BufferVersion, TensorType]] = []
        self._steps: list[Step | ApartStep] = []
        self._reads: set[HostRead] = set()
        self._hosts: dict[HostValue, PythonScalar] = {}
        self._gradients: dict[int, _Held] = {}
        self._owned: list[tuple[ref[BufferVersion], Source, TensorType]] = []

    # ---- while the function runs ---------------------------------------------------------------------------
    def host_read(self, read: HostRead) -> None:
        """Note a reading, and each host value as it was at first."""
        if threading.get_ident() == self._thread:
            self._reads.add(read)
            for host, seen in zip(read.hosts, read.seen, strict=True):
                self._hosts.setdefault(host, seen)

    def gradient_touched(self, tensor: Tensor, read: bool) -> None:
        """Note a tensor's gradient as it was at first."""
        known = self._gradients.get(id(tensor))
        if threading.get_ident() == self._thread and (known is None or known.tensor() is not tensor):
            self._gradients[id(tensor)] = _Held(ref(tensor), tensor._grad, read)

    def record(self, run: Run) -> None:
        """Note one command list."""
        graph = run.normalized
        inputs = tuple([self._source(v, t) for v, t in zip(graph.inputs, graph.input_types, strict=True)])
        # what was read before the call is part of a value from before it
        scalars = tuple([s if s.source in self._reads else s._replace(source=None) for s in graph.scalars])
        loaded = run.session.plan(graph, run.donated)
        outputs = loaded.plan.outputs
        reused = {n: output.reuses for n, output in enumerate(outputs) if output.reuses is not None}
        overwrites = {reused[root.number]: i for i, root in enumerate(loaded.plan.roots)
                      if root.place == "output" and root.number in reused}
        self._steps.append(Step(run.session, loaded, inputs, scalars, graph.key(), tuple(overwrites.items())))
        for root, (version, kind) in enumerate(zip(run.results, run.kinds, strict=True)):
            self._note_result(version, root, kind)

    def apart(self, work: Apart, sources: list[BufferVersion], results: list[BufferVersion]) -> None:
        """Note a copy between devices, or a host function."""
        inputs = tuple([self._source(v, t) for v, t in zip(sources, work.sources, strict=True)])
        self._steps.append(ApartStep(work, inputs))
        for number, (version, kind) in enumerate(zip(results, work.results, strict=True)):
            self._note_result(version, number, kind)

    def alias(self, version: BufferVersion, made: BufferVersion, kind: TensorType) -> None:
        """Note that a handle took another one's value as it is."""
        source = self._results[made] = self._source(version, kind)
        self._owned.append((ref(made), source, kind))

    def computed(self, version: BufferVersion) -> bool:
        """Whether a replay computes or is given this value anew."""
        return version in self._results or version in self._argument

    def _note_result(self, version: BufferVersion, root: int, kind: TensorType) -> None:
        source = self._results[version] = Source("result", len(self._steps) - 1, root)
        self._owned.append((ref(version), source, kind))

    def _source(self, version: BufferVersion, kind: TensorType) -> Source:
        if version in self._argument:
            return Source("argument", self._argument[version])
        if version in self._results:
            return self._results[version]
        owner = version.owner() if version.owner is not None else None
        if owner is None:
            self._constants.append((version, kind))
            return Source("constant", len(self._constants) - 1)
        state = self._states.setdefault(owner, State(len(self._states), owner, kind))
        return Source("state", state.number)

    # ---- when it is over -----------------------------------------------------------------------------------
    def left(self) -> list[Tensor]:
        """Arguments and gradients, which a replay leaves behind as this call does: they have to be stored."""
        return [*self._arguments, *[t._grad for t, _ in self._touched() if isinstance(t._grad, Tensor)]]

    def _touched(self) -> list[tuple[Tensor, _Held]]:
        """Tensors that live on, and their gradients from before the call."""
        found = [(held.tensor(), held) for held in self._gradients.values()]
        return [(tensor, held) for tensor, held in found if tensor is not None]

    def value(self, tensor: Tensor) -> Value:
        """Where a stored tensor's value comes from."""
        return Value(self._source(tensor.node.arg, tensor.node.type), tensor.node.type)

    def finish(self, outputs: list[Value]) -> Replay:
        """What repeats the call. What it returned must be gone: handles that live on are written to."""
        for host, before in self._hosts.items():
            if host.value != before and not host.counts:
                raise JitError(op="jit", expected=f"{host.name} to stay while a function is captured",
                               got=f"a change from {before} to {host.value}", hint="Change it outside")
        number = {id(t): i for i, t in reversed(list(enumerate(self._arguments)))}
        touched = self._touched()
        gradients = [self._gradient(t, held, number) for t, held in touched]
        hosts = {host: (before, host.value - before) for host, before in self._hosts.items()}
        fresh = [t for t in self._arguments if t.node.arg not in self._argument]
        overwritten = {number[id(t)]: self.value(t) for t in fresh}
        apart = {*number, *[id(tensor._grad) for tensor, _ in touched]}
        written = self._written(apart)
        states = list(self._states.values())
        return Replay(len(self._arguments), self._steps, states, self._constants, hosts, written, overwritten,
                      gradients, outputs)

    def _gradient(self, tensor: Tensor, held: _Held, number: dict[int, int]) -> Gradient:
        before, after = held.gradient, tensor._grad
        owner = number.get(id(tensor), tensor)
        state = self._states.get(before) if isinstance(before, Tensor) else None
        stored = isinstance(after, Tensor)
        return Gradient(owner, before=isinstance(before, Tensor) if held.read else None,
                        state=None if state is None else state.number, changed=after is not before,
                        after=self.value(after) if stored else None, plain=None if stored else after)

    def _written(self, apart: set[int]) -> list[Written]:
        """Handles that hold a result now, but for arguments and gradients, which are found in other ways."""
        found = []
        for weak, source, kind in self._owned:
            version = weak()
            handle = version.owner() if version is not None and version.owner is not None else None
            if handle is not None and id(handle) not in apart and handle.node.arg is version:
                found.append(Written(handle, Value(source, kind)))
        return found
