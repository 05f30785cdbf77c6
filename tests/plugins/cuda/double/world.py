"""What the double of NVIDIA's driver keeps: GPUs, their memory, streams, and what was done wrong.

It is no GPU and proves nothing about one. It holds the plugin to the rules that the driver's documentation
states: which context is current, what is freed when, what a call is given, in which order. Work is only noted
when it is enqueued; it runs when somebody looks whether it is complete, so that memory which was freed or
written over too early shows. Kernels are run by the interpreter of the core.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

OUT_OF_MEMORY, NO_DEVICE, UNKNOWN = 2, 100, 999
ILLEGAL_ADDRESS, LAUNCH_FAILED, PEER_ALREADY_ENABLED = 700, 719, 704
STATUS = {
    0: ("CUDA_SUCCESS", "no error"),
    1: ("CUDA_ERROR_INVALID_VALUE", "invalid argument"),
    OUT_OF_MEMORY: ("CUDA_ERROR_OUT_OF_MEMORY", "out of memory"),
    3: ("CUDA_ERROR_NOT_INITIALIZED", "initialization error"),
    4: ("CUDA_ERROR_DEINITIALIZED", "driver shutting down"),
    46: ("CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"),
    NO_DEVICE: ("CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"),
    101: ("CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"),
    200: ("CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"),
    201: ("CUDA_ERROR_INVALID_CONTEXT", "invalid device context"),
    209: ("CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"),
    214: ("CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"),
    222: ("CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
          "the provided PTX was compiled with an unsupported toolchain."),
    400: ("CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"),
    500: ("CUDA_ERROR_NOT_FOUND", "named symbol not found"),
    ILLEGAL_ADDRESS: ("CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"),
    701: ("CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"),
    702: ("CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"),
    PEER_ALREADY_ENABLED: ("CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED",
                           "peer access is already enabled"),
    716: ("CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"),
    LAUNCH_FAILED: ("CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"),
    803: ("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
          "system has unsupported display driver / cuda driver combination"),
    UNKNOWN: ("CUDA_ERROR_UNKNOWN", "unknown error"),
}
STICKY = {214, ILLEGAL_ADDRESS, 702, 716, LAUNCH_FAILED, UNKNOWN}
_APART = 1 << 12  # bytes between two allocations: an access beyond one meets nothing
_SCRIBBLED = 1 << 16  # bytes of new memory that hold what nobody wrote


class Failed(Exception):
    """A call of the driver that returns `code`."""

    def __init__(self, code: int) -> None:
        super().__init__(STATUS[code][1])
        self.code = code


@dataclass
class Gpu:
    """One GPU: what it says about itself, and the memory that it has given."""

    index: int
    name: str = "Double of a GPU"
    capability: tuple[int, int] = (9, 0)
    memory_bytes: int = 1 << 30
    compute_mode: str = "DEFAULT"
    attributes: dict[str, int] = field(default_factory=dict)
    sticky: int = 0  # the error that its context answers every call with
    used: int = 0
    peers: set[int] = field(default_factory=set)
    blocks: dict[int, np.ndarray] = field(default_factory=dict)
    _starts: list[int] = field(default_factory=list)
    _next: int = 0

    def allocate(self, nbytes: int) -> int:
        if not nbytes:
            raise Failed(1)
        if self.used + nbytes > self.memory_bytes:
            raise Failed(OUT_OF_MEMORY)
        address = (self.index + 1 << 40) + self._next
        self._next += -(-nbytes // _APART) * _APART + _APART
        self.used += nbytes
        self.blocks[address] = block = np.empty(nbytes, np.uint8)
        block[:_SCRIBBLED] = 0xA5
        bisect.insort(self._starts, address)
        return address

    def free(self, address: int) -> None:
        if address not in self.blocks:
            raise Failed(1)
        self.used -= self.blocks.pop(address).nbytes
        self._starts.remove(address)

    def bytes_at(self, address: int, nbytes: int) -> np.ndarray:
        """The memory itself; an access that is not within one allocation is the fault that a GPU has."""
        place = bisect.bisect_right(self._starts, address) - 1
        if place >= 0:
            start = self._starts[place]
            block = self.blocks[start]
            if address + nbytes <= start + block.nbytes:
                return block[address - start:address - start + nbytes]
        raise Failed(ILLEGAL_ADDRESS)


@dataclass
class Work:
    """Something enqueued: `run` does it, `ranges` are the device's bytes that it touches."""

    run: Callable[[], None]
    ranges: tuple[tuple[int, int], ...] = ()
    event: Any = None


