"""Status words: how kernels say that an index found in data was out of range, and what becomes of it."""
from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from pluggrad.device.contract import Device
from pluggrad.errors import TensorIndexError
from pluggrad.kernel.kernel import IndexCheck
from pluggrad.runtime.memory import release


class StatusWords:
    """An int64 on a device for each check of a plan, as long-lived as it: 0, or an index out of range."""

    __slots__ = ("allocation", "_checks", "_allocator", "_words", "__weakref__")

    def __init__(self, device: Device, checks: Sequence[IndexCheck]) -> None:
        self._checks, self._allocator = checks, device.allocator
        self.allocation = self._allocator.alloc(8 * len(checks))
        self._words: Any = None
        if "zero_copy" in device.target.capabilities.features:
            shared = self._allocator.host_view(self.allocation)  # type: ignore[attr-defined]
            self._words = shared.cast("B")[:8 * len(checks)].cast("q")
        self._clear()
        weakref.finalize(self, release, self._allocator, self.allocation).atexit = False

    def _clear(self) -> None:
        self._allocator.copyin(self.allocation, 0, memoryview(bytes(8 * len(self._checks))))

    def _read(self) -> Sequence[int]:
        if self._words is not None:
            return self._words  # type: ignore[no-any-return]
        found = memoryview(bytearray(8 * len(self._checks)))
        self._allocator.copyout(found, self.allocation, 0)
        return found.cast("q")

    def take(self) -> TensorIndexError | None:
        """The error for what the last run met, once; None where all indices were in range."""
        words = self._read()
        if not any(words):
            return None
        check, index = next((check, word) for check, word in zip(self._checks, words, strict=True) if word)
        self._clear()
        size, hint = check.extent, "It is in the data, so it was found when the result was computed"
        expected = f"an index in [{-size}, {size - 1}] on axis {check.axis} of size {size}"
        if check.axis is None:
            expected, hint = f"a label in [0, {size - 1}]", hint + "; to leave it out, pass ignore_index"
        return TensorIndexError(op=check.op, expected=expected, got=str(index), hint=hint)
