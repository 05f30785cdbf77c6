"""Expressions are merged into regions.

Epilogues join reductions; reductions over one outer range join each other and what is computed from them row
by row; expressions that pass over the same inputs become one kernel with several outputs.
"""
from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from pluggrad.graph import ops
from pluggrad.ir.node import Node
from pluggrad.schedule.materialize import REDUCED, Expression
from pluggrad.schedule.region import Member, Region, domain
from pluggrad.shape.dims import Shape
from pluggrad.shape.index import Affine, AxisAtom, Index, axes_of, source_index

_LARGEST_REGION = 12  # members
_ENOUGH_ROWS = 32  # tasks for most machines; a fixed number, so that sums do not depend on cores
_ALONE = ops.WRITES | ops.RUNNING  # roots that share no kernel
_SMALL = 1 << 16  # elements below which a region may give up parallelism for fewer kernels
OuterAxes = tuple[int | None, ...]  # of each dim of a domain: the region's outer axis, or None


@dataclass(slots=True)
class _Draft:
    """A region in the making. `after`: bit set of drafts that must run before it (transitively).

    `awaited`: some other draft must run after it. Without expressions it has become part of another.
    """

    number: int
    outer: Shape
    expressions: list[Expression] = field(default_factory=list)
    placed: dict[Node, OuterAxes] = field(default_factory=dict)
    after: int = 0
    awaited: bool = False
    contraction: bool = False


# a contraction that is evaluated in place, and the index of its elements but for what is reduced
_Nested = tuple[Node, tuple[Affine | None, ...]]
# (input, the indices that it is read at, domain, work) of an expression that passes over all of the input
_Pass = tuple[Node, frozenset[Index], Shape, int]


def fuse(expressions: list[Expression], roots: set[Node], most_buffers: int = 0) -> tuple[Region, ...]:
    """Regions in an order in which they can run, joined as far as they take at most so many buffers."""
    drafts, home = _join(expressions, most_buffers)
    read_elsewhere = {n for expression in expressions for n in expression.reads
                      if n in home and home[n] is not home[expression.root]}
    wanted = roots | read_elsewhere
    return tuple([_region(draft, wanted) for draft in _in_order(drafts)])


def together(expressions: list[Expression], most_buffers: int = 0) -> list[list[Expression]]:
    """The expressions of each region to be."""
    return [draft.expressions for draft in _join(expressions, most_buffers)[0] if draft.expressions]


def _join(expressions: list[Expression], most_buffers: int) -> tuple[list[_Draft], dict[Node, _Draft]]:
    """Drafts, and the one that each root belongs to."""
    drafts: list[_Draft] = []
    home: dict[Node, _Draft] = {}
    passing: dict[_Pass, list[_Draft]] = defaultdict(list)
    nesting: dict[_Nested, list[_Draft]] = defaultdict(list)
    for expression in expressions:
        draft = (_find_draft(expression, passing, home, most_buffers)
                 or _find_nesting(expression, nesting, home, most_buffers) or _new_draft(expression, drafts))
        home[expression.root] = draft
        for item in expression.nested.items():
            nesting[item].append(draft)
        for other in {home[n].number: home[n] for n in expression.reads if n in home}.values():
            if _mergeable(other, draft, expression, home) and (
                    _fits(other.expressions + draft.expressions, most_buffers)):
                _absorb(other, draft, drafts, home)
        if not draft.contraction and expression.root.op not in _ALONE:
            for each in _passes(expression):
                passing[each].append(draft)
        _depend(draft, [home[n] for n in expression.reads if n in home], drafts)
    return drafts, home


def _new_draft(expression: Expression, drafts: list[_Draft]) -> _Draft:
    root, shape = expression.root, domain(expression.root)
    ordered = _ordered_axis(root)
    outer = [axis for axis, d in enumerate(shape) if d > 1 and axis != ordered]
    draft = _Draft(len(drafts), tuple([shape[axis] for axis in outer]), contraction=expression.contraction)
    draft.placed[root] = tuple([outer.index(axis) if axis in outer else None for axis in range(len(shape))])
    draft.expressions.append(expression)
    drafts.append(draft)
    return draft


