"""Double of `pycuda.driver`: the names that the plugin uses, which behave as pycuda 2026.1's sources say."""

from __future__ import annotations

import sys
from collections import deque
from threading import get_ident
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from tests.plugins.cuda.double.world import (
    NO_DEVICE,
    OUT_OF_MEMORY,
    PEER_ALREADY_ENABLED,
    STATUS,
    UNKNOWN,
    Failed,
    Work,
    World,
)

_ATTRIBUTES = (
    "MULTIPROCESSOR_COUNT", "MAX_SHARED_MEMORY_PER_MULTIPROCESSOR", "L2_CACHE_SIZE", "CLOCK_RATE",
    "GLOBAL_MEMORY_BUS_WIDTH", "MEMORY_CLOCK_RATE", "COMPUTE_MODE", "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN")
_USUAL = {
    "MULTIPROCESSOR_COUNT": 132, "MAX_SHARED_MEMORY_PER_MULTIPROCESSOR": 228 << 10, "L2_CACHE_SIZE": 50 << 20,
    "CLOCK_RATE": 1_755_000, "GLOBAL_MEMORY_BUS_WIDTH": 5120, "MEMORY_CLOCK_RATE": 2_619_000,
    "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN": 227 << 10}
_LAUNCH_ERRORS, _RUNTIME_ERRORS = {701, 702, 703, 719}, {NO_DEVICE, 209, 301, 600, 214}


