"""The one node type of every stage: an interned, slotted value. This module knows no op.

Two nodes with the same op, sources, argument and type are the same object, so `is` compares graphs,
dictionaries keyed by nodes cost one identity hash, and common subexpressions are shared from the start.
"""
from __future__ import annotations

from _weakref import _remove_dead_weakref  # type: ignore[attr-defined]  # as WeakValueDictionary does
from collections.abc import Callable, Hashable
from typing import Any
from weakref import ref


class Op:
    """One row of a stage's op set. `arity` is the number of sources (-1: any). Identity is equality."""

    __slots__ = ("name", "kind", "arity", "doc")

    def __init__(self, name: str, kind: str, arity: int, doc: str = "") -> None:
        self.name, self.kind, self.arity, self.doc = name, kind, arity, doc

    def __repr__(self) -> str:
        return self.name


class Node:
    """`op(src..., arg): type`. Make one with `node(...)`, never directly.

    `realized` is the runtime's note: a weak reference to the leaf that holds this node's value, or None.
    """

    __slots__ = ("op", "src", "arg", "type", "realized", "__weakref__")
    op: Op
    src: tuple[Node, ...]
    arg: Any
    type: Any
    realized: ref[Node] | None

    def __repr__(self) -> str:
        sources = ", ".join(s.op.name.lower() for s in self.src)
        arg = f", arg={self.arg!r}" if self.arg is not None else ""
        return f"<{self.op.name.lower()}({sources}{arg}): {self.type}>"

    # graph nodes and kernel nodes differ in their type; these read through it
    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.shape  # type: ignore[no-any-return]

    @property
    def dtype(self) -> Any:
        return self.type.dtype

    @property
    def device(self) -> Any:
        return self.type.device


class _Entry(ref[Node]):
    __slots__ = ("key",)
    key: tuple[Any, ...]


_table: dict[tuple[Any, ...], _Entry] = {}


def _forget(entry: _Entry, table: dict[tuple[Any, ...], _Entry] = _table,
            remove: Callable[..., None] = _remove_dead_weakref) -> None:
    remove(table, entry.key)  # in one step, unless another thread has made the node anew


def node(op: Op, src: tuple[Node, ...], arg: Hashable, type: Any) -> Node:
    """The interned node. Sources are compared by identity, `arg` by equality: never put a bare float in."""
    key = (op, src, arg, type)
    entry = _table.get(key)
    if entry is not None:
        found = entry()
        if found is not None:
            return found
    made = Node()
    made.op, made.src, made.arg, made.type, made.realized = op, src, arg, type, None
    entry = _Entry(made, _forget)
    entry.key = key
    while (first := _table.setdefault(key, entry)) is not entry:  # another thread may have made it meanwhile
        found = first()
        if found is not None:
            return found
        _remove_dead_weakref(_table, key)
    return made


def interned_count() -> int:
    """How many nodes are alive, in all stages together."""
    return len(_table)