def _ordered_axis(root: Node) -> int | None:
    """The axis of a domain that goes element after element; the others go in any order."""
    if root.op is ops.SCAN:
        return root.arg.axis  # type: ignore[no-any-return]
    if root.op is ops.TALLY:
        return len(root.shape) - 1
    # what a SCATTER writes along its axis may meet in one element
    return root.arg.axis if root.op is ops.SCATTER and not root.arg.unique else None


def _find_draft(expression: Expression, passing: Mapping[_Pass, list[_Draft]],
                home: dict[Node, _Draft], most_buffers: int) -> _Draft | None:
    """The latest region that the expression can join; regions must not come to wait for each other."""
    if expression.root.op in _ALONE:
        return None
    producers = {home[n].number: home[n] for n in expression.reads if n in home}
    candidates = _siblings(expression, passing) | producers
    for draft in sorted(candidates.values(), key=lambda d: (
            d.number not in producers, not d.contraction, -d.number)):
        others = [home[n] for n in expression.reads if n in home and home[n] is not draft]
        # a write ranges over the view that it writes, not over its result
        alone = any(e.root.op in _ALONE for e in draft.expressions)
        if alone or any(other.after >> draft.number & 1 for other in others):
            continue
        placement = _placement(expression, draft, home)
        if placement is None or not _worthwhile(expression, draft, placement):
            continue
        if not _fits([*draft.expressions, expression], most_buffers):
            continue
        draft.expressions.append(expression)
        draft.placed[expression.root] = placement
        return draft
    return None


def _find_nesting(expression: Expression, nesting: Mapping[_Nested, list[_Draft]], home: dict[Node, _Draft],
                  most_buffers: int) -> _Draft | None:
    """A region that evaluates the same contractions in place for the same rows, so that it does so once."""
    rows = sorted(set().union(*[axes_of(part) for index in expression.nested.values()
                                for part in index if part is not None]))
    producers = [home[n] for n in expression.reads if n in home]
    candidates = {draft.number: draft for item in expression.nested.items()
                  for draft in nesting.get(item, ())}
    for draft in candidates.values():
        members = [*draft.expressions, expression]
        shapes = {tuple([domain(e.root)[i] for i in rows]) for e in members}
        agree = all(e.nested.get(n, index) == index for e in draft.expressions
                    for n, index in expression.nested.items())
        waits = any(other is draft or other.after >> draft.number & 1 for other in producers)
        if waits or not agree or len(shapes) > 1 or not all(e.nested for e in draft.expressions) \
                or len(members) > _LARGEST_REGION or not _fits(members, most_buffers):
            continue
        draft.expressions.append(expression)
        outer = [i for i in rows if domain(expression.root)[i] > 1]
        draft.outer = tuple([domain(expression.root)[i] for i in outer])
        draft.placed = {e.root: tuple([outer.index(i) if i in outer else None
                                       for i in range(len(domain(e.root)))]) for e in members}
        return draft
    return None


def _mergeable(other: _Draft, draft: _Draft, expression: Expression, home: dict[Node, _Draft]) -> bool:
    """Whether `expression`, of `draft`, reads `other` in the same rows, and neither waits for the other."""
    if other is draft or other.outer != draft.outer or not draft.outer or other.contraction \
            or draft.contraction or len(other.expressions) + len(draft.expressions) > _LARGEST_REGION:
        return False
    third = [home[n] for n in expression.reads if n in home and home[n] is not other]
    if other.after >> draft.number & 1 or any(d.after >> other.number & 1 for d in (draft, *third)):
        return False
    members = [*other.expressions, *draft.expressions]
    if any(e.root.op in _ALONE for e in members) or not any(e.root.op in ops.REDUCE for e in members):
        return False
    large = max(e.work for e in members) > _SMALL
    if large and math.prod(draft.outer) < _ENOUGH_ROWS:
        return False
    return _placement(expression, other, home) == draft.placed[expression.root]


def _fits(expressions: list[Expression], most_buffers: int) -> bool:
    """Whether the results, the inputs and a status buffer are no more than one kernel takes."""
    if not most_buffers:
        return True
    touched = {e.root for e in expressions}.union(*[e.reads for e in expressions])
    return len(touched) < most_buffers


