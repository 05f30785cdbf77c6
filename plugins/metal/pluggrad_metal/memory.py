"""Memory of a Metal device: buffers that the host shares where memory is unified, else private ones."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import Metal
import objc

from pluggrad.plugin_api import Allocator, KernelFault, MemoryBudget
from pluggrad_metal.encoder import Encoder
from pluggrad_metal.queue import Queue

_UNIT: Final = 16  # sizes are multiples of it, so that a row's last vector may be read whole
_STAGED: Final = 4 << 20  # data up to this size is staged, to return before earlier work is complete
_PIECE: Final = 16 << 20  # of private memory copied at a time: between them Ctrl-C is seen


class Block:
    """`nbytes` of a buffer from `offset` on; `base` is the block that a view is a part of."""

    __slots__ = ("buffer", "offset", "nbytes", "base", "_host")

    def __init__(self, buffer: Any, offset: int, nbytes: int, base: Block | None = None) -> None:
        self.buffer, self.offset, self.nbytes, self.base = buffer, offset, nbytes, base
        self._host: memoryview | None = None

    def check(self, offset: int, nbytes: int) -> None:
        """KernelFault if these bytes are not within the block."""
        if offset < 0 or offset + nbytes > self.nbytes:
            raise KernelFault(op="copy", expected=f"bytes within a block of {self.nbytes}",
                              got=f"{nbytes} bytes at offset {offset}")

    @property
    def host(self) -> memoryview:
        """The bytes themselves, of a buffer that the host shares; they last as long as the block does."""
        if self._host is None:
            self._host = shared_bytes(self.buffer)[self.offset:self.offset + self.nbytes]
        return self._host


def shared_bytes(buffer: Any) -> memoryview:
    """All bytes of a buffer in shared memory."""
    with objc.autorelease_pool():
        return memoryview(buffer.contents().as_buffer(buffer.length())).cast("B")


class MetalAllocator(Allocator):
    """Buffers in memory of the device's own: what the host reads and writes goes through shared ones.

    It hands out `limit` bytes at most: beyond the working set that the system recommends, memory is paged.
    encoder: starts a command list.
    """

    storage: int = Metal.MTLResourceStorageModePrivate

    def __init__(self, queue: Queue, encoder: Callable[[], Encoder], limit: int, largest: int) -> None:
        self.queue, self._encoder = queue, encoder
        self._budget = MemoryBudget(queue.name, limit, largest)

    def alloc(self, nbytes: int, kind: str = "device") -> Block:
        """Memory of `nbytes`; OutOfMemoryError if there is none."""
        size = _size(nbytes)
        with self._budget.taking(size), self.queue:
            buffer = self.queue.device.newBufferWithLength_options_(size, self.storage)
            if buffer is None:
                raise self._budget.exhausted(nbytes)
        return Block(buffer, 0, nbytes)

    def free(self, allocation: Block) -> None:
        """Give a block back; a view has nothing to give back. Commands in flight keep their buffers."""
        if allocation.base is not None:
            return
        self._budget.give(_size(allocation.nbytes))
        allocation._host = allocation.buffer = None

    def copyin(self, allocation: Block, offset: int, data: memoryview) -> None:
        """Copy contiguous host bytes to `offset`; waits for what runs before only if they are many."""
        if not data.nbytes:
            return
        allocation.check(offset, data.nbytes)
        source = data.cast("B")
        for start in range(0, source.nbytes, _PIECE):
            piece = source[start:start + _PIECE]
            self._stage(allocation, offset + start, piece)
            if source.nbytes > _STAGED:
                self.queue.wait()

    def _stage(self, allocation: Block, offset: int, data: memoryview) -> None:
        """Copy bytes to a buffer of their own, and from there in the queue's order."""
        with self._encoder() as encoder:
            staged = self.queue.device.newBufferWithBytes_length_options_(
                data, data.nbytes, Metal.MTLResourceStorageModeShared)
            if staged is None:
                raise self._budget.exhausted(data.nbytes)
            encoder.copy(allocation.buffer, allocation.offset + offset, staged, 0, data.nbytes)

    def copyout(self, data: memoryview, allocation: Block, offset: int) -> None:
        """Copy from `offset` into contiguous, writable host bytes."""
        if not data.nbytes:
            return
        allocation.check(offset, data.nbytes)
        target = data.cast("B")
        for start in range(0, target.nbytes, _PIECE):
            piece = target[start:start + _PIECE]
            with self._encoder() as encoder:
                staged = self.queue.device.newBufferWithLength_options_(
                    _size(piece.nbytes), Metal.MTLResourceStorageModeShared)
                if staged is None:
                    raise self._budget.exhausted(piece.nbytes)
                encoder.copy(staged, 0, allocation.buffer, allocation.offset + offset + start, piece.nbytes)
            self.queue.wait_for(encoder.buffers)
            piece[:] = shared_bytes(staged)[:piece.nbytes]

    def view(self, allocation: Block, offset: int, nbytes: int) -> Block:
        """Part of a block, from a multiple of the alignment on; it keeps the block's memory."""
        size = nbytes or allocation.nbytes - offset
        allocation.check(offset, size)
        return Block(allocation.buffer, allocation.offset + offset, size, allocation)


class UnifiedAllocator(MetalAllocator):
    """Buffers in memory that the host shares: it reads and writes them in place (feature `zero_copy`)."""

    storage: int = Metal.MTLResourceStorageModeShared

    def copyin(self, allocation: Block, offset: int, data: memoryview) -> None:
        """Copy contiguous host bytes to `offset`; small ones are staged while earlier work is running."""
        if not data.nbytes:
            return
        allocation.check(offset, data.nbytes)
        if data.nbytes <= _STAGED and self.queue.busy():
            self._stage(allocation, offset, data.cast("B"))
            return
        self.queue.wait()
        allocation.host[offset:offset + data.nbytes] = data.cast("B")

    def copyout(self, data: memoryview, allocation: Block, offset: int) -> None:
        """Copy from `offset` into contiguous, writable host bytes."""
        if not data.nbytes:
            return
        allocation.check(offset, data.nbytes)
        self.queue.wait()
        data.cast("B")[:] = allocation.host[offset:offset + data.nbytes]

    def host_view(self, allocation: Block) -> memoryview:
        """The memory itself."""
        return allocation.host


def _size(nbytes: int) -> int:
    return max(-(-nbytes // _UNIT), 1) * _UNIT
