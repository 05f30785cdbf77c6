"""Which nodes are computed into memory, and which are evaluated where they are used.

A node is materialized for its own sake (an output, a reduction, a write) or because it would cost too much to
evaluate it again in every place that uses it. Each is the root of an expression; everything else is evaluated
inside the expressions that need it.
"""
from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from pluggrad.graph import ops
from pluggrad.ir.node import Node, Op
from pluggrad.ir.walk import toposort
from pluggrad.schedule.narrow import narrow_factors
from pluggrad.schedule.nested import Nested, nested_reductions
from pluggrad.schedule.places import operands, sources_at
from pluggrad.schedule.region import at_domain, domain, evaluated
from pluggrad.shape.index import Affine, AxisAtom, Index, axes_of, axis_index, looks_up
from pluggrad.target import WIDE, Narrow

REDUCED = 1000  # ids of reduced axes start here; smaller ids are dims of the domain

# cost of evaluating one element, in units of an addition
_COST: dict[Op, int] = {
    ops.EXP: 12, ops.EXP2: 10, ops.LOG: 12, ops.LOG2: 12, ops.SIN: 16, ops.COS: 16, ops.TANH: 16, ops.ERF: 20,
    ops.POW: 40, ops.DIV: 4, ops.RECIP: 4, ops.SQRT: 6, ops.IDIV: 20, ops.MOD: 20, ops.RANDOM_BITS: 120,
    ops.GATHER: 4}
_EXPENSIVE = 20  # worth a round trip through memory rather than evaluating twice
_SLOW_STEP = 4  # of a running reduction, for which the next one waits: vectors are computed beforehand
_VERY_EXPENSIVE = 80  # worth it even where the operands are in cache
_MANY_LOADS = 3  # of large operands, which cost more than the one of their result
_REPEATED = 8  # a value that is used so often stays in cache
_LARGEST_EXPRESSION = 256  # nodes in one kernel; longer chains are cut, and their pieces share a kernel
_OWN_BUFFERS = 2  # of a kernel beside its inputs: its result, and words for indices out of range
_FEWEST_BUFFERS = 5  # that a device takes: WHERE has three inputs
_SMALL = 1 << 14  # work below which another kernel costs more than evaluating again
_IDENTITY = frozenset({ops.CONTIGUOUS, ops.LEAF, ops.DETACH, ops.BARRIER})
_FREE = ops.MOVEMENT | _IDENTITY
_FORCED = frozenset({ops.CONTIGUOUS}) | ops.WRITES | ops.REDUCE | ops.RUNNING
_OVER_OTHERS = ops.WRITES | {ops.TALLY}  # range over the shape of a source
_LEAVES = frozenset({ops.INPUT, ops.BUFFER, ops.CONST, ops.EMPTY, ops.IOTA})


@dataclass(slots=True)
class Expression:
    """A root that is computed into memory, and what evaluating it touches.

    reads: each stored node with the indices that it is read at. visited: nodes evaluated on the way.
    contraction: operands are shared between outputs, and none has an element for every step, as in a matmul.
    nested: contractions that are evaluated in place, each with the index of its elements, None where that
    runs along what is reduced.
    """

    root: Node
    reads: dict[Node, set[Index]] = field(default_factory=lambda: defaultdict(set))
    visited: set[Node] = field(default_factory=set)
    contraction: bool = False
    nested: dict[Node, tuple[Affine | None, ...]] = field(default_factory=dict)

    @property
    def work(self) -> int:
        """Elements evaluated."""
        return self.root.src[0].type.size if self.root.op in ops.REDUCE else math.prod(domain(self.root))


