"""Memory whose ends are watched: what lies behind an allocation faults when it is touched.

An allocation ends at a page that nobody may touch, but for the bytes to the next multiple of its alignment.
Those, and some before it, hold a pattern that is looked at after each launch.
"""
from __future__ import annotations

import ctypes
import mmap
from dataclasses import dataclass
from typing import Final

from pluggrad.device.contract import Allocator
from pluggrad.errors import KernelFault, OutOfMemoryError

_PAGE: Final = mmap.PAGESIZE
_PATTERN: Final = b"\xa5"
_BEFORE: Final = 64  # bytes of the pattern
_MOST_BYTES: Final = 1 << 32  # that one allocation may have: tests ask for more than there is

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_PROT_NONE: Final = 0
_FAILED: Final = ctypes.c_void_p(-1).value


@dataclass(slots=True)
class Block:
    """`nbytes` from `address` on; `whole` is the allocation that it is of, itself if it is one.

    pages: where the mapping begins, and its length.
    """

    address: int
    nbytes: int
    pages: tuple[int, int]
    behind: int
    whole: Block | None = None

    def check(self) -> None:
        """KernelFault if what surrounds the allocation was written to."""
        block = self.whole or self
        before = ctypes.string_at(block.address - _BEFORE, _BEFORE)
        after = ctypes.string_at(block.address + block.nbytes, block.behind)
        if before != _PATTERN * _BEFORE or after != _PATTERN * block.behind:
            raise KernelFault(op="launch", expected=f"stores within {block.nbytes} bytes",
                              got="bytes just outside of them that have changed")


class GuardedAllocator(Allocator):
    """Host memory between guards."""

    def __init__(self, alignment: int) -> None:
        self._alignment = alignment

    def alloc(self, nbytes: int, kind: str = "device") -> Block:
        """Memory of `nbytes`, filled with a pattern; OutOfMemoryError above 4 GB."""
        if nbytes > _MOST_BYTES:
            raise OutOfMemoryError(op="alloc", expected=f"at most {_MOST_BYTES} bytes", got=str(nbytes))
        used = -(-nbytes // self._alignment) * self._alignment
        inner = -(-(used + _BEFORE) // _PAGE) * _PAGE
        start = _libc.mmap(None, inner + _PAGE, mmap.PROT_READ | mmap.PROT_WRITE,
                           mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        if start == _FAILED:
            raise OutOfMemoryError(op="alloc", expected="memory of the host", got=str(nbytes))
        _libc.mprotect(start + inner, _PAGE, _PROT_NONE)
        address = start + inner - used
        ctypes.memset(address - _BEFORE, _PATTERN[0], _BEFORE)
        ctypes.memset(address + nbytes, _PATTERN[0], used - nbytes)
        return Block(address, nbytes, (start, inner + _PAGE), used - nbytes)

    def free(self, allocation: Block) -> None:
        """Unmap it: whoever still uses it faults."""
        _libc.munmap(*allocation.pages)

    def copyin(self, allocation: Block, offset: int, data: memoryview) -> None:
        """Copy host bytes to `offset`."""
        if data.nbytes:
            self._bytes(allocation, offset, data.nbytes)[:] = data.cast("B")

    def copyout(self, data: memoryview, allocation: Block, offset: int) -> None:
        """Copy from `offset` into host bytes."""
        if data.nbytes:
            data.cast("B")[:] = self._bytes(allocation, offset, data.nbytes)

    def view(self, allocation: Block, offset: int, nbytes: int) -> Block:
        """Part of an allocation; its inner ends are not watched."""
        whole = allocation.whole or allocation
        size = nbytes or allocation.nbytes - offset
        return Block(allocation.address + offset, size, whole.pages, whole.behind, whole)

    def _bytes(self, allocation: Block, offset: int, nbytes: int) -> memoryview:
        if offset < 0 or offset + nbytes > allocation.nbytes:
            raise KernelFault(op="copy", expected=f"bytes within a block of {allocation.nbytes}",
                              got=f"{nbytes} bytes at offset {offset}")
        return memoryview((ctypes.c_ubyte * nbytes).from_address(allocation.address + offset)).cast("B")
