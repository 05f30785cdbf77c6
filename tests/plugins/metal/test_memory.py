"""Memory on the double: storage modes, copies in the queue's order, limits, and how long buffers live."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from pluggrad.plugin_api import OutOfMemoryError

X = np.arange(70, dtype=np.int32)


def test_unified_memory_is_seen_in_place(machine, device, kernel):
    (block,) = kernel.blocks(X)
    view = device.allocator.host_view(block)
    assert view.nbytes == X.nbytes
    assert (np.frombuffer(view, np.int32) == X).all()
    view[0:4] = (99).to_bytes(4, "little")
    assert kernel.read(block)[0] == 99


def test_private_memory_is_reached_through_shared_buffers(machine, private, make_kernel):
    kernel = make_kernel(private, 70)
    machine.calls.clear()
    out, x = kernel.blocks(np.zeros_like(X), X)
    private.submit([kernel.launch()], [out, x], [2, 1]).wait()
    assert (kernel.read(out) == 2 * X + 1).all()
    modes = {arguments[1] for _, name, arguments in machine.calls if name == "newBufferWithLength_options_"}
    assert modes == {0, 32}  # shared ones to copy through, private ones to compute in


@pytest.mark.parametrize("which", ["device", "private"])
@pytest.mark.parametrize("offset", [0, 1, 4, 30])
def test_parts_are_copied(request, which, offset):
    device = request.getfixturevalue(which)
    block = device.allocator.alloc(100)
    device.allocator.copyin(block, 0, memoryview(bytes(100)))
    device.allocator.copyin(block, offset, memoryview(b"seventeen letters"))
    got = bytearray(17)
    device.allocator.copyout(memoryview(got), block, offset)
    assert got == b"seventeen letters"
    part = device.allocator.view(block, 0, 50)
    device.allocator.copyout(memoryview(got), part, offset)
    assert got == b"seventeen letters"


def test_small_data_does_not_wait_for_what_runs(machine, device, kernel):
    out, x = kernel.blocks(np.zeros_like(X), X)
    machine.held = True
    event = device.submit([kernel.launch()], [out, x], [1, 1])
    data = X + 50
    device.allocator.copyin(x, 0, memoryview(data))
    data[:] = 0  # free to be changed
    later = device.submit([kernel.launch(1, 1)], [out, x], [1, 1])
    machine.held = False
    event.wait()
    later.wait()
    assert (kernel.read(out) == X + 1).all()
    assert (kernel.read(x) == X + 51).all()


def test_memory_ends_where_the_system_recommends(machine, device):
    limit = machine.devices[0].working_set
    half = limit // 2
    blocks = [device.allocator.alloc(half), device.allocator.alloc(half)]
    with pytest.raises(OutOfMemoryError, match="in use"):
        device.allocator.alloc(1)
    device.allocator.free(blocks.pop())
    device.allocator.alloc(half)


def test_a_setting_lowers_the_limit(machine, backend, monkeypatch):
    from pluggrad_metal import settings

    monkeypatch.setenv("PLUGGRAD_METAL_MEMORY_MB", "1")
    settings.MEMORY_MB.forget()
    try:
        device = backend.open(0, "")
        with pytest.raises(OutOfMemoryError):
            device.allocator.alloc(1 << 21)
    finally:
        monkeypatch.undo()
        settings.MEMORY_MB.forget()


@pytest.mark.parametrize("which", ["device", "private"])
def test_a_buffer_that_the_driver_refuses_is_out_of_memory(machine, request, which):
    device = request.getfixturevalue(which)
    block = device.allocator.alloc(64)
    machine.refuses_memory = True
    with pytest.raises(OutOfMemoryError):
        device.allocator.alloc(64)
    machine.refuses_memory = False
    device.allocator.free(block)
    device.allocator.alloc(64)


def test_a_freed_buffer_lives_until_the_commands_that_use_it_are_complete(machine, device, kernel):
    out, x = kernel.blocks(np.zeros_like(X), X)
    buffers = machine.devices[0].buffers
    held = len(buffers)
    machine.held = True
    event = device.submit([kernel.launch()], [out, x], [1, 1])
    machine.calls.clear()
    device.allocator.free(x)
    gc.collect()
    assert len(buffers) == held
    machine.held = False
    event.wait()
    del event
    gc.collect()
    assert len(buffers) == held - 1
    assert (kernel.read(out) == X + 1).all()
