"""Submission: order, events, copies beside work that is in flight."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from pluggrad.plugin_api import (
    DONE,
    CopyCommand,
    DeviceError,
    FillCommand,
    Launch,
    SlotRef,
    dtypes,
    implemented,
)
from tests.plugins.opencl import kernels


@pytest.fixture
def running(device):
    """A block of zeros on which a kernel works for tenths of a second, and the event of its list."""
    block = kernels.filled(device, np.zeros(16, np.float32))
    spin = kernels.launch(kernels.spin(device), SlotRef(0), tasks=1)
    event = device.submit([spin], [block], [kernels.STEPS])
    yield block, event
    event.wait()


def test_the_features_are_those_declared(device):
    assert implemented(device) == device.target.capabilities.features


def test_submit_returns_before_the_kernel_runs(device):
    block, spin = kernels.filled(device, np.zeros(16, np.float32)), kernels.spin(device)
    with kernels.held(device):
        event = device.submit([kernels.launch(spin, SlotRef(0), tasks=1)], [block], [1])
        assert device._queue.busy()
    event.wait()
    assert not device._queue.busy()
    event.wait()  # says the same again


def test_a_copy_out_waits_for_the_kernel(device, running):
    block, _ = running
    assert kernels.read(device, block)[0] == pytest.approx(2)


@pytest.mark.parametrize("size", [16, 2 << 20])  # staged, and too large for that
def test_a_copy_in_comes_after_the_kernel_and_its_data_may_be_reused(device, running, size):
    block, event = running
    other = device.allocator.alloc(4 * size)
    data = np.full(size, 7, np.float32)
    device.allocator.copyin(other, 0, memoryview(data))
    device.allocator.copyin(block, 0, memoryview(data[:16]))
    data[:] = 9
    event.wait()
    assert (kernels.read(device, other) == 7).all()
    assert (kernels.read(device, block) == 7).all()  # not what the kernel wrote


def test_commands_of_a_list_run_in_order(device):
    add = kernels.add(device)
    x = kernels.filled(device, np.arange(16, dtype=np.float32))
    y, z = device.allocator.alloc(1024), device.allocator.alloc(64)
    event = device.submit([
        kernels.launch(add, SlotRef(0, 512), SlotRef(2)),      # y[512:] = x + 2
        CopyCommand(SlotRef(1), SlotRef(0, 512), 64),          # z = y[512:]
        FillCommand(SlotRef(1, 4), 8),                         # z[1:3] = 0
        kernels.launch(add, SlotRef(2), SlotRef(1)),           # x = z + 2
        CopyCommand(SlotRef(0), SlotRef(1), 0),
    ], [y, z, x], [2.0])
    event.wait()
    expected = np.arange(16) + 2
    expected[1:3] = 0
    assert kernels.read(device, z).tolist() == expected.tolist()
    assert kernels.read(device, x).tolist() == (expected + 2).tolist()
    assert device.submit([FillCommand(SlotRef(0), 0)], [y], []) is DONE


def test_a_prepared_list_takes_other_slots_and_values_each_time(device):
    add = kernels.add(device)
    replay = device.prepare([kernels.launch(add, SlotRef(0), SlotRef(1))], (dtypes.float32,))
    x = [kernels.filled(device, np.full(16, start, np.float32)) for start in (0.0, 100.0)]
    out = [device.allocator.alloc(64) for _ in range(2)]
    for source, target, value in [(0, 0, 1.0), (0, 1, 1.0), (1, 0, 1.0), (1, 0, 2.0), (0, 0, 0.5)]:
        replay([out[target], x[source]], [value])
        assert kernels.read(device, out[target]).tolist() == [100.0 * source + value] * 16


def test_values_that_are_equal_but_not_the_same_bits_are_told_apart(device):
    add = kernels.add(device)
    x, out = kernels.filled(device, np.full(16, -0.0, np.float32)), device.allocator.alloc(64)
    for value, sign in [(-0.0, True), (0.0, False), (-0.0, True)]:
        device.submit([kernels.launch(add, SlotRef(0), SlotRef(1))], [out, x], [value]).wait()
        assert np.signbit(kernels.read(device, out)).all() == sign


def test_event_times_are_the_devices(device):
    block = kernels.filled(device, np.zeros(16, np.float32))
    spin = kernels.launch(kernels.spin(device), SlotRef(0), tasks=1)
    best = []
    for steps in (kernels.STEPS // 10, kernels.STEPS):
        seconds = []
        for _ in range(3):  # other work may hold up one
            started = time.perf_counter()
            event = device.submit([spin], [block], [steps])
            event.wait()
            seconds.append(device.elapsed(event))
            assert 0 < seconds[-1] <= time.perf_counter() - started
        best.append(min(seconds))
    assert best[0] < best[1]
    both = device.submit([spin, FillCommand(SlotRef(0), 64)], [block], [kernels.STEPS // 10])
    both.wait()
    assert device.elapsed(both) > 0
    assert device.elapsed(DONE) == 0


def test_threads_share_a_device(device):
    add = kernels.add(device)

    def count_up(number: int) -> None:
        a, b = (kernels.filled(device, np.zeros(16, np.float32)) for _ in range(2))
        for _ in range(50):
            device.submit([Launch(add, (SlotRef(0), SlotRef(1)), (0,), 16)], [b, a], [float(number)])
            a, b = b, a
        results[number] = kernels.read(device, a).tolist()

    results: dict[int, list[float]] = {}
    threads = [threading.Thread(target=count_up, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: [50.0 * number] * 16 for number in range(4)}


def test_kernels_of_another_device_are_refused(device):
    with pytest.raises(DeviceError, match="expected kernels of this device, got NoneType"):
        device.submit([Launch(None, (), (), 1)], [], [])
