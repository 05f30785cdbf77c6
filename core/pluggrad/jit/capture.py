"""Capture: what a function ran, as command lists whose inputs, scalars and results can be bound anew."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple
from weakref import ref

from pluggrad.dtypes import Scalar as PythonScalar
from pluggrad.graph.leaf import Identity
from pluggrad.graph.scalar import HostValue, Scalar
from pluggrad.graph.types import TensorType
from pluggrad.ir.node import Node
from pluggrad.runtime import BufferVersion, Handle, Storage, buffer
from pluggrad.runtime.compiled import LoadedPlan
from pluggrad.runtime.realization import Run, duplicate, execute
from pluggrad.runtime.session import Session
from pluggrad.tensor import Tensor


class Source(NamedTuple):
    """Where an input comes from: an argument, a handle read from outside, an earlier result, or a constant."""

    kind: Literal["argument", "state", "result", "constant"]
    number: int
    root: int = 0


@dataclass(slots=True)
class _Step:
    """One command list: its plan, where its inputs come from, its scalars, and which inputs it writes over."""

    place: Session
    loaded: LoadedPlan
    inputs: tuple[Source, ...]
    scalars: tuple[Scalar, ...]
    overwritten: frozenset[int]


class _Written(NamedTuple):
    """A handle that was there before the call and holds a result after it."""

    handle: Handle
    step: int
    root: int
    kind: TensorType


class Capture:
    """Records the runs of one call; then replays them."""

    def __init__(self, arguments: Sequence[Tensor]) -> None:
        self._argument = {t.node.arg: i for i, t in enumerate(arguments)}
        self._results: dict[BufferVersion, Source] = {}
        self._state_of: dict[Handle, int] = {}
        self._states: list[tuple[Handle, TensorType]] = []
        self._constants: list[BufferVersion] = []
        self._host_before: dict[HostValue, PythonScalar] = {}
        self._host_delta: list[tuple[HostValue, PythonScalar]] = []
        self._steps: list[_Step] = []
        self._owned: list[tuple[ref[BufferVersion], int, int, TensorType]] = []
        self._written: list[_Written] = []
        self._outputs: list[tuple[Source, TensorType]] = []

    # ---- recording ---------------------------------------------------------------------------------------------------
    def host_read(self, host: HostValue) -> None:
        """Note a host value the first time that the call reads it."""
        self._host_before.setdefault(host, host.value)

    def record(self, run: Run) -> None:
        """Note one command list."""
        graph = run.normalized
        inputs = tuple([self._source(v, t) for v, t in zip(graph.inputs, graph.input_types, strict=True)])
        loaded = run.session.plan(graph, run.donated)
        overwritten = frozenset(o.reuses for o in loaded.plan.outputs if o.reuses is not None)
        number = len(self._steps)
        self._steps.append(_Step(run.session, loaded, inputs, tuple(graph.scalars), overwritten))
        for root, (version, kind) in enumerate(zip(run.results, run.kinds, strict=True)):
            self._results[version] = Source("result", number, root)
            self._owned.append((ref(version), number, root, kind))

    def _source(self, version: BufferVersion, kind: TensorType) -> Source:
        if version in self._argument:
            return Source("argument", self._argument[version])
        if version in self._results:
            return self._results[version]
        owner = version.owner() if version.owner is not None else None
        if owner is None:
            self._constants.append(version)
            return Source("constant", len(self._constants) - 1)
        if owner not in self._state_of:
            self._state_of[owner] = len(self._states)
            self._states.append((owner, kind))
        return Source("state", self._state_of[owner])

    def finish(self, outputs: Sequence[Tensor]) -> None:
        """The call is over: note its outputs, and which handles from outside it changed."""
        kept = {id(t) for t in outputs}
        self._outputs = [(self._output(t.node), t.node.type) for t in outputs]
        for found, step, root, kind in self._owned:
            version = found()
            owner = version.owner() if version is not None and version.owner is not None else None
            if owner is not None and id(owner) not in kept and owner.node.arg is version:
                self._written.append(_Written(owner, step, root, kind))
        self._host_delta = [(host, host.value - before) for host, before in self._host_before.items()]
        self._argument, self._results, self._owned = {}, {}, []

    def _output(self, n: Node) -> Source:
        source = self._results.get(n.arg)
        if source is not None:
            return source
        return self._source(n.arg, n.type)

    def signature(self) -> list[Any]:
        """What two captures of the same call must agree in, scalars that no host value gives included."""
        return [(step.loaded, step.inputs, [s.python for s in step.scalars if s.source is None]) for step in self._steps]

    def save_state(self) -> list[tuple[Handle, Node]]:
        """The present value of every handle that a replay reads or writes."""
        handles = dict.fromkeys([*[h for h, _ in self._states], *[w.handle for w in self._written]])
        return [(handle, handle.node) for handle in handles]

    def restore_state(self, state: list[tuple[Handle, Node]]) -> None:
        """Undo a call that was only made to compare."""
        for handle, leaf in state:
            handle.rebind(leaf)
        for host, delta in self._host_delta:
            host.value = host.value - delta

    # ---- replaying ---------------------------------------------------------------------------------------------------
    def fits(self) -> bool:
        """Whether the state from outside still has the shapes and dtypes it was captured with."""
        for handle, kind in self._states:
            if handle.node.type is not kind:
                return False
        return True

    def replay(self, arguments: Sequence[Tensor]) -> list[Tensor]:
        """Run everything again with these arguments; fresh tensors for the outputs."""
        if any(handle.node.op.name != "BUFFER" for handle, _ in self._states):
            Tensor.realize(*[handle for handle, _ in self._states if isinstance(handle, Tensor)])
        hosts = {host: host.value for host in self._host_before}
        bound: dict[str, list[BufferVersion]] = {
            "argument": [t.node.arg for t in arguments], "state": [h.node.arg for h, _ in self._states],
            "constant": self._constants}
        results: list[list[BufferVersion]] = []
        for step in self._steps:
            inputs = [results[s.number][s.root] if s.kind == "result" else bound[s.kind][s.number] for s in step.inputs]
            self._unshare(step, inputs)
            storages = execute(step.place, step.loaded, inputs, [self._value(s, hosts) for s in step.scalars])
            results.append(_versions(step, inputs, storages))
        return self._bind(results, bound)

    def _value(self, scalar: Scalar, hosts: dict[HostValue, PythonScalar]) -> PythonScalar:
        source = scalar.source
        if source is None:
            return scalar.python
        advanced = source.seen - self._host_before[source.host]
        return source.at(hosts[source.host] + advanced)

    def _unshare(self, step: _Step, inputs: list[BufferVersion]) -> None:
        """What is written in place must be seen by its handle alone; anything else is copied first."""
        for slot in step.overwritten:
            source, version = step.inputs[slot], inputs[slot]
            handle = self._states[source.number][0] if source.kind == "state" else None
            if version.storage.exported or handle is None or not _sole_holder(handle, version):
                inputs[slot] = duplicate(step.place, version)

    def _bind(self, results: list[list[BufferVersion]], bound: dict[str, list[BufferVersion]]) -> list[Tensor]:
        for handle, step, root, kind in self._written:
            version = results[step][root]
            version.identity, version.owner = _identity(handle), ref(handle)
            handle.rebind(buffer(version, kind.shape, kind.dtype))
        for host, delta in self._host_delta:
            if delta:
                host.value = host.value + delta
        outputs = []
        for source, kind in self._outputs:
            version = results[source.number][source.root] if source.kind == "result" else bound[source.kind][source.number]
            made = Tensor._of(buffer(version, kind.shape, kind.dtype))
            if source.kind == "result" and version.owner is None:
                version.owner = ref(made)
            outputs.append(made)
        return outputs


def _versions(step: _Step, inputs: Sequence[BufferVersion], storages: Sequence[Storage]) -> list[BufferVersion]:
    return [inputs[root.number] if root.place == "input" else BufferVersion(storages[root.number])
            for root in step.loaded.plan.roots]


def _identity(handle: Handle) -> Identity | None:
    return getattr(handle, "_identity", None)


def _sole_holder(handle: Handle, version: BufferVersion) -> bool:
    """Whether no graph and no other handle holds the leaf of `handle`: let go of it, and see whether it dies."""
    if handle.node.arg is not version:
        return False
    leaf = handle.node
    watch, kind = ref(leaf), leaf.type
    handle.rebind(None)  # type: ignore[arg-type]
    del leaf
    alone = watch() is None
    handle.rebind(buffer(version, kind.shape, kind.dtype))
    return alone
