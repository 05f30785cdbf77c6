"""A GPU, open: memory, modules, and command lists in its stream."""
from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from weakref import WeakValueDictionary

from pluggrad.plugin_api import (
    Allocation,
    Command,
    Device,
    DeviceError,
    DeviceUnavailable,
    DType,
    Event,
    KernelFault,
    Prepared,
    Scalar,
    Signature,
    Target,
    unseal,
)
from pluggrad_cuda import driver, libcuda, settings
from pluggrad_cuda.cubin import Cubin
from pluggrad_cuda.graphs import PreparedList
from pluggrad_cuda.launcher import CommandList, CudaExecutable, Module
from pluggrad_cuda.memory import CudaAllocator
from pluggrad_cuda.queue import CudaEvent, Queue

_MAX_IN_FLIGHT = 64


class CudaDevice(Device):
    """Asynchronous: lists run in the order of submission. Threads may share it: submissions take turns."""

    def __init__(self, gpu: driver.Gpu, target: Target) -> None:
        self.target = target
        self._gpu, self._queue = gpu, Queue(gpu)
        limit = settings.MEMORY_MB.value << 20 or gpu.memory_bytes
        self.allocator: CudaAllocator = CudaAllocator(self._queue, limit)
        # kernels compiled together share one binary, and so one module
        self._modules: WeakValueDictionary[bytes, Module] = WeakValueDictionary()
        self._lock = threading.Lock()

    @property
    def max_in_flight(self) -> int:
        """Command lists that may be submitted and not complete (feature `async`)."""
        return _MAX_IN_FLIGHT

    def load(self, binary: bytes, signature: Signature) -> CudaExecutable:
        """Load a CUBIN and find its kernel; KernelFault if it is not for this GPU, or lacks that kernel.

        DeviceUnavailable if the driver is too old for it.
        """
        driver.fork_guard.check()
        image = unseal(binary)
        try:
            with self._lock:
                module = self._modules.get(binary)
                if module is None:
                    module = self._modules[binary] = Module(self._queue, image)
            with self._queue as queue:
                return CudaExecutable(module, module.function(signature.name), signature, queue)
        except KernelFault as error:
            if isinstance(error.__cause__, libcuda.DriverCallFailed):
                raise self._refused(image, signature.name, error.__cause__) from error
            raise

    def _refused(self, image: bytes, name: str, error: libcuda.DriverCallFailed) -> DeviceError:
        """Why the driver does not take a binary, as its header tells."""
        op, cubin = f"load kernel {name}", Cubin.read(image)
        if cubin is None or error.code == libcuda.NOT_FOUND:
            return KernelFault(op=op, expected=f"a CUBIN for {self._queue.name} with that kernel",
                               got=f"{len(image):,} bytes of which the driver says {error}")
        if not cubin.runs_on(self._gpu.capability):
            major, minor = self._gpu.capability
            return KernelFault(op=op, expected=f"code for compute capability {major}.{minor}",
                               got=f"code for {cubin.architecture}: {error}",
                               hint="Remove the cache with `python -m pluggrad cache clear`")
        if cubin.toolkit > driver.version(driver.cuda().get_driver_version()):
            made = ".".join(map(str, cubin.toolkit))
            return DeviceUnavailable(
                op=op, expected=f"a driver that takes code made with CUDA {made}",
                got=f"one for CUDA {driver.driver_version()}: {error}",
                hint=f"Update NVIDIA's driver, or install the compiler for it: "
                     f"pip install 'nvidia-cuda-nvrtc=={driver.driver_version()}.*'")
        return KernelFault(op=op, expected=f"a CUBIN that {self._queue.name} takes", got=str(error))

    def prepare(self, commands: Sequence[Command], value_dtypes: Sequence[DType]) -> Prepared:
        """A list for replay (feature `graph`)."""
        return PreparedList(commands, self._queue)

    def submit(self, commands: Sequence[Command], slots: Sequence[Allocation],
               values: Sequence[Scalar]) -> Event:
        """Enqueue a list; it runs after all that was submitted before."""
        return CommandList(commands, self._queue)(slots, values)

    def elapsed(self, event: Event) -> float:
        """Seconds on the device from the begin of a list's first command to the end of its last."""
        if not isinstance(event, CudaEvent):  # a list of nothing
            return 0.0
        with self._queue:
            return float(event.first.event.time_till(event.last.event)) * 1e-3

    def synchronize(self) -> None:
        """Wait for everything submitted; raises if the device was lost over it."""
        self._queue.wait()

    def close(self) -> None:
        """Wait for what is in flight, and let go of the stream. Memory goes when it is freed."""
        with suppress(DeviceError):  # who waited for it knows already; in a forked child it is the parent's
            self._queue.wait()
            self.allocator.close()
            self._queue.close()
