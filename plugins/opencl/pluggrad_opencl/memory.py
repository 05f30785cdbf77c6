"""Memory of an OpenCL device: buffers, parts of them as kernel arguments, copies to and from the host."""
from __future__ import annotations

from contextlib import suppress
from typing import Final

import numpy as np
import pyopencl as cl

from pluggrad.plugin_api import Allocator, KernelFault, MemoryBudget
from pluggrad_opencl.queue import Queue

# host copies go in pieces: between them Ctrl-C is seen
_PIECE: Final = 16 << 20
# data is staged, to return before earlier work is complete, up to this size
_STAGED: Final = 4 << 20


class Block:
    """One buffer, or a view of one (`base`). A kernel argument at an offset is a sub-buffer, made once."""

    __slots__ = ("buffer", "nbytes", "base", "_parts")

    def __init__(self, buffer: cl.Buffer, nbytes: int, base: Block | None = None) -> None:
        self.buffer, self.nbytes, self.base = buffer, nbytes, base
        self._parts: dict[tuple[int, int], cl.Buffer] = {}

    def part(self, offset: int, nbytes: int) -> cl.Buffer:
        """The buffer of `nbytes` from `offset` on, which is a multiple of the device's alignment."""
        found = self._parts.get((offset, nbytes))
        if found is None:
            found = self._parts[offset, nbytes] = self.buffer.get_sub_region(offset, nbytes)
        return found

    def release(self) -> None:
        """Give the memory back now, whoever still names this block."""
        for part in self._parts.values():
            part.release()
        self._parts.clear()
        self.buffer.release()

    def check(self, offset: int, nbytes: int) -> None:
        """KernelFault if these bytes are not within the block."""
        if offset < 0 or offset + nbytes > self.nbytes:
            raise KernelFault(op="copy", expected=f"bytes within a block of {self.nbytes}",
                              got=f"{nbytes} bytes at offset {offset}")


class OpenCLAllocator(Allocator):
    """Buffers of one device. It hands out `limit` bytes at most: drivers promise more than there is."""

    def __init__(self, queue: Queue, context: cl.Context, limit: int) -> None:
        self.queue, self.context = queue, context
        self._budget = MemoryBudget(queue.name, limit, queue.device.max_mem_alloc_size)

    def alloc(self, nbytes: int, kind: str = "device") -> Block:
        """Memory of `nbytes`; OutOfMemoryError if there is none."""
        size = max(nbytes, 1)
        with self._budget.taking(size), self.queue:
            return Block(cl.Buffer(self.context, cl.mem_flags.READ_WRITE, size), nbytes)

    def free(self, allocation: Block) -> None:
        """Give a block back; a view has nothing to give back."""
        if allocation.base is not None:
            return
        self._budget.give(max(allocation.nbytes, 1))
        with suppress(cl.Error):  # of a lost device
            allocation.release()

    def copyin(self, allocation: Block, offset: int, data: memoryview) -> None:
        """Copy contiguous host bytes to `offset`; small ones are staged while earlier work is running."""
        if not data.nbytes:
            return
        allocation.check(offset, data.nbytes)
        source = np.frombuffer(data.cast("B"), np.uint8)
        if source.nbytes <= _STAGED and self.queue.busy():
            self.queue.write(allocation.buffer, offset, source.copy())
            return
        self.queue.wait()
        for start in range(0, source.nbytes, _PIECE):
            with self.queue as queue:
                cl.enqueue_copy(queue, allocation.buffer, source[start:start + _PIECE],
                                dst_offset=offset + start)

    def copyout(self, data: memoryview, allocation: Block, offset: int) -> None:
        """Copy from `offset` into contiguous, writable host bytes."""
        if not data.nbytes:
            return
        allocation.check(offset, data.nbytes)
        target = np.frombuffer(data.cast("B"), np.uint8)
        self.queue.wait()
        for start in range(0, target.nbytes, _PIECE):
            with self.queue as queue:
                cl.enqueue_copy(queue, target[start:start + _PIECE], allocation.buffer,
                                src_offset=offset + start)

    def view(self, allocation: Block, offset: int, nbytes: int) -> Block:
        """Part of a block, from a multiple of the alignment on; it keeps the block's memory."""
        size = nbytes or allocation.nbytes - offset
        allocation.check(offset, size)
        with self.queue:
            return Block(allocation.part(offset, size), size, allocation)

    def can_access(self, other: Allocator) -> bool:
        """Whether the other device is of the same platform."""
        return isinstance(other, OpenCLAllocator) and other.context == self.context

    def copy_peer(self, target: Block, target_offset: int, other: Allocator, source: Block,
                  source_offset: int, nbytes: int) -> None:
        """Copy from a block of another device of this platform; complete on return."""
        target.check(target_offset, nbytes)
        source.check(source_offset, nbytes)
        if not nbytes:
            return
        with self.queue as queue:
            event = cl.enqueue_copy(queue, target.buffer, source.buffer, byte_count=nbytes,
                                    src_offset=source_offset, dst_offset=target_offset)
            self.queue.sent(event)
        self.queue.wait()
