"""Command lists on the double: which calls they become, in which order, and what comes of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pluggrad.plugin_api import CopyCommand, FillCommand, KernelFault, SlotRef, implemented

SIZE = 70
X = np.arange(SIZE, dtype=np.int32)


def test_a_launch_becomes_these_calls(machine, device, kernel):
    out, x = kernel.blocks(np.zeros_like(X), X)
    machine.calls.clear()
    device.submit([kernel.launch()], [out, x], [3, 4]).wait()
    assert machine.names() == [
        "commandBuffer", "computeCommandEncoderWithDispatchType_", "setComputePipelineState_",
        "setBuffer_offset_atIndex_", "setBuffer_offset_atIndex_", "setBytes_length_atIndex_",
        "dispatchThreadgroups_threadsPerThreadgroup_", "endEncoding", "setLabel_", "commit"]
    assert (kernel.read(out) == 3 * X + 4).all()


def test_what_is_bound_already_is_not_bound_again(machine, device, kernel):
    slots = kernel.blocks(np.zeros_like(X), X)
    machine.calls.clear()
    device.submit([kernel.launch()] * 3, slots, [3, 4]).wait()
    assert len(machine.names("setComputePipelineState_")) == 1
    assert len(machine.names("setBuffer_offset_atIndex_")) == 2
    assert len(machine.names("dispatchThreadgroups_threadsPerThreadgroup_")) == 3


def test_barriers_stand_where_the_list_asks_for_them(machine, device, kernel):
    slots = kernel.blocks(np.zeros_like(X), X, np.zeros_like(X), np.zeros_like(X))
    machine.calls.clear()
    commands = [kernel.launch(0, 1), kernel.launch(2, 1, barrier=False), kernel.launch(3, 2)]
    device.submit(commands, slots, [2, 1]).wait()
    launches = machine.names("memoryBarrierWithScope_", "dispatchThreadgroups_threadsPerThreadgroup_")
    assert [name[:6] for name in launches] == ["dispat", "dispat", "memory", "dispat"]
    assert (kernel.read(slots[3]) == 2 * (2 * X + 1) + 1).all()


def test_the_double_finds_a_missing_barrier(machine, device, kernel):
    slots = kernel.blocks(np.zeros_like(X), X, np.zeros_like(X))
    with pytest.raises(AssertionError, match="without a barrier"):
        device.submit([kernel.launch(0, 1), kernel.launch(2, 0, barrier=False)], slots, [2, 1])
    machine.misuses.clear()


def test_long_lists_are_committed_in_batches(machine, device, kernel):
    slots = kernel.blocks(X, X)
    machine.calls.clear()
    commands = [kernel.launch(*((0, 1) if i % 2 else (1, 0))) for i in range(150)]
    event = device.submit(commands, slots, [1, 1])
    assert len(machine.names("commit")) == 3
    event.wait()
    assert (kernel.read(slots[0]) == X + 150).all()
    assert device.elapsed(event) == pytest.approx(0.003)


def test_launches_copies_and_fills_take_turns(machine, device, kernel):
    slots = kernel.blocks(np.zeros_like(X), X, X)
    machine.calls.clear()
    commands = [kernel.launch(0, 1), CopyCommand(SlotRef(2, 40), SlotRef(0, 80), 200),
                FillCommand(SlotRef(0), 20), kernel.launch(1, 0)]
    device.submit(commands, slots, [5, 6]).wait()
    assert machine.names("endEncoding", "commit") == ["endEncoding"] * 3 + ["commit"]
    first = 5 * X + 6
    copied = X.copy()
    copied[10:60] = first[20:70]
    assert (kernel.read(slots[2]) == copied).all()
    first[:5] = 0
    assert (kernel.read(slots[1]) == 5 * first + 6).all()


@pytest.mark.parametrize(("start", "nbytes"), [(0, 3), (1, 4), (2, 277)])
def test_sizes_that_blits_do_not_take_are_moved_by_kernels(machine, device, kernel, start, nbytes):
    slots = kernel.blocks(X, np.zeros_like(X))
    before = X.view(np.uint8)
    expected = np.zeros(280, np.uint8)
    expected[start:start + nbytes] = before[:nbytes]
    device.submit([CopyCommand(SlotRef(1, start), SlotRef(0), nbytes)], slots, ()).wait()
    assert (kernel.read(slots[1]).view(np.uint8) == expected).all()
    device.submit([FillCommand(SlotRef(1, start), nbytes)], slots, ()).wait()
    assert not kernel.read(slots[1]).any()
    assert "copyFromBuffer_sourceOffset_toBuffer_destinationOffset_size_" not in machine.names()


def test_a_prepared_list_runs_with_other_slots_and_values(device, kernel):
    prepared = device.prepare([kernel.launch(0, 1, (1, 0))], kernel.signature.values)
    for scale, shift in ((2, 3), (-1, 7)):
        slots = kernel.blocks(np.zeros_like(X), X + shift)
        prepared(slots, [shift, scale]).wait()
        assert (kernel.read(slots[0]) == scale * (X + shift) + shift).all()


def test_an_event_waits_and_lists_run_in_order(machine, device, kernel):
    slots = kernel.blocks(X, X)
    machine.held = True
    first = device.submit([kernel.launch(1, 0)], slots, [1, 5])
    second = device.submit([kernel.launch(0, 1)], slots, [1, 5])
    assert (slots[1].host.cast("i")[0], slots[0].host.cast("i")[0]) == (0, 0)
    machine.held, machine.polls = False, 5
    second.wait()
    first.wait()
    assert (kernel.read(slots[0]) == X + 10).all()


def test_a_list_that_cannot_be_encoded_leaves_nothing_behind(machine, device, kernel):
    slots = kernel.blocks(X, X)
    machine.calls.clear()
    with pytest.raises(IndexError):
        device.submit([kernel.launch(0, 1), kernel.launch(1, 5)], slots, [1, 1])
    assert machine.names("endEncoding", "commit") == ["endEncoding"]
    device.submit([kernel.launch(0, 1)], slots, [1, 1]).wait()
    assert (kernel.read(slots[0]) == X + 1).all()


def test_a_queue_never_waits_natively_for_room(machine, device, kernel):
    slots = kernel.blocks(X, X)
    machine.polls = 3
    for _ in range(100):  # the double takes 64 command buffers that are not complete
        event = device.submit([kernel.launch(0, 1)], slots, [1, 1])
    event.wait()


def test_an_empty_list_is_complete(device):
    event = device.submit([FillCommand(SlotRef(0), 0)], [], ())
    event.wait()
    assert device.elapsed(event) == 0


def test_threads_share_a_device(device, kernel):
    def work(number):
        slots = kernel.blocks(np.zeros_like(X), X + number)
        for _ in range(20):
            device.submit([kernel.launch()], slots, [number, 1]).wait()
            assert (kernel.read(slots[0]) == number * (X + number) + 1).all()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))


def test_what_is_implemented_is_declared(device, private):
    assert implemented(device) == device.target.capabilities.features >= {"zero_copy"}


def test_without_unified_memory_there_is_no_zero_copy(private):
    assert implemented(private) == private.target.capabilities.features
    assert "zero_copy" not in implemented(private)


def test_a_group_that_is_too_large_is_refused(device, kernel):
    from dataclasses import replace

    with pytest.raises(KernelFault, match="work items a group"):
        device.load(kernel.binary, replace(kernel.signature, group=2048))
