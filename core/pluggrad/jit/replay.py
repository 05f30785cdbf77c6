"""Replay: the command lists of one call, run again with other inputs, scalars and results."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from weakref import ref

import numpy as np

from pluggrad import runtime
from pluggrad.dtypes import Scalar as PythonScalar
from pluggrad.graph.scalar import HostRead, HostValue, Scalar
from pluggrad.graph.types import TensorType
from pluggrad.runtime import BufferVersion, Handle, buffer
from pluggrad.runtime.apart import Apart
from pluggrad.runtime.interrupts import held
from pluggrad.runtime.realization import duplicate, execute, raise_reported, shared
from pluggrad.tensor import Tensor

if TYPE_CHECKING:
    from pluggrad.runtime.loaded import LoadedPlan
    from pluggrad.runtime.session import Session


class Source(NamedTuple):
    """Where an input comes from: an argument, a handle read from outside, an earlier result, or a
    constant."""

    kind: Literal["argument", "state", "result", "constant"]
    number: int
    root: int = 0


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


@dataclass(slots=True)
class Step:
    """One command list: its plan, where its inputs come from, its scalars, and the graph it was made from.

    overwrites: the input slots that it writes over, each with the number of a root that is then there.
    """

    place: Session
    loaded: LoadedPlan
    inputs: tuple[Source, ...]
    scalars: tuple[Scalar, ...]
    graph: tuple[Any, ...]
    overwrites: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class ApartStep:
    """What no command list does, and where its inputs come from."""

    work: Apart
    inputs: tuple[Source, ...]


@dataclass(slots=True)
class _Bound:
    """The versions that one replay works on, and what it reads from host values. `moved` are handles whose
    memory a step wrote over."""

    arguments: list[BufferVersion]
    states: list[BufferVersion]
    results: list[list[BufferVersion]]
    moved: list[Written]
    numbers: list[PythonScalar]


class Replay:
    """Repeats one call. Handles that the function read or assigned are kept alive."""

    def __init__(self, steps: list[Step | ApartStep], states: list[State],
                 constants: list[tuple[BufferVersion, TensorType]],
                 hosts: dict[HostValue, tuple[PythonScalar, PythonScalar]], written: list[Written],
                 overwritten: dict[int, Value], gradients: list[Gradient], outputs: list[Value]) -> None:
        self._steps, self._states, self._constants, self._hosts = steps, states, constants, hosts
        self._written, self.overwritten = written, overwritten
        self._gradients, self._outputs = gradients, outputs
        # readings of host values: many scalars share one
        sources = [s.source for step in steps if isinstance(step, Step) for s in step.scalars]
        self._reads = list(dict.fromkeys([read for read in sources if read is not None]))
        number = {read: i for i, read in enumerate(self._reads)}
        self._read_of = {id(step): [None if s.source is None else number[s.source] for s in step.scalars]
                         for step in steps if isinstance(step, Step)}
        # a gradient from before the call is found through its tensor: every backward makes a new one
        self._through = {g.state: g.owner for g in gradients if g.state is not None}

    # ---- does it fit? --------------------------------------------------------------------------------------
    def fits(self, arguments: Sequence[Tensor]) -> bool:
        """Whether the state from outside is as it was: shapes, dtypes, devices, which gradients there are."""
        for gradient in self._gradients:
            present = isinstance(_tensor(gradient.owner, arguments)._grad, Tensor)
            if gradient.before not in (None, present):
                return False
        return all(self._handle(state, arguments).node.type is state.kind for state in self._states)

    def _handle(self, state: State, arguments: Sequence[Tensor]) -> Handle:
        owner = self._through.get(state.number)
        return state.handle if owner is None else _tensor(owner, arguments)._grad

    # ---- run -----------------------------------------------------------------------------------------------
    def run(self, arguments: Sequence[Tensor], stored: Sequence[Tensor]) -> list[Tensor]:
        """Everything again with these arguments, whose memory `stored` holds; fresh tensors for the results.

        If a step fails, handles keep the values that complete steps gave them.
        """
        handles = [self._handle(state, arguments) for state in self._states]
        if any(handle.node.op.name != "BUFFER" for handle in handles):
            runtime.realize_pending()
            runtime.realize(handles)
        with held:
            results = self._run(arguments, stored, handles)
        raise_reported()
        return results

    def _run(
        self, arguments: Sequence[Tensor], stored: Sequence[Tensor], handles: list[Handle]
    ) -> list[Tensor]:
        bound = _Bound([t.node.arg for t in stored], [h.node.arg for h in handles], [], [],
                       [self._present(read) for read in self._reads])
        try:
            for step in self._steps:
                bound.results.append(self._run_step(step, bound, handles))
        except BaseException:
            for handle, value in bound.moved:
                _bind(handle, self._version(value.source, bound), value.kind)
            raise
        for handle, value in self._written:
            _bind(handle, self._version(value.source, bound), value.kind)
        for host, (_, change) in self._hosts.items():
            if change:
                host.value = host.value + change
        results = [self.fresh(value, bound) for value in self._outputs]
        self._leave(arguments, bound)
        return results

    def _run_step(self, step: Step | ApartStep, bound: _Bound, handles: list[Handle]) -> list[BufferVersion]:
        inputs = [self._version(source, bound) for source in step.inputs]
        if isinstance(step, ApartStep):
            return step.work.do(inputs)
        moved = []
        for slot, root in step.overwrites:
            source, version = step.inputs[slot], inputs[slot]
            handle = handles[source.number] if source.kind == "state" else None
            if handle is None or version.storage.exported or not _sole_holder(handle, version):
                inputs[slot] = duplicate(step.place, version)
                continue
            moved.append(Written(handle, Value(Source("result", len(bound.results), root), handle.node.type)))
        scalars = [s.python if read is None else bound.numbers[read]
                   for s, read in zip(step.scalars, self._read_of[id(step)], strict=True)]
        storages = execute(step.place, step.loaded, inputs, scalars)
        bound.moved += moved
        return [shared(inputs[root.number], None) if root.place == "input"
                else BufferVersion(storages[root.number]) for root in step.loaded.plan.roots]

    def _version(self, source: Source, bound: _Bound) -> BufferVersion:
        if source.kind == "result":
            return bound.results[source.number][source.root]
        if source.kind == "constant":
            return self._constants[source.number][0]
        return (bound.arguments if source.kind == "argument" else bound.states)[source.number]

    def _present(self, read: HostRead) -> PythonScalar:
        """What a reading gives now."""
        present = [host.value + (seen - self._hosts[host][0])
                   for host, seen in zip(read.hosts, read.seen, strict=True)]
        return read.at(*present)

    # ---- results -------------------------------------------------------------------------------------------
    def fresh(self, value: Value, bound: _Bound) -> Tensor:
        """A tensor of its own with a value of this run."""
        return fresh(self._version(value.source, bound), value.kind)

    def _leave(self, arguments: Sequence[Tensor], bound: _Bound) -> None:
        """Gradients and arguments as the function leaves them."""
        for gradient in self._gradients:
            if not gradient.changed:
                continue
            left = gradient.plain if gradient.after is None else self.fresh(gradient.after, bound)
            _tensor(gradient.owner, arguments)._grad = left
        write_back(arguments, {i: self.fresh(value, bound) for i, value in self.overwritten.items()})

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
        if [_work(step) for step in self._steps] != [_work(step) for step in other._steps]:
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
        if leaf.op.name == "BUFFER":
            leaf.arg.identity = _identity(handle)  # an assignment gave the handle a new one
        handle.rebind(leaf)
    for tensor, gradient in gradients:
        tensor._grad = gradient
    for host, value in hosts:
        host.value = value


def fresh(version: BufferVersion, kind: TensorType) -> Tensor:
    """A tensor with this value that no handle shares a version with: no leaf, no history."""
    made = Tensor._of(buffer(version, kind.shape, kind.dtype))
    if version.owner is not None or version.identity is not None or version.history is not None:
        made = Tensor._of(buffer(shared(version, None), kind.shape, kind.dtype))
    made.node.arg.owner = ref(made)
    return made


def write_back(arguments: Sequence[Tensor], values: dict[int, Tensor]) -> None:
    """Give arguments what the function wrote to them."""
    for i, value in values.items():
        arguments[i].assign(value)
    if values:
        Tensor.realize(*[arguments[i] for i in values])


def _tensor(owner: Tensor | int, arguments: Sequence[Tensor]) -> Tensor:
    return arguments[owner] if isinstance(owner, int) else owner


def _bind(handle: Handle, version: BufferVersion, kind: TensorType) -> None:
    version.identity, version.owner = _identity(handle), ref(handle)
    handle.rebind(buffer(version, kind.shape, kind.dtype))


def _identity(handle: Handle) -> Any:
    return getattr(handle, "_identity", None)


def _sole_holder(handle: Handle, version: BufferVersion) -> bool:
    """Whether nothing else holds the leaf of `handle`: let go of it, and see whether it dies."""
    leaf = handle.node
    if leaf.arg is not version:
        return False
    watch, kind = ref(leaf), leaf.type
    handle.rebind(None)  # type: ignore[arg-type]
    del leaf
    alone = watch() is None
    handle.rebind(buffer(version, kind.shape, kind.dtype))
    return alone


def _work(step: Step | ApartStep) -> tuple[Any, ...]:
    if isinstance(step, ApartStep):
        return step.work, step.inputs
    return step.graph, step.inputs, [s.python for s in step.scalars if s.source is None]


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
