"""The double of pyobjc's `objc`: autorelease pools, which end in the reverse of the order they began in."""

from __future__ import annotations

from machine import MACHINE


class autorelease_pool:
    """A context manager; entered once, and left by the thread that entered it."""

    def __enter__(self) -> None:
        if not hasattr(MACHINE.pools, "open"):
            MACHINE.pools.open = []
        MACHINE.pools.open.append(self)

    def __exit__(self, *error: object) -> None:
        open_ = getattr(MACHINE.pools, "open", [])
        MACHINE.expect(open_ and open_[-1] is self, "an autorelease pool is drained out of order")
        open_.pop()
