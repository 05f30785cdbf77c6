"""Small kernels written by hand in OpenCL C, in the form in which the device calls them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyopencl as cl

from pluggrad.plugin_api import BufferParam, DType, Launch, Signature, SlotRef, dtypes
from pluggrad_opencl.compiler import OpenCLToolchain
from pluggrad_opencl.device import OpenCLDevice
from pluggrad_opencl.launcher import OpenCLExecutable
from pluggrad_opencl.memory import Block

_HEAD = "__kernel __attribute__((reqd_work_group_size(1, 1, 1)))\n"

ADD = _HEAD + """void add(__global float *out, __global const float *in, const float value) {
    out[get_group_id(0)] = in[get_group_id(0)] + value;
}
"""
# out[0] becomes out[0] / 2 + 1 so often that it takes as long as one likes
SPIN = _HEAD + """void spin(__global float *out, const long steps) {
    float x = out[0];
    for (long i = 0; i < steps; i++) x = x * 0.5f + 1.0f;
    out[0] = x;
}
"""
BROKEN = _HEAD + "void broken(__global float *out) { out[0] = undeclared; }\n"

STEPS = 100_000_000  # of SPIN: tenths of a second


def load(device: OpenCLDevice, source: str, name: str, roles: Sequence[str], values: Sequence[DType] = (),
         size: int = 16) -> OpenCLExecutable:
    """The kernel `name` of `source`, on buffers of `size` floats."""
    buffers = tuple(BufferParam(dtypes.float32, size, role) for role in roles)
    return device.load(OpenCLToolchain(device.target).compile(source),
                       Signature(name, buffers, tuple(values), size))


def add(device: OpenCLDevice) -> OpenCLExecutable:
    return load(device, ADD, "add", ("out", "in"), (dtypes.float32,))


def spin(device: OpenCLDevice) -> OpenCLExecutable:
    return load(device, SPIN, "spin", ("inout",), (dtypes.int64,))


def launch(executable: OpenCLExecutable, *refs: SlotRef, tasks: int = 16) -> Launch:
    return Launch(executable, refs, tuple(range(len(executable.signature.values))), tasks)


@contextmanager
def held(device: OpenCLDevice) -> Iterator[None]:
    """What is submitted in the block begins when it ends."""
    with device._queue as commands:
        gate = cl.UserEvent(commands.context)
        cl.enqueue_barrier(commands, wait_for=[gate])
    try:
        yield
    finally:
        gate.set_status(cl.command_execution_status.COMPLETE)


def filled(device: OpenCLDevice, values: np.ndarray) -> Block:
    """A new block that holds these values."""
    block = device.allocator.alloc(values.nbytes)
    device.allocator.copyin(block, 0, memoryview(values))
    return block


def read(device: OpenCLDevice, block: Block, dtype: str = "float32") -> np.ndarray:
    """The values of a block."""
    found = np.empty(block.nbytes // np.dtype(dtype).itemsize, dtype)
    device.allocator.copyout(memoryview(found), block, 0)
    return found