def _absorb(other: _Draft, draft: _Draft, drafts: list[_Draft], home: dict[Node, _Draft]) -> None:
    """Move everything of `other` into `draft`; what waits for one of them waits for both."""
    draft.expressions = other.expressions + draft.expressions
    draft.placed |= other.placed
    draft.after |= other.after
    draft.awaited |= other.awaited
    home.update({e.root: draft for e in other.expressions})
    other.expressions = []
    both = 1 << other.number | 1 << draft.number
    for waiting in drafts:
        if waiting.after & both:
            waiting.after |= draft.after | both


def _passes(expression: Expression) -> list[_Pass]:
    """The inputs that have as many elements as the expression evaluates."""
    shape, work = domain(expression.root), expression.work
    return [(n, frozenset(at), shape, work) for n, at in expression.reads.items() if n.type.size == work]


def _siblings(expression: Expression, passing: Mapping[_Pass, list[_Draft]]) -> dict[int, _Draft]:
    """Regions that read the same inputs in the same order: one pass over them can serve both."""
    if expression.contraction:
        return {}
    return {draft.number: draft for each in _passes(expression) for draft in passing.get(each, ())
            if 0 < len(draft.expressions) < _LARGEST_REGION}


def _placement(expression: Expression, draft: _Draft, home: dict[Node, _Draft]) -> OuterAxes | None:
    """How the expression's domain lies in the region's outer axes, or None if its reads do not allow it."""
    shape = domain(expression.root)
    mapping: dict[int, int] = {}
    for n, indices in expression.reads.items():
        if home.get(n) is not draft:
            continue
        for index in indices:
            if not _map_read(n, index, draft, mapping):
                return None
    if not mapping and draft.outer and not any(home.get(n) is draft for n in expression.reads):
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
    """Extend `mapping` (dim of the domain -> outer axis) by one read of a member; False if they disagree."""
    if domain(n) != n.shape:
        index, _ = source_index("reshape", None, index, n.shape, domain(n))
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


def _worthwhile(expression: Expression, draft: _Draft, placement: OuterAxes) -> bool:
    if len(draft.expressions) >= _LARGEST_REGION:
        return False
    shape = domain(expression.root)
    inner = math.prod([d for d, outer in zip(shape, placement, strict=True) if outer is None])
    reduction = expression.root.op in ops.REDUCE
    if reduction and inner > 1:
        return False
    epilogue = inner == 1 and not reduction
    if draft.contraction or expression.contraction:
        return draft.contraction and not expression.contraction and epilogue
    reduces = reduction or any(e.root.op in ops.REDUCE for e in draft.expressions)
    if not reduces and inner > 1:
        return False  # a value repeated over a larger one: rows would only get in the way of its loops
    large = max(e.work for e in (expression, *draft.expressions)) > _SMALL
    if reduces and large and math.prod(draft.outer) < _ENOUGH_ROWS:
        return epilogue or (reduction and _same_pass(expression, draft))
    return True


def _same_pass(expression: Expression, draft: _Draft) -> bool:
    """Whether all reductions run over the same axes and none waits for another: one loop, cut into phases."""
    def axes(n: Node) -> tuple[Shape, tuple[int, ...]]:
        return n.src[0].shape, n.arg
    others = [e.root for e in draft.expressions if e.root.op in ops.REDUCE]
    waits = any(n in draft.placed for n in expression.reads)
    return not waits and all(axes(other) == axes(expression.root) for other in others)


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
    left = [draft for draft in drafts if draft.expressions]
    return sorted(left, key=lambda d: (d.after.bit_count(), d.number))


def _region(draft: _Draft, wanted: set[Node]) -> Region:
    members = tuple([Member(e.root, draft.placed[e.root], e.root in wanted) for e in draft.expressions])
    inside = {e.root for e in draft.expressions}
    reads: dict[Node, None] = {}
    for expression in draft.expressions:
        for n in expression.reads:
            if n not in inside:
                reads[n] = None
    return Region(draft.outer, members, tuple(reads))
