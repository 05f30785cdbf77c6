"""When work items of a group have to wait for each other: before they read what others have stored to local
memory, and before they store where others may still read."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pluggrad.lower.program import Instr


@dataclass(frozen=True, slots=True)
class Pending:
    """The local buffers that were read and stored to since the items last waited for each other."""

    reads: frozenset[int] = frozenset()
    stores: frozenset[int] = frozenset()

    def conflicts(self, later: Pending) -> bool:
        """Whether the items have to wait before what comes later."""
        return bool(self.stores & (later.reads | later.stores) or self.reads & later.stores)

    def also(self, other: Pending) -> Pending:
        """Both."""
        return Pending(self.reads | other.reads, self.stores | other.stores)


def of_items(body: Sequence[Instr]) -> set[int]:
    """The instructions whose values may differ from work item to work item, by their ids."""
    varying: set[int] = set()
    before = -1
    while len(varying) > before:  # again: a loop may have set what stands before it
        before = len(varying)
        for i, instr in enumerate(body):
            if instr.op == "GREDUCE":
                continue  # every item gets the same
            if instr.op == "ITEM" or not varying.isdisjoint(instr.src):
                varying.add(instr.src[0] if instr.op == "SET" else i)
    return varying
