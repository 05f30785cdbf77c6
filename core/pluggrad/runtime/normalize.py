"""A graph without its data: buffers become input slots, scalars run-time values. The rest keys the plan."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pluggrad.dtypes import DType
from pluggrad.errors import TransformError
from pluggrad.graph import ops
from pluggrad.graph.overwritten import drop_bases
from pluggrad.graph.repeated import sum_of_repeated
from pluggrad.graph.scalar import Scalar, ValueSlot, scalar
from pluggrad.graph.scans import running
from pluggrad.graph.sums import simplify_sums
from pluggrad.graph.template import CALL
from pluggrad.graph.types import TensorType, tensor_type
from pluggrad.graph.windows import folded
from pluggrad.ir.node import Node, node
from pluggrad.kernel.reductions import COMBINE, identity
from pluggrad.runtime.storage import BufferVersion

_SPECIAL = frozenset({0, 1, -1, 2, 0.5, math.inf, -math.inf})
_TRANSPARENT = frozenset({ops.LEAF, ops.DETACH, ops.CUSTOM_VJP})
INDIRECT = _TRANSPARENT | {ops.UPDATE}
Row = tuple[Any, ...]  # (op, arg, type, source rows)


class Key:
    """A tuple that is hashed once: a long one costs microseconds."""

    __slots__ = ("_parts", "_hash")

    def __init__(self, parts: tuple[Any, ...]) -> None:
        self._parts, self._hash = parts, hash(parts)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self._parts == other._parts


@dataclass(slots=True)
class Normalized:
    """Rows in topological order; `roots` are row numbers. `inputs[slot]` and `scalars[slot]` fill the slots.
    `apart` is what no kernel computes: it is done first, after which the graph is normalized again. `calls`:
    there are rows that have to be expanded before."""

    rows: tuple[Row, ...]
    roots: tuple[int, ...]
    inputs: list[BufferVersion]
    input_types: list[TensorType]
    scalars: list[Scalar]
    scalar_dtypes: tuple[DType, ...]
    apart: list[Node]
    calls: bool = False
    known_key: Key | None = None

    def key(self) -> Key:
        """Equal for graphs that one plan serves (within this process)."""
        return Key((self.rows, self.roots)) if self.known_key is None else self.known_key


# set while a function is captured: whether a value was computed in it. What was computed before does not
# stand for its graph, since a replay may find other data at the leaves
captured: Callable[[BufferVersion], bool] | None = None


def stands(leaf: Node) -> bool:
    """Whether a stored value may be read in place of what computes it; what was lost is computed again."""
    return leaf.arg.storage.fault is None and (captured is None or captured(leaf.arg))


def resolve(n: Node) -> Node:
    """What stands for a node's value: past identities and full overwrites, and the leaf that holds it."""
    while True:
        realized = n.realized
        if realized is not None:
            leaf = realized()
            if leaf is not None and stands(leaf):
                return leaf
        if n.op in _TRANSPARENT:
            n = n.src[0]
        elif n.op is ops.UPDATE and not n.arg:
            n = n.src[1]  # everything is overwritten
        else:
            return n


class _Slots:
    """The data of a graph. Equal buffers share a slot; each CONST node has one of its own."""

    __slots__ = ("inputs", "input_types", "scalars", "scalar_dtypes", "_of")

    def __init__(self) -> None:
        self.inputs: list[BufferVersion] = []
        self.input_types: list[TensorType] = []
        self.scalars: list[Scalar] = []
        self.scalar_dtypes: list[DType] = []
        self._of: dict[BufferVersion, int] = {}

    def row(self, n: Node) -> Row:
        """The row of a node without sources."""
        op, arg, kind = n.op, n.arg, n.type
        if op is ops.BUFFER:
            slot = self._of.get(arg)
            if slot is None:
                slot = self._of[arg] = len(self.inputs)
                self.inputs.append(arg)
                self.input_types.append(kind)
            return ops.INPUT, slot, kind, ()
        if op is ops.CONST:
            value = arg.value
            if arg.source is not None or not (arg.fixed or value in _SPECIAL or value != value):
                self.scalars.append(arg)
                self.scalar_dtypes.append(kind.dtype)
                arg = ValueSlot(len(self.scalars) - 1)
        elif op is ops.STAND_IN:
            raise TransformError(op=arg.op, got="one that depends on the function's arguments",
                                 expected="no value to be read inside a function it transforms",
                                 hint="Return the tensor and read it outside; decide with where()")
        return op, arg, kind, ()


