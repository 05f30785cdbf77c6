"""In which order a kernel stores: the loops that stores share, and the groups that are stored together.

Without local memory nothing is ordered but what TALLY and SCAN say: stores over the same loops are a group.
With it stores run as the kernel lists them. Neighbors share the LOOP axes that they have in common from the
outermost on, and what loads a local buffer finds there what was stored last. Stores over a REDUCE axis are
made where the loop of that reduction is.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from pluggrad.ir.node import Node
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.kernel import Kernel


@dataclass(frozen=True, slots=True)
class Group:
    """Stores, by their numbers in the kernel: all values are computed before the first is written.

    within: the REDUCE axis in whose loop they are made.
    """

    stores: tuple[int, ...]
    within: int | None = None


@dataclass(frozen=True, slots=True)
class Nest:
    """Steps that run, one after another, at each position of a LOOP axis. `fills`: local buffers that some
    step stores to."""

    axis: int
    steps: tuple[Step, ...]
    fills: frozenset[int]


Step = Nest | Group


@dataclass(frozen=True, slots=True)
class _Entry:
    number: int
    loops: tuple[int, ...]
    within: int | None
    reads: frozenset[int]
    fills: frozenset[int]


def store_order(kernel: Kernel) -> tuple[Step, ...]:
    """The steps of one task."""
    local = kernel.local
    loops = [a.id for a in kernel.axes if a.kind == "LOOP"]
    reduced = [a.id for a in kernel.axes if a.kind == "REDUCE"]
    entries = [_Entry(number, tuple([id for id in loops if id in store.arg[1]]),
                      next((id for id in reduced if id in store.arg[1]), None), *_touched(store, local))
               for number, store in enumerate(kernel.stores)]
    if not local:
        nests: dict[tuple[int, ...], list[_Entry]] = {}
        for entry in entries:
            nests.setdefault(entry.loops, []).append(entry)
        return tuple([step for alike in nests.values() for step in _steps(alike, 0)])
    return _steps(entries, 0)


def stores_of(step: Step) -> list[int]:
    """The stores of a step, by their numbers."""
    if isinstance(step, Group):
        return list(step.stores)
    return [number for each in step.steps for number in stores_of(each)]


def groups_of(step: Step) -> list[Group]:
    """The groups of a step, in their order."""
    if isinstance(step, Group):
        return [step]
    return [group for each in step.steps for group in groups_of(each)]


def _touched(store: Node, local: dict[int, frozenset[int]]) -> tuple[frozenset[int], frozenset[int]]:
    """The local buffers that a store loads from, and those that it writes."""
    if not local:
        return frozenset(), frozenset()
    reads = frozenset([n.arg for n in toposort([store]) if n.op is ops.LOAD])
    fills = frozenset([store.arg[0]])
    return (reads | fills if len(store.arg) > 2 else reads) & local.keys(), fills & local.keys()


def _steps(entries: Sequence[_Entry], depth: int) -> tuple[Step, ...]:
    steps: list[Step] = []
    for axis, alike in groupby(entries, lambda e: e.loops[depth] if depth < len(e.loops) else None):
        within = list(alike)
        if axis is None:
            steps += _groups(within)
        else:
            fills = frozenset[int]().union(*[e.fills for e in within])
            steps.append(Nest(axis, _steps(within, depth + 1), fills))
    return tuple(steps)


def _groups(entries: Sequence[_Entry]) -> Iterator[Group]:
    """A store that reads what one before it has filled starts a new group, as does one of another loop."""
    numbers: list[int] = []
    filled: frozenset[int] = frozenset()
    within = entries[0].within
    for entry in entries:
        if entry.reads & filled or entry.within != within:
            yield Group(tuple(numbers), within)
            numbers, filled, within = [], frozenset(), entry.within
        numbers.append(entry.number)
        filled |= entry.fills
    yield Group(tuple(numbers), within)


def is_independent(kernel: Kernel, step: Step) -> bool:
    """Whether a step is one group, in loops of its own, that reads no local buffer that it fills: all of its
    positions may be computed before the first is stored."""
    while isinstance(step, Nest):
        if len(step.steps) != 1:
            return False
        step = step.steps[0]
    touched = [_touched(kernel.stores[number], kernel.local) for number in step.stores]
    return not any(reads & fills for reads, _ in touched for _, fills in touched)
