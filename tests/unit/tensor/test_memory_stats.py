"""memory_stats: in use, pooled and at most in use, for each device, as numbers and as text."""

from __future__ import annotations

import gc

import pytest

from pluggrad import Device, Tensor, memory_stats, reset_peak_memory_stats
from pluggrad.runtime import MemoryReport, MemoryStats

SIZE = 1 << 20


@pytest.fixture(autouse=True)
def _nothing_left_behind():
    gc.collect()


def test_what_is_in_use_and_what_was_at_most(device):
    reset_peak_memory_stats(device)
    before = memory_stats(device)
    assert before.peak == before.used
    x = Tensor.zeros(SIZE // 4).contiguous().realize()
    during = memory_stats(device)
    assert during.used - before.used >= SIZE
    assert during.reserved == during.used + during.pooled
    assert during["used"] == during.used
    del x
    gc.collect()
    after = memory_stats(device)
    assert after.used == before.used
    assert after.peak == during.peak >= during.used
    assert after.pooled >= SIZE
    reset_peak_memory_stats()
    assert memory_stats(device).peak == after.used


def test_the_peak_counts_what_is_needed_while_kernels_run(device):
    x = Tensor.ones(512, 512).contiguous().realize()
    Tensor.realize(x.softmax() @ x)
    gc.collect()
    reset_peak_memory_stats(device)
    used = memory_stats(device).used
    total = ((x * 2) @ x).softmax(0).sum().item()
    assert total == pytest.approx(512, rel=1e-3)
    gc.collect()
    assert memory_stats(device).used - used < SIZE
    assert memory_stats(device).peak - used >= SIZE


def test_devices_are_counted_apart(device, other_device):
    Tensor([1.0], device=other_device)
    before = memory_stats()
    x = Tensor.zeros(SIZE // 4).contiguous().realize()
    after = memory_stats()
    assert after[other_device] == before[other_device]
    assert after[device] == memory_stats(device) == Device[device].memory
    del x


def test_a_report_is_a_copy(device):
    Tensor([1.0])
    report = memory_stats()
    report[device].used = -1
    assert memory_stats(device).used >= 0


def test_text():
    stats = MemoryStats(used=100, pooled=3 << 20, peak=5 << 30)
    assert str(stats) == "100 B in use, 3.0 MiB pooled, 5.0 GiB at most in use"
    assert str(MemoryReport({"ref": stats, "cpu": MemoryStats()})) == (
        f"ref: {stats}\ncpu: 0 B in use, 0 B pooled, 0 B at most in use")
    assert str(MemoryReport()) == "no device in use"


def test_an_unknown_device():
    with pytest.raises(ValueError, match="nosuch"):
        memory_stats("nosuch")
