"""Command lists: slots, offsets, run-time values, copies, fills, and what a replay costs."""

from __future__ import annotations

import gc
import struct
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluggrad.plugin_api import (
    CopyCommand,
    DeviceError,
    DType,
    Executable,
    FillCommand,
    Launch,
    Scalar,
    SlotRef,
    SupportsPrepare,
    SupportsThreads,
    dtypes,
    implemented,
)
from pluggrad_cpu import launcher
from pluggrad_cpu.device import CpuDevice
from pluggrad_cpu.values import ValuePacker, bfloat16_bits
from tests.plugins.cpu.conftest import MakeDevice
from tests.plugins.cpu.kernels import ADD, SHOW, array, filled, launch, load


def packed(value: Scalar, dtype: DType) -> bytes:
    memory = bytearray(8)
    ValuePacker([dtype]).pack_into(memory, 0, [value])
    return bytes(memory[:dtype.itemsize])


@given(tasks=st.integers(0, 3000), size=st.integers(1, 400), task_us=st.floats(0.0, 100.0))
def test_chunks_are_all_tasks_and_the_last_are_the_smallest(tasks: int, size: int, task_us: float) -> None:
    cut = launcher._chunks(tasks, size, task_us)
    lengths = [size] * cut.coarse + [cut.fine] * (cut.total - cut.coarse)
    assert sum(lengths[:-1]) < tasks <= sum(lengths) or tasks == cut.total == 0
    assert lengths == sorted(lengths, reverse=True)


def test_the_last_chunks_of_long_work_are_cut_finer() -> None:
    assert launcher._chunks(1024, 32, 10.0) == (32, 24, 8, 56)
    assert launcher._chunks(1024, 32, 0.01) == (32, 32, 32, 32)  # to take one would cost as much as to run it


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda d: d.name)
def test_values_reach_the_kernel_in_their_own_dtype(device: CpuDevice, dtype: DType) -> None:
    value = True if dtype.kind == "b" else 3 if dtype.kind in "iu" else 1.5
    show = load(device, SHOW, "show", 1, [dtypes.int64, dtype])
    block = filled(device, np.zeros(2, np.int64))
    device.submit([launch(show, 2, 0.0, 0)], [block], [-7, value])
    shown = array(device, block, "int64")
    expected = bfloat16_bits(value) if dtype is dtypes.bfloat16 else np.array(value, dtype.numpy)
    assert shown[0] == -7
    assert shown[1:].tobytes()[:dtype.itemsize] == np.asarray(expected, dtype.numpy).tobytes()


@pytest.mark.parametrize(("value", "dtype", "expected"), [
    (1e300, dtypes.float32, struct.pack("<f", float("inf"))),
    (-1e6, dtypes.float16, struct.pack("<e", float("-inf"))),
    (300, dtypes.uint8, bytes([44])),
    (-1, dtypes.uint64, bytes([255] * 8)),
    (2.75, dtypes.int32, struct.pack("<i", 2)),
    (7, dtypes.float64, struct.pack("<d", 7.0)),
    (np.float32(0.5), dtypes.float32, struct.pack("<f", 0.5)),
    (float("inf"), dtypes.bfloat16, bytes([0x80, 0x7F])),
    (float("nan"), dtypes.bfloat16, bytes([0xC0, 0x7F])),
    (1e39, dtypes.bfloat16, bytes([0x80, 0x7F])),
])
def test_values_beyond_their_dtype(value: Scalar, dtype: DType, expected: bytes) -> None:
    assert packed(value, dtype) == expected


@given(st.floats(width=32, allow_nan=False))
def test_bfloat16_rounds_to_nearest_even(value: float) -> None:
    below = int.from_bytes(struct.pack("<f", value), "little") >> 16
    low, high = struct.unpack("<ff", struct.pack("<II", below << 16, (below + 1) << 16))
    chosen = bfloat16_bits(value)
    if not np.isfinite([low, high]).all():
        assert chosen in (below, below + 1)
        return
    middle = (low + high) / 2
    tie = below + (below & 1)
    nearest = tie if value == middle else below if abs(value - low) < abs(value - high) else below + 1
    assert chosen == nearest


def test_slots_are_rebound_and_offset(device: CpuDevice) -> None:
    add = load(device, ADD, "add", 2, [dtypes.float32])
    command = Launch(add, (SlotRef(1, 40), SlotRef(0, 8)), (1,), 5)
    run = device.prepare([command], [dtypes.int32, dtypes.float32])
    source = filled(device, np.arange(16, dtype=np.float32))
    for value in (0.5, 2.0):
        target = filled(device, np.zeros(16, np.float32))
        run([source, target], [9, value])
        expected = np.zeros(16, np.float32)
        expected[10:15] = np.arange(2, 7) + value
        assert (array(device, target, "float32") == expected).all()


def test_slots_that_no_command_names_are_ignored(device: CpuDevice) -> None:
    add = load(device, ADD, "add", 2, [dtypes.float32])
    blocks = [filled(device, np.zeros(4, np.float32)) for _ in range(4)]
    device.prepare([launch(add, 4, 0.0, 2, 1)], [dtypes.float32])(blocks, [1.0])
    assert [array(device, block, "float32").sum() for block in blocks] == [0, 0, 4, 0]


