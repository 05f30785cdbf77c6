"""What goes wrong: kernels that fault, binaries of others, a GPU that is lost or busy, fork, Ctrl-C."""

from __future__ import annotations

import os
import sys
import threading

import numpy as np
import pytest

from pluggrad.device.seal import seal
from pluggrad.plugin_api import (
    DeviceLost,
    DeviceUnavailable,
    KernelFault,
    OutOfMemoryError,
    SlotRef,
    UnknownDevice,
)
from pluggrad_cuda import driver, libcuda
from pluggrad_cuda.plugin import CudaBackend
from tests.interrupts import ctrl_c
from tests.plugins.cuda import conftest, lists
from tests.plugins.cuda.double import kernels
from tests.plugins.cuda.double.world import STATUS, STICKY, Gpu


@pytest.mark.parametrize("code", sorted(STICKY))
def test_a_kernel_that_faults_loses_its_device_and_no_other(world, open_device, code):
    world.gpus.append(Gpu(1))
    lost, other = open_device(0), open_device(1)
    x = lists.filled(lost, np.zeros(16, np.float32))
    halve = lists.launch(lists.load(lost, "halve"), SlotRef(0))
    world.faults["halve"] = code
    event = lost.submit([halve], [x], [1.0])
    for _ in range(2):
        with pytest.raises(DeviceLost, match=rf"{STATUS[code][1]}.*found at the list of halve"):
            event.wait()
    for use in (lambda: lost.submit([halve], [x], [1.0]), lambda: lost.allocator.alloc(4),
                lambda: lists.read(lost, x), lost.synchronize, lambda: lists.load(lost, "add")):
        with pytest.raises(DeviceLost, match="other devices go on"):
            use()
    with pytest.raises(DeviceLost):
        lost.allocator.free(x)
    y = lists.filled(other, np.full(16, 3, np.float32))
    assert (lists.read(other, y) == 3).all()


def test_an_access_that_is_no_memory_is_found(device):
    x = device.allocator.alloc(32)  # the kernel takes 64 bytes
    event = device.submit([lists.launch(lists.load(device, "halve"), SlotRef(0))], [x], [1.0])
    with pytest.raises(DeviceLost, match=r"illegal memory access.*the list of halve"):
        event.wait()


def test_an_error_that_is_not_sticky_leaves_the_device(world, device):
    x = lists.filled(device, np.zeros(16, np.float32))
    halve = lists.launch(lists.load(device, "halve"), SlotRef(0))
    world.fail("cuLaunchKernel", 701)
    with pytest.raises(KernelFault, match="LAUNCH_OUT_OF_RESOURCES"):
        device.submit([halve], [x], [1.0])
    device.submit([halve], [x], [1.0]).wait()
    assert (lists.read(device, x) == 1).all()


@pytest.mark.parametrize("call", ["cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuMemHostAlloc", "cuEventCreate",
                                  "cuEventRecord"])
def test_copies_fail_as_the_driver_says_and_work_again(world, device, call):
    data, block = np.ones(4, np.float32), device.allocator.alloc(16)
    world.fail(call, 2)

    def there_and_back() -> np.ndarray:
        device.allocator.copyin(block, 0, memoryview(data))
        return lists.read(device, block)

    with pytest.raises(OutOfMemoryError, match=f"{call} failed: out of memory"):
        there_and_back()
    assert (there_and_back() == 1).all()


# ---- binaries ----------------------------------------------------------------------------------------------
def test_a_binary_for_another_architecture(device):
    binary = seal(kernels.image(kernels.hand_kernel("add"), capability=(8, 0)))
    with pytest.raises(KernelFault, match=r"for compute capability 9\.0, got code for sm_80.*cache clear"):
        device.load(binary, kernels.signature("add"))


def test_a_driver_that_is_older_than_the_compiler(world, device):
    world.driver_version = 12040
    binary = seal(kernels.image(kernels.hand_kernel("add")))
    with pytest.raises(DeviceUnavailable, match=r"with CUDA 13\.0, got one for CUDA 12\.4.*nvrtc==12\.4"):
        device.load(binary, kernels.signature("add"))


def test_a_binary_without_the_kernel_and_one_that_is_none(device):
    binary = seal(kernels.image(kernels.hand_kernel("add")))
    with pytest.raises(KernelFault, match=r"with that kernel, got .*CUDA_ERROR_NOT_FOUND"):
        device.load(binary, kernels.signature("halve"))
    with pytest.raises(KernelFault, match="CUDA_ERROR_INVALID_IMAGE"):
        device.load(seal(bytes(200)), kernels.signature("add"))
    with pytest.raises(KernelFault, match="sealed"):
        device.load(binary[:-1], kernels.signature("add"))
    lists.load(device, "add")


# ---- machines ----------------------------------------------------------------------------------------------
@pytest.fixture
def backend() -> CudaBackend:
    return CudaBackend()