def make(world: World) -> ModuleType:
    """The module, on a world."""
    driver = ModuleType("pycuda.driver")

    class Error(Exception):
        pass

    class LogicError(Error):
        pass

    class LaunchError(Error):
        pass

    class RuntimeError_(Error):
        pass

    class MemoryError_(Error):
        pass

    def translated(call: str, code: int) -> Error:
        kind = (LaunchError if code in _LAUNCH_ERRORS else MemoryError_ if code == OUT_OF_MEMORY
                else RuntimeError_ if code in _RUNTIME_ERRORS else Error if code == UNKNOWN else LogicError)
        return kind(f"{call} failed: {STATUS[code][1]}")

    def guarded(call: str, function: Any) -> Any:
        try:
            return function()
        except Failed as error:
            raise translated(call, error.code) from None

    def enter(call: str, gpu: Any = None) -> None:
        guarded(call, lambda: world.enter(call, gpu))

    def here(call: str) -> Any:
        return guarded(call, lambda: world.here(call))

    # ---- driver and devices --------------------------------------------------------------------------------
    def init(flags: int = 0) -> None:
        enter("cuInit")
        if not world.gpus:
            raise translated("cuInit", NO_DEVICE)
        world.initialized = True

    def get_driver_version() -> int:
        enter("cuDriverGetVersion")
        return world.driver_version

    class Device:
        def __init__(self, ordinal: int) -> None:
            enter("cuDeviceGet")
            self._gpu = world.gpus[ordinal]

        @staticmethod
        def count() -> int:
            enter("cuDeviceGetCount")
            return len(world.gpus)

        def name(self) -> str:
            return self._gpu.name

        def compute_capability(self) -> tuple[int, int]:
            return self._gpu.capability

        def total_memory(self) -> int:
            return self._gpu.memory_bytes

        def pci_bus_id(self) -> str:
            return f"0000:{self._gpu.index + 1:02x}:00.0"

        def get_attribute(self, attribute: str) -> Any:
            enter("cuDeviceGetAttribute")
            if attribute == "COMPUTE_MODE":
                return self._gpu.compute_mode
            return (_USUAL | self._gpu.attributes)[attribute]

        def can_access_peer(self, other: Device) -> bool:
            return bool(other._gpu.index in self._gpu.peers)

        def retain_primary_context(self) -> Context:
            enter("cuDevicePrimaryCtxRetain")
            return Context(self._gpu)

    class Context:
        def __init__(self, gpu: Any) -> None:
            self.gpu, self.thread = gpu, get_ident()
            self.handle = world.handle(self)
            self.peers: set[int] = set()

        def push(self) -> None:
            enter("cuCtxPushCurrent")
            world.stack.append(self)

        @staticmethod
        def pop() -> None:
            world.calls.append("cuCtxPopCurrent")
            if not world.stack:
                raise translated("context::pop", 201)
            world.stack.pop()

        @staticmethod
        def get_current() -> Context | None:
            return world.current()

        @staticmethod
        def enable_peer_access(peer: Context, flags: int = 0) -> None:
            gpu = here("cuCtxEnablePeerAccess")
            mine = world.current().peers
            if peer.gpu.index in mine:
                raise translated("cuCtxEnablePeerAccess", PEER_ALREADY_ENABLED)
            if peer.gpu.index not in gpu.peers:
                raise translated("cuCtxEnablePeerAccess", 217 if 217 in STATUS else 1)
            mine.add(peer.gpu.index)

    class Owned:
        """Something that pycuda destroys with its last reference, where that thread can make its context
        current."""

        def __init__(self) -> None:
            self.context = world.current()
            if self.context is None:
                world.violate(f"{type(self).__name__} made without a context")

        def can_be_destroyed(self) -> bool:
            return world.current() is self.context or get_ident() == self.context.thread

        def __del__(self, finalizing: Any = sys.is_finalizing) -> None:  # at exit no name of a module is left
            if finalizing():
                return
            if hasattr(self, "context") and not self.can_be_destroyed():
                world.violate(f"{type(self).__name__} in out-of-thread context could not be cleaned up")

    # ---- streams and events --------------------------------------------------------------------------------
    class Stream(Owned):
        def __init__(self, flags: int = 0) -> None:
            self.gpu = here("cuStreamCreate")
            super().__init__()
            self.flags, self.pending = flags, deque()
            self.handle = world.handle(self)
            world.streams.append(self)

    class Event(Owned):
        def __init__(self, flags: int = 0) -> None:
            self.gpu = here("cuEventCreate")
            super().__init__()
            self.recorded, self.time, self.looks = False, None, 0

        def record(self, stream: Stream | None = None) -> Event:
            enter("cuEventRecord", self.gpu)
            if stream is None or stream.gpu is not self.gpu:
                world.violate("an event was recorded in a stream of another device, or in the default one")
            self.recorded, self.time, self.looks = True, None, world.patience

            def reach() -> None:
                self.time = world.clock
            stream.pending.append(Work(reach))
            return self

        def query(self) -> bool:
            if not self.recorded:
                world.violate("an event was asked for before it was recorded")
            enter("cuEventQuery", self.gpu)
            if self.looks:
                self.looks -= 1
                return False
            if not world.held:
                world.drain(self.gpu)
            if self.gpu.sticky:
                raise translated("cuEventQuery", self.gpu.sticky)
            return self.time is not None

        def time_till(self, end: Event) -> float:
            enter("cuEventElapsedTime", self.gpu)
            if self.time is None or end.time is None:
                raise translated("cuEventElapsedTime", 400)
            return 1e3 * (end.time - self.time)

    # ---- memory --------------------------------------------------------------------------------------------
    class DeviceAllocation(Owned):
        def __init__(self, gpu: Any, address: int) -> None:
            super().__init__()
            self.gpu, self.address, self.valid = gpu, address, True

        def __int__(self) -> int:
            return self.address

        def free(self) -> None:
            if not self.valid:
                raise translated("device_allocation::free", 400)
            if not self.can_be_destroyed():
                world.violate("DeviceAllocation in out-of-thread context could not be cleaned up")
            self.valid = False
            world.check_idle(self.gpu, self.address, self.gpu.blocks[self.address].nbytes, "memory was freed")
            self.gpu.free(self.address)

        def __del__(self) -> None:
            if self.valid and not self.gpu.sticky:
                super().__del__()

    def mem_alloc(nbytes: int) -> DeviceAllocation:
        gpu = here("cuMemAlloc")
        return DeviceAllocation(gpu, guarded("cuMemAlloc", lambda: gpu.allocate(nbytes)))

    def mem_get_info() -> tuple[int, int]:
        gpu = here("cuMemGetInfo")
        return gpu.memory_bytes - gpu.used, gpu.memory_bytes

    def pagelocked_empty(shape: int, dtype: Any, order: str = "C", mem_flags: int = 0) -> np.ndarray:
        here("cuMemHostAlloc")
        made = np.full(shape, 0x5A, dtype)
        world.handles[id(made)] = made  # by which `pinned` knows it
        return made

    def pinned(array: np.ndarray) -> bool:
        while isinstance(array.base, np.ndarray):
            array = array.base
        return id(array) in world.handles

    def checked(call: str, stream: Any, host: np.ndarray | None = None) -> Any:
        gpu = here(call)
        if stream is None or stream.gpu is not gpu:
            world.violate(f"{call} in a stream of another device, or in the default one")
        if host is not None and not (pinned(host) and host.flags.c_contiguous):
            world.violate(f"{call} of memory that is not pinned")
        return gpu

    def memcpy_htod_async(dest: int, src: np.ndarray, stream: Stream) -> None:
        gpu = checked("cuMemcpyHtoDAsync", stream, src)

        def copy() -> None:
            gpu.bytes_at(dest, src.nbytes)[:] = src.view(np.uint8)
        stream.pending.append(Work(copy, ((dest, src.nbytes),)))

    def memcpy_dtoh_async(dest: np.ndarray, src: int, stream: Stream) -> None:
        gpu = checked("cuMemcpyDtoHAsync", stream, dest)

        def copy() -> None:
            dest.view(np.uint8)[:] = gpu.bytes_at(src, dest.nbytes)
        stream.pending.append(Work(copy, ((src, dest.nbytes),)))

    def memcpy_dtod_async(dest: int, src: int, size: int, stream: Stream) -> None:
        gpu = checked("cuMemcpyDtoDAsync", stream)

        def copy() -> None:
            gpu.bytes_at(dest, size)[:] = gpu.bytes_at(src, size).copy()
        stream.pending.append(Work(copy, ((dest, size), (src, size))))

    def memset_d8_async(dest: int, data: int, size: int, stream: Stream) -> None:
        gpu = checked("cuMemsetD8Async", stream)

        def fill() -> None:
            gpu.bytes_at(dest, size)[:] = data
        stream.pending.append(Work(fill, ((dest, size),)))

    for name, value in (
            ("Error", Error), ("LogicError", LogicError), ("LaunchError", LaunchError),
            ("RuntimeError", RuntimeError_), ("MemoryError", MemoryError_), ("init", init),
            ("get_driver_version", get_driver_version), ("Device", Device), ("Context", Context),
            ("Stream", Stream), ("Event", Event), ("mem_alloc", mem_alloc), ("mem_get_info", mem_get_info),
            ("pagelocked_empty", pagelocked_empty), ("memcpy_htod_async", memcpy_htod_async),
            ("memcpy_dtoh_async", memcpy_dtoh_async), ("memcpy_dtod_async", memcpy_dtod_async),
            ("memset_d8_async", memset_d8_async), ("DOUBLE", world),
            ("device_attribute", SimpleNamespace(**{name: name for name in _ATTRIBUTES})),
            ("compute_mode", SimpleNamespace(DEFAULT="DEFAULT", PROHIBITED="PROHIBITED",
                                             EXCLUSIVE_PROCESS="EXCLUSIVE_PROCESS"))):
        setattr(driver, name, value)
    return driver
