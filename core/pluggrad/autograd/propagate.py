"""Reverse-mode differentiation, graph to graph: what a node depends on, and gradients along the way back."""
from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pluggrad.autograd.linear_algebra import HOST_RULES
from pluggrad.autograd.rules import RULES, Rule, add
from pluggrad.graph import ops, origin
from pluggrad.graph.custom import input_gradients
from pluggrad.graph.leaf import Identity
from pluggrad.ir.node import Node
from pluggrad.ir.walk import toposort


@dataclass(slots=True)
class Trace:
    """What roots depend on differentiably.

    order: the nodes, sources before users. leaves: the nodes that stand for a user's tensor. detached: some
    path ended at a DETACH. cut: some stored value had its history dropped for its depth.
    """

    order: list[Node]
    leaves: dict[Node, Identity]
    detached: bool
    cut: bool


def sources(n: Node) -> tuple[Node, ...]:
    """What a gradient at `n` may pass on to. A stored value passes it into the history that computed it."""
    if n.type.dtype.kind != "f":
        return ()
    if n.op is ops.BUFFER:
        return () if n.arg.history is None else (n.arg.history,)
    if n.op is ops.CUSTOM_VJP:
        return n.src[1:]
    if n.op is ops.VJP_CALL:
        return n.src[:n.arg.inputs]
    return n.src if n.op in RULES or n.op is ops.EXTERN else ()


def _rules(n: Node) -> tuple[Rule | None, ...]:
    """The rule for each source; none where the node is piecewise constant."""
    return HOST_RULES[n.arg.function, n.arg.result] if n.op is ops.EXTERN else RULES.get(n.op, ())


def trace(*roots: Node) -> Trace:
    """Walk back from `roots`; iterative, each node once."""
    found = Trace(toposort(roots, sources), {}, False, False)
    for n in found.order:
        if n.op is ops.DETACH:
            found.detached = True
        elif n.op is ops.LEAF:
            found.leaves[n] = n.arg
        elif n.op is ops.BUFFER:
            found.cut = found.cut or n.arg.cut
            if n.arg.identity is not None and n.type.dtype.kind == "f":
                found.leaves[n] = n.arg.identity
    return found


def propagate(order: list[Node], seeds: Mapping[Node, Node],
              targets: Collection[Node]) -> dict[Node, Node]:
    """The gradient at each of `targets` that has one, given those at some nodes of `order`.

    Only nodes on a path to a target are visited, so that nothing is built in vain.
    """
    leading = set(targets)
    for n in order:
        if not leading.isdisjoint(sources(n)):
            leading.add(n)
    gradients = dict(seeds)
    calls: dict[Node, dict[int, Node]] = {}  # of each call the gradients of its outputs
    for n in reversed(order):
        if n in calls:
            for source, passed in zip(n.src, input_gradients(n, calls.pop(n)), strict=False):
                if passed is not None:
                    _contribute(gradients, (source,), passed, leading)
            continue
        g = gradients.get(n)
        if g is None or n not in leading:
            continue
        if n.op is ops.CUSTOM_VJP:
            calls.setdefault(n.src[1], {})[n.arg] = g
            continue
        if n.op is ops.BUFFER:
            _contribute(gradients, sources(n), g, leading)
            continue
        for source, rule in zip(n.src, _rules(n), strict=False):
            if rule is not None and source in leading:
                found, passed = gradients.get(source), rule(g, n)
                if origin.gradient is not None:
                    origin.gradient(passed, n)
                gradients[source] = passed if found is None else add(found, passed)
    return {target: gradients[target] for target in targets if target in gradients}


def _contribute(gradients: dict[Node, Node], to: tuple[Node, ...], g: Node, leading: set[Node]) -> None:
    for source in to:
        if source in leading:
            gradients[source] = add(gradients[source], g) if source in gradients else g


def gradients(found: Trace, seeds: Mapping[Node, Node], wanted: Collection[Identity]) -> dict[Identity, Node]:
    """The gradient of each wanted leaf, summed over the nodes that stand for it."""
    targets = [n for n, identity in found.leaves.items() if identity in wanted]
    collected: dict[Identity, Node] = {}
    for n, g in propagate(found.order, seeds, targets).items():
        identity = found.leaves[n]
        collected[identity] = add(collected[identity], g) if identity in collected else g
    return collected