def test_a_machine_with_gpus(world, backend):
    world.gpus.append(Gpu(1, "Another"))
    conftest.forget()
    found = backend.probe()
    assert (found.count, found.names) == (2, ("Double of a GPU", "Another"))
    target = backend.target(1, "")
    assert target.arch == "sm_90a"
    assert target.capabilities.cores == 132
    with pytest.raises(UnknownDevice, match="the driver lists 2"):
        backend.open(2, "")
    with pytest.raises(UnknownDevice, match="no variants"):
        backend.open(0, "fast")
    opened = backend.open(1, "")
    assert opened.target == target
    opened.close()


def test_no_driver(world, backend, monkeypatch):
    def missing() -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")
    monkeypatch.setattr(libcuda, "open_library", missing)
    found = backend.probe()
    assert found.count == 0
    assert "NVIDIA's driver" in found.reason
    assert "libcuda.so.1" in found.reason
    assert found.fix == driver.INSTALL_DRIVER


def test_no_pycuda(world, backend, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    found = backend.probe()
    assert (found.count, found.fix) == (0, driver.INSTALL_PYCUDA)
    assert "pycuda" in found.reason


def test_no_compiler(world, backend, monkeypatch):
    from pluggrad_cuda import nvrtc

    monkeypatch.setattr(nvrtc, "candidates", lambda: iter(()))
    found = backend.probe()
    assert (found.count, found.fix) == (0, nvrtc.FIX)


@pytest.mark.parametrize("visible", [None, ""])
def test_no_gpu(world, backend, monkeypatch, visible):
    world.gpus.clear()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = backend.probe()
    assert found.count == 0
    assert ("Unset CUDA_VISIBLE_DEVICES" in found.fix) == (visible is not None)


def test_an_old_driver(world, backend):
    world.driver_version = 11080
    found = backend.probe()
    assert (found.count, found.fix) == (0, "Update NVIDIA's driver")
    assert "got one for CUDA 11.8" in found.reason


def test_a_driver_that_was_updated_under_a_running_kernel_module(world, backend):
    world.fail("cuInit", 803)
    assert "Restart" in backend.probe().fix
    assert backend.probe().count == 1


@pytest.mark.parametrize(("mode", "code", "got"), [
    ("EXCLUSIVE_PROCESS", 46, "busy"), ("PROHIBITED", 101, "prohibited"), ("DEFAULT", 46, "busy"),
    ("DEFAULT", 2, "out of memory")])
def test_a_gpu_that_takes_no_other_process(world, backend, mode, code, got):
    world.gpus[0].compute_mode = mode
    world.fail("cuDevicePrimaryCtxRetain", code)
    with pytest.raises(DeviceUnavailable, match=rf"{got}.*nvidia-smi"):
        backend.open(0, "")


def test_ctrl_c_ends_a_wait(world, device):
    x = lists.filled(device, np.zeros(16, np.float32))
    halve = lists.launch(lists.load(device, "halve"), SlotRef(0))
    world.held = True
    event = device.submit([halve], [x], [1.0])
    with pytest.raises(KeyboardInterrupt), ctrl_c(0.05):
        event.wait()
    driver._leave_contexts(driver.cuda())  # what is done at exit
    world.held = False
    event.wait()
    assert (lists.read(device, x) == 1).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_is_told(world, device):
    block = lists.filled(device, np.zeros(4, np.float32))
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        try:
            lists.read(device, block)
        except KernelFault as error:
            os.write(write_end, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    said = os.read(read_end, 1000).decode()
    os.close(read_end)
    os.close(write_end)
    assert "a child that was forked from it" in said
    assert "spawn" in said
    assert (lists.read(device, block) == 0).all()


def test_marks_may_be_dropped_by_any_thread(world, device):
    x = lists.filled(device, np.zeros(16, np.float32))
    halve = lists.launch(lists.load(device, "halve"), SlotRef(0))
    events = [device.submit([halve], [x], [1.0]) for _ in range(3)]
    events[-1].wait()
    thread = threading.Thread(target=events.clear)
    thread.start()
    thread.join()


# ---- peers -------------------------------------------------------------------------------------------------
def test_peers_copy_and_access_is_switched_on_once(world, open_device):
    world.gpus.append(Gpu(1))
    world.gpus[0].peers.add(1)
    here, there = open_device(0), open_device(1)
    again = open_device(0)
    for device in (here, here, again):
        assert device.allocator.can_access(there.allocator)
    assert not there.allocator.can_access(here.allocator)
    source = lists.filled(there, np.arange(16, dtype=np.float32))
    target = lists.filled(here, np.zeros(16, np.float32))
    for device in (here, there):
        device.synchronize()
    here.allocator.copy_peer(target, 8, there.allocator, source, 4, 12)
    here.allocator.copy_peer(target, 8, there.allocator, source, 4, 0)
    assert lists.read(here, target)[:6].tolist() == [0, 0, 1, 2, 3, 0]
    with pytest.raises(KernelFault, match="bytes within a block"):
        here.allocator.copy_peer(target, 60, there.allocator, source, 0, 8)
