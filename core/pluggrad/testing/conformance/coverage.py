"""What a complete run has to cover: every op that computes, on every dtype it takes, in every layout."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.graph import ops
from pluggrad.graph.ops import GRAPH_OPS
from pluggrad.ir.node import Op
from pluggrad.target import Capabilities
from pluggrad.testing.conformance.registry import Point

# how an op's (first) source lies in memory, all through index functions
LAYOUTS: Final = (
    "dense",       # row-major, of a size that vectors divide
    "odd",         # row-major, of a size that no vector divides: there is a tail
    "strided",     # every other element
    "transposed",  # two axes exchanged
    "broadcast",   # an axis of size 1 repeated
)
_GENERATED: Final = ("dense", "odd")  # of ops that read nothing

_OPS_OF_KIND: Final = {
    # kinds of dtype that an op takes, where they are not all of b(ool), i, u, f
    "f": {"RECIP", "SQRT", "EXP", "EXP2", "LOG", "LOG2", "SIN", "COS", "TANH", "ERF", "FLOOR", "CEIL",
          "TRUNC", "ROUND", "DIV"},
    "iu": {"IDIV", "SHL", "SHR", "IOTA", "TALLY"},
    "biu": {"AND", "OR", "XOR", "NOT"},
    "iuf": {"NEG", "SUB", "ABS", "MOD", "POW", "BITCAST", "SCAN"},
}
_KINDS: Final = {name: kinds for kinds, names in _OPS_OF_KIND.items() for name in names}
_COMPUTING: Final = frozenset({
    "unary", "binary", "compare", "ternary", "cast", "reduce", "scan", "movement", "gather", "fold", "tally",
    "random", "update"})
_WITH_BOOL: Final = frozenset({"compare", "ternary"})


def covered_ops() -> tuple[Op, ...]:
    """The graph's primitives that a kernel computes."""
    return tuple([op for op in GRAPH_OPS.values() if op.kind in _COMPUTING or op is ops.IOTA])


def dtypes_of(op: Op) -> tuple[DType, ...]:
    """The dtypes that an op takes (of a CAST or BITCAST: of its source)."""
    if op is ops.RANDOM_BITS:
        return (dtypes.uint32,)
    kinds = _KINDS.get(op.name, "biuf")
    return tuple([dtype for dtype in dtypes.ALL if dtype.kind in kinds])


def layouts_of(op: Op) -> tuple[str, ...]:
    """The layouts in which an op can find its source."""
    return _GENERATED if op is ops.IOTA or op is ops.RANDOM_BITS else LAYOUTS


def universe(capabilities: Capabilities) -> Iterator[Point]:
    """Every point for the dtypes that a device declares; without bool there is nothing to compare with."""
    for op in covered_ops():
        if op.kind in _WITH_BOOL and "bool" not in capabilities.dtypes:
            continue
        for dtype in dtypes_of(op):
            if dtype.name in capabilities.dtypes:
                yield from (Point(op.name, dtype.name, layout) for layout in layouts_of(op))


def uncovered(capabilities: Capabilities, covered: Iterable[Point]) -> list[Point]:
    """The points that no test of a run was about."""
    done = set(covered)
    return [point for point in universe(capabilities) if point not in done]
