"""Iterative walks: a chain of 100,000 nodes must not touch Python's recursion limit."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from pluggrad.ir.node import Node, node


def toposort(roots: Iterable[Node], sources: Callable[[Node], tuple[Node, ...]] | None = None) -> list[Node]:
    """Every node reachable from `roots`, sources before users, each once, in a fixed order.

    `sources` overrides which sources are followed (to stop at realized nodes, or to go on through history).
    """
    order: list[Node] = []
    done: set[Node] = set()
    stack: list[Node | None] = [*reversed(list(roots))]
    waiting: list[Node] = []  # for each None on the stack, the node whose sources lie above it
    while stack:
        current = stack.pop()
        if current is None:
            order.append(waiting.pop())
        elif current not in done:
            done.add(current)
            following = current.src if sources is None else sources(current)
            if following:
                waiting.append(current)
                stack.append(None)
                stack.extend(following[::-1])
            else:
                order.append(current)
    return order


def rewrite(roots: Sequence[Node], rule: Callable[[Node, tuple[Node, ...]], Node]) -> tuple[Node, ...]:
    """Rebuild a graph bottom up: `rule(old, new sources)` replaces each node. Returns the new roots."""
    replaced: dict[Node, Node] = {}
    for old in toposort(roots):
        replaced[old] = rule(old, tuple([replaced[s] for s in old.src]))
    return tuple([replaced[root] for root in roots])


def substitute(roots: Sequence[Node], given: Mapping[Node, Node]) -> tuple[Node, ...]:
    """The graph with other nodes in place of some; what those alone were computed from is not looked at."""
    replaced = dict(given)
    for old in toposort(roots, lambda n: () if n in given else n.src):
        if old not in given:
            replaced[old] = node(old.op, tuple([replaced[s] for s in old.src]), old.arg, old.type)
    return tuple([replaced[root] for root in roots])