@pytest.mark.parametrize("slots", [2, 20])
def test_a_slot_that_is_missing_is_refused(device: CpuDevice, slots: int) -> None:
    add = load(device, ADD, "add", 2, [dtypes.float32])
    run = device.prepare([launch(add, 4, 0.0, slots - 1, 0)], [dtypes.float32])
    blocks = [filled(device, np.zeros(4, np.float32)) for _ in range(slots)]
    with pytest.raises(DeviceError, match=f"expected {slots} slots, got {slots - 1}"):
        run(blocks[:-1], [1.0])
    run(blocks, [1.0])


def test_a_view_is_a_slot_too(device: CpuDevice) -> None:
    add = load(device, ADD, "add", 2, [dtypes.float32])
    block = filled(device, np.zeros(8, np.float32))
    part = device.allocator.view(block, 16, 16)
    device.submit([launch(add, 4, 0.0, 0, 0)], [part], [3.0])
    assert array(device, block, "float32").tolist() == [0, 0, 0, 0, 3, 3, 3, 3]


@pytest.mark.parametrize("nbytes", [0, 1, 1000, (256 << 10) - 1, (256 << 10) + 1, (3 << 20) + 17])
def test_copy_and_fill(device: CpuDevice, nbytes: int) -> None:
    size = nbytes + 64
    source = np.random.default_rng(0).integers(1, 255, size).astype(np.uint8)
    blocks = [filled(device, source), filled(device, np.full(size, 7, np.uint8)), filled(device, source)]
    commands = [CopyCommand(SlotRef(1, 5), SlotRef(0, 3), nbytes), FillCommand(SlotRef(2, 9), nbytes)]
    device.submit(commands, blocks, ())
    copied, cleared = np.full(size, 7, np.uint8), source.copy()
    copied[5:5 + nbytes] = source[3:3 + nbytes]
    cleared[9:9 + nbytes] = 0
    assert (array(device, blocks[1], "uint8") == copied).all()
    assert (array(device, blocks[2], "uint8") == cleared).all()


def test_launch_runs_one_kernel(device: CpuDevice) -> None:
    add = load(device, ADD, "add", 2, [dtypes.float32])
    blocks = [filled(device, np.arange(1000, dtype=np.float32)), filled(device, np.zeros(1000, np.float32))]
    add.launch([blocks[1], blocks[0]], [1.0], 1000, 1, 0)
    assert (array(device, blocks[1], "float32") == np.arange(1000) + 1).all()


def test_an_empty_list_does_nothing(device: CpuDevice) -> None:
    device.prepare([], ())((), ()).wait()


def test_kernels_of_another_device_are_refused(device: CpuDevice) -> None:
    class Foreign(Executable):
        def launch(self, *_: object) -> None: ...

    with pytest.raises(DeviceError, match="expected kernels of this device, got Foreign"):
        device.prepare([Launch(Foreign(), (), (), 1)], ())


def test_the_features_declared_are_there(device: CpuDevice) -> None:
    assert device.target.capabilities.features == {"graph", "threads", "zero_copy"} == implemented(device)
    assert isinstance(device, SupportsPrepare)
    assert isinstance(device, SupportsThreads)
    assert device.threads == 3


def resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * 4096 if statm.exists() else 0


def test_10_000_replays_hold_no_memory(device: CpuDevice) -> None:
    add = load(device, ADD, "add", 2, [dtypes.float32])
    blocks = [filled(device, np.zeros(64, np.float32)) for _ in range(2)]
    run = device.prepare([launch(add, 64, 0.0, 0, 1), launch(add, 64, 50.0, 1, 0)], [dtypes.float32])
    run(blocks, [1.0])
    gc.collect()
    grown = []
    for _ in range(3):  # what else the process does may take memory once
        objects, resident = sys.getallocatedblocks(), resident_bytes()
        for _ in range(10_000):
            run(blocks, [1.0])
        grown.append((sys.getallocatedblocks() - objects, resident_bytes() - resident))
    assert min(objects for objects, _ in grown) < 500
    assert min(resident for _, resident in grown) < 4 << 20
    assert (array(device, blocks[1], "float32") == 60_002).all()


def calls_of(work: Callable[[], object]) -> int:
    """How many functions are called, of Python and of C."""
    counted = Counter[str]()
    sys.setprofile(lambda frame, event, argument: counted.update([event]))
    try:
        work()
    finally:
        sys.setprofile(None)
    return counted["call"] + counted["c_call"]


def test_a_replay_is_a_few_calls_however_long_the_list(make_device: MakeDevice) -> None:
    device = make_device("native")
    add = load(device, ADD, "add", 2, [dtypes.float32])
    blocks = [filled(device, np.zeros(8, np.float32)) for _ in range(2)]
    short, long = (device.prepare([launch(add, 8, 0.0, 0, 1)] * count, [dtypes.float32]) for count in (1, 50))
    counts = [calls_of(lambda run=run: run(blocks, [1.0])) for run in (short, long)]
    assert counts[0] == counts[1] < 16
