"""The short way of a replay that is one command list and leaves nothing but its results."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import ref

from pluggrad.config import one_by_one
from pluggrad.device.registry import REGISTRY
from pluggrad.jit.reuse import Leaves, dropped
from pluggrad.runtime import BufferVersion
from pluggrad.runtime.counters import GlobalCounters
from pluggrad.runtime.interrupts import held
from pluggrad.tensor import Tensor

if TYPE_CHECKING:
    from pluggrad.runtime.loaded import LoadedPlan
    from pluggrad.runtime.queue import Queue
    from pluggrad.runtime.session import Session


class Direct:
    """Runs a list from its arguments into the memory of results that nobody has any more.

    inputs: positions among the arguments and `constants`. leaves: of the results given out, by output.
    """

    __slots__ = ("_loaded", "_queue", "_pool", "_inputs", "_constants", "_scalars", "_leaves", "_given")

    def __init__(self, loaded: LoadedPlan, place: Session, inputs: Sequence[int],
                 constants: Sequence[BufferVersion], scalars: Sequence[Any], leaves: Leaves,
                 given: Sequence[int]) -> None:
        self._loaded, self._queue, self._pool, self._inputs = loaded, place.queue, place.pool, tuple(inputs)
        self._constants, self._scalars = tuple(constants), scalars
        self._leaves, self._given = leaves, tuple(given)

    def __call__(self, versions: Sequence[BufferVersion]) -> list[Tensor] | None:
        """The results; None where somebody looks on, or something is missing or wrong: the long way then says
        what."""
        if held.depth or self._queue.lost is not None or one_by_one() or REGISTRY.observed:
            return None
        leaves = dropped(self._leaves)
        if len(leaves) < len(self._given):
            return None
        values = (*versions, *self._constants) if self._constants else versions
        slots = []
        for position in self._inputs:
            version = values[position]
            storage = version.storage
            if storage.fault is not None or version.version != storage.version:
                return None
            slots.append(storage.block.allocation)
        for number in range(len(leaves)):
            version = leaves[number].arg
            slots.append(version.storage.block.allocation)
        GlobalCounters.realizations += 1
        nbytes = self._loaded.plan.arena_bytes
        if nbytes:
            arena = self._pool.take(nbytes)
            slots.append(arena.allocation)
        try:
            self._loaded.launch(slots, self._scalars)
        finally:
            if nbytes:
                self._pool.give(arena)
        results = []
        for number in self._given:
            leaf = leaves[number]
            made = Tensor._of(leaf)
            leaf.arg.owner = ref(made)
            results.append(made)
        return results


def is_plain(loaded: LoadedPlan, queue: Queue) -> bool:
    """Whether a list needs nothing but inputs, outputs and temporaries, is done when it returns, and gives
    each root a memory of its own."""
    plan = loaded.plan
    return not (queue.deferred or loaded.status is not None or loaded.shared
                or any(output.reuses is not None for output in plan.outputs)
                or any(root.place == "input" for root in plan.roots))
