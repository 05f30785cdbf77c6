"""Stages are merged into regions.

Epilogues join reductions; reductions over one outer range join each other and what is computed from them row
by row; writes of one domain become one kernel with several outputs.
"""
from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

from pluggrad.graph import ops
from pluggrad.graph.types import Shape
from pluggrad.ir.node import Node
from pluggrad.schedule.region import Member, Region, domain, stage_kind
from pluggrad.schedule.stages import REDUCED, Stage
from pluggrad.shape.index import AxisAtom, Index

_LARGEST_REGION = 12  # members
_ENOUGH_ROWS = 32  # tasks for most machines; a fixed number, so that sums do not depend on cores
_SMALL = 1 << 16  # elements below which a region may give up parallelism for fewer kernels
Placement = tuple[int | None, ...]


@dataclass(slots=True)
class _Draft:
    """A region in the making. `after`: bit set of drafts that must run before it (transitively).

    `awaited`: some other draft must run after it.
    """

    number: int
    outer: Shape
    stages: list[Stage] = field(default_factory=list)
    placed: dict[Node, Placement] = field(default_factory=dict)
    after: int = 0
    awaited: bool = False
    contraction: bool = False


# drafts by what one of their stages reads in full: (input, indices it is read at, domain, work) of the stage
_Passes = dict[tuple[Node, frozenset[Index], Shape, int], list[_Draft]]


def fuse(stages: list[Stage], roots: set[Node]) -> tuple[Region, ...]:
    """Regions in an order in which they can run."""
    drafts: list[_Draft] = []
    home: dict[Node, _Draft] = {}
    passes: _Passes = defaultdict(list)
    for stage in stages:
        draft = _find_draft(stage, passes, home) or _new_draft(stage, drafts)
        home[stage.root] = draft
        if not draft.contraction and stage.root.op is not ops.UPDATE:
            for key in _full_passes(stage):
                passes[key].append(draft)
        _depend(draft, [home[n] for n in stage.reads if n in home], drafts)
    read_elsewhere = {n for stage in stages for n in stage.reads
                      if n in home and home[n] is not home[stage.root]}
    wanted = roots | read_elsewhere
    return tuple([_region(draft, wanted) for draft in _in_order(drafts)])


def _new_draft(stage: Stage, drafts: list[_Draft]) -> _Draft:
    shape = domain(stage.root)
    draft = _Draft(len(drafts), tuple([d for d in shape if d > 1]), contraction=stage.contraction)
    numbers = iter(range(len(draft.outer)))
    draft.placed[stage.root] = tuple([next(numbers) if d > 1 else None for d in shape])
    draft.stages.append(stage)
    drafts.append(draft)
    return draft


def _find_draft(stage: Stage, passes: _Passes, home: dict[Node, _Draft]) -> _Draft | None:
    """The latest region that the stage can join without making regions depend on each other in a circle."""
    if stage.root.op is ops.UPDATE:
        return None
    producers = {home[n].number: home[n] for n in stage.reads if n in home}
    candidates = producers or _siblings(stage, passes)
    for draft in sorted(candidates.values(), key=lambda d: (not d.contraction, -d.number)):
        others = [home[n] for n in stage.reads if n in home and home[n] is not draft]
        # a write ranges over the view that it writes, not over its result
        writes = any(s.root.op is ops.UPDATE for s in draft.stages)
        if writes or any(other.after >> draft.number & 1 for other in others):
            continue
        placement = _placement(stage, draft, home)
        if placement is None or not _worthwhile(stage, draft, placement):
            continue
        draft.stages.append(stage)
        draft.placed[stage.root] = placement
        return draft
    return None


def _full_passes(stage: Stage) -> list[tuple[Node, frozenset[Index], Shape, int]]:
    """The inputs of which a stage reads as many elements as it evaluates, as keys of `_Passes`."""
    shape, work = domain(stage.root), stage.work
    return [(n, frozenset(at), shape, work) for n, at in stage.reads.items()
            if n.op is ops.INPUT and n.type.size == work]