def materialize(roots: Sequence[Node], together: Callable[[list[Expression]], list[list[Expression]]],
                most_buffers: int = 0, online: bool = False,
                narrow: Narrow = WIDE) -> list[Expression]:
    """The expressions of a normalized graph, producers first. `together`: those that will share a kernel.

    most_buffers: inputs, its result and a status buffer that one may have at most; 0: any number. online:
    reductions that depend on each other may be computed block by block (nested.py). narrow: dtypes
    in which factors stay (narrow.py).
    """
    order = toposort(roots)
    wanted = {n for n in roots if n.op is not ops.INPUT}
    nested = nested_reductions(order, wanted) if online else Nested()
    if narrow.dtypes:
        nested = replace(nested, values=nested.values | narrow_factors(order, nested, narrow))
    stored = wanted | {n for n in order if n.op in _FORCED and n not in nested.reductions}
    cost = _expression_costs(order, stored)
    fan_out = _fan_out(order)
    _separate_updates(order, stored, fan_out)
    stored |= _epilogues(order, stored, wanted) - nested.values
    slow = [n.src[0] for n in order if n.op in ops.RUNNING and cost[n.src[0]] >= _SLOW_STEP]
    stored |= {_unmoved(n, stored) for n in slow}
    if most_buffers:
        _limit_inputs(order, stored, max(most_buffers, _FEWEST_BUFFERS) - _OWN_BUFFERS)
    expressions = _visit_all(order, stored, cost, nested)
    again = _recomputed(order, stored, together(expressions), cost, fan_out) - nested.values
    if again:
        stored |= again  # fewer inputs for whoever used them
        expressions = _visit_all(order, stored, cost, nested)
    return expressions


def _fan_out(order: list[Node]) -> dict[Node, int]:
    uses: dict[Node, int] = defaultdict(int)
    for n in order:
        for source in operands(n):
            uses[source] += 1
    return uses


def _expression_costs(order: list[Node], stored: set[Node]) -> dict[Node, float]:
    """The cost of one element of each node where it is used; expressions that grow too large are cut."""
    cost: dict[Node, float] = {}
    size: dict[Node, int] = {}  # of all but movement
    for n in order:
        if n.op in _LEAVES:
            cost[n] = size[n] = 0
            continue
        inlined = [s for s in operands(n) if s not in stored]
        cost[n] = (0 if n.op in _FREE else _COST.get(n.op, 1)) + sum([cost[s] for s in inlined])
        if n.op is ops.EXPAND and n.type.size:
            cost[n] *= n.src[0].type.size / n.type.size  # computed once, outside the loops that repeat it
        if n not in stored and n.op not in ops.MOVEMENT:
            size[n] = _cut(n, stored, size)
    return cost


def _cut(n: Node, stored: set[Node], size: Mapping[Node, int]) -> int:
    """The size of the expression of `n`; while it is too large, a part of it is stored, or `n` itself.

    A value that is repeated, as for a matmul, is stored as it is before that: the products are many more.
    """
    parts = [_unmoved(s, stored) for s in n.src]
    while True:
        inlined = {s: size[s] for s in parts if s not in stored}
        found = (0 if n.op in _FREE else 1) + sum([inlined.get(s, 0) for s in parts])
        if found <= _LARGEST_EXPRESSION or n in stored:
            return found
        longest = max(inlined, key=inlined.__getitem__)
        stored.add(longest if longest.type.size < n.type.size else n)


def _limit_inputs(order: list[Node], stored: set[Node], most: int) -> None:
    """Store intermediate values until no expression reads more than `most` stored ones."""
    if sum(n.op is ops.INPUT or n in stored for n in order) <= most:
        return
    reads: dict[Node, frozenset[Node]] = {}
    for n in order:
        if n.op in ops.MOVEMENT and n not in stored:
            continue  # what is moved is stored instead, which may be smaller
        sources = [_unmoved(s, stored) for s in operands(n)]
        while len(found := frozenset[Node]().union(*[reads[s] for s in sources])) > most:
            largest = max(sources, key=lambda s: len(reads[s]))
            stored.add(largest)
            reads[largest] = frozenset([largest])
        reads[n] = frozenset([n]) if n in stored or n.op is ops.INPUT else found


def _unmoved(n: Node, stored: set[Node]) -> Node:
    """The node whose elements `n` has."""
    while n.op in ops.MOVEMENT and n not in stored:
        n = n.src[0]
    return n


