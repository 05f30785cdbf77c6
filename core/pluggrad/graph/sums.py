"""Sums as they are best computed: none of what is sliced away, and sums of sums as one.

The gradient of a convolution's input is a product summed over channels, then over the places of its windows;
it becomes a single contraction, over the input without its padding.
"""
from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from pluggrad.graph import build, ops
from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import toposort
from pluggrad.shape.dims import Shape

_MOST_EXTRA_WORK: Final = 2.5  # zeros at the borders are multiplied; beyond, storing the inner sum is cheaper


def simplify_sums(roots: Sequence[Node]) -> list[Node]:
    """The same values: sums narrowed to what is used of them, and merged along skewed axes."""
    if not any(n.op is ops.SUM for n in toposort(roots)):
        return list(roots)
    return _merge(_narrow(roots))


def _narrow(roots: Sequence[Node]) -> list[Node]:
    """Slices of sums as sums of slices."""
    order = toposort(roots)
    uses = _uses(order, roots)
    made: dict[Node, Node] = {}
    for n in order:
        source = n.src[0] if n.src else n
        if n.op is ops.SLICE and source.op is ops.SUM and uses[source] == 1:
            operand = made[source].src[0]
            kept = iter(n.arg)
            parts = [(0, dim, 1) if i in source.arg else next(kept) for i, dim in enumerate(operand.shape)]
            made[n] = build.reduce(ops.SUM, build.slice(operand, parts), source.arg)
        else:
            made[n] = node(n.op, tuple([made[s] for s in n.src]), n.arg, n.type)
    return [made[root] for root in roots]


def _uses(order: Sequence[Node], roots: Sequence[Node]) -> Counter[Node]:
    return Counter([s for n in order for s in n.src] + list(roots))


def _merge(roots: Sequence[Node]) -> list[Node]:
    """Sums along skewed axes take over the sums within them.

    Without a skew between them the inner sum is no larger than the outer one's operand and is best stored.
    """
    order = toposort(roots)
    pairs = _pairs(order, _uses(order, roots)) if any(n.op is ops.SKEW for n in order) else {}
    if not pairs:
        return list(roots)
    made: dict[Node, Node] = {}
    for n in order:
        if n in pairs:
            made[n] = _merged(pairs[n], made)
        else:
            made[n] = node(n.op, tuple([made[s] for s in n.src]), n.arg, n.type)
    return [made[root] for root in roots]


class _Pair(NamedTuple):
    """A sum, the movement within it, outermost first, and the sum within that."""

    outer: Node
    moves: tuple[Node, ...]
    inner: Node


def _pairs(order: Sequence[Node], uses: Counter[Node]) -> dict[Node, _Pair]:
    """By outer sum: every sum of sums that can be one, where that is not much more work."""
    found: dict[Node, list[_Pair]] = defaultdict(list)
    for outer in order:
        pair = _pair(outer) if outer.op is ops.SUM else None
        if pair is not None:
            found[pair.inner].append(pair)
    merged: dict[Node, _Pair] = {}
    for inner, pairs in found.items():
        most = _MOST_EXTRA_WORK * inner.src[0].type.size
        # an inner sum that is needed anyhow would be computed twice
        if _only_there(pairs, uses) and sum(map(_work, pairs)) <= most:
            merged |= {pair.outer: pair for pair in pairs}
    return merged


def _pair(outer: Node) -> _Pair | None:
    moves: list[Node] = []
    inner = outer.src[0]
    while inner.op in ops.MOVEMENT:
        moves.append(inner)
        inner = inner.src[0]
    skewed = any(n.op is ops.SKEW for n in moves)
    return _Pair(outer, tuple(moves), inner) if inner.op is ops.SUM and skewed else None


def _only_there(pairs: Sequence[_Pair], uses: Counter[Node]) -> bool:
    """Whether the inner sum of `pairs`, and all movement of it, serves nothing else."""
    ways = {way for pair in pairs
            for way in pairwise((pair.outer, *pair.moves, pair.inner))}
    return all(uses[used] == count for used, count in Counter([used for _, used in ways]).items())


def _work(pair: _Pair) -> int:
    """Elements that the sum over both sums' axes takes."""
    within = pair.inner.src[0].shape
    elements: int = math.prod(pair.outer.src[0].shape) * math.prod([within[axis] for axis in pair.inner.arg])
    return elements


def _merged(pair: _Pair, made: dict[Node, Node]) -> Node:
    """The sum over both sums' axes."""
    total = made[pair.inner]
    operand, axes = total.src[0], total.arg
    tail = tuple([operand.shape[axis] for axis in axes])
    kept = [axis for axis in range(len(operand.shape)) if axis not in axes]
    moved = build.permute(operand, [*kept, *axes])
    for move in reversed(pair.moves):
        moved = _lifted(move, moved, tail)
    rank = len(pair.outer.src[0].shape)
    return build.reduce(ops.SUM, moved, [*pair.outer.arg, *range(rank, rank + len(tail))])


def _lifted(move: Node, x: Node, tail: Shape) -> Node:
    """The movement of `move` on the leading axes of `x`, whose last axes, of the sizes `tail`, stay."""
    rank, arg = len(move.src[0].shape), move.arg
    if move.op in (ops.RESHAPE, ops.EXPAND):
        return build.move(x, ((move.op.name.lower(), (*arg, *tail)),))
    if move.op is ops.PERMUTE:
        return build.permute(x, [*arg, *range(rank, rank + len(tail))])
    if move.op is ops.SLICE:
        return build.slice(x, [*arg, *[(0, dim, 1) for dim in tail]])
    if move.op is ops.PAD:
        return build.pad(x, [*arg, *[(0, 0)] * len(tail)])
    if move.op is ops.WINDOW:  # its new axes come last
        windows = range(rank + len(tail), rank + len(tail) + len(arg))
        return build.permute(build.window(x, arg), [*range(rank), *windows, *range(rank, rank + len(tail))])
    return build.move(x, ((move.op.name.lower(), arg),))
