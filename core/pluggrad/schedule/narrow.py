"""Factors of a product that stay narrow in memory: where a device multiplies pairs or matrices of them.

Elsewhere an operand that a contraction reads again and again is widened beforehand, once.
"""
from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from pluggrad import dtypes
from pluggrad.graph import ops
from pluggrad.ir.node import Node
from pluggrad.schedule.nested import Nested

_PLAIN: Final = frozenset({ops.RESHAPE, ops.EXPAND, ops.PERMUTE, ops.SLICE})
_FEWEST_PRODUCTS: Final = 1 << 20  # below, what packs them takes too large a share
_FEWEST_USES: Final = 16  # of each element; with fewer, memory sets the time


def narrow_factors(order: Sequence[Node], nested: Nested, narrow: AbstractSet[str]) -> frozenset[Node]:
    """The casts from one of the dtypes `narrow` of both factors of a large contraction, which are no values
    of `nested`."""
    found = set[Node]()
    for n in order:
        if n.op is not ops.SUM or n.src[0].op is not ops.MUL or n in nested.reductions:
            continue
        size, casts = n.src[0].type.size, [_moved(factor) for factor in n.src[0].src]
        if size >= _FEWEST_PRODUCTS and all(_widens(c, narrow) and c.src[0] not in nested.values
                                            and c.type.size * _FEWEST_USES <= size for c in casts):
            found.update(casts)
    return frozenset(found)


def _moved(n: Node) -> Node:
    while n.op in _PLAIN:
        n = n.src[0]
    return n


def _widens(n: Node, narrow: AbstractSet[str]) -> bool:
    return n.op is ops.CAST and n.dtype is dtypes.float32 and n.src[0].dtype.name in narrow
