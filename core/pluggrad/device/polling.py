"""Waiting for a driver in Python only, so that Ctrl-C ends it."""
from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_AT_ONCE: Final = 50e-6  # seconds in which it looks without pause: shorter than the system's shortest sleep
# then it looks again after a share of the time that it has taken: late by a few percent, and idle meanwhile
_PATIENCE: Final = 1 / 16
_LONGEST_SLEEP: Final = 0.02


def poll(complete: Callable[[], bool]) -> None:
    """Return when `complete()` is true, which returns at once itself; what it raises ends the wait."""
    started = time.perf_counter()
    while not complete():
        waited = time.perf_counter() - started
        if waited > _AT_ONCE:
            time.sleep(min(waited * _PATIENCE, _LONGEST_SLEEP))
