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
_OPAQUE: Final = frozenset({ops.CUSTOM_VJP, ops.VJP_CALL, ops.EXTERN, ops.STAND_IN, ops.EMPTY, ops.BARRIER})
_LIKE_NO_OTHER: Final = _OPAQUE | {ops.BUFFER, ops.LEAF}
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
    gradients.
    """

    __slots__ = ("leaves", "_root", "_trace", "_key", "_order", "_known")

    def __init__(self, root: Node, keeps: bool) -> None:
        self._root, self._trace = root, None if keeps else trace(root)
        self._key, self._order = _outline(root) if keeps else (None, [])
        self._known = None if self._key is None else _structures.get(self._key)
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
            results = kept.template.call(*[order[number] for number in kept.sources])
            return {identities[i]: result for i, result in zip(kept.leaves, results, strict=True)}
        found = gradients(self._trace or trace(self._root), {self._root: seed}, wanted)
        number = {n: i for i, n in enumerate(self._order)}
        if known is not None and chosen not in known.kept:
            positions = tuple([identities.index(identity) for identity in found])
            known.kept[chosen] = _kept(list(found.values()), positions, number)
        elif known is None and self._key is not None:
            _remember(self._key, Structure(tuple([number[leaf] for leaf in self.leaves])))
        return found


def _kept(results: list[Node], leaves: tuple[int, ...], number: dict[Node, int]) -> Kept | None:
    made = toposort(results, lambda n: () if n in number else n.src)
    if any(n not in number and n.op in _LIKE_NO_OTHER for n in made):
        return None
    sources = [n for n in made if n in number]
    if not sources:  # a constant
        return None
    return Kept(template(sources, results), tuple([number[n] for n in sources]), leaves)


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
    stack = [root]
    while stack:  # on the path of every eager step
        n = stack[-1]
        if n in number:
            stack.pop()
            continue
        op, arg = n.op, n.arg
        sources: list[int] = []
        if op is ops.BUFFER:
            if arg.history is not None or arg.cut:
                return None, []
            arg = None if arg.identity is None else identities.setdefault(arg.identity, len(identities))
        elif op is ops.CONST:
            arg = arg if arg.source is None else None
        else:
            for s in n.src:
                found = number.get(s)
                if found is None:
                    stack.append(s)
                else:
                    sources.append(found)
            if stack[-1] is not n:
                continue
            if op is ops.LEAF:
                arg = identities.setdefault(arg, len(identities))
            elif op in _OPAQUE:
                return None, []
        number[n] = len(rows)
        rows.append((op, arg, n.type, tuple(sources)))
        order.append(n)
        stack.pop()
    return tuple(rows), order
