"""A Metal device, open: memory, kernels, and command lists in an in-order queue."""
from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import objc

from pluggrad.plugin_api import (
    Allocation,
    Command,
    Device,
    DeviceError,
    DType,
    Event,
    KernelFault,
    Prepared,
    Scalar,
    Signature,
    Target,
)
from pluggrad_metal import driver, settings
from pluggrad_metal.bytewise import Bytewise
from pluggrad_metal.encoder import Encoder
from pluggrad_metal.launcher import CommandList, MetalExecutable
from pluggrad_metal.memory import MetalAllocator, UnifiedAllocator
from pluggrad_metal.pipelines import Pipelines
from pluggrad_metal.queue import MetalEvent, Queue

_MAX_IN_FLIGHT: Final = 16


class MetalDevice(Device):
    """Asynchronous: lists run in the order of submission. Threads may share it: submissions take turns."""

    def __init__(self, device: Any, target: Target) -> None:
        self.target = target
        gpu = driver.describe(device)
        self._queue = Queue(device, gpu.name)
        self._pipelines = Pipelines(self._queue, target)
        self._bytewise = Bytewise(self._pipelines.compile)
        limit = settings.MEMORY_MB.value << 20 or gpu.working_set
        allocator = UnifiedAllocator if gpu.unified else MetalAllocator
        self.allocator = allocator(self._queue, self._begin, limit, gpu.max_buffer)

    def _begin(self) -> Encoder:
        return Encoder(self._queue, self._bytewise)

    @property
    def max_in_flight(self) -> int:
        """Command lists that may be submitted and not complete (feature `async`)."""
        return _MAX_IN_FLIGHT

    def load(self, binary: bytes, signature: Signature) -> MetalExecutable:
        """Make the pipeline of a kernel, out of a library that is compiled when it is first asked for."""
        pipeline = self._pipelines.load(binary, signature.name)
        most = int(pipeline.maxTotalThreadsPerThreadgroup())
        if signature.group > most:
            raise KernelFault(op=f"load kernel {signature.name}",
                              expected=f"at most {most} work items a group", got=str(signature.group))
        return MetalExecutable(pipeline, signature, self._queue, self._begin)

    def prepare(self, commands: Sequence[Command], value_dtypes: Sequence[DType]) -> Prepared:
        """A list for replay (feature `graph`)."""
        return CommandList(commands, self._queue, self._begin)

    def submit(self, commands: Sequence[Command], slots: Sequence[Allocation],
               values: Sequence[Scalar]) -> Event:
        """Encode and commit a list; it runs after all that was submitted before."""
        return CommandList(commands, self._queue, self._begin)(slots, values)

    def elapsed(self, event: Event) -> float:
        """Seconds on the GPU from the begin of a list's first command buffer to the end of its last."""
        if not isinstance(event, MetalEvent):  # a list of nothing
            return 0.0
        with objc.autorelease_pool():
            return float(event.buffers[-1].GPUEndTime() - event.buffers[0].GPUStartTime())

    def synchronize(self) -> None:
        """Wait for everything submitted; raises what failed and nobody has waited for."""
        self._queue.wait()

    def close(self) -> None:
        """Wait for what is in flight, and keep the pipelines that were made. Memory goes when it is freed."""
        with suppress(DeviceError):  # who waited for it knows already
            self._queue.wait()
        self._pipelines.close()
