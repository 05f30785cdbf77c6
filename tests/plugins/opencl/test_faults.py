"""What goes wrong on a device: a kernel that fails, a device that is lost, Ctrl-C, a fork."""

from __future__ import annotations

import os
import threading

import numpy as np
import pyopencl as cl
import pytest

from pluggrad import Context, Tensor
from pluggrad.plugin_api import DeviceLost, KernelFault, OutOfMemoryError, SlotRef
from pluggrad_opencl import launcher
from pluggrad_opencl.launcher import OpenCLExecutable
from tests.interrupts import ctrl_c
from tests.plugins.opencl import kernels


def driver_error(code: int) -> cl.Error:
    return cl.RuntimeError(cl._cl._ErrorRecord(msg="", code=code, routine="clEnqueueNDRangeKernel"))


@pytest.fixture
def failing(monkeypatch):
    """Kernels that fail on the device, as long as `failing` is set."""
    enqueue = OpenCLExecutable.enqueue

    def fail(self, commands, tasks, items):
        if not failing.is_set():
            return enqueue(self, commands, tasks, items)
        cause = cl.UserEvent(commands.context)
        event = cl.enqueue_nd_range_kernel(commands, self._kernel, (tasks,), (1,), wait_for=[cause])
        cause.set_status(-5)  # whatever waits for it fails as well
        return event

    failing = threading.Event()
    monkeypatch.setattr(OpenCLExecutable, "enqueue", fail)
    return failing


def test_a_fault_is_found_at_the_wait_and_the_device_goes_on(device, failing):
    add = kernels.launch(kernels.add(device), SlotRef(0), SlotRef(1))
    x, out = kernels.filled(device, np.zeros(16, np.float32)), device.allocator.alloc(64)
    failing.set()
    event = device.submit([add], [out, x], [1.0])
    for _ in range(2):
        with pytest.raises(KernelFault, match="a command failed"):
            event.wait()
    failing.clear()
    device.submit([add], [out, x], [2.0]).wait()
    assert (kernels.read(device, out) == 2).all()


def test_a_fault_is_found_when_the_value_is_read_and_under_sync_by_the_call(backend, failing):
    x = Tensor(np.arange(4, dtype=np.float32), device="opencl")
    expected = (x * 3).tolist()
    failing.set()
    y = (x * 3).realize()
    with pytest.raises(KernelFault, match="command list"):
        y.tolist()
    with Context(SYNC=True), pytest.raises(KernelFault, match="expected a launch without a fault"):
        (x * 3).realize()
    failing.clear()
    assert (x * 3).tolist() == expected


@pytest.mark.parametrize("code", [-2, -36, -9999])
def test_a_lost_device_stays_lost_and_others_go_on(open_device, monkeypatch, code):
    lost, other = open_device(), open_device()
    x = kernels.filled(lost, np.zeros(16, np.float32))
    spin = kernels.launch(kernels.spin(lost), SlotRef(0), tasks=1)

    def refuse(*_, **__):
        raise driver_error(code)

    with monkeypatch.context() as patch:
        patch.setattr(launcher.cl, "enqueue_nd_range_kernel", refuse)
        with pytest.raises(DeviceLost, match="lost after clEnqueueNDRangeKernel"):
            lost.submit([spin], [x], [1])
    for use in (lambda: lost.submit([spin], [x], [1]), lambda: lost.allocator.alloc(4),
                lambda: kernels.read(lost, x), lost.synchronize):
        with pytest.raises(DeviceLost, match="other devices go on"):
            use()
    lost.allocator.free(x)
    y = kernels.filled(other, np.full(16, 3, np.float32))
    assert (kernels.read(other, y) == 3).all()


def test_a_driver_without_memory_says_so(device, monkeypatch):
    def refuse(*_, **__):
        raise driver_error(cl.status_code.MEM_OBJECT_ALLOCATION_FAILURE)

    monkeypatch.setattr(cl, "Buffer", refuse)
    with pytest.raises(OutOfMemoryError, match="MEM_OBJECT_ALLOCATION_FAILURE"):
        device.allocator.alloc(4)


def test_ctrl_c_ends_a_wait(device):
    block, spin = kernels.filled(device, np.zeros(16, np.float32)), kernels.spin(device)
    with kernels.held(device):
        event = device.submit([kernels.launch(spin, SlotRef(0), tasks=1)], [block], [1])
        with pytest.raises(KeyboardInterrupt), ctrl_c(0.05):
            event.wait()
        assert device._queue.busy()
    event.wait()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_is_told_and_does_not_hang(run_child):
    code = """
import os, sys
from pluggrad import Tensor
x = Tensor([1.0, 2.0], device="opencl")
y = (x + 1).realize()
child = os.fork()
if not child:
    try:
        y.tolist()
    except Exception as error:
        sys.stdout.write(str(error) + "|")
        sys.stdout.flush()
    os._exit(0)
os.waitpid(child, 0)
print(y.tolist())
"""
    said, after = run_child(code).split("|")
    assert "a child that was forked from it" in said
    assert "spawn" in said
    assert after == "[2.0, 3.0]"
