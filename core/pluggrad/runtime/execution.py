"""Run loaded plans on stored values: memory for outputs, one command list, versions of what it wrote over."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

from pluggrad.device.contract import DONE
from pluggrad.errors import DeviceLost, InternalError, KernelFault, TensorIndexError
from pluggrad.graph.leaf import Identity
from pluggrad.runtime.counters import GlobalCounters
from pluggrad.runtime.interrupts import at_once, held
from pluggrad.runtime.storage import BufferVersion, Storage

if TYPE_CHECKING:
    from pluggrad.runtime.compiled import CompiledPlan
    from pluggrad.runtime.loaded import LoadedPlan
    from pluggrad.runtime.queue import Queue
    from pluggrad.runtime.session import Session

_NONE: Final[Mapping[int, BufferVersion]] = {}
_reported: list[TensorIndexError] = []


def execute(place: Session, loaded: LoadedPlan, inputs: Sequence[BufferVersion], values: Sequence[Any],
            again: Mapping[int, BufferVersion] = _NONE) -> list[Storage]:
    """Run a loaded plan; returns the storage of each output. Overwritten storages get a new version.

    again: by number of the output, versions that nobody reads any more, in whose memory it is computed.

    On a device that declares `async` it may be in flight on return, unless it checks indices.
    TensorIndexError if a kernel met an index out of range. Where the run wrote over inputs it is complete
    then, and `raise_reported` is to be called once their handles are bound to the new versions.
    """
    plan, queue, pool = loaded.plan, place.queue, place.pool
    _require_ready(queue, inputs)
    outputs, written = _outputs(place, plan, inputs, again)
    slots = [version.storage.block.allocation for version in inputs]
    slots += [storage.block.allocation for storage in outputs]
    if loaded.status is not None:
        slots.append(loaded.status.allocation)
    arena = pool.take(plan.arena_bytes) if plan.arena_bytes else None
    if arena is not None:
        slots.append(arena.allocation)
    GlobalCounters.realizations += 1
    wrong = None
    try:
        if written or queue.deferred or not held.depth:
            event = loaded.run(slots, values)
        else:
            with at_once:
                event = loaded.run(slots, values)
        if queue.deferred and event is not DONE:
            queue.add(event, loaded.name, outputs, loaded)
        if loaded.status is not None:
            with nullcontext() if written else at_once:
                queue.wait()
                wrong = loaded.status.take()
        if wrong is not None and not written:
            raise wrong
    except BaseException as error:
        for storage in written:
            storage.fault = KernelFault(
                f"this tensor was being overwritten when a command list stopped: {error!r}")
        if isinstance(error, DeviceLost):
            queue.lose(error)
        raise
    finally:
        if arena is not None:
            pool.give(arena)
    for storage in written:
        storage.version += 1
    for number in loaded.shared:
        outputs[number].exported = True
    if wrong is not None:
        _reported.append(wrong)
    return outputs


def _require_ready(queue: Queue, inputs: Sequence[BufferVersion]) -> None:
    """Room on a device that answers, for values that are what their graphs saw."""
    if queue.lost is not None:
        raise queue.gone()
    if queue.deferred:
        with at_once, queue:
            queue.make_room()
    for version in inputs:
        if version.storage.fault is not None:
            version.storage.require_usable()
        if version.version != version.storage.version:
            raise InternalError("a buffer was overwritten while a graph still needed its old version")


def _outputs(place: Session, plan: CompiledPlan, inputs: Sequence[BufferVersion],
             again: Mapping[int, BufferVersion]) -> tuple[list[Storage], list[Storage]]:
    """The storage of each output, and those of inputs among them, which are written over."""
    outputs, written = [], []
    for number, output in enumerate(plan.outputs):
        if number in again:
            storage = again[number].storage
        elif output.reuses is None:
            storage = Storage(place.id, place.pool, output.nbytes)
        else:
            storage = inputs[output.reuses].storage
            written.append(storage)
        outputs.append(storage)
    return outputs, written


def raise_reported() -> None:
    """Raise what a run that wrote over its inputs reported, now that handles have its results."""
    if _reported:
        error = _reported[0]
        _reported.clear()
        raise error


def shared(version: BufferVersion, identity: Identity | None) -> BufferVersion:
    """An unchanged input as a result: the same storage and version under another identity."""
    made = BufferVersion(version.storage, identity)
    made.version = version.version
    version.storage.exported = True
    return made
