"""Which commands may run side by side: a barrier stands before the first that depends on one before it."""
from __future__ import annotations

from collections.abc import Sequence

Access = tuple[frozenset[int], frozenset[int]]  # buffers read, buffers written


def barriers(commands: Sequence[Access]) -> tuple[bool, ...]:
    """For each command whether everything before it must be complete."""
    read: set[int] = set()
    written: set[int] = set()
    flags = []
    for reads, writes in commands:
        conflict = bool(reads & written or writes & written or writes & read)
        if conflict:
            read, written = set(), set()
        flags.append(conflict)
        read |= reads
        written |= writes
    return tuple(flags)
