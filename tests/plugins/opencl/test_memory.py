"""Memory of an OpenCL device."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad.plugin_api import KernelFault, OutOfMemoryError, SlotRef
from tests.plugins.opencl import kernels


@pytest.mark.parametrize("nbytes", [0, 1, 127, 128, 4096, (16 << 20) + 5])
def test_blocks_hold_what_was_copied_in(device, nbytes):
    data = np.random.default_rng(1).integers(0, 256, nbytes).astype(np.uint8)
    block = device.allocator.alloc(nbytes)
    device.allocator.copyin(block, 0, memoryview(data))
    assert (kernels.read(device, block, "uint8") == data).all()
    device.allocator.free(block)


def test_copies_at_offsets(device):
    block = device.allocator.alloc(64)
    device.allocator.copyin(block, 0, memoryview(bytes(64)))
    device.allocator.copyin(block, 9, memoryview(b"middle"))
    found = bytearray(8)
    device.allocator.copyout(memoryview(found), block, 8)
    assert found == b"\0middle\0"


@pytest.mark.parametrize(("offset", "nbytes"), [(-1, 4), (61, 4), (1 << 40, 1)])
def test_copies_outside_a_block_are_refused(device, offset, nbytes):
    block = device.allocator.alloc(64)
    with pytest.raises(KernelFault, match="a block of 64"):
        device.allocator.copyin(block, offset, memoryview(bytes(nbytes)))
    with pytest.raises(KernelFault, match="a block of 64"):
        device.allocator.copyout(memoryview(bytearray(nbytes)), block, offset)


def test_a_view_is_the_memory_from_an_offset_on(device):
    step = device.target.capabilities.alignment
    block = kernels.filled(device, np.arange(step, dtype=np.float32))
    view = device.allocator.view(block, step, 64)
    out = device.allocator.alloc(64)
    device.submit([kernels.launch(kernels.add(device), SlotRef(0), SlotRef(1))], [out, view], [0.5]).wait()
    assert kernels.read(device, out).tolist() == (np.arange(16) + step // 4 + 0.5).tolist()
    device.allocator.copyin(view, 4, memoryview(np.float32([-1.0])))
    assert kernels.read(device, block)[step // 4 + 1] == -1
    device.allocator.free(view)  # and the block's memory stays
    assert kernels.read(device, block)[0] == 0
    assert device.allocator.view(block, step, 0).nbytes == 3 * step


def test_what_is_beyond_the_limit_is_refused_and_comes_back_with_free(setting, open_device):
    setting("MEMORY_MB", "8")
    allocator = open_device().allocator
    blocks = [allocator.alloc(4 << 20), allocator.alloc(4 << 20)]
    with pytest.raises(OutOfMemoryError, match="8,388,608 bytes, of which 8,388,608 are in use"):
        allocator.alloc(1)
    allocator.free(blocks.pop())
    allocator.free(allocator.alloc(4 << 20))
    allocator.free(blocks.pop())


def test_more_than_the_device_has_is_refused_before_it_is_touched(device):
    with pytest.raises(OutOfMemoryError, match="Free tensors"):
        device.allocator.alloc(1 << 50)


def test_tensors_run_out_of_memory_and_go_on(run_child):
    code = """
import numpy as np
from pluggrad import Tensor
from pluggrad.errors import OutOfMemoryError
x = Tensor(np.ones(1 << 20, np.float32), device="opencl")
try:
    big = Tensor(np.ones(8 << 20, np.float32), device="opencl")
except OutOfMemoryError as error:
    print("refused", (x + 1).sum().item() == 2 << 20)
"""
    assert run_child(code, PLUGGRAD_OPENCL_MEMORY_MB="24") == "refused True"
