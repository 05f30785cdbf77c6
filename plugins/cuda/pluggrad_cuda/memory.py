"""Memory of a GPU: addresses, parts of them, and copies to and from the host through pinned memory."""
from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from pluggrad.plugin_api import Allocator, DeviceLost, KernelFault, MemoryBudget, OutOfMemoryError
from pluggrad_cuda import driver, libcuda
from pluggrad_cuda.queue import Mark, Queue

PIECE: Final = 4 << 20  # bytes of a copy at a time: while one piece is filled another is under way
_RING: Final = 4 * PIECE
_APART: Final = 64  # bytes


class Block:
    """`nbytes` from `address` on. `memory` is pycuda's handle; a view has none, and keeps its `base`."""

    __slots__ = ("address", "nbytes", "memory", "base")

    def __init__(self, address: int, nbytes: int, memory: Any = None, base: Block | None = None) -> None:
        self.address, self.nbytes, self.memory, self.base = address, nbytes, memory, base

    def check(self, offset: int, nbytes: int) -> None:
        """KernelFault if these bytes are not within the block."""
        if offset < 0 or offset + nbytes > self.nbytes:
            raise KernelFault(op="copy", expected=f"bytes within a block of {self.nbytes}",
                              got=f"{nbytes} bytes at offset {offset}")


