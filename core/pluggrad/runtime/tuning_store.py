"""What searches found for the kernels of a device, on disk: one file for each target and compiler version.

An entry is the change of capabilities under which the heuristics choose a kernel's schedule, by the digest of
the kernel before it is scheduled.
"""
from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from pluggrad.runtime import cache

if TYPE_CHECKING:
    from pluggrad.tune.search import Change, Found


class TuningStore:
    """Of one session, whose `context` names target and compiler. found: what was searched for in this
    process, by the kernels' names, in order."""

    def __init__(self, context: str) -> None:
        self._file = hashlib.sha256(context.encode()).hexdigest()
        self._changes = self._stored()
        self.found: list[tuple[str, Found]] = []

    def __bool__(self) -> bool:
        return bool(self._changes)

    @property
    def key(self) -> str:
        """What plans depend on; empty where nothing was ever tuned."""
        return json.dumps(self._changes, sort_keys=True) if self._changes else ""

    def get(self, name: str) -> Change | None:
        """The entry of a kernel; None where nobody searched for it."""
        return self._changes.get(name)

    def keep(self, name: str, change: Change) -> None:
        """Write an entry at once, beside what other processes found: Ctrl-C later loses none of it."""
        self._changes = {**self._stored(), **self._changes, name: change}
        cache.store("tuned", self._file, json.dumps(self._changes).encode())

    def _stored(self) -> dict[str, Change]:
        """What lies on disk; nothing where it cannot be read."""
        content = cache.load("tuned", self._file)
        try:
            return {str(kernel): tuple([(str(name), value + 0) for name, value in change])
                    for kernel, change in json.loads(content or b"{}").items()}
        except (ValueError, TypeError, AttributeError):
            return {}
