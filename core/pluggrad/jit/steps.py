"""What a captured function ran, step by step: where each input comes from, and how a replay runs it again.

The values of a replay are one list: its arguments, the state from outside, constants, then each step's
results. A step knows its inputs by their positions there, worked out once.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from weakref import ref

from pluggrad.dtypes import Scalar as PythonScalar
from pluggrad.graph.scalar import HostRead, Scalar
from pluggrad.graph.types import TensorType
from pluggrad.ir.node import Node
from pluggrad.jit.direct import Direct, is_plain
from pluggrad.jit.reuse import MOST_BYTES, Leaves, dropped, remember
from pluggrad.runtime import BufferVersion, Handle
from pluggrad.runtime.apart import Apart
from pluggrad.runtime.execution import execute, shared
from pluggrad.runtime.normalize import Key
from pluggrad.runtime.storage import stored
from pluggrad.runtime.values import duplicate

if TYPE_CHECKING:
    from pluggrad.runtime.loaded import LoadedPlan
    from pluggrad.runtime.session import Session


class Source(NamedTuple):
    """Where an input comes from: an argument, a handle read from outside, an earlier result, or a
    constant."""

    kind: Literal["argument", "state", "result", "constant"]
    number: int
    root: int = 0


Position = Callable[[Source], int]  # of a source among a replay's values


@dataclass(slots=True)
class Step:
    """One command list: its plan, where its inputs come from, its scalars, and the graph it was made from.

    overwrites: the input slots that it writes over, each with the number of a root that is then there.
    """

    place: Session
    loaded: LoadedPlan
    inputs: tuple[Source, ...]
    scalars: tuple[Scalar, ...]
    graph: Key
    overwrites: tuple[tuple[int, int], ...]

    @property
    def results(self) -> int:
        """How many values it gives."""
        return len(self.loaded.plan.roots)

    def work(self) -> tuple[Any, ...]:
        """What tells it from another step."""
        return self.graph, self.inputs, [s.python for s in self.scalars if s.source is None]


@dataclass(slots=True)
class ApartStep:
    """What no command list does, and where its inputs come from."""

    apart: Apart
    inputs: tuple[Source, ...]

    @property
    def results(self) -> int:
        """How many values it gives."""
        return len(self.apart.results)

    def work(self) -> tuple[Any, ...]:
        """What tells it from another step."""
        return self.apart, self.inputs


class Emptied(NamedTuple):
    """A handle that let go of its value, which is written over, and where among the values it is.

    Whoever runs the step binds the handle again, to what is there then."""

    handle: Handle
    position: int
    kind: TensorType


class _Overwrite(NamedTuple):
    """An input that is written over: its slot, its position, the handle's number if it is state, the root."""

    slot: int
    position: int
    state: int | None
    root: int


class ListReplay:
    """A command list, ready to be run again."""

    __slots__ = ("_place", "_loaded", "_inputs", "_scalars", "_read", "_overwrites", "_roots", "_leaves")

    def __init__(self, step: Step, position: Position, number: dict[HostRead, int]) -> None:
        self._place, self._loaded = step.place, step.loaded
        self._inputs = tuple([position(source) for source in step.inputs])
        self._scalars = [scalar.python for scalar in step.scalars]
        self._read = [(i, number[s.source]) for i, s in enumerate(step.scalars) if s.source is not None]
        self._overwrites = [_overwrite(step.inputs[slot], slot, root, position)
                            for slot, root in step.overwrites]
        # of each root, whether it is computed, and the number of the output or else of the input
        self._roots = [(root.place != "input", root.number) for root in step.loaded.plan.roots]
        self._leaves: Leaves = {}  # of results that were given out, by output

    def run(self, values: list[BufferVersion], handles: Sequence[Handle], numbers: Sequence[PythonScalar],
            emptied: list[Emptied]) -> None:
        """Run it, and add its results to the values."""
        inputs = [values[position] for position in self._inputs]
        for over in self._overwrites:
            if over.state is None or not _let_go(handles[over.state], values[over.position], over, emptied):
                inputs[over.slot] = duplicate(self._place, inputs[over.slot])
        scalars = self._scalars
        if self._read:
            scalars = scalars.copy()
            for i, number in self._read:
                scalars[i] = numbers[number]
        again = {number: leaf.arg for number, leaf in dropped(self._leaves).items()}
        first, storages = len(values), execute(self._place, self._loaded, inputs, scalars, again)
        for computed, number in self._roots:
            if not computed:
                values.append(shared(inputs[number], None))
            else:
                values.append(again.get(number) or BufferVersion(storages[number]))
        for over in self._overwrites:
            values[over.position] = values[first + over.root]

    def direct(self, constants: Sequence[BufferVersion], roots: Sequence[int]) -> Direct | None:
        """The short way to results `roots`, where nothing is left or read but arguments and `constants`."""
        given = [self._roots[root][1] for root in roots]
        outputs = len(self._loaded.plan.outputs)
        if self._read or not is_plain(self._loaded, self._place.queue) or sorted(given) != [*range(outputs)]:
            return None
        return Direct(self._loaded, self._place, self._inputs, constants, self._scalars, self._leaves,
                      given)

    def keep(self, root: int, leaf: Node) -> None:
        """Note the leaf of a result that is given out: the next run may find that nobody has it any more."""
        computed, number = self._roots[root]
        if computed and leaf.arg.storage.block.nbytes <= MOST_BYTES:
            remember(self._leaves, number, leaf)


class ApartReplay:
    """Work apart from command lists, ready to be done again."""

    __slots__ = ("_apart", "_inputs")

    def __init__(self, step: ApartStep, position: Position) -> None:
        self._apart, self._inputs = step.apart, tuple([position(source) for source in step.inputs])

    def run(self, values: list[BufferVersion], *_: object) -> None:
        """Do it, and add its results to the values."""
        values.extend(self._apart.do([values[position] for position in self._inputs]))

    def keep(self, root: int, leaf: Node) -> None:
        """Nothing is stored where it was before."""


def _overwrite(source: Source, slot: int, root: int, position: Position) -> _Overwrite:
    return _Overwrite(slot, position(source), source.number if source.kind == "state" else None, root)


def _let_go(handle: Handle, version: BufferVersion, over: _Overwrite, emptied: list[Emptied]) -> bool:
    """Empty the handle of a state; False where somebody else holds its value, which must not be lost."""
    leaf = handle.node
    if leaf.arg is not version or version.storage.exported:
        return False
    watch = ref(leaf)
    emptied.append(Emptied(handle, over.position, leaf.type))
    handle.rebind(None)  # type: ignore[arg-type]
    del leaf
    held = watch()
    if held is None:
        return True
    handle.rebind(held)
    emptied.pop()
    return False


def bind(handle: Handle, version: BufferVersion, kind: TensorType) -> None:
    """Give a handle a version as its value, and as the leaf that it is."""
    version.identity, version.owner = identity_of(handle), ref(handle)
    handle.rebind(stored(version, kind))


def identity_of(handle: Handle) -> Any:
    """The leaf that a tensor is; None of another handle."""
    return getattr(handle, "_identity", None)