def normalize(roots: Sequence[Node]) -> Normalized:
    """Number the nodes that `roots` need."""
    number: dict[Node, int] = {}
    rows: list[Row] = []
    slots = _Slots()
    apart: list[Node] = []
    calls = False
    resolved = [resolve(root) for root in roots]
    stack: list[Node | None] = [*resolved[::-1]]
    waiting: list[tuple[Node, tuple[Node, ...]]] = []  # for each None on the stack, whose sources lie above
    # on the path of every eager step: one visit a node, and `resolve` only where it has work to do
    while stack:
        n = stack.pop()
        if n is None:
            n, sources = waiting.pop()
            op = n.op
            if op is CALL:
                calls = True
            elif op in ops.APART:
                apart.append(n)
            number[n] = len(rows)
            rows.append((op, n.arg, n.type, tuple([number[s] for s in sources])))
        elif n not in number:
            sources = n.src
            if not sources:
                number[n] = len(rows)
                rows.append(slots.row(n))
                continue
            for s in sources:
                if s.realized is not None or s.op in INDIRECT:
                    sources = tuple([resolve(s) for s in sources])
                    break
            number[n] = -1  # visited
            waiting.append((n, sources))
            stack.append(None)
            stack += sources
    return Normalized(tuple(rows), tuple([number[n] for n in resolved]), slots.inputs, slots.input_types,
                      slots.scalars, tuple(slots.scalar_dtypes), apart, calls)


def rebuild(normalized: Normalized) -> list[Node]:
    """The normalized graph over INPUT and ValueSlot leaves, simplified for scheduling; one node per root."""
    made: list[Node] = []
    for op, arg, kind, sources in normalized.rows:
        made.append(_simplified(op, arg, kind, tuple([made[s] for s in sources])))
    return drop_bases(simplify_sums([made[i] for i in normalized.roots]))


def _simplified(op: Any, arg: Any, kind: TensorType, sources: tuple[Node, ...]) -> Node:
    """Nothing is scheduled for values without elements, a reduction of nothing is its identity, a sum of
    equals a product, a FOLD what it means, and a long SCAN takes blocks."""
    kind = tensor_type(kind.shape, kind.dtype, kind.device)
    if op is not ops.INPUT and kind.size == 0:
        return node(ops.CONST, (), scalar(0, kind.dtype), kind)
    if op in ops.REDUCE and sources[0].type.size == 0:
        return node(ops.CONST, (), scalar(identity(COMBINE[op], kind.dtype), kind.dtype), kind)
    if op in (ops.FOLD, ops.TALLY, *ops.PADDING) and sources[0].type.size == 0:
        return node(ops.CONST, (), scalar(0, kind.dtype), kind)
    if op is ops.FOLD:
        return folded(sources[0], *arg)
    if op in ops.WRITES and sources[1].type.size == 0:
        return sources[0]
    if op is ops.SCAN:
        return running(sources[0], *arg)
    repeated = sum_of_repeated(sources[0], arg) if op is ops.SUM else None
    return repeated or node(op, sources, arg, kind)


def denormalize(normalized: Normalized) -> list[Node]:
    """The graph over its real buffers and scalars, one node per root: what a failed realization puts back."""
    made: list[Node] = []
    for op, arg, kind, sources in normalized.rows:
        if op is ops.INPUT:
            op, arg = ops.BUFFER, normalized.inputs[arg]
        elif isinstance(arg, ValueSlot):
            arg = normalized.scalars[arg.slot]
        made.append(node(op, tuple([made[s] for s in sources]), arg, kind))
    return [made[i] for i in normalized.roots]


def stable_text(normalized: Normalized) -> str:
    """The key as text that is the same in every process."""
    lines = [f"{op.name} {arg!r} {kind.dtype.name}{kind.shape} {sources}"
             for op, arg, kind, sources in normalized.rows]
    return "\n".join([*lines, repr(normalized.roots)])
