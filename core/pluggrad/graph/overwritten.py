"""Writes that leave nothing of what they write into, as in `cat` and `stack`: its elements need no values."""
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Final

from pluggrad.graph import ops
from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import rewrite, toposort

_MOST_WRITES: Final = 64  # in a row that are compared with each other
_Part = tuple[tuple[int, int, int], ...]  # (start, size, step) along each axis


def drop_bases(roots: Sequence[Node]) -> list[Node]:
    """The same values, with EMPTY in place of what writes cover."""
    order = toposort(roots)
    if ops.WRITES.isdisjoint([n.op for n in order]):
        return list(roots)
    uses = Counter([s for n in order for s in n.src] + list(roots))
    covered = {first: number for number, n in enumerate(order)
               if n.op in ops.WRITES and (first := _first_of_all(n, uses)) is not None}

    def rule(n: Node, src: tuple[Node, ...]) -> Node:
        if n in covered:
            src = (node(ops.EMPTY, (), covered[n], n.type), *src[1:])
        return node(n.op, src, n.arg, n.type)

    return list(rewrite(roots, rule))


def _first_of_all(last: Node, uses: Counter[Node]) -> Node | None:
    """The first of the writes in a row that end in `last`, if these write every element."""
    if last.op is ops.SCATTER:
        return last if _rearranges(last) else None
    parts: list[_Part] = []
    n, left = last, last.type.size
    while n.op is ops.UPDATE and len(parts) < _MOST_WRITES and (n is last or uses[n] == 1):
        if len(n.arg) != 1 or n.arg[0][0] != "slice":
            return None
        parts.append(n.arg[0][1])
        left -= n.src[1].type.size
        if left <= 0:
            apart = left == 0 and all(_apart(x, y) for x, y in combinations(parts, 2))
            return n if apart and n.src[0].op is not ops.INPUT else None
        n = n.src[0]
    return None


def _rearranges(n: Node) -> bool:
    """Whether a SCATTER brings a value to every element."""
    everywhere = n.arg.unique and not n.arg.view and n.src[1].shape == n.shape
    return bool(everywhere and n.arg.mode == "SET" and n.src[0].op is not ops.INPUT)


def _apart(x: _Part, y: _Part) -> bool:
    """Whether along some axis no position is in both."""
    return any(not _meet(*a, *b) for a, b in zip(x, y, strict=True))


def _meet(start: int, size: int, step: int, other_start: int, other_size: int, other_step: int) -> bool:
    """Whether two progressions may have a number in common."""
    apart = start + (size - 1) * step < other_start or other_start + (other_size - 1) * other_step < start
    return not apart and (start - other_start) % math.gcd(step, other_step) == 0
