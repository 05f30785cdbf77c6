"""Realize: graphs become stored values, and handles are rebound to them.

The order matters. A write may go in place only if nobody can see the old version any more, which is known
only once the handles have let go of their graphs. So they are emptied first; if the run fails, the graphs are
put back from their normalized form, and nothing is lost.
"""
from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary, WeakValueDictionary, ref

from pluggrad.graph import build, ops, origin
from pluggrad.graph.leaf import Identity
from pluggrad.graph.template import RESULT, expand, overwritten
from pluggrad.graph.types import TensorType
from pluggrad.ir.node import Node
from pluggrad.runtime.apart import Apart, apart_of
from pluggrad.runtime.execution import execute, raise_reported, shared
from pluggrad.runtime.expansions import expanded, pay
from pluggrad.runtime.history import History, judge
from pluggrad.runtime.interrupts import held
from pluggrad.runtime.normalize import INDIRECT, Normalized, denormalize, normalize, resolve, stands
from pluggrad.runtime.queue import drain
from pluggrad.runtime.sessions import session
from pluggrad.runtime.storage import BufferVersion, Handle, Storage, buffer
from pluggrad.target import DeviceId

if TYPE_CHECKING:
    from pluggrad.runtime.session import Session

lock = threading.RLock()
_ABOVE_BASE = ops.WRITES | {ops.LEAF, ops.DETACH}
_WRITTEN = ops.WRITES | {RESULT}


def _before_fork() -> None:
    """A fork waits for what others compute, and for what is in flight: the child inherits it whole."""
    lock.acquire()
    drain()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=lock.release, after_in_child=lock.release)


class _Pending(threading.local):
    """Handles to realize, of each thread its own: what is computed together decides how sums are ordered, so
    another thread's handles would make results depend on who comes first, and bring its errors here."""

    def __init__(self) -> None:
        # by identity: two Tensors are compared elementwise, by making a graph
        self.handles: WeakValueDictionary[int, Handle] = WeakValueDictionary()
        # of nodes that handles hold, the results of calls that come to the same
        self.brief: WeakKeyDictionary[Node, Node] = WeakKeyDictionary()


_pending = _Pending()
# keeps what was computed apart from command lists, all results of a call, while a node of it lives
_apart: WeakKeyDictionary[Node, list[Node]] = WeakKeyDictionary()


@dataclass(slots=True)
class Run:
    """One command list as it ran: what a capture records."""

    session: Session
    normalized: Normalized
    donated: tuple[int | None, ...]
    results: list[BufferVersion]
    kinds: list[TensorType]


class Recorder(Protocol):
    """A capture in progress: told of everything that runs."""

    def record(self, run: Run) -> None:
        """A command list ran."""

    def apart(self, work: Apart, sources: list[BufferVersion], results: list[BufferVersion]) -> None:
        """Something was done that no command list does."""

    def alias(self, version: BufferVersion, made: BufferVersion, kind: TensorType) -> None:
        """A handle has `made` now, the same memory as `version`."""


# told of the graphs that were realized, whose nodes then hold their values
inspecting: Callable[[list[Node]], None] | None = None
recorder: Recorder | None = None  # set under `lock`, so other threads wait until the capture is over


@dataclass(slots=True)
class _Job:
    """A handle to realize. `node` is None once it let go of it; `seen` then tells whether others hold it."""

    handle: Handle | None
    node: Node | None
    seen: ref[Node]
    kind: TensorType
    identity: Identity | None
    history: History


def add_pending(handle: Handle, brief: Node | None = None) -> None:
    """Include a handle in this thread's next realization on its device (as long as somebody holds it).

    brief: the result of a call that comes to what the handle holds.
    """
    _pending.handles[id(handle)] = handle
    if brief is not None:
        _pending.brief[handle.node] = brief


def capturing() -> bool:
    """Whether this thread captures a function: values cannot be read then."""
    if recorder is None:
        return False
    with lock:  # another thread's capture is over when it is given
        return recorder is not None


def calls_pay() -> bool:
    """Whether calls may stand for graphs: nobody records what runs or looks at graphs, and they save work."""
    watched = recorder is not None or inspecting is not None
    return not watched and origin.operation is None and origin.gradient is None and pay()


def realize_pending() -> None:
    """Realize every pending handle of this thread."""
    pending = list(_pending.handles.values())
    if pending:
        realize(pending)


def realize_written(handles: Iterable[Handle | None]) -> bool:
    """Realize those handles that this thread wrote to and has not realized since; whether there were any."""
    if not _pending.handles:  # as after every step of an optimizer
        return False
    known = set(map(id, handles))
    written = [handle for handle in _pending.handles.values() if id(handle) in known]
    if written:  # in the order they were written, so that each step of a loop has the same plan
        realize(written)
    return bool(written)


