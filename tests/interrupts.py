"""Ctrl-C for tests, pressed while a block runs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def _press() -> None:
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # also ends a sleep of the thread's
    else:
        signal.raise_signal(signal.SIGINT)


@contextmanager
def ctrl_c(seconds: float) -> Iterator[None]:
    """Ctrl-C comes so long after the block began, unless that has ended."""
    timer = threading.Timer(seconds, _press)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
