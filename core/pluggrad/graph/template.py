"""Graphs that are kept to be called: one node stands for many until somebody has to see them.

A training step makes the same gradients and the same updates every time. CALL and RESULT are no primitives:
the plan cache knows what they came to the last time, and everything else is given what `expand` makes of
them.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pluggrad import dtypes
from pluggrad.graph import build, ops
from pluggrad.graph.leaf import stand_in
from pluggrad.graph.types import tensor_type
from pluggrad.ir.node import Node, Op, node
from pluggrad.ir.walk import substitute, toposort

CALL: Final = Op("CALL", "call", -1, "no value: a graph as a function of src; arg: Template")
RESULT: Final = Op("RESULT", "call", 1, "src (call): what result number `arg` of the CALL comes to")


class Template:
    """`results` as a function of `parameters`, which are stand-ins, or constants that may take any shape.

    overwrites: for each result the parameter that it is a new version of, or None.
    """

    __slots__ = ("parameters", "results", "overwrites")

    def __init__(self, parameters: Sequence[Node], results: Sequence[Node],
                 overwrites: Sequence[int | None]) -> None:
        self.parameters, self.results = tuple(parameters), tuple(results)
        self.overwrites = tuple(overwrites)

    def call(self, *sources: Node) -> list[Node]:
        """The results for these sources, a node each."""
        made = node(CALL, sources, self, tensor_type((0,), dtypes.float32, self.results[0].type.device))
        return [node(RESULT, (made,), i, result.type) for i, result in enumerate(self.results)]


def template(parameters: Sequence[Node], results: Sequence[Node]) -> Template:
    """`results` with stand-ins in place of `parameters`, of which none is left in it."""
    stands = [stand_in(parameter.type, "a call") for parameter in parameters]
    made = substitute(results, dict(zip(parameters, stands, strict=True)))
    return Template(stands, made, [None] * len(results))


def overwritten(result: Node) -> Node | None:
    """The source that a RESULT is a new version of."""
    call = result.src[0]
    position = call.arg.overwrites[result.arg]
    return None if position is None else call.src[position]


def expand(roots: Sequence[Node]) -> list[Node]:
    """The graph with what they come to in place of all calls: the nodes that a graph without them has."""
    replaced: dict[Node, Node] = {}
    results: dict[Node, tuple[Node, ...]] = {}
    for old in toposort(roots):
        if old.op is CALL:
            parameters, sources = old.arg.parameters, [replaced[s] for s in old.src]
            given = {p: build.broadcast_to(s, p.shape) if p.op is ops.CONST else s
                     for p, s in zip(parameters, sources, strict=True)}
            results[old] = substitute(old.arg.results, given)
            replaced[old] = old
        elif old.op is RESULT:
            replaced[old] = results[old.src[0]][old.arg]
        else:
            replaced[old] = node(old.op, tuple([replaced[s] for s in old.src]), old.arg, old.type)
    return [replaced[root] for root in roots]
