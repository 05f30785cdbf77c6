"""Factors of a product that stay narrow in memory: where a device multiplies pairs or matrices of them.

Elsewhere an operand that a contraction reads again and again is widened beforehand, once.
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from pluggrad import dtypes
from pluggrad.graph import ops
from pluggrad.ir.node import Node
from pluggrad.schedule.nested import Nested
from pluggrad.schedule.places import Place, sources_at
from pluggrad.shape.index import Affine, AxisAtom, Index, Lookup, Quotient, axes_of, axis_index
from pluggrad.target import Narrow

_PLAIN: Final = frozenset({ops.RESHAPE, ops.EXPAND, ops.PERMUTE, ops.SLICE})
_FEWEST_PRODUCTS: Final = 1 << 20  # below, what packs them takes too large a share
_FEWEST_USES: Final = 16  # of each element; with fewer, memory sets the time
_SHORTEST: Final = 16  # rows, columns and steps; with fewer a matrix unit is idle, and items gather in vain


def narrow_factors(order: Sequence[Node], nested: Nested, narrow: Narrow) -> frozenset[Node]:
    """The casts from one of the dtypes `narrow` of both factors of a large contraction, which are no values
    of `nested`."""
    found = set[Node]()
    for n in order:
        if n.op is not ops.SUM or n in nested.reductions or n.src[0].type.size < _FEWEST_PRODUCTS:
            continue
        casts = _plain_factors(n, narrow.dtypes) or _gathered_factors(n, narrow.gathered)
        if casts and all(c.src[0] not in nested.values and c.type.size * _FEWEST_USES <= n.src[0].type.size
                         for c in casts):
            found.update(casts)
    return frozenset(found)


def _plain_factors(n: Node, narrow: Iterable[str]) -> list[Node]:
    """The casts of both factors of a sum, where movement that leaves each element alone stands between."""
    if n.src[0].op is not ops.MUL:
        return []
    casts = []
    for factor in n.src[0].src:
        while factor.op in _PLAIN:
            factor = factor.src[0]
        casts.append(factor)
    return casts if all(_widens(c, narrow) for c in casts) else []


def _gathered_factors(n: Node, narrow: Iterable[str]) -> list[Node]:
    """The casts of both factors of a sum through any movement, where it is a product of matrices of some
    size."""
    dims = n.src[0].shape
    product = _behind((n.src[0], tuple([axis_index(i, dim) for i, dim in enumerate(dims)]), ()))
    if product[0].op is not ops.MUL:
        return []
    places = [_behind(source) for source in sources_at(product)]
    if not all(_widens(cast, narrow) for cast, _, _ in places):
        return []
    left, right = [dict(_parts(index)) for _, index, _ in places]
    steps = {part for part in left.keys() & right.keys() if not axes_of(part).isdisjoint(n.arg)}
    sides = left.keys() - right.keys(), right.keys() - left.keys(), steps
    shortest = min([math.prod([(left | right)[part] for part in parts]) for parts in sides])
    return [cast for cast, _, _ in places] if shortest >= _SHORTEST else []


def _parts(index: Index) -> Iterator[tuple[Affine, int]]:
    """What an index depends on, and how many values that has: axes, and quotients and remainders of one."""
    stack = list(index)
    while stack:
        for atom, _ in stack.pop().terms:
            if isinstance(atom, AxisAtom):
                yield Affine(((atom, 1),), 0), atom.extent
            elif isinstance(atom, Lookup):
                stack.extend(atom.at)
            elif len(atom.value.terms) == 1 and isinstance(axis := atom.value.terms[0][0], AxisAtom):
                extent = -(-axis.extent // atom.divisor) if isinstance(atom, Quotient) else atom.divisor
                yield Affine(((atom, 1),), 0), extent
            else:
                stack.append(atom.value)


def _behind(place: Place) -> Place:
    """What stands behind movement, and where."""
    while place[0].op in ops.MOVEMENT:
        place, = sources_at(place)
    return place


def _widens(n: Node, narrow: Iterable[str]) -> bool:
    return n.op is ops.CAST and n.dtype is dtypes.float32 and n.src[0].dtype.name in narrow
