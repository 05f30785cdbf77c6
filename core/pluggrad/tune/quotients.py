"""Axes that become one, and the quotients by which an index finds what they were."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from typing import NamedTuple

from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import rewrite
from pluggrad.kernel import ops
from pluggrad.kernel.index_nodes import INDEX, linear, weighted_sum
from pluggrad.kernel.kernel import Kernel, axis, const
from pluggrad.tune.actions import join_all


def join_in_order(kernel: Kernel, ids: Sequence[int]) -> tuple[Kernel, int]:
    """Axes as one, in the order in which they stand."""
    kernel, joined = join_all(kernel, [a.id for a in kernel.axes if a.id in ids])
    if len(ids) > 1:
        kernel = replace(kernel, stores=rewrite(kernel.stores, _rejoined))
    return kernel, joined.id


def _rejoined(n: Node, src: tuple[Node, ...]) -> Node:
    """An address in which quotients and remainders that follow each other are one."""
    if n.op not in (ops.LOAD, ops.STORE):
        return node(n.op, src, n.arg, n.type)
    strides, rest, offset = linear(src[0])
    parts = {part_of(part): factor for part, factor in rest.items()}
    while (pair := next(_following(parts), None)) is not None:
        low, high = pair
        factor, _ = parts.pop(low), parts.pop(high)
        parts[Part(low.of, low.divisor, high.limit and low.limit * high.limit)] = factor
    terms = [*[(axis(id), stride) for id, stride in strides.items()],
             *[(part.node, factor) for part, factor in parts.items()]]
    return node(n.op, (weighted_sum(terms, offset), *src[1:]), n.arg, n.type)


class Part(NamedTuple):
    """of // divisor, % limit if it is not 0."""

    of: Node
    divisor: int
    limit: int

    @property
    def node(self) -> Node:
        """As index arithmetic."""
        found = self.of
        for op, by in ((ops.CDIV, self.divisor), (ops.CMOD, self.limit)):
            found = found if by == (op is ops.CDIV) else node(op, (found, const(by)), None, INDEX)
        return found


def part_of(n: Node) -> Part:
    """A term of an index, as a part of what it divides."""
    limit = divisor = 0
    if n.op is ops.CMOD:
        n, limit = n.src[0], n.src[1].arg.bits
    while n.op is ops.CDIV:
        n, divisor = n.src[0], max(divisor, 1) * n.src[1].arg.bits
    return Part(n, max(divisor, 1), limit)


def _following(parts: Mapping[Part, int]) -> Iterator[tuple[Part, Part]]:
    """Pairs of neighboring parts that count on."""
    for low, high in permutations(parts, 2):
        if low.limit and low.of is high.of and high.divisor == low.divisor * low.limit \
                and parts[high] == parts[low] * low.limit:
            yield low, high
