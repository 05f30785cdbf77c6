"""A GPU and its buffers."""

from __future__ import annotations

import itertools
import weakref
from typing import Any

import numpy as np
from compilation import compile_source, make_pipeline, open_archive
from machine import MACHINE, Error, Object, Size, selector
from submission import CommandQueue

MTLResourceStorageModeShared = 0
MTLResourceStorageModePrivate = 32

_GB, _PAGE = 1 << 30, 1 << 12
_numbers = itertools.count(1)


def _memory(length: int) -> np.ndarray:
    """Bytes of no meaning, from the begin of a page on."""
    memory = np.full(length + _PAGE, 0xA5, np.uint8)
    start = -memory.ctypes.data % _PAGE
    return memory[start:start + length]


class _Contents:
    """objc.varlist: memory of unknown length."""

    def __init__(self, data: np.ndarray) -> None:
        self._data = data

    def as_buffer(self, count: int) -> memoryview:
        MACHINE.expect(0 <= count <= self._data.size, f"as_buffer({count}) of {self._data.size} bytes")
        return memoryview(self._data)[:count]


class Buffer(Object):
    """Memory; `data` is what the GPU sees."""

    def __init__(self, data: np.ndarray, storage: int) -> None:
        self.data, self.storage = data, storage

    def length(self) -> int:
        return self.data.size

    @selector()
    def contents(self) -> _Contents:
        MACHINE.expect(self.storage == MTLResourceStorageModeShared, "contents of a private buffer is NULL")
        return _Contents(self.data)


class Device(Object):
    """A GPU of Apple's unless told otherwise. `buffers` are those that somebody still holds."""

    def __init__(self, name: str = "Apple M3 Max", family: int = 9, unified: bool = True) -> None:
        self.described = name, family, unified
        self.number = next(_numbers)
        self.buffers: weakref.WeakSet[Buffer] = weakref.WeakSet()
        self.working_set = _GB

    def name(self) -> str:
        return self.described[0]

    def registryID(self) -> int:
        return self.number

    def hasUnifiedMemory(self) -> bool:
        return self.described[2]

    def recommendedMaxWorkingSetSize(self) -> int:
        return self.working_set

    def maxBufferLength(self) -> int:
        return self.working_set // 2

    def maxThreadsPerThreadgroup(self) -> Size:
        return Size(1024, 1024, 1024)

    def maxThreadgroupMemoryLength(self) -> int:
        return 32 << 10

    @selector("q")
    def supportsFamily_(self, family: int) -> bool:
        return 1000 < family <= 1000 + self.described[1]

    @selector()
    def newCommandQueue(self) -> CommandQueue:
        return CommandQueue()

    @selector("QQ")
    def newBufferWithLength_options_(self, length: int, options: int) -> Buffer | None:
        MACHINE.expect(length, "a buffer of no bytes")
        if MACHINE.refuses_memory or length > self.maxBufferLength():
            return None
        return self._made(_memory(length), options)

    @selector("*QQ")
    def newBufferWithBytes_length_options_(self, data: Any, length: int, options: int) -> Buffer | None:
        MACHINE.expect(length and memoryview(data).nbytes >= length, f"{length} bytes out of fewer, or none")
        MACHINE.expect(options == MTLResourceStorageModeShared, "the host cannot write private memory")
        if MACHINE.refuses_memory:
            return None
        memory = _memory(length)
        memory[:] = np.frombuffer(data, np.uint8, length)
        return self._made(memory, options)

    def _made(self, data: np.ndarray, options: int) -> Buffer:
        modes = (MTLResourceStorageModeShared, MTLResourceStorageModePrivate)
        MACHINE.expect(options in modes, f"storage mode {options}")
        buffer = Buffer(data, options)
        self.buffers.add(buffer)
        return buffer

    @selector("@@o")
    def newLibraryWithSource_options_error_(self, source: str, options: Any, error: None) -> Any:
        return compile_source(source, options)

    @selector("@Qoo")
    def newComputePipelineStateWithDescriptor_options_reflection_error_(
            self, descriptor: Any, options: int, reflection: None, error: None) -> tuple[Any, Error | None]:
        return make_pipeline(descriptor, options)

    @selector("@o")
    def newBinaryArchiveWithDescriptor_error_(self, descriptor: Any, error: None) -> Any:
        return open_archive(descriptor)
