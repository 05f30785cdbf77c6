"""Gradients of graphs that come again: the rules run for the first of a structure, then a template is called.

A structure is a graph without its data: which ops on which types, where the leaves are, the constants. It is
all that the rules look at.
"""
from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from pluggrad.autograd.propagate import gradients, trace
from pluggrad.graph import ops
from pluggrad.graph.leaf import Identity
from pluggrad.graph.template import Template, template
from pluggrad.ir.node import Node
from pluggrad.ir.walk import toposort

# what a rule of its own, an error or the host stands behind, or what is like no other
_OPAQUE: Final = frozenset({
    ops.CUSTOM_VJP, ops.VJP_CALL, ops.EXTERN, ops.COPY, ops.STAND_IN, ops.EMPTY, ops.BARRIER})
_DATA: Final = frozenset({ops.BUFFER, ops.LEAF})
_MOST_ROWS: Final = 100_000  # of all structures together
Key = tuple[tuple[Any, ...], ...]


class Kept(NamedTuple):
    """Gradients as a template: the numbers of its sources, and the positions of the leaves that it is for."""

    template: Template
    sources: tuple[int, ...]
    leaves: tuple[int, ...]


@dataclass(slots=True)
class Structure:
    """What is known of one: the numbers of the nodes that stand for leaves, and what is kept for each choice
    of leaves (None: nothing can be)."""

    leaves: tuple[int, ...]
    kept: dict[tuple[bool, ...], Kept | None] = field(default_factory=dict)


_structures: dict[Key, Structure] = {}
_size = 0  # rows of all keys
_lock = threading.Lock()


class WayBack:
    """From a root to its gradients: by the rules, or where the structure is known by a template.

    leaves: the nodes that stand for a user's tensor, sources before users. keeps: whether calls may stand for
    gradients. brief: the root as a result of the call that gave the gradients, if one did.
    """

    __slots__ = ("leaves", "brief", "_root", "_trace", "_key", "_order", "_known")

    def __init__(self, root: Node, keeps: bool) -> None:
        self._root, self._trace = root, None if keeps else trace(root)
        self._key, self._order = _outline(root) if keeps else (None, [])
        self._known = None if self._key is None else _structures.get(self._key)
        self.brief: Node | None = None
        if self._known is None:
            self._trace = self._trace or trace(root)
            self.leaves = self._trace.leaves
        else:
            found = [self._order[number] for number in self._known.leaves]
            self.leaves = {n: n.arg if n.op is ops.LEAF else n.arg.identity for n in found}

    def gradients(self, seed: Node, wanted: Collection[Identity]) -> dict[Identity, Node]:
        """The gradient of each wanted leaf, as a result of a call if a template has it."""
        known, identities = self._known, list(self.leaves.values())
        chosen = tuple([identity in wanted for identity in identities])
        kept = None if known is None else known.kept.get(chosen)
        if kept is not None:
            order = self._order
            self.brief, *results = kept.template.call(*[order[number] for number in kept.sources])
            return {identities[i]: result for i, result in zip(kept.leaves, results, strict=True)}
        found = gradients(self._trace or trace(self._root), {self._root: seed}, wanted)
        number = {n: i for i, n in enumerate(self._order)}
        if known is not None and chosen not in known.kept:
            positions = tuple([identities.index(identity) for identity in found])
            known.kept[chosen] = _kept([self._root, *found.values()], positions, number)
        elif known is None and self._key is not None:
            _remember(self._key, Structure(tuple([number[leaf] for leaf in self.leaves])))
        return found


def _kept(results: list[Node], leaves: tuple[int, ...], number: dict[Node, int]) -> Kept | None:
    """A root and its gradients as a function of the data they are computed from."""
    made = toposort(results, lambda n: () if _is_data(n) else n.src)
    sources = [n for n in made if _is_data(n)]
    if not sources or any(n not in number for n in sources):
        return None
    return Kept(template(sources, results), tuple([number[n] for n in sources]), leaves)


def _is_data(n: Node) -> bool:
    """Whether another graph of the same structure may have something else here."""
    return n.op in _DATA or (n.op is ops.CONST and n.arg.source is not None)


def _remember(key: Key, structure: Structure) -> None:
    global _size
    with _lock:
        while _structures and _size + len(key) > _MOST_ROWS:
            oldest = next(iter(_structures))
            del _structures[oldest]
            _size -= len(oldest)
        if key not in _structures:
            _structures[key] = structure
            _size += len(key)


def _outline(root: Node) -> tuple[Key | None, list[Node]]:
    """The structure of a graph and its nodes as the structure numbers them. None where what it is made of
    does not say all that its gradient depends on."""
    number: dict[Node, int] = {}
    rows: list[tuple[Any, ...]] = []
    order: list[Node] = []
    identities: dict[Identity, int] = {}
    stack: list[Node | None] = [root]
    waiting: list[Node] = []  # for each None on the stack, whose sources lie above
    while stack:  # on the path of every eager step
        n = stack.pop()
        if n is None:
            n = waiting.pop()
        elif n in number:
            continue
        elif n.src:
            if n.op in _OPAQUE or (n.realized is not None and n.realized() is not None):
                return None, []
            number[n] = -1  # visited
            waiting.append(n)
            stack.append(None)
            stack += n.src
            continue
        op, arg = n.op, n.arg
        if op is ops.BUFFER:
            if arg.history is not None or arg.cut:
                return None, []
            arg = None if arg.identity is None else identities.setdefault(arg.identity, len(identities))
        elif op is ops.LEAF:
            arg = identities.setdefault(arg, len(identities))
        elif op is ops.CONST:
            arg = arg if arg.source is None else None
        elif op in _OPAQUE:
            return None, []
        number[n] = len(order)
        order.append(n)
        rows.append((op, arg, n.type, tuple([number[s] for s in n.src])))
    return tuple(rows), order
