"""The reference device through the contract alone."""
from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

from pluggrad import dtypes
from pluggrad.device.contract import FillCommand, Launch, Signature, SlotRef, implemented
from pluggrad.device.hookspecs import PluginApi
from pluggrad.device.ref import RefBackend, RefDevice, pluggrad_backend
from pluggrad.errors import CompileError, DeviceUnavailable, OutOfMemoryError
from pluggrad.ir.node import node
from pluggrad.kernel import ops
from pluggrad.kernel.kernel import Axis, BufferParam, Kernel, axis
from pluggrad.lower.program import Program


def double(n: int) -> Program:
    """out[i] = in[i] * value, as the runtime would hand it to the toolchain."""
    i = axis(0)
    loaded = node(ops.LOAD, (i,), 0, dtypes.float32)
    factor = node(ops.VALUE, (), 0, dtypes.float32)
    scaled = node(ops.KERNEL_OPS["MUL"], (loaded, factor), None, dtypes.float32)
    store = node(ops.STORE, (i, scaled), (1, (0,)), dtypes.float32)
    buffers = (BufferParam(dtypes.float32, n, "in"), BufferParam(dtypes.float32, n, "out"))
    kernel = Kernel("double", buffers, (dtypes.float32,), (Axis(0, n, "PARALLEL"),), (store,))
    return Program("double", buffers, kernel.values, 1, (), (), kernel)


@pytest.fixture
def device() -> RefDevice:
    return pluggrad_backend(PluginApi("anything")).open(0, "")


def test_a_kernel_runs_from_source_to_result(device: RefDevice) -> None:
    program = double(5)
    toolchain = pickle.loads(pickle.dumps(RefBackend().toolchain(device.target)))
    binary = toolchain.compile(toolchain.render(program))
    executable = device.load(binary, Signature(program.name, program.buffers, program.values, program.tasks))
    allocator = device.allocator
    source, arena = allocator.alloc(20), allocator.alloc(128)
    allocator.copyin(source, 0, memoryview(np.arange(5, dtype=np.float32)))
    launch = Launch(executable, (SlotRef(0), SlotRef(1, 64)), (1,), 1)
    device.submit([FillCommand(SlotRef(1), 128), launch], [source, arena], [9.0, 2.0]).wait()
    result = np.empty(8, np.float32)
    allocator.copyout(memoryview(result), arena, 64)
    np.testing.assert_array_equal(result, [0, 2, 4, 6, 8, 0, 0, 0])


def test_memory_is_aligned_and_may_be_empty(device: RefDevice) -> None:
    for nbytes in (0, 1, 63, 4096):
        allocation = device.allocator.alloc(nbytes)
        assert allocation.nbytes == nbytes
        assert not nbytes or allocation.ctypes.data % device.target.capabilities.alignment == 0


def test_the_features_declared_are_those_implemented(device: RefDevice) -> None:
    assert device.target.capabilities.features == implemented(device) == {"zero_copy"}


def test_host_view_is_the_memory_itself(device: RefDevice) -> None:
    allocation = device.allocator.alloc(4)
    device.allocator.copyin(allocation, 0, memoryview(np.empty((0, 3), np.float32)))
    device.allocator.host_view(allocation)[:] = b"abcd"
    part = device.allocator.view(allocation, 1, 2)
    data = bytearray(2)
    device.allocator.copyout(memoryview(data), part, 0)
    assert data == b"bc"


@pytest.mark.parametrize("nbytes", [1 << 50, 1 << 62, 1 << 70])
def test_absurd_sizes_are_out_of_memory_and_the_next_works(device: RefDevice, nbytes: int) -> None:
    with pytest.raises(OutOfMemoryError, match=str(nbytes)):
        device.allocator.alloc(nbytes)
    assert device.allocator.alloc(16).nbytes == 16


def test_foreign_source_is_a_compile_error(device: RefDevice) -> None:
    with pytest.raises(CompileError):
        RefBackend().toolchain(device.target).compile("define void @f() { ret void }")
    with pytest.raises(CompileError):
        device.load(b"ELF", Signature("f", (), (), 1))


def test_there_is_one_device() -> None:
    assert RefBackend().probe().count == 1
    with pytest.raises(DeviceUnavailable):
        RefBackend().open(1, "")


def test_importing_it_loads_no_numpy() -> None:
    code = "import sys, pluggrad.device.ref; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
