"""An OpenCL device, open: memory, programs, and command lists in an in-order queue."""
from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from weakref import WeakValueDictionary

import pyopencl as cl

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
    unseal,
)
from pluggrad_opencl import driver, settings
from pluggrad_opencl.launcher import CommandList, OpenCLExecutable
from pluggrad_opencl.memory import OpenCLAllocator
from pluggrad_opencl.queue import OpenCLEvent, Queue

_MAX_IN_FLIGHT = 16


class OpenCLDevice(Device):
    """Asynchronous: lists run in the order of submission. Threads may share it: submissions take turns."""

    def __init__(self, device: cl.Device, target: Target) -> None:
        self.target = target
        self._device, self._context = device, driver.context(device.platform)
        self._queue = Queue(self._context, device, driver.label(device))
        limit = settings.MEMORY_MB.value << 20 or device.global_mem_size
        self.allocator = OpenCLAllocator(self._queue, self._context, limit)
        # kernels compiled together share one binary, and so one program
        self._programs: WeakValueDictionary[bytes, cl.Program] = WeakValueDictionary()
        self._lock = threading.Lock()

    @property
    def max_in_flight(self) -> int:
        """Command lists that may be submitted and not complete (feature `async`)."""
        return _MAX_IN_FLIGHT

    def load(self, binary: bytes, signature: Signature) -> OpenCLExecutable:
        """Load a program and find its kernel; KernelFault if it is not this device's or lacks that kernel."""
        driver.fork_guard.check()
        try:
            kernel = cl.Kernel(self._program(binary), signature.name)
        except cl.Error as error:
            raise KernelFault(op=f"load kernel {signature.name}", expected=f"a binary for {self._queue.name}",
                              got=f"{len(binary)} bytes that the driver refuses: {error}") from error
        return OpenCLExecutable(kernel, signature, self._queue)

    def _program(self, binary: bytes) -> Any:
        with self._lock:
            program = self._programs.get(binary)
            if program is None:
                loaded = cl.Program(self._context, [self._device], [unseal(binary)])
                program = self._programs[binary] = loaded.build(devices=[self._device])
            return program

    def prepare(self, commands: Sequence[Command], value_dtypes: Sequence[DType]) -> Prepared:
        """A list for replay (feature `graph`)."""
        return CommandList(commands, self._queue)

    def submit(self, commands: Sequence[Command], slots: Sequence[Allocation],
               values: Sequence[Scalar]) -> Event:
        """Enqueue a list; it runs after all that was submitted before."""
        return CommandList(commands, self._queue)(slots, values)

    def elapsed(self, event: Event) -> float:
        """Seconds on the device from the begin of a list's first command to the end of its last."""
        if not isinstance(event, OpenCLEvent):  # a list of nothing
            return 0.0
        return (event.last.profile.end - event.first.profile.start) * 1e-9

    def synchronize(self) -> None:
        """Wait for everything submitted; raises if the last of it failed."""
        self._queue.wait()

    def close(self) -> None:
        """Wait for what is in flight. Memory goes when it is freed."""
        with suppress(DeviceError):  # who waited for it knows already
            self._queue.wait()
