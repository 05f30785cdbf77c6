"""How much of a device's memory an allocator hands out, where the driver would promise more than there is."""
from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pluggrad.errors import OutOfMemoryError


class MemoryBudget:
    """Bytes that an allocator has handed out: `limit` of them at most, and `largest` in one request.

    name: of the device, for errors. Its lock is its own, so that nobody who counts waits for a driver.
    """

    def __init__(self, name: str, limit: int, largest: int | None = None) -> None:
        self._name, self._limit, self._largest = name, limit, limit if largest is None else largest
        self._used = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Bytes in use."""
        return self._used

    @contextmanager
    def taking(self, nbytes: int) -> Iterator[None]:
        """Around the driver's call: OutOfMemoryError before it if there is no room; uncounted if it fails."""
        with self._lock:
            if nbytes > min(self._limit - self._used, self._largest):
                raise self.exhausted(nbytes)
            self._used += nbytes
        try:
            yield
        except BaseException:
            self.give(nbytes)
            raise

    def give(self, nbytes: int) -> None:
        """Bytes that came back."""
        with self._lock:
            self._used -= nbytes

    def exhausted(self, nbytes: int) -> OutOfMemoryError:
        """The error for a request that the budget, or the driver, does not grant."""
        pieces = f", in pieces of {self._largest:,} at most" if self._largest < self._limit else ""
        return OutOfMemoryError(
            op=f"memory of {self._name}",
            expected=f"at most {self._limit:,} bytes, of which {self._used:,} are in use{pieces}",
            got=f"a request for {nbytes:,} bytes", hint="Free tensors, or use smaller ones")
