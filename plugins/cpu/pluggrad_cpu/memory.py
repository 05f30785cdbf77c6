"""Memory of the CPU device: aligned blocks of the process's own memory, large ones on huge pages."""
from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from pluggrad.plugin_api import Allocator, KernelFault, OutOfMemoryError

ALIGNMENT: Final = 64
_HUGE_PAGE: Final = 2 << 20
_LARGE: Final = 4 << 20  # below this a huge page wastes more than it saves in page faults
_MADV_HUGEPAGE: Final = 14
_WRITABLE: Final = 0x200  # PyBUF_WRITE

_bytes_at = ctypes.pythonapi.PyMemoryView_FromMemory
_bytes_at.argtypes = (ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)
_bytes_at.restype = ctypes.py_object


class Block:
    """`nbytes` of memory at `address`. Use after `free` raises AttributeError instead of crashing."""

    __slots__ = ("address", "nbytes", "base")

    def __init__(self, address: int, nbytes: int, base: Block | None = None) -> None:
        self.address, self.nbytes, self.base = address, nbytes, base

    def __repr__(self) -> str:
        return f"Block({self.nbytes} bytes)"


def _posix() -> tuple[Callable[[int, int], int], Callable[[int], object]]:
    libc = ctypes.CDLL(None)
    libc.posix_memalign.argtypes = (ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t, ctypes.c_size_t)
    libc.free.argtypes = (ctypes.c_void_p,)
    libc.free.restype = None

    def allocate(nbytes: int, alignment: int) -> int:
        place = ctypes.c_void_p()
        return 0 if libc.posix_memalign(ctypes.byref(place), alignment, nbytes) else place.value or 0

    return allocate, libc.free


def _windows() -> tuple[Callable[[int, int], int], Callable[[int], object]]:
    crt = ctypes.CDLL("msvcrt")
    crt._aligned_malloc.argtypes = (ctypes.c_size_t, ctypes.c_size_t)
    crt._aligned_malloc.restype = ctypes.c_void_p
    crt._aligned_free.argtypes = (ctypes.c_void_p,)
    crt._aligned_free.restype = None
    return lambda nbytes, alignment: crt._aligned_malloc(nbytes, alignment) or 0, crt._aligned_free


@cache
def _advise_huge() -> Callable[[int, int], object] | None:
    """madvise(MADV_HUGEPAGE), where the system has it."""
    if sys.platform != "linux":
        return None
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return lambda address, nbytes: advise(address, nbytes, _MADV_HUGEPAGE)


@cache
def _trim() -> Callable[[int], int] | None:
    """malloc_trim, where the C library has it."""
    found = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    return found


def give_back() -> None:
    """Return to the system what was freed and the C library keeps: after LLVM, some 20 MB; takes 2 ms."""
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def memory_limit() -> int:
    """Bytes that this process can ever have: physical memory or the control group's limit.

    Beyond it, a system that overcommits would hand out addresses and kill the process when they are touched.
    """
    limits = [sys.maxsize]
    if hasattr(os, "sysconf") and {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= os.sysconf_names.keys():
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError, ValueError):  # not Linux, an older hierarchy, or "max"
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(limits)


class CpuAllocator(Allocator):
    """Blocks are 64-byte aligned; host and device memory are the same (feature `zero_copy`)."""

    def __init__(self) -> None:
        self._allocate, self._free = _windows() if sys.platform == "win32" else _posix()

    def alloc(self, nbytes: int, kind: str = "device") -> Block:
        """Memory of `nbytes`; 0 gives a block whose address is valid. OutOfMemoryError if there is none."""
        large = nbytes >= _LARGE
        address = 0
        if nbytes <= memory_limit():
            address = self._allocate(max(nbytes, ALIGNMENT), _HUGE_PAGE if large else ALIGNMENT)
        if not address:
            raise OutOfMemoryError(
                op="cpu memory", expected=f"at most {memory_limit():,} bytes, less what is in use",
                got=f"a request for {nbytes:,} bytes", hint="free tensors, or use smaller ones")
        advise = _advise_huge()
        if large and advise is not None:
            advise(address, nbytes - nbytes % _HUGE_PAGE)
        return Block(address, nbytes)

    def free(self, allocation: Block) -> None:
        """Give a block back; a view has nothing to give back."""
        if allocation.base is None:
            self._free(allocation.address)
        del allocation.address

    def copyin(self, allocation: Block, offset: int, data: memoryview) -> None:
        """Copy contiguous host bytes to `offset`."""
        if data.nbytes:
            self._part(allocation, offset, data.nbytes)[:] = data.cast("B")

    def copyout(self, data: memoryview, allocation: Block, offset: int) -> None:
        """Copy from `offset` into contiguous, writable host bytes."""
        if data.nbytes:
            data.cast("B")[:] = self._part(allocation, offset, data.nbytes)

    def view(self, allocation: Block, offset: int, nbytes: int) -> Block:
        """Part of a block, 0 bytes: all that follows; it keeps no claim on the block's memory."""
        return Block(allocation.address + offset, nbytes or allocation.nbytes - offset, allocation)

    def borrow(self, address: int, nbytes: int) -> Block:
        """The memory itself: kernels assume no alignment beyond the element's."""
        return Block(address, nbytes)

    def host_view(self, allocation: Block) -> memoryview:
        """The block's bytes in place, valid until it is freed."""
        return self._part(allocation, 0, allocation.nbytes)

    def _part(self, allocation: Block, offset: int, nbytes: int) -> memoryview:
        if offset < 0 or offset + nbytes > allocation.nbytes:
            raise KernelFault(op="copy", expected=f"bytes within a block of {allocation.nbytes}",
                              got=f"{nbytes} bytes at offset {offset}")
        view: memoryview = _bytes_at(allocation.address + offset, nbytes, _WRITABLE)
        return view.cast("B")
