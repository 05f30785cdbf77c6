"""One row per primitive: the same op for a whole batch at once, along a new first axis.

Mostly that is the op itself with its axes moved by one. What does not depend on the batch is left as it is,
and repeated where it meets what does. Leaves have no sources, and so no row: they depend on no batch.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from pluggrad.graph import build, ops
from pluggrad.graph.custom import Rule, VjpCall
from pluggrad.graph.leaf import stand_in
from pluggrad.graph.types import TensorType, tensor_type
from pluggrad.ir.node import Node, Op, node
from pluggrad.ir.walk import toposort

Shift = Callable[[Any, "Batch"], Any]


class Batch(NamedTuple):
    """different: the counters of random draws of which each element of the batch has bits of its own."""

    size: int
    different: frozenset[Node] = frozenset()

    def type(self, kind: TensorType) -> TensorType:
        """The type of a batch of values."""
        return tensor_type((self.size, *kind.shape), kind.dtype, kind.device)


class Source(NamedTuple):
    """A source of a node, and whether it has the axis of the batch."""

    node: Node
    batched: bool

    def repeated(self, batch: Batch) -> Node:
        """With the axis of the batch."""
        return self.node if self.batched else repeated(self.node, batch)


BatchingRule = Callable[[Node, tuple[Source, ...], Batch], Node]


def batched(roots: Sequence[Node], given: Mapping[Node, Node], batch: Batch) -> list[Source]:
    """`roots` for a batch: `given` says which nodes stand for an element of what."""
    found: dict[Node, Source] = {}
    for n in toposort(roots, _sources):
        if n in given:
            found[n] = Source(given[n], True)
            continue
        sources = tuple([found[s] for s in _sources(n)])
        if any(s.batched for s in sources) or (n.op is ops.RANDOM_BITS and _counter(n) in batch.different):
            made = BATCHING[n.op](n, sources, batch)
            found[n] = Source(made, len(made.shape) > len(n.shape))
        elif any(s.node is not own for s, own in zip(sources, _sources(n), strict=True)):
            # without a batch, and yet another node: of a BARRIER that waits for something of the batch
            found[n] = Source(node(n.op, tuple([s.node for s in sources]), n.arg, n.type), False)
        else:
            found[n] = Source(n, False)
    return [found[root] for root in roots]


def _sources(n: Node) -> tuple[Node, ...]:
    return () if n.realized is not None else n.src  # what is stored depends on no batch


def _counter(n: Node) -> Node:
    counter = n.src[2]
    return counter.src[0] if counter.op is ops.BARRIER else counter


def repeated(x: Node, batch: Batch) -> Node:
    """`x` once for each element of the batch."""
    if x.op is ops.EMPTY:
        return node(ops.EMPTY, (), x.arg, batch.type(x.type))
    return build.broadcast_to(x, (batch.size, *x.shape), "vmap")


# ---- the op itself, its argument shifted by an axis --------------------------------------------------------
def _lifted(shift: Shift = lambda arg, batch: arg) -> BatchingRule:
    def rule(n: Node, sources: tuple[Source, ...], batch: Batch) -> Node:
        whole = tuple([s.repeated(batch) for s in sources])
        return node(n.op, whole, shift(n.arg, batch), batch.type(n.type))

    return rule


def _axes(arg: tuple[int, ...], batch: Batch) -> tuple[int, ...]:
    return tuple([axis + 1 for axis in arg])


def _rows(arg: tuple[tuple[int, ...], ...], batch: Batch) -> tuple[tuple[int, ...], ...]:
    return tuple([(axis + 1, *rest) for axis, *rest in arg])


def _shape(arg: tuple[int, ...], batch: Batch) -> tuple[int, ...]:
    return (batch.size, *arg)


_MOVES: Final[dict[str, Shift]] = {
    "reshape": _shape,
    "expand": _shape,
    "permute": lambda arg, batch: (0, *_axes(arg, batch)),
    "slice": lambda arg, batch: ((0, batch.size, 1), *arg),
    "flip": _axes,
    "pad": lambda arg, batch: ((0, 0), *arg),
    "window": _rows,
    "skew": lambda arg, batch: tuple([(axis + 1, by + 1, *rest) for axis, by, *rest in arg]),
}


def _view(steps: tuple[tuple[str, Any], ...], batch: Batch) -> tuple[tuple[str, Any], ...]:
    return tuple([(name, _MOVES[name](arg, batch)) for name, arg in steps])


def _scatter(arg: ops.Scatter, batch: Batch) -> ops.Scatter:
    return arg._replace(axis=arg.axis + 1, view=_view(arg.view, batch))


# ---- the others --------------------------------------------------------------------------------------------
def _gather(n: Node, sources: tuple[Source, ...], batch: Batch) -> Node:
    """From one `x` for all: the batch joins the axis, so that `x`, and its gradient, is not repeated."""
    x, index = sources
    if x.batched:
        return _lifted(lambda arg, batch: arg._replace(axis=arg.axis + 1))(n, sources, batch)
    axis, rank = n.arg.axis, len(n.shape)
    order = (*range(1, axis + 1), 0, *range(axis + 1, rank + 1))
    moved = build.permute(index.node, order)
    joined = build.reshape(moved, (*n.shape[:axis], batch.size * n.shape[axis], *n.shape[axis + 1:]))
    found = build.reshape(build.gather(x.node, joined, axis, n.arg.check), moved.shape)
    return build.permute(found, [order.index(i) for i in range(rank + 1)])


def _barrier(n: Node, sources: tuple[Source, ...], batch: Batch) -> Node:
    """What only waits for something of the batch is not repeated."""
    x, after = sources
    return node(ops.BARRIER, (x.node, after.node), n.arg, x.node.type)


def _custom_vjp(n: Node, sources: tuple[Source, ...], batch: Batch) -> Node:
    value, call = sources
    whole = call.node
    if not call.batched:  # only something else that the function found depends on the batch
        whole = _vjp_call(whole, tuple([Source(s, False) for s in whole.src]), batch)
    return node(ops.CUSTOM_VJP, (value.repeated(batch), whole), n.arg, batch.type(n.type))


def _vjp_call(n: Node, sources: tuple[Source, ...], batch: Batch) -> Node:
    arg: VjpCall = n.arg
    outputs = {position for position, _ in arg.aliases}
    saved = [Source(s.repeated(batch), True) if i in outputs else s
             for i, s in enumerate(sources[arg.inputs:])]
    rule = _BatchedRule(arg.rule, tuple([s.batched for s in saved]), batch)
    inputs = [s.repeated(batch) for s in sources[:arg.inputs]]
    changed = arg._replace(rule=rule, outputs=tuple([batch.type(kind) for kind in arg.outputs]))
    return node(ops.VJP_CALL, (*inputs, *[s.node for s in saved]), changed, batch.type(n.type))


class _BatchedRule(NamedTuple):
    """The rule of a call for a batch of calls: applied to one of them, and batched."""

    rule: Rule
    saved: tuple[bool, ...]
    batch: Batch

    def __call__(self, saved: tuple[Node, ...], gradients: tuple[Node | None, ...]) -> list[Node | None]:
        given: dict[Node, Node] = {}
        one = partial(_one, given)
        kept = tuple([one(x) if own else x for x, own in zip(saved, self.saved, strict=True)])
        results = self.rule(kept, tuple([None if g is None else one(g) for g in gradients]))
        found = iter(batched([x for x in results if x is not None], given, self.batch))
        return [None if x is None else next(found).repeated(self.batch) for x in results]


def _one(given: dict[Node, Node], whole: Node) -> Node:
    """What stands for one element of a batch, which `given` notes."""
    kind = whole.type
    one = stand_in(tensor_type(kind.shape[1:], kind.dtype, kind.device), "vmap")
    given[one] = whole
    return one


BATCHING: Final[dict[Op, BatchingRule]] = {
    **dict.fromkeys(sorted(ops.ELEMENTWISE, key=lambda op: op.name), _lifted()),
    **dict.fromkeys((ops.DETACH, ops.CONTIGUOUS, ops.COPY), _lifted()),
    **dict.fromkeys((ops.TALLY, ops.EXTERN), _lifted()),  # their leading axes are rows, or a stack, already
    **dict.fromkeys(sorted(ops.REDUCE, key=lambda op: op.name), _lifted(_axes)),
    **{op: _lifted(_MOVES[op.name.lower()]) for op in sorted(ops.MOVEMENT, key=lambda op: op.name)},
    ops.LEAF: lambda n, sources, batch: sources[0].node,
    ops.BARRIER: _barrier,
    ops.CUSTOM_VJP: _custom_vjp,
    ops.VJP_CALL: _vjp_call,
    ops.SCAN: _lifted(lambda arg, batch: arg._replace(axis=arg.axis + 1)),
    ops.FOLD: _lifted(lambda arg, batch: (_rows(arg[0], batch), _shape(arg[1], batch))),
    ops.GATHER: _gather,
    ops.SCATTER: _lifted(_scatter),
    ops.UPDATE: _lifted(_view),
    ops.RANDOM_BITS: lambda n, sources, batch: build.random_bits((batch.size, *n.shape), *n.src),
}