def realize(handles: Sequence[Handle], *, keep_history: bool = False) -> None:
    """Store the values of handles, and of this thread's pending ones on the same devices, and rebind them.

    keep_history: keep what a value was computed from however deep it is (reading a value never cuts
    gradients). Raises OutOfMemoryError, KernelFault or KeyboardInterrupt with every handle as it was;
    TensorIndexError for an index out of range too, except where a write has gone over what was there: then
    everything is computed, without what was out of range.
    """
    with lock, held:
        wanted = list({id(handle): handle for handle in handles}.values())  # `==` of tensors is elementwise
        if _pending.handles:
            devices = {h.node.type.device for h in wanted}
            known = set(map(id, wanted))
            # in the order they were written: the same in every process
            wanted += [h for h in list(_pending.handles.values())
                       if id(h) not in known and h.node.device in devices]
        graphs = [] if inspecting is None else [handle.node for handle in wanted]
        try:
            by_device: dict[DeviceId, list[Handle]] = {}
            for handle in wanted:
                if not _settled(handle):
                    by_device.setdefault(handle.node.type.device, []).append(handle)
            for device, group in by_device.items():
                _realize_on(session(device), group, keep_history)
        finally:
            if _pending.handles:  # after a failure too: what cannot be computed must not fail later calls
                for handle in wanted:
                    _pending.handles.pop(id(handle), None)
        raise_reported()
        if inspecting is not None:
            inspecting(graphs)


def own(handle: Handle) -> None:
    """Where another handle holds the same version, give this one a version of its own of the same memory."""
    n = handle.node
    detached = n.op is ops.DETACH
    stored = resolve(n) if detached else n
    if stored.op is not ops.BUFFER:
        return
    version = stored.arg
    if detached or version.owner is None or version.owner() is not handle:
        made = shared(version, None if detached else version.identity)
        if not detached:
            made.history, made.depth, made.cut = version.history, version.depth, version.cut
        made.owner = ref(handle)
        if recorder is not None:
            recorder.alias(version, made, n.type)
        handle.rebind(buffer(made, n.shape, n.dtype))


def _settled(handle: Handle) -> bool:
    """Whether the value is stored already; the handle is rebound where another realization stored it."""
    n = handle.node
    if n.op is ops.BUFFER:
        return True
    stored = resolve(n)
    if stored.op is not ops.BUFFER:
        return False
    if n.op is not ops.DETACH:
        inner = stored.arg
        if inner.owner is None:  # computed on the way to something else: it has no history
            return False
        if (n.op is ops.LEAF and inner.identity is not n.arg) or _has_own_gradient(n):
            return False
        handle.rebind(stored)
        own(handle)
    return True


def _has_own_gradient(n: Node) -> bool:
    """Whether a value that another handle holds has a gradient rule here that the other does not know."""
    while n.op in INDIRECT and (n.realized is None or n.realized() is None):
        if n.op is ops.CUSTOM_VJP:
            return True
        n = n.src[n.op is ops.UPDATE]
    return False


def _on_one_device(nodes: list[Node]) -> Normalized:
    """The normalized graph, once everything in it that no kernel computes is done."""
    if _pending.brief:
        brief = dict(_pending.brief)
        _pending.brief.clear()
        nodes = [brief.get(n, n) if n.realized is None else n for n in nodes]
    normalized = normalize(nodes)
    if normalized.calls:
        normalized = expanded(normalized, nodes)
    while normalized.apart:
        _do_apart(normalized.apart[0])
        normalized = normalize(expand(nodes))
    return normalized


def _do_apart(n: Node) -> None:
    """Store the value of a copy, or all results of a host function; sources are computed where they are."""
    work, nodes = apart_of(n)
    leaves = next((known for known in map(_apart.get, nodes) if known and all(map(stands, known))), None)
    if leaves is None:
        sources = [_kept(source) for source in n.src]
        results = work.do(sources)
        if recorder is not None:
            recorder.apart(work, sources, results)
        leaves = [buffer(result, made.shape, made.dtype) for result, made in zip(results, nodes, strict=True)]
    for made, leaf in zip(nodes, leaves, strict=True):
        made.realized, _apart[made] = ref(leaf), leaves


def _kept(n: Node) -> BufferVersion:
    """The version that holds the value. What is computed for it is kept while the node lives: others in the
    graph may read it too."""
    stored = resolve(n)
    version = stored_version(stored)
    if stored.op.kind != "leaf":
        leaf = buffer(version, n.shape, n.dtype)
        stored.realized, _apart[stored] = ref(leaf), [leaf]
    return version


def _job(handle: Handle, keep_history: bool) -> _Job:
    n = handle.node
    identity = n.arg if n.op is ops.LEAF else None
    return _Job(handle, n, ref(n), n.type, identity, judge(n, keep_history))


