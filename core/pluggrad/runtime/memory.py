"""Memory of one open device: pooling by size, accounting, and the retry when a device is out of memory."""
from __future__ import annotations

import os
import threading
from collections import defaultdict
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Final

from pluggrad.device.contract import Allocation, Allocator
from pluggrad.errors import DeviceLost, OutOfMemoryError
from pluggrad.runtime.queue import Queue

# of all pools; a finalizer may give back while this thread is in take()
_lock: Final = threading.RLock()


@dataclass(slots=True)
class MemoryStats:
    """Bytes of a device's memory: `used` by live tensors, `pooled` free but kept for reuse, and `peak`.

    `peak` is the largest `used` since the start or `reset_peak_memory_stats`, what was needed in between
    while kernels ran included. Fields can be had by name too: `stats["used"]`.
    """

    used: int = 0
    pooled: int = 0
    peak: int = 0

    @property
    def reserved(self) -> int:
        """What the device has given: used and pooled."""
        return self.used + self.pooled

    def __getitem__(self, name: str) -> int:
        return getattr(self, name)  # type: ignore[no-any-return]

    def __str__(self) -> str:
        return ", ".join(f"{_readable(self[name])} {text}" for name, text in (
            ("used", "in use"), ("pooled", "pooled"), ("peak", "at most in use")))


class MemoryReport(dict[str, MemoryStats]):
    """Figures by device name; `print` shows a line for each."""

    def __str__(self) -> str:
        return "\n".join(f"{name}: {stats}" for name, stats in self.items()) or "no device in use"


def _readable(count: int) -> str:
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


class Block:
    """One allocation, its size rounded up to the pool's size class."""

    __slots__ = ("allocation", "nbytes", "capacity")

    def __init__(self, allocation: Allocation, nbytes: int, capacity: int) -> None:
        self.allocation, self.nbytes, self.capacity = allocation, nbytes, capacity


def size_class(nbytes: int) -> int:
    """Sizes that share free blocks: powers of two in eight steps, so that at most an eighth is wasted."""
    if nbytes <= 512:
        return 512
    step = 1 << max(nbytes.bit_length() - 4, 6)
    return (nbytes + step - 1) // step * step


def release(allocator: Allocator, allocation: Allocation) -> None:
    """Give memory back to a device; a lost one has taken it already."""
    with suppress(DeviceLost):
        allocator.free(allocation)


class Pool:
    """Free blocks by size class: a repeated step takes what the last one gave back, without page faults.

    Lists in flight on `queue` may still use a free block: whoever takes it next comes after them. Only before
    a block goes back to the device, they have to be complete.
    """

    def __init__(self, allocator: Allocator, name: str, queue: Queue | None = None,
                 keep_bytes: int = 4 << 30) -> None:
        self._allocator, self._name, self._queue, self._keep = allocator, name, queue, keep_bytes
        self._free: dict[int, list[Block]] = defaultdict(list)
        self.stats = MemoryStats()

    def take(self, nbytes: int) -> Block:
        """A block of at least `nbytes`; OutOfMemoryError if giving pooled memory back does not help."""
        capacity = size_class(nbytes)
        with _lock:
            free = self._free[capacity]
            if free:
                block = free.pop()
                block.nbytes = nbytes
                self.stats.pooled -= capacity
            else:
                block = Block(self._alloc(capacity), nbytes, capacity)
            stats = self.stats
            stats.used += capacity
            if stats.used > stats.peak:
                stats.peak = stats.used
            return block

    def _alloc(self, capacity: int) -> Allocation:
        with nullcontext() if self._queue is None else self._queue:
            return self._from_device(capacity)

    def _from_device(self, capacity: int) -> Allocation:
        try:
            return self._allocator.alloc(capacity)
        except MemoryError:
            self.trim()
        try:
            return self._allocator.alloc(capacity)
        except MemoryError as error:
            raise OutOfMemoryError(
                op=f"alloc on {self._name}", expected=f"{capacity:,} bytes of free memory",
                got=f"none ({self.stats.used:,} bytes in use by live tensors)",
                hint="Drop tensors that are no longer needed, or use a smaller batch") from error

    def reset_peak(self) -> None:
        """Let `stats.peak` begin anew from what is in use."""
        with _lock:
            self.stats.peak = self.stats.used

    def give(self, block: Block) -> None:
        """Return a block after its last use."""
        with _lock:
            self.stats.used -= block.capacity
            self.stats.pooled += block.capacity
            self._free[block.capacity].append(block)
            if self.stats.pooled > self._keep and not self._queue:  # nothing in flight
                self._shrink(self._keep)

    def trim(self) -> None:
        """Give every pooled block back to the device, when what is in flight is complete."""
        with _lock:
            if self._queue is not None:
                self._queue.wait()
            self._shrink(0)

    def _shrink(self, keep_bytes: int) -> None:
        """Give blocks back, large ones first, until no more than `keep_bytes` are pooled."""
        for capacity in sorted(self._free, reverse=True):
            blocks = self._free[capacity]
            while blocks and self.stats.pooled > keep_bytes:
                self.stats.pooled -= capacity
                release(self._allocator, blocks.pop().allocation)


if hasattr(os, "register_at_fork"):  # a child must not inherit a pool that another thread was changing
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
