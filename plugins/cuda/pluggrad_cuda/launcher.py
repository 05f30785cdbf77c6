"""Kernels and command lists as calls of the driver; lists that run again become graphs."""
from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from ctypes import c_uint64, c_void_p
from typing import Any, Final

from pluggrad.plugin_api import (
    DONE,
    Command,
    CopyCommand,
    DeviceError,
    Event,
    Executable,
    FillCommand,
    Launch,
    Scalar,
    Signature,
    SlotRef,
    pack_values,
)
from pluggrad_cuda import driver, libcuda, tensor_maps
from pluggrad_cuda.architecture import grid
from pluggrad_cuda.memory import Block
from pluggrad_cuda.queue import CudaEvent, Queue

_SLOT: Final = 8  # bytes: an address, or a packed value, which begins them
_ALWAYS_SHARED: Final = 48 << 10  # bytes of a block's memory that need no opt-in


class Module:
    """A loaded CUBIN. It is unloaded when nobody has a kernel of it and nothing is in flight."""

    def __init__(self, queue: Queue, image: bytes) -> None:
        self._image = image  # the driver may read it as long as the module is loaded
        with queue:
            self.handle = libcuda.made("cuModuleLoadData", image)
        weakref.finalize(self, queue.discard, "cuModuleUnload", self.handle).atexit = False

    def function(self, name: str) -> int:
        """The handle of a kernel; the caller holds the queue."""
        return libcuda.made("cuModuleGetFunction", self.handle, name.encode())


class CudaExecutable(Executable):
    """A loaded kernel: parameters are buffers, by address, maps of its boxes, then the run-time values."""

    def __init__(self, module: Module, function: int, signature: Signature, queue: Queue) -> None:
        self.module, self.function, self.signature, self._queue = module, function, signature, queue
        # spans begin where an address is a multiple, which the block's memory need not
        room = signature.scratch + tensor_maps.ALIGNMENT if signature.boxes else signature.scratch
        self.shared = _dynamic_shared(function, room)

    def launch(self, args: Sequence[Block], values: Sequence[Scalar], grid: int, block: int,
               scratch: int) -> None:
        """Run tasks 0..grid-1, `block` threads each, and wait for them."""
        command = Launch(self, tuple(SlotRef(i) for i in range(len(args))), tuple(range(len(values))), grid,
                         group=block)
        CommandList([command], self._queue)(args, values).wait()


def _dynamic_shared(function: int, scratch: int) -> int:
    """Bytes of a block's memory that a launch asks for: `scratch`, unless the kernel itself declares it."""
    declared = ctypes.c_int()
    libcuda.call("cuFuncGetAttribute", ctypes.byref(declared), libcuda.SHARED_SIZE_BYTES, function)
    dynamic = scratch if scratch > declared.value else 0  # what reductions declare is less
    if dynamic + declared.value > _ALWAYS_SHARED:
        libcuda.call("cuFuncSetAttribute", function, libcuda.MAX_DYNAMIC_SHARED_SIZE_BYTES, dynamic)
    return dynamic


# ---- commands ----------------------------------------------------------------------------------------------
class LaunchStep:
    """A launch, with the parameters it was given last: the driver copies them at each call."""

    add, update = "cuGraphAddKernelNode_v2", "cuGraphExecKernelNodeSetParams_v2"

    def __init__(self, command: Launch) -> None:
        executable = command.executable
        if not isinstance(executable, CudaExecutable):
            raise DeviceError(op="command list", expected="kernels of this device",
                              got=type(executable).__name__)
        self._executable, self._args, self._positions = executable, command.args, command.values
        count = len(command.args) + len(command.values)
        self._parameters = (c_uint64 * max(count, 1))()
        start = ctypes.addressof(self._parameters)
        places = [start + _SLOT * i for i in range(count)]
        signature = executable.signature
        self._maps = tensor_maps.TensorMaps(signature.boxes, signature.buffers)
        places[len(command.args):len(command.args)] = self._maps.places
        self._pointers = (c_void_p * max(len(places), 1))(*places)
        self._bound = b""
        width, height = grid(command.tasks)
        self.node = libcuda.KernelNode(
            func=executable.function, gridDimX=width, gridDimY=height, gridDimZ=1,
            blockDimX=command.group, blockDimY=1, blockDimZ=1, sharedMemBytes=executable.shared,
            kernelParams=ctypes.addressof(self._pointers))

    @property
    def kernel(self) -> str:
        """Its name."""
        return self._executable.signature.name

    def bind(self, slots: Sequence[Block], values: Sequence[Scalar]) -> bool:
        """Set the parameters; whether any is another than before."""
        addresses = [slots[ref.slot].address + ref.offset for ref in self._args]
        packed = b"".join([address.to_bytes(_SLOT, "little") for address in addresses])
        if self._positions:
            packed += pack_values([values[i] for i in self._positions], self._executable.signature.values)
        if packed == self._bound:
            return False
        self._maps.bind(addresses)
        ctypes.memmove(self._parameters, packed, len(packed))
        self._bound = packed
        return True

    def run(self, queue: Queue) -> None:
        """Enqueue it as it is bound."""
        node = self.node
        libcuda.call("cuLaunchKernel", node.func, node.gridDimX, node.gridDimY, 1, node.blockDimX, 1, 1,
                     node.sharedMemBytes, queue.handle, node.kernelParams, None)