class World:
    """All of it. `violations` is empty as long as the plugin keeps the rules."""

    def __init__(self, gpus: int = 1, driver_version: int = 13000) -> None:
        self.gpus = [Gpu(index) for index in range(gpus)]
        self.driver_version = driver_version
        self.calls: list[str] = []
        self.maps: list[Any] = []  # of tensors, as they were encoded
        self.violations: list[str] = []
        self.held = False  # nothing enqueued runs
        self.patience = 0  # looks at an event that find it incomplete, each time
        self.initialized = False
        self.faults: dict[str, int] = {}  # kernel -> the error that its next run ends in
        self.streams: list[Any] = []
        self.handles: dict[int, Any] = {}
        self.clock = 0.0
        self._failures: list[list[Any]] = []
        self._current = threading.local()
        self._next_handle = 0x1000

    # ---- what a test controls ------------------------------------------------------------------------------
    def fail(self, call: str, code: int, after: int = 0) -> None:
        """Have the call after the next `after` ones of this entry point return `code`."""
        self._failures.append([call, after, code])

    def count(self, call: str) -> int:
        return self.calls.count(call)

    # ---- calls ---------------------------------------------------------------------------------------------
    def enter(self, call: str, gpu: Gpu | None = None) -> None:
        """Note a call, fail it if a test wants that; `gpu`: whose context has to be current."""
        self.calls.append(call)
        if not self.initialized and call not in ("cuInit", "cuDriverGetVersion"):
            self.violate(f"{call} before cuInit")
        for failure in self._failures:
            if failure[0] == call:
                failure[1] -= 1
                if failure[1] < 0:
                    self._failures.remove(failure)
                    if failure[2] in STICKY and gpu is not None:
                        gpu.sticky = failure[2]
                    raise Failed(failure[2])
        if gpu is not None:
            current = self.current()
            if current is None or current.gpu is not gpu:
                self.violate(f"{call} without its context current")
                raise Failed(201)
            if gpu.sticky:
                raise Failed(gpu.sticky)

    def here(self, call: str) -> Gpu:
        """The GPU whose context is current, which the call needs."""
        current = self.current()
        if current is None:
            self.violate(f"{call} without a context")
            raise Failed(201)
        self.enter(call, current.gpu)
        return current.gpu

    def violate(self, what: str) -> None:
        self.violations.append(what)

    # ---- contexts of this thread ---------------------------------------------------------------------------
    @property
    def stack(self) -> list[Any]:
        if not hasattr(self._current, "stack"):
            self._current.stack = []
        return self._current.stack

    def current(self) -> Any:
        return self.stack[-1] if self.stack else None

    # ---- handles -------------------------------------------------------------------------------------------
    def handle(self, thing: Any) -> int:
        self._next_handle += 0x10
        self.handles[self._next_handle] = thing
        return self._next_handle

    def thing(self, handle: int | None, kind: type) -> Any:
        found = self.handles.get(handle or 0)
        if not isinstance(found, kind):
            self.violate(f"a handle of {type(found).__name__} as one of {kind.__name__}")
            raise Failed(400)
        return found

    # ---- work ----------------------------------------------------------------------------------------------
    def drain(self, gpu: Gpu) -> None:
        """Run what was enqueued on a GPU, until one of it fails."""
        for stream in self.streams:
            if stream.gpu is not gpu:
                continue
            while stream.pending and not gpu.sticky:
                work = stream.pending.popleft()
                self.clock += 1e-3
                try:
                    work.run()
                except Failed as error:
                    gpu.sticky = error.code

    def check_idle(self, gpu: Gpu, address: int, nbytes: int, what: str) -> None:
        """Violation if work in flight touches these bytes."""
        for stream in self.streams:
            for work in stream.pending:
                if any(a < address + nbytes and address < a + n for a, n in work.ranges):
                    self.violate(f"{what} while work in flight uses it")
                    return

    def memory(self, address: int, nbytes: int) -> np.ndarray:
        """Bytes of whichever GPU has them."""
        number = (address >> 40) - 1
        if not 0 <= number < len(self.gpus):
            raise Failed(ILLEGAL_ADDRESS)
        return self.gpus[number].bytes_at(address, nbytes)
