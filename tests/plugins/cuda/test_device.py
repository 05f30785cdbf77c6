"""Memory, launches and copies of a device on the double."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from pluggrad.plugin_api import (
    DONE,
    CopyCommand,
    DeviceError,
    FillCommand,
    KernelFault,
    Launch,
    OutOfMemoryError,
    SlotRef,
    implemented,
)
from pluggrad_cuda import memory, settings
from tests.plugins.cuda import lists


def test_the_features_are_those_declared(device):
    assert implemented(device) == device.target.capabilities.features


def test_memory_is_given_back_and_views_keep_their_base(world, device):
    gpu, allocator = world.gpus[0], device.allocator
    block = allocator.alloc(1024)
    view = allocator.view(block, 256, 0)
    assert (view.address, view.nbytes) == (block.address + 256, 768)
    assert allocator.view(view, 256, 16).address == block.address + 512
    allocator.free(view)
    assert gpu.used == 1024
    allocator.free(block)
    assert gpu.used == 0
    allocator.free(allocator.alloc(0))


def test_no_memory_left_says_what_there_is(world, device):
    world.gpus[0].memory_bytes = 1000
    block = device.allocator.alloc(600)
    with pytest.raises(OutOfMemoryError, match=r"500 bytes in one piece, got 400 free bytes of 1,000"):
        device.allocator.alloc(500)
    device.allocator.free(block)
    device.allocator.free(device.allocator.alloc(500))


@pytest.fixture
def limited(monkeypatch):
    """PLUGGRAD_CUDA_MEMORY_MB=8."""
    monkeypatch.setenv(settings.MEMORY_MB.variable, "8")
    settings.MEMORY_MB.forget()
    yield
    monkeypatch.undo()
    settings.MEMORY_MB.forget()


def test_what_is_beyond_the_limit_is_refused_and_comes_back_with_free(limited, open_device):
    allocator = open_device().allocator
    view = allocator.view(allocator.alloc(4 << 20), 256, 0)
    blocks = [view.base, allocator.alloc(4 << 20)]
    with pytest.raises(OutOfMemoryError, match="8,388,608 bytes, of which 8,388,608 are in use"):
        allocator.alloc(0)
    allocator.free(view)  # gives nothing back
    with pytest.raises(OutOfMemoryError, match="in use"):
        allocator.alloc(1)
    allocator.free(blocks.pop())
    allocator.free(allocator.alloc(4 << 20))
    allocator.free(blocks.pop())


def test_what_the_driver_refused_counts_for_nothing(world, device):
    world.gpus[0].memory_bytes = 1000
    for _ in range(3):
        with pytest.raises(OutOfMemoryError, match="in one piece"):
            device.allocator.alloc((1 << 30) - 1)
    device.allocator.free(device.allocator.alloc(1000))


@pytest.mark.parametrize("nbytes", [1, 4096, memory.PIECE, 5 * memory.PIECE + 12])
def test_copies_of_any_size_come_back(device, nbytes):
    data = np.random.default_rng(0).integers(0, 256, nbytes, np.uint8)
    block = device.allocator.alloc(nbytes + 64)
    device.allocator.copyin(block, 64, memoryview(data))
    found = np.empty(nbytes, np.uint8)
    device.allocator.copyout(memoryview(found), block, 64)
    assert (found == data).all()


def test_bytes_may_change_when_copyin_returns_although_nothing_ran(world, device):
    world.held = True
    blocks, numbers = [], np.zeros(4, np.float32)
    for number in range(100):
        numbers[:] = number
        blocks.append(lists.filled(device, numbers))
    assert device._queue.busy()
    world.held = False
    assert [lists.read(device, block)[0] for block in blocks] == list(range(100))


def test_a_full_ring_waits_for_the_oldest_copy(world, device):
    piece = np.zeros(memory.PIECE, np.uint8)
    world.patience = 1
    blocks = [device.allocator.alloc(piece.nbytes) for _ in range(6)]
    for number, block in enumerate(blocks):
        piece[:] = number
        device.allocator.copyin(block, 0, memoryview(piece))
    assert world.count("cuEventQuery") >= 2
    assert [lists.read(device, block, "uint8")[-1] for block in blocks] == list(range(6))


@pytest.mark.parametrize(("offset", "nbytes"), [(-4, 4), (60, 8), (0, 68)])
def test_copies_beyond_a_block_are_refused(device, offset, nbytes):
    block = device.allocator.alloc(64)
    with pytest.raises(KernelFault, match="bytes within a block of 64"):
        device.allocator.copyin(block, offset, memoryview(bytes(nbytes)))


def test_commands_of_a_list_run_in_order(device):
    add = lists.load(device, "add")
    x = lists.filled(device, np.arange(16, dtype=np.float32))
    y, z = device.allocator.alloc(1024), device.allocator.alloc(64)
    event = device.submit([
        lists.launch(add, SlotRef(0, 512), SlotRef(2)),        # y[512:] = x + 2
        CopyCommand(SlotRef(1), SlotRef(0, 512), 64),          # z = y[512:]
        FillCommand(SlotRef(1, 4), 8),                         # z[1:3] = 0
        lists.launch(add, SlotRef(2), SlotRef(1)),             # x = z + 2
        CopyCommand(SlotRef(0), SlotRef(1), 0),
    ], [y, z, x], [2.0])
    event.wait()
    expected = np.arange(16) + 2
    expected[1:3] = 0
    assert lists.read(device, z).tolist() == expected.tolist()
    assert lists.read(device, x).tolist() == (expected + 2).tolist()
    assert device.submit([FillCommand(SlotRef(0), 0)], [y], []) is DONE


def test_submit_returns_before_the_list_is_complete(world, device):
    add = lists.launch(lists.load(device, "add"), SlotRef(0), SlotRef(1))
    x, out = lists.filled(device, np.ones(16, np.float32)), device.allocator.alloc(64)
    world.held = True
    event = device.submit([add], [out, x], [1.0])
    assert device._queue.busy()
    world.held = False
    world.patience = 5
    event.wait()
    event.wait()  # says the same again
    assert not device._queue.busy()
    assert (lists.read(device, out) == 2).all()


def test_event_times_are_the_devices(device):
    halve = lists.launch(lists.load(device, "halve"), SlotRef(0))
    x = lists.filled(device, np.zeros(16, np.float32))
    one, three = device.submit([halve], [x], [1.0]), device.submit([halve] * 3, [x], [1.0])
    three.wait()
    one.wait()
    assert 0 < device.elapsed(one) < device.elapsed(three)
    assert device.elapsed(DONE) == 0


@pytest.mark.parametrize(("scratch", "static", "dynamic"), [
    (0, 1 << 10, 0), (1 << 10, 1 << 10, 0), (16 << 10, 0, 16 << 10), (100 << 10, 0, 100 << 10),
    (60 << 10, 2 << 10, 60 << 10)])
def test_shared_memory_that_the_kernel_does_not_declare(world, device, scratch, static, dynamic):
    halve = lists.load(device, "halve", scratch, group=32, static_shared=static, dynamic_shared=dynamic)
    x = lists.filled(device, np.zeros(16, np.float32))
    device.submit([lists.launch(halve, SlotRef(0))], [x], [3.0]).wait()
    assert (lists.read(device, x) == 3).all()
    assert world.count("cuFuncSetAttribute") == (scratch > 48 << 10)


def test_a_grid_beyond_the_widest_has_rows(world, device):
    halve = lists.load(device, "halve", tasks=5 << 30)
    x = lists.filled(device, np.zeros(16, np.float32))
    device.submit([lists.launch(halve, SlotRef(0))], [x], [3.0]).wait()


def test_launch_runs_and_waits(device):
    add = lists.load(device, "add", group=4)
    x, out = lists.filled(device, np.ones(16, np.float32)), device.allocator.alloc(64)
    add.launch([out, x], [0.5], 16, 4, 0)
    assert (lists.read(device, out) == 1.5).all()


def test_kernels_of_one_binary_share_a_module_that_goes_when_nobody_needs_it(world, device):
    first, second = lists.load(device, "add"), lists.load(device, "add")
    assert first.module is second.module
    x, out = lists.filled(device, np.ones(16, np.float32)), device.allocator.alloc(64)
    world.held = True
    device.submit([lists.launch(first, SlotRef(0), SlotRef(1))], [out, x], [0.5])
    del first, second
    world.held = False
    assert world.count("cuModuleUnload") == 0
    device.synchronize()
    assert world.count("cuModuleUnload") == world.count("cuModuleLoadData") == 1


def test_threads_share_a_device(device):
    add = lists.load(device, "add")

    def count_up(number: int) -> None:
        a, b = (lists.filled(device, np.zeros(16, np.float32)) for _ in range(2))
        for _ in range(20):
            device.submit([lists.launch(add, SlotRef(0), SlotRef(1))], [b, a], [float(number)])
            a, b = b, a
        results[number] = lists.read(device, a).tolist()
        for block in (a, b):
            device.allocator.free(block)

    results: dict[int, list[float]] = {}
    threads = [threading.Thread(target=count_up, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: [20.0 * number] * 16 for number in range(4)}


def test_kernels_of_another_device_are_refused(device):
    with pytest.raises(DeviceError, match="expected kernels of this device, got NoneType"):
        device.submit([Launch(None, (), (), 1)], [], [])