class CopyStep:
    """A copy within the device."""

    kernel = ""
    add, update = "cuGraphAddMemcpyNode", "cuGraphExecMemcpyNodeSetParams"

    def __init__(self, command: CopyCommand) -> None:
        self._target, self._source = command.target, command.source
        self.node = libcuda.CopyNode(srcMemoryType=libcuda.DEVICE_MEMORY, dstMemoryType=libcuda.DEVICE_MEMORY,
                                     WidthInBytes=command.nbytes, Height=1, Depth=1)

    def bind(self, slots: Sequence[Block], values: Sequence[Scalar]) -> bool:
        """Set both addresses; whether either is another than before."""
        target = slots[self._target.slot].address + self._target.offset
        source = slots[self._source.slot].address + self._source.offset
        changed = bool(self.node.dstDevice != target or self.node.srcDevice != source)
        self.node.dstDevice, self.node.srcDevice = target, source
        return changed

    def run(self, queue: Queue) -> None:
        """Enqueue it as it is bound."""
        node = self.node
        driver.cuda().memcpy_dtod_async(node.dstDevice, node.srcDevice, node.WidthInBytes, queue.stream)


class FillStep:
    """Zero bytes."""

    kernel = ""
    add, update = "cuGraphAddMemsetNode", "cuGraphExecMemsetNodeSetParams"

    def __init__(self, command: FillCommand) -> None:
        self._target = command.target
        self.node = libcuda.FillNode(elementSize=1, width=command.nbytes, height=1)

    def bind(self, slots: Sequence[Block], values: Sequence[Scalar]) -> bool:
        """Set the address; whether it is another than before."""
        target = slots[self._target.slot].address + self._target.offset
        changed = bool(self.node.dst != target)
        self.node.dst = target
        return changed

    def run(self, queue: Queue) -> None:
        """Enqueue it as it is bound."""
        driver.cuda().memset_d8_async(self.node.dst, 0, self.node.width, queue.stream)


Step = LaunchStep | CopyStep | FillStep
_STEPS: Final[dict[type[Command], Any]] = {Launch: LaunchStep, CopyCommand: CopyStep, FillCommand: FillStep}


class CommandList:
    """A command list, ready to be enqueued with other slots and values each time."""

    def __init__(self, commands: Sequence[Command], queue: Queue) -> None:
        self._queue = queue
        self._commands = [command for command in commands if not _is_empty(command)]
        self._steps: list[Step] = [_STEPS[type(command)](command) for command in self._commands]
        self._kernels = [step.kernel for step in self._steps if step.kernel]

    def __call__(self, slots: Sequence[Block], values: Sequence[Scalar]) -> Event:
        """Enqueue all commands; the event is complete when the last of them is."""
        if not self._steps:
            return DONE
        with self._queue as queue:
            first = queue.mark()
            self._enqueue(slots, values)
            return CudaEvent(queue, first, queue.mark(), self._kernels)

    def _enqueue(self, slots: Sequence[Block], values: Sequence[Scalar]) -> None:
        for step in self._steps:
            step.bind(slots, values)
            step.run(self._queue)


def _is_empty(command: Command) -> bool:
    return not (command.tasks if isinstance(command, Launch) else command.nbytes)