def _epilogues(order: list[Node], stored: set[Node], wanted: set[Node]) -> set[Node]:
    """Ends of the elementwise chains that alone use a contraction, which nobody wanted for itself.

    Storing the end instead costs nothing: the chain is computed while the result is in registers.
    """
    users: dict[Node, list[Node]] = defaultdict(list)
    for n in order:
        for source in dict.fromkeys(operands(n)):
            users[source].append(n)
    ends = set()
    for n in order:
        if n in wanted or n.op is not ops.SUM or n.src[0].op is not ops.MUL \
                or not all(map(_is_spread, n.src[0].src)):
            continue
        end = n
        while end not in stored or end is n:
            following = _only_outlet(end, users)
            if following is None:
                break
            end = following
        if end is not n:
            ends.add(end)
    return ends


def _only_outlet(n: Node, users: dict[Node, list[Node]]) -> Node | None:
    """The elementwise node through which alone `n` is used: its one user, or the one that its users feed."""
    for last in users[n]:
        others = [u for u in users[n] if u is not last]
        feeds = all(u.op in ops.ELEMENTWISE and users[u] == [last] for u in others)
        if last.op in ops.ELEMENTWISE and feeds:
            return last
    return None


def _is_spread(n: Node) -> bool:
    """Whether a value is a smaller one, repeated."""
    while n.op in ops.MOVEMENT:
        if n.op is ops.EXPAND:
            return True
        n = n.src[0]
    return False


def _separate_updates(order: list[Node], stored: set[Node], fan_out: dict[Node, int]) -> None:
    """What a write reads is computed beforehand where it could read what the write changes."""
    for n in order:
        if n.op not in ops.WRITES:
            continue
        base, *read = n.src
        if base.op not in (ops.INPUT, ops.EMPTY):
            stored.add(base)
        if fan_out[base] == 1:
            continue
        for source in read:
            if source.op not in _LEAVES and base in set(
                    toposort([source], lambda m: () if m in stored else operands(m))):
                stored.add(source)


def body(root: Node) -> tuple[tuple[Node, ...], Index]:
    """What the expression of `root` evaluates, and the index at which it does, in terms of its axes."""
    if root.op in ops.REDUCE:
        outputs = tuple([axis_index(i, dim) for i, dim in enumerate(root.shape)])
        return root.src, _reduced_at(root, outputs, REDUCED)
    index = tuple([axis_index(i, dim) for i, dim in enumerate(domain(root))])
    if root.op is ops.TALLY:
        return root.src, index
    return (root.src[1:], index) if root.op in ops.WRITES else ((evaluated(root),), at_domain(root, index))


def _reduced_at(n: Node, at: Index, first: int) -> Index:
    """The index of a reduction's source, from its own; the axes that it reduces are numbered from `first`."""
    kept = iter(at)
    return tuple([axis_index(first + i, dim) if i in n.arg else next(kept)
                  for i, dim in enumerate(n.src[0].shape)])


def _visit_all(order: list[Node], stored: set[Node], cost: dict[Node, float],
               nested: Nested) -> list[Expression]:
    """The expression of every stored node. Users first, and again until no visit decides to store more."""
    while True:
        before = len(stored)
        expressions = [_visit(n, stored, cost, nested) for n in reversed(order) if n in stored]
        if len(stored) == before:
            return expressions[::-1]


