"""Contractions whose elements are computed where they are used, and never stored: the scores of attention.

Exponentials of scores, less their row's maximum and divided by their row's sum, weigh the sum of a further
operand. All reductions run over one axis, each depends on those before it, and nobody else needs the scores:
then one kernel takes the axis block by block (tune/online.py), and the rows' statistics follow. Gradients
weigh with what one or two contractions give, element by element, from statistics in memory: each of these
sums computes scores again (tune/weighted.py), where there are many.
"""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pluggrad.graph import ops, products
from pluggrad.ir.node import Node
from pluggrad.ir.walk import toposort

_PLAIN: Final = frozenset({ops.RESHAPE, ops.EXPAND, ops.PERMUTE})
_THROUGH: Final = _PLAIN | ops.ELEMENTWISE
_IN_MEMORY: Final = frozenset({ops.CONST, ops.INPUT, ops.IOTA, ops.CONTIGUOUS}) | ops.WRITES | ops.REDUCE
_FEWEST_SCORES: Final = 1 << 16  # below, memory is near
_MOST_CONTRACTIONS: Final = 2  # that weights are made of; each takes a task's memory for a block
_FEWEST_ROWS: Final = 16  # that read the same keys; fewer leave lanes idle
_FEWEST_KEYS: Final = 16
_LONGEST: Final = 256  # elements of a key or value, which a task holds for all of its rows


@dataclass(frozen=True, slots=True)
class Nested:
    """`reductions` are evaluated in place, and so are `values`, however often that repeats arithmetic."""

    reductions: frozenset[Node] = frozenset()
    values: frozenset[Node] = frozenset()


@dataclass(slots=True)
class _Chain:
    """What leads from contractions to `end`. memory: what it reads, which must not be in another chain.
    many: there are so many scores that several chains may compute the same ones."""

    end: Node
    reductions: set[Node] = field(default_factory=set)
    values: set[Node] = field(default_factory=set)
    memory: set[Node] = field(default_factory=set)
    many: bool = False

    @property
    def inside(self) -> set[Node]:
        return self.reductions | self.values


def nested_reductions(order: Sequence[Node], stored: Collection[Node]) -> Nested:
    """All that a graph has; `stored`: what has to be in memory for another reason than being reduced."""
    if not any(n.op is ops.EXP for n in order):
        return Nested()
    users: dict[Node, set[Node]] = defaultdict(set)
    for n in order:
        for source in n.src:
            users[source].add(n)
    chains = _closed(order, _apart([c for c in _chains(order) if c.inside.isdisjoint(stored)]), users)
    return Nested(frozenset[Node]().union(*[c.reductions for c in chains]),
                  frozenset[Node]().union(*[c.values for c in chains]))


def _chains(order: Sequence[Node]) -> Iterator[_Chain]:
    for n in order:
        if n.op is ops.CONTIGUOUS:
            yield from filter(None, [_statistics(n)])
        if n.op is not ops.SUM or len(n.arg) != 1 or n.src[0].op is not ops.MUL:
            continue
        for weights, other in (n.src[0].src, n.src[0].src[::-1]):
            yield from filter(None, [_chain(n, weights, other) or _weighted(n, weights, other)])


def _apart(chains: list[_Chain]) -> list[_Chain]:
    """Without those whose scores another chain ends in: one after the other would be computed in one kernel,
    the first again for each element of the second."""
    ends = set[Node]()
    kept = []
    for chain in chains:
        if chain.values.isdisjoint(ends):
            kept.append(chain)
            ends.add(chain.end)
    return kept


def _closed(order: Sequence[Node], chains: list[_Chain],
            users: Mapping[Node, set[Node]]) -> list[_Chain]:
    """The chains whose contractions nobody else needs but others of these, where scores are many."""
    dependent = [_dependent(order, chain) for chain in chains]
    kept = list(range(len(chains)))
    while True:
        nested = set[Node]().union(*[chains[i].reductions for i in kept])
        shared = set[Node]().union(*[chains[i].inside | {chains[i].end} for i in kept if chains[i].many])
        left = [i for i in kept if chains[i].memory.isdisjoint(nested) and all(
            users[m] <= (shared if chains[i].many else chains[i].inside | {chains[i].end})
            for m in dependent[i])]
        if len(left) == len(kept):
            return [chains[i] for i in kept]
        kept = left


def _dependent(order: Sequence[Node], chain: _Chain) -> set[Node]:
    """What of a chain is computed from its reductions, and these."""
    found: set[Node] = set()
    for n in order:
        if n in chain.reductions or (n in chain.values and not found.isdisjoint(n.src)):
            found.add(n)
    return found