def _siblings(stage: Stage, passes: _Passes) -> dict[int, _Draft]:
    """Regions that read the same inputs in the same order: one pass over them can serve both."""
    if stage.contraction:
        return {}
    return {draft.number: draft for key in _full_passes(stage) for draft in passes.get(key, ())
            if len(draft.stages) < _LARGEST_REGION}


def _placement(stage: Stage, draft: _Draft, home: dict[Node, _Draft]) -> Placement | None:
    """How the stage's domain lies in the region's outer axes, or None if its reads do not allow it."""
    shape = domain(stage.root)
    mapping: dict[int, int] = {}
    for n, indices in stage.reads.items():
        if home.get(n) is not draft:
            continue
        for index in indices:
            if not _map_read(n, index, draft, mapping):
                return None
    if not mapping and draft.outer and not any(home.get(n) is draft for n in stage.reads):
        mapping = _identity(shape, draft)
    if len(mapping) != len(draft.outer) or len(set(mapping.values())) != len(draft.outer):
        return None
    return tuple([mapping.get(i) for i in range(len(shape))])


def _identity(shape: Shape, draft: _Draft) -> dict[int, int]:
    large = [i for i, d in enumerate(shape) if d > 1]
    if [shape[i] for i in large] != list(draft.outer):
        return {}
    return {axis: position for position, axis in enumerate(large)}


def _map_read(n: Node, index: Index, draft: _Draft, mapping: dict[int, int]) -> bool:
    """Extend `mapping` (dim of the stage -> outer axis) by one read of a member; False if they disagree."""
    for part, outer in zip(index, draft.placed[n], strict=True):
        if outer is None:
            continue
        if len(part.terms) != 1 or part.offset != 0 or part.terms[0][1] != 1:
            return False
        atom = part.terms[0][0]
        if not isinstance(atom, AxisAtom) or atom.id >= REDUCED or atom.extent != draft.outer[outer]:
            return False
        if mapping.setdefault(atom.id, outer) != outer:
            return False
    return True


def _worthwhile(stage: Stage, draft: _Draft, placement: Placement) -> bool:
    if len(draft.stages) >= _LARGEST_REGION:
        return False
    shape = domain(stage.root)
    inner = math.prod([d for d, outer in zip(shape, placement, strict=True) if outer is None])
    if stage_kind(stage.root) == "reduce" and inner > 1:
        return False
    epilogue = inner == 1 and stage_kind(stage.root) == "pointwise"
    if draft.contraction or stage.contraction:
        return draft.contraction and not stage.contraction and epilogue
    reduces = stage_kind(stage.root) == "reduce" or any(s.root.op in ops.REDUCE for s in draft.stages)
    if not reduces and inner > 1:
        return False  # a value repeated over a larger one: rows would only get in the way of its loops
    rows = math.prod(draft.outer)
    if reduces and rows < _ENOUGH_ROWS and max(stage.work, *[s.work for s in draft.stages]) > _SMALL:
        return epilogue
    return True


def _depend(draft: _Draft, producers: list[_Draft], drafts: list[_Draft]) -> None:
    gained = 0
    for producer in producers:
        if producer is not draft:
            producer.awaited = True
            gained |= producer.after | 1 << producer.number
    if not gained & ~draft.after:
        return
    draft.after |= gained
    if draft.awaited:  # whoever waits for it now waits for its producers too
        for other in drafts:
            if other.after >> draft.number & 1:
                other.after |= draft.after


def _in_order(drafts: list[_Draft]) -> list[_Draft]:
    return sorted(drafts, key=lambda d: (d.after.bit_count(), d.number))


def _region(draft: _Draft, wanted: set[Node]) -> Region:
    members = tuple([Member(s.root, draft.placed[s.root], s.root in wanted) for s in draft.stages])
    inside = {s.root for s in draft.stages}
    reads: dict[Node, None] = {}
    for stage in draft.stages:
        for n in stage.reads:
            if n not in inside:
                reads[n] = None
    return Region(draft.outer, members, tuple(reads))