def _visit(root: Node, stored: set[Node], cost: dict[Node, float], nested: Nested) -> Expression:
    expression = Expression(root)
    starts, index = body(root)
    extents = {a.id: a.extent for part in index for a, _ in part.terms if isinstance(a, AxisAtom)}
    operand_axes: list[set[int]] = []
    if root.op in ops.WRITES:
        expression.reads[root.src[0]] = set()  # not read, but it must be there to be written over
    seen: set[tuple[Node, Index]] = set()
    first: dict[Node, Index] = {}
    stack = [(start, index, True) for start in starts]
    while stack:
        n, at, is_operand = stack.pop()
        if (n, at) in seen:
            continue
        seen.add((n, at))
        is_body = n is root or (n in starts and root.op not in _OVER_OTHERS)
        in_place = n is root or is_body or n in nested.values or n in nested.reductions
        if n not in stored and n.op not in _LEAVES and n.op not in _FREE and not in_place:
            again = first.setdefault(n, at) != at and any(map(looks_up, at))  # p[p]: twice for each such step
            if again or _too_redundant(n, at, expression, extents, cost[n]):
                stored.add(n)
        if n.op is ops.INPUT or (n in stored and n is not root):
            expression.reads[n].add(at)
            if is_operand:
                operand_axes.append(_axes(at))
            continue
        expression.visited.add(n)
        if n.op is ops.BARRIER:
            for waited in _stored_behind(n.src[1], stored):
                expression.reads[waited] = expression.reads[waited]  # at no index: it only has to be there
        if n in nested.reductions and n is not root:
            expression.nested[n] = tuple([part if max(axes_of(part), default=0) < REDUCED else None
                                          for part in at])
            within = _reduced_at(n, at, REDUCED * (2 + len(expression.visited)))
            extents |= {a.id: a.extent for part in within for a, _ in part.terms if isinstance(a, AxisAtom)}
            stack.append((n.src[0], within, is_operand))
            continue
        for source, source_at, _ in sources_at((n, at, ())):
            stack.append((source, source_at, is_operand and not (n.op is ops.GATHER and source is n.src[1])))
    if root.op in ops.REDUCE:
        kept = {id for id in extents if id < REDUCED}
        shared = any(axes - kept and kept - axes for axes in operand_axes)
        expression.contraction = shared and not any(axes >= extents.keys() for axes in operand_axes)
    expression.contraction |= not nested.reductions.isdisjoint(expression.visited)
    return expression


def _stored_behind(n: Node, stored: set[Node]) -> list[Node]:
    """The nearest values in memory that `n` is computed from, or itself."""
    return [m for m in toposort([n], lambda m: () if m in stored else m.src) if m in stored]


def _axes(index: Index) -> set[int]:
    return set().union(*[axes_of(part) for part in index]) if index else set()


def _too_redundant(n: Node, at: Index, expression: Expression, extents: dict[int, int], cost: float) -> bool:
    """Whether evaluating `n` in place would repeat so much work that memory is the better place for it."""
    if cost == 0 or expression.work * cost <= _SMALL:
        return False
    if any(map(looks_up, at)):
        return bool(expression.work > 2 * n.type.size)  # read in any order: each element this many times
    axes = _axes(at)
    missing = [id for id in extents if id not in axes]
    repeated = math.prod([extents[id] for id in missing])
    if repeated < 8 or not axes:
        return False
    if any(id >= REDUCED for id in axes) and any(id < REDUCED for id in missing):
        return True  # inside the reduction loop of outputs that share it, as a matmul's operand
    hoisted = all(id >= REDUCED for id in missing) or max(axes) < min(missing)
    return cost >= _EXPENSIVE and not hoisted


def _recomputed(order: list[Node], stored: set[Node], kernels: list[list[Expression]],
                cost: dict[Node, float], fan_out: dict[Node, int]) -> set[Node]:
    """Nodes used in several places that several kernels would each evaluate, at a price.

    Within a kernel what is evaluated again has its operands in cache, so that it must cost much more.
    """
    users: dict[Node, int] = defaultdict(int)
    visits: dict[Node, int] = defaultdict(int)
    for expressions in kernels:
        for n in set().union(*[e.visited for e in expressions]):
            users[n] += 1
        for expression in expressions:
            for n in expression.visited:
                visits[n] += 1
    loads: dict[Node, frozenset[Node]] = {}
    for n in order:
        if n.op is ops.INPUT or n in stored:
            loads[n] = frozenset([n])
        elif n.op is ops.EXPAND and n.type.size >= _REPEATED * n.src[0].type.size:
            loads[n] = frozenset()
        else:
            loads[n] = frozenset(islice(frozenset().union(*[loads[s] for s in n.src]), _MANY_LOADS))
    shared = [n for n in order if visits[n] > 1 and fan_out[n] > 1 and n not in stored]
    return {n for n in shared if n.op not in _LEAVES | _FREE and n.type.size * cost[n] > _SMALL
            and (cost[n] >= _VERY_EXPENSIVE
                 or (users[n] > 1 and (cost[n] >= _EXPENSIVE or len(loads[n]) == _MANY_LOADS)))}