def _chain(total: Node, weights: Node, other: Node) -> _Chain | None:
    """The chain behind the operand `weights` of the contraction `total`, if it is one."""
    length = total.src[0].shape[total.arg[0]]
    if not 2 <= _repeats(weights) <= _LONGEST or _repeats(other) < _FEWEST_ROWS or length < _FEWEST_KEYS:
        return None
    chain = _Chain(total.src[0])
    rows: list[Node] = []
    n = weights
    while n.op is not ops.EXP:
        chain.values.add(n)
        if n.op in _PLAIN:
            n = n.src[0]
        elif _is_rounded(n):
            chain.values.add(n.src[0])
            n = n.src[0].src[0]
        elif n.op is ops.DIV and _is_row(n.src[1]):
            rows.append(n.src[1])
            n = n.src[0]
        elif n.op is ops.MUL and _is_row(n.src[0]) != _is_row(n.src[1]):
            row, n = n.src if _is_row(n.src[0]) else n.src[::-1]
            rows.append(row)
        else:
            return None
    if n.src[0].op is not ops.SUB or n.type.size * _repeats(weights) != weights.type.size \
            or _repeated_axes(weights) != 1:
        return None
    scores, reference = n.src[0].src
    chain.values |= {n, n.src[0]}
    fits = _scores(scores, chain) and _rows([*rows, reference], scores, n, length, chain)
    return chain if fits else None


def _statistics(end: Node) -> _Chain | None:
    """The chain behind a value for each row, from the scores' maximum and their exponentials' sum."""
    inside = toposort([end.src[0]], lambda n: n.src if n.op in _THROUGH else ())
    sums = [n for n in inside if n.op is ops.SUM and len(n.arg) == 1]
    if len(sums) != 1 or sums[0].src[0].op is not ops.EXP or sums[0].src[0].src[0].op is not ops.SUB:
        return None
    grown = sums[0].src[0]
    chain = _Chain(end, {sums[0]}, {grown, grown.src[0]})
    scores, reference = grown.src[0].src
    length = grown.shape[sums[0].arg[0]]
    fits = length >= _FEWEST_KEYS and _scores(scores, chain) \
        and _rows([end.src[0], reference], scores, grown, length, chain)
    return chain if fits and chain.many else None


def _weighted(total: Node, weights: Node, other: Node) -> _Chain | None:
    """The chain behind the operand `weights` of the contraction `total`, if it is exponentials of scores,
    with other contractions or not, and all else that they need is in memory."""
    length = total.src[0].shape[total.arg[0]]
    if not 2 <= _repeats(weights) <= _LONGEST or _repeats(other) < _FEWEST_ROWS or length < _FEWEST_KEYS:
        return None
    chain = _Chain(total.src[0])
    n = weights
    while n.op in _PLAIN or _is_rounded(n):
        passed = [n, n.src[0]] if _is_rounded(n) else [n]
        chain.values.update(passed)
        n = passed[-1].src[0]
    fits = n.type.size * _repeats(weights) == weights.type.size and _repeated_axes(weights) == 1 \
        and _scores(n, chain, _MOST_CONTRACTIONS) and any(m.op is ops.EXP for m in chain.values)
    return chain if fits and chain.many else None


def _repeats(operand: Node) -> int:
    """How often each element of an operand is used."""
    return operand.type.size // max(operand.src[0].type.size, 1) if operand.op is ops.EXPAND else 1


def _repeated_axes(operand: Node) -> int:
    return sum(now != before for now, before in zip(operand.shape, operand.src[0].shape, strict=True))


def _is_row(n: Node) -> bool:
    """Whether a value is the same along some axis."""
    while n.op in _PLAIN:
        if n.op is ops.EXPAND:
            return True
        n = n.src[0]
    return n.op is ops.CONST


def _is_rounded(n: Node) -> bool:
    """Whether a value is that of another, as another float dtype has it."""
    return n.op is ops.CAST and n.src[0].op is ops.CAST and n.src[0].dtype.is_float \
        and n.src[0].src[0].dtype is n.dtype


def _is_contraction(n: Node) -> bool:
    return n.op is ops.SUM and n.src[0].op is ops.MUL and all(_repeats(s) > 1 for s in n.src[0].src) \
        and n.type.size < n.src[0].type.size <= _LONGEST * n.type.size


def _scores(scores: Node, chain: _Chain, most: int = 1) -> bool:
    """Whether the scores come from at most so many contractions of as many elements, by what each element
    needs alone."""
    found = set()
    stack = [scores]
    while stack:
        n = stack.pop()
        if _is_contraction(n) and n.type.size == scores.type.size:
            found.add(n)
            chain.values.add(n.src[0])
        elif n.op in _THROUGH and n not in chain.values:
            chain.values.add(n)
            stack += n.src
        elif n.op in _IN_MEMORY:
            chain.memory.add(n)
        elif n not in chain.values:
            return False
    chain.reductions |= found
    chain.many = scores.type.size >= products.MANY
    return 1 <= len(found) <= most and scores.type.size >= _FEWEST_SCORES and scores.dtype.itemsize >= 4


def _rows(starts: Sequence[Node], scores: Node, weights: Node, length: int, chain: _Chain) -> bool:
    """Whether what is the same for a row comes from the scores' maximum and the weights' sum alone."""
    maxima = 0
    stack = list(starts)
    while stack:
        n = stack.pop()
        if n in chain.values or n in chain.reductions or n.op is ops.CONST:
            continue
        if n.op in ops.REDUCE:
            fits = (n.op is ops.RMAX and n.src[0] is scores) or (n.op is ops.SUM and n.src[0] is weights)
            if not fits or len(n.arg) != 1 or n.src[0].shape[n.arg[0]] != length:
                return False
            maxima += n.op is ops.RMAX
            chain.reductions.add(n)
        elif n.op in _THROUGH:
            chain.values.add(n)
            stack += n.src
        else:
            return False
    return maxima == 1
