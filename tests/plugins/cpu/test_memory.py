"""Memory of the cpu device."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pluggrad.plugin_api import KernelFault, OutOfMemoryError
from pluggrad_cpu.memory import CpuAllocator, memory_limit


@pytest.fixture
def allocator() -> CpuAllocator:
    return CpuAllocator()


@pytest.mark.parametrize("nbytes", [0, 1, 63, 64, 65, 4096, (4 << 20) - 1, 4 << 20, (5 << 20) + 3])
def test_blocks_are_aligned_and_hold_what_was_copied_in(allocator: CpuAllocator, nbytes: int) -> None:
    data = np.random.default_rng(1).integers(0, 256, nbytes).astype(np.uint8)
    block = allocator.alloc(nbytes)
    assert block.address % (2 << 20 if nbytes >= 4 << 20 else 64) == 0
    allocator.copyin(block, 0, memoryview(data))
    back = np.empty_like(data)
    allocator.copyout(memoryview(back), block, 0)
    assert (back == data).all()
    allocator.free(block)


def test_blocks_do_not_overlap(allocator: CpuAllocator) -> None:
    blocks = sorted((allocator.alloc(100) for _ in range(50)), key=lambda block: block.address)
    for low, high in itertools.pairwise(blocks):
        assert low.address + 100 <= high.address
    for block in blocks:
        allocator.free(block)


def test_copies_at_offsets_of_any_format(allocator: CpuAllocator) -> None:
    block = allocator.alloc(64)
    allocator.copyin(block, 0, memoryview(bytes(64)))
    allocator.copyin(block, 8, memoryview(np.arange(6, dtype=np.int32).reshape(2, 3)))
    back = np.empty((3,), np.int32)
    allocator.copyout(memoryview(back), block, 12)
    assert back.tolist() == [1, 2, 3]


@pytest.mark.parametrize(("offset", "nbytes"), [(-1, 4), (61, 4), (1 << 40, 1)])
def test_copies_outside_a_block_are_refused(allocator: CpuAllocator, offset: int, nbytes: int) -> None:
    block = allocator.alloc(64)
    with pytest.raises(KernelFault, match="a block of 64"):
        allocator.copyin(block, offset, memoryview(bytes(nbytes)))
    with pytest.raises(KernelFault, match="a block of 64"):
        allocator.copyout(memoryview(bytearray(nbytes)), block, offset)


def test_the_host_sees_the_memory_itself(allocator: CpuAllocator) -> None:
    block = allocator.alloc(16)
    seen = np.frombuffer(allocator.host_view(block), np.int32)
    seen[:] = 5
    part = np.frombuffer(allocator.host_view(allocator.view(block, 4, 8)), np.int32)
    part[0] = 6
    assert seen.tolist() == [5, 6, 5, 5]
    assert len(allocator.host_view(allocator.alloc(0))) == 0


@pytest.mark.parametrize("nbytes", [1 << 45, 1 << 60, (1 << 63) - 1, 1 << 64, 1 << 80])
def test_out_of_memory_names_the_size_and_changes_nothing(allocator: CpuAllocator, nbytes: int) -> None:
    with pytest.raises(OutOfMemoryError, match=f"{nbytes:,} bytes") as caught:
        allocator.alloc(nbytes)
    assert isinstance(caught.value, MemoryError)
    assert f"{memory_limit():,}" in str(caught.value)
    allocator.free(allocator.alloc(1 << 20))


def test_a_freed_block_cannot_be_used(allocator: CpuAllocator) -> None:
    block = allocator.alloc(64)
    allocator.free(block)
    with pytest.raises(AttributeError):
        allocator.host_view(block)
    with pytest.raises(AttributeError):
        allocator.free(block)