def _donors(jobs: list[_Job], normalized: Normalized) -> list[tuple[int, ref[Node]] | None]:
    """For each job that writes over a stored tensor: the input slot of that tensor, and its leaf (weakly)."""
    slots = {version: slot for slot, version in enumerate(normalized.inputs)}
    for number in normalized.roots:  # returned as it is: another handle's value
        if normalized.rows[number][0] is ops.INPUT:
            slots.pop(normalized.inputs[normalized.rows[number][1]], None)
    donors: list[tuple[int, ref[Node]] | None] = []
    for job in jobs:
        n = job.node
        while n is not None and n.op in (ops.LEAF, ops.DETACH):
            n = n.src[0]
        base = n
        if n is not None and n.op is RESULT:
            base = overwritten(n)
        while base is not None and base.op in _ABOVE_BASE:
            base = resolve(base.src[0]) if base.op in ops.WRITES else base.src[0]
        slot = None
        if n is not None and n.op in _WRITTEN and base is not None and base.op is ops.BUFFER:
            slot = slots.get(base.arg) if base.type is job.kind else None
        donors.append(None if slot is None or base is None else (slot, ref(base)))
    return donors


def _realize_on(place: Session, handles: list[Handle], keep_history: bool) -> None:
    jobs = [_job(handle, keep_history) for handle in handles]
    normalized = _on_one_device([h.node for h in handles])
    donors, renamed = _donors(jobs, normalized), _renamed(jobs)
    try:
        for job in jobs:
            if not job.history.keep and job.handle is not None:
                job.node = None
                job.handle.rebind(None)  # type: ignore[arg-type]
        donated = _donated(donors, normalized.inputs)
        results = run(place, normalized, donated, [job.identity for job in jobs], [job.kind for job in jobs])
    except BaseException:
        _put_back(jobs, normalized)
        raise
    for job, version in zip(jobs, results, strict=True):
        _finish(job, version)
    for storage, leaf in renamed:
        if leaf() is None:
            storage.exported = False


def _renamed(jobs: list[_Job]) -> list[tuple[Storage, ref[Node]]]:
    """The memory of handles that only become another leaf, as when an optimizer marks them, and the leaf of
    before: when that is gone, nobody else sees what a step writes there."""
    found: dict[Storage, list[ref[Node]]] = {}
    for job in jobs:
        n = job.node
        while n is not None and n.op in (ops.LEAF, ops.DETACH):
            n = n.src[0]
        if n is not None and n.op is ops.BUFFER and not n.arg.storage.exported:
            found.setdefault(n.arg.storage, []).append(ref(n))
    return [(storage, leaves[0]) for storage, leaves in found.items() if len(leaves) == 1]


def _donated(donors: list[tuple[int, ref[Node]] | None],
             inputs: Sequence[BufferVersion]) -> tuple[int | None, ...]:
    """The input that each job may write over: nobody else sees it, and no other job takes it."""
    free = [None if donor is None or donor[1]() is not None else donor[0] for donor in donors]
    return tuple([None if slot is None or free.index(slot) != i or inputs[slot].storage.exported else slot
                  for i, slot in enumerate(free)])


def _put_back(jobs: list[_Job], normalized: Normalized) -> None:
    """Give emptied handles their graphs again."""
    for job, n in zip(jobs, denormalize(normalized), strict=True):
        if job.node is None and job.handle is not None:
            if job.identity is not None:
                n = build.leaf(n, job.identity)
            elif not job.history.cut:  # no gradient went through it, perhaps for a DETACH not in the rows
                n = build.detach(n)
            job.handle.rebind(n)


def _finish(job: _Job, version: BufferVersion) -> None:
    leaf = buffer(version, job.kind.shape, job.kind.dtype)
    if job.history.keep and job.node is not None:
        version.history, version.depth = job.node, job.history.depth
    version.cut = job.history.cut
    if job.handle is not None:
        version.owner = ref(job.handle)
        job.handle.rebind(leaf)
    original = job.seen()
    if original is not None:
        original.realized = ref(leaf)


def run(place: Session, normalized: Normalized, donated: tuple[int | None, ...],
        identities: Sequence[Identity | None], kinds: list[TensorType]) -> list[BufferVersion]:
    """Run the plan of a normalized graph; returns a version per root, in donated memory where planned."""
    loaded = place.plan(normalized, donated)
    storages = execute(place, loaded, normalized.inputs, [s.python for s in normalized.scalars])
    results = []
    for root, identity in zip(loaded.plan.roots, identities, strict=True):
        if root.place == "input":
            results.append(shared(normalized.inputs[root.number], identity))
            continue
        results.append(BufferVersion(storages[root.number], identity))
    if recorder is not None:
        recorder.record(Run(place, normalized, donated, results, kinds))
    return results


def stored_version(n: Node) -> BufferVersion:
    """The version that holds the value; computed where there is none yet."""
    stored = resolve(n)
    if stored.op is ops.BUFFER:
        return stored.arg  # type: ignore[no-any-return]
    return run(session(n.device), _on_one_device([n]), (None,), [None], [n.type])[0]
