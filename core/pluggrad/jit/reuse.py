"""Results of a captured function that nobody has any more: the next call computes its own in their place.

A small result costs less than taking its memory from the pool, making its leaf, and giving both back. In
`r = f(x)` the last result lives until the call is over: so the one before it is remembered, too.
"""
from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

from pluggrad.dtypes import float32
from pluggrad.graph.types import tensor_type
from pluggrad.ir.node import Node
from pluggrad.runtime.storage import BufferVersion, Storage, stored
from pluggrad.target import DeviceId

MOST_BYTES: Final = 512 << 10  # of a result that is kept: what writes more takes far longer than the pool
Leaves = dict[int, tuple[Node, ...]]  # by the number of a result, the last that were given out
_references: Final[Callable[[Any], int]] = getattr(sys, "getrefcount", lambda _: 0)


def _unheld(leaves: Leaves, alone: int) -> dict[int, Node]:
    """By number a leaf that is as it was given and that nobody else holds.

    alone: how many references there are then to it, its version and its memory."""
    found = {}
    for number, given in leaves.items():
        for leaf in reversed(given):
            version = leaf.arg
            storage = version.storage
            if _references(leaf) + _references(version) + _references(storage) != alone:
                continue
            if not (storage.exported or storage.fault or version.identity or version.history):
                found[number] = leaf
                break
    return found


class _NoMemory:
    """Stands for a pool in the leaf that is measured."""

    def take(self, nbytes: int) -> Any:
        return None

    def give(self, block: Any) -> None:
        return


def _measured() -> int:
    """How many holders a leaf has that only a table holds: the interpreter's own references count, too.

    Where references are not counted, a number that no leaf has."""
    device = DeviceId("none")
    leaves: Leaves = {
        0: (stored(BufferVersion(Storage(device, _NoMemory(), 0)), tensor_type((), float32, device)),)}
    return next((count for count in range(3, 64) if _unheld(leaves, count)), -1)


_ALONE: Final = _measured()


def remember(leaves: Leaves, number: int, leaf: Node) -> None:
    """Note a leaf that is given out."""
    others = [given for given in leaves.get(number, ()) if given.arg is not leaf.arg]
    leaves[number] = (*others[-1:], leaf)


def dropped(leaves: Leaves) -> dict[int, Node]:
    """By number the leaf of a result that nobody has any more and that is as it was given."""
    found = _unheld(leaves, _ALONE)
    for leaf in found.values():
        leaf.arg.owner = None
    return found
