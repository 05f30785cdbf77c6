"""Ctrl-C, which may come at any instruction. It waits while handles are without their values and while memory
is written over, so that no tensor is lost; it comes at once while something new is computed or compiled."""
from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from signal import SIGINT
from typing import Any, Final

# what `signal` wraps: its conversions to enumerations cost 8 us a realization
_signal: Final = importlib.import_module("_signal")


class _Held:
    """`with held:` lets Ctrl-C wait until the block is done; a second one does not wait. Entered under the
    runtime's lock; does nothing outside the main thread, where Python delivers signals."""

    def __init__(self) -> None:
        self.depth = 0  # blocks entered: above 0 Ctrl-C waits
        self._previous: Callable[[int, Any], Any] | None = None
        self.waiting = self.open = False

    def __enter__(self) -> None:
        if threading.get_ident() != threading.main_thread().ident:
            return
        if self.depth == 0:
            previous = _signal.getsignal(SIGINT)
            if callable(previous) and previous != self._arrived:
                self._previous, self.waiting, self.open = previous, False, False
                _signal.signal(SIGINT, self._arrived)
        self.depth += 1  # last: what interrupts the lines before leaves the block unentered

    def __exit__(self, *error: object) -> None:
        if threading.get_ident() != threading.main_thread().ident:
            return
        self.depth -= 1
        if self.depth == 0 and self._previous is not None:
            _signal.signal(SIGINT, self._previous)
            self.deliver()
            self._previous = None

    def _arrived(self, number: int, frame: object) -> None:
        if self.open or self.waiting:
            self.waiting = True
            self.deliver()
        self.waiting = True

    def deliver(self) -> None:
        """Do now what Ctrl-C does, if one waits."""
        if self.waiting and self._previous is not None:
            self.waiting = False
            self._previous(SIGINT, None)


class _AtOnce:
    """`with at_once:` inside `with held:`: nothing is lost here if Ctrl-C comes."""

    def __enter__(self) -> None:
        if threading.get_ident() == threading.main_thread().ident:
            held.open = True
            held.deliver()

    def __exit__(self, *error: object) -> None:
        if threading.get_ident() == threading.main_thread().ident:
            held.open = False


held: Final = _Held()
at_once: Final = _AtOnce()
