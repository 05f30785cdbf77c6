"""Blocks and command lists on a device, as tests write them."""

from __future__ import annotations

import numpy as np

from pluggrad.device.seal import seal
from pluggrad.plugin_api import Launch, SlotRef
from pluggrad_cuda.device import CudaDevice
from pluggrad_cuda.launcher import CudaExecutable
from pluggrad_cuda.memory import Block
from tests.plugins.cuda.double import kernels


def load(device: CudaDevice, name: str, scratch: int = 0, **told: int) -> CudaExecutable:
    """A kernel of `kernels.HAND`."""
    shape = {key: value for key, value in told.items() if key in ("size", "tasks", "group")}
    binary = seal(kernels.image(kernels.hand_kernel(name, **told)))
    return device.load(binary, kernels.signature(name, scratch=scratch, **shape))


def launch(executable: CudaExecutable, *refs: SlotRef, barrier: bool = True) -> Launch:
    signature = executable.signature
    return Launch(executable, refs, tuple(range(len(signature.values))), signature.tasks, barrier=barrier,
                  group=signature.group)


def filled(device: CudaDevice, values: np.ndarray) -> Block:
    """A new block that holds these values."""
    block = device.allocator.alloc(values.nbytes)
    device.allocator.copyin(block, 0, memoryview(values))
    return block


def read(device: CudaDevice, block: Block, dtype: str = "float32") -> np.ndarray:
    """The values of a block."""
    found = np.empty(block.nbytes // np.dtype(dtype).itemsize, dtype)
    device.allocator.copyout(memoryview(found), block, 0)
    return found