class Staging:
    """A ring of pinned host memory: each part is in use until the copy behind it is complete."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._ring: Any = None  # made at the first copy
        self._next = 0  # bytes handed out since the beginning
        self._used: deque[tuple[int, Mark]] = deque()  # where each part begins, in the order of the stream

    @contextmanager
    def part(self, nbytes: int) -> Iterator[Any]:
        """`nbytes`, PIECE at most, that nothing uses, for a copy that is enqueued in the block."""
        begin = self._take(nbytes)
        try:
            yield self._ring[begin % _RING:][:nbytes]
        finally:
            with self._queue as queue:
                self._used.append((begin, queue.mark()))

    def _take(self, nbytes: int) -> int:
        if self._ring is None:
            with self._queue:
                self._ring = driver.cuda().pagelocked_empty(_RING, np.uint8)
        begin = self._next
        if begin % _RING + nbytes > _RING:
            begin += -begin % _RING
        end = begin + nbytes + -nbytes % _APART
        while self._used and end - self._used[0][0] > _RING:
            self._queue.wait_for(self._used[0][1])
            self._used.popleft()
        self._next = end
        return begin

    def close(self) -> None:
        """Give the memory back; the caller has waited, and holds the queue."""
        self._used.clear()
        self._ring = None


class CudaAllocator(Allocator):
    """Memory of one GPU: `limit` bytes at most are handed out. Copies take their turn in its stream."""

    def __init__(self, queue: Queue, limit: int) -> None:
        self.queue = queue
        self._budget = MemoryBudget(queue.name, limit)
        self._staging = Staging(queue)
        self._copying = threading.RLock()  # of the ring
        self._peers: dict[int, bool] = {}

    def alloc(self, nbytes: int, kind: str = "device") -> Block:
        """Memory of `nbytes`; OutOfMemoryError if there is none."""
        size = max(nbytes, 1)
        with self._budget.taking(size):
            memory = self._from_driver(size)
        return Block(int(memory), nbytes, memory)

    def _from_driver(self, size: int) -> Any:
        with self.queue:
            try:
                return driver.cuda().mem_alloc(size)
            except driver.cuda().MemoryError as error:
                free, total = driver.cuda().mem_get_info()
                raise OutOfMemoryError(
                    op=f"memory of {self.queue.name}",
                    expected=f"{size:,} bytes in one piece", got=f"{free:,} free bytes of {total:,}",
                    hint="Free tensors, or use smaller ones; nvidia-smi shows what other processes hold",
                ) from error

    def free(self, allocation: Block) -> None:
        """Give a block back when no copy uses it any more; a view has nothing to give back."""
        if allocation.base is not None:
            return
        try:
            self.queue.wait()
            with self.queue:
                allocation.memory.free()
        except (DeviceLost, KernelFault):
            driver.abandon(allocation.memory)
            raise
        finally:
            allocation.memory = None
            self._budget.give(max(allocation.nbytes, 1))

    def copyin(self, allocation: Block, offset: int, data: memoryview) -> None:
        """Copy contiguous host bytes to `offset`, in pieces; the last may be under way on return."""
        if not data.nbytes:
            return
        allocation.check(offset, data.nbytes)
        source = np.frombuffer(data.cast("B"), np.uint8)
        with self._copying:
            for start in range(0, source.nbytes, PIECE):
                piece = source[start:start + PIECE]
                with self._staging.part(piece.nbytes) as staged:
                    staged[:] = piece
                    with self.queue as queue:
                        driver.cuda().memcpy_htod_async(allocation.address + offset + start, staged,
                                                        queue.stream)

    def copyout(self, data: memoryview, allocation: Block, offset: int) -> None:
        """Copy from `offset` into contiguous, writable host bytes: one piece is read while the next moves."""
        if not data.nbytes:
            return
        allocation.check(offset, data.nbytes)
        target = np.frombuffer(data.cast("B"), np.uint8)
        self.queue.wait()
        with self._copying:
            moving: tuple[Mark, Any, Any] | None = None
            for start in range(0, target.nbytes, PIECE):
                piece = target[start:start + PIECE]
                with self._staging.part(piece.nbytes) as staged, self.queue as queue:
                    driver.cuda().memcpy_dtoh_async(staged, allocation.address + offset + start, queue.stream)
                    mark = queue.mark()
                self._arrive(moving)
                moving = mark, piece, staged
            self._arrive(moving)

    def _arrive(self, moving: tuple[Mark, Any, Any] | None) -> None:
        if moving is not None:
            mark, piece, staged = moving
            self.queue.wait_for(mark)
            piece[:] = staged

    def view(self, allocation: Block, offset: int, nbytes: int) -> Block:
        """Part of a block; it keeps the block's memory."""
        size = nbytes or allocation.nbytes - offset
        allocation.check(offset, size)
        return Block(allocation.address + offset, size, base=allocation)

    # ---- peers ---------------------------------------------------------------------------------------------
    def can_access(self, other: Allocator) -> bool:
        """Whether the two GPUs reach each other's memory, over NVLink or PCIe; switches that on."""
        if not isinstance(other, CudaAllocator):
            return False
        index = other.queue.gpu.index
        if index not in self._peers:
            self._peers[index] = self._enable(other)
        return self._peers[index]

    def _enable(self, other: CudaAllocator) -> bool:
        with self.queue as queue:
            if not queue.gpu.handle.can_access_peer(other.queue.gpu.handle):
                return False
            try:
                driver.cuda().Context.enable_peer_access(other.queue.context)
            except driver.cuda().Error as error:
                return libcuda.code_in(str(error)) == libcuda.PEER_ACCESS_ALREADY_ENABLED
        return True

    def copy_peer(self, target: Block, target_offset: int, other: Allocator, source: Block,
                  source_offset: int, nbytes: int) -> None:
        """Copy from a block of another GPU; complete on return."""
        assert isinstance(other, CudaAllocator)
        target.check(target_offset, nbytes)
        source.check(source_offset, nbytes)
        if not nbytes:
            return
        with self.queue as queue:
            # pycuda's memcpy_peer leaves the contexts that it is given unread
            libcuda.call("cuMemcpyPeerAsync", target.address + target_offset, int(queue.context.handle),
                         source.address + source_offset, int(other.queue.context.handle), nbytes,
                         queue.handle)
            mark = queue.mark()
        self.queue.wait_for(mark, "a copy between devices")

    def close(self) -> None:
        """Give the pinned memory back; the queue is empty."""
        with self.queue:
            self._staging.close()
