"""The pool of a device's memory: sizes, reuse, accounting, and the retry when memory is short."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluggrad.errors import OutOfMemoryError
from pluggrad.runtime.memory import Pool, size_class


class Memory:
    """An allocator that counts, and has only so much."""

    def __init__(self, room: int) -> None:
        self.room, self.live = room, 0

    def alloc(self, nbytes: int, kind: str = "device") -> list[int]:
        if self.live + nbytes > self.room:
            raise MemoryError
        self.live += nbytes
        return [nbytes]

    def free(self, allocation: list[int]) -> None:
        self.live -= allocation[0]


@given(st.integers(0, 1 << 40))
def test_a_size_class_wastes_at_most_an_eighth(nbytes):
    capacity = size_class(nbytes)
    assert nbytes <= capacity
    assert capacity <= max(512, nbytes + nbytes / 8 + 64)
    assert size_class(capacity) == capacity


def test_a_block_given_back_is_taken_again():
    pool = Pool(Memory(1 << 20), "here")
    block = pool.take(1000)
    allocation = block.allocation
    pool.give(block)
    assert pool.take(1001).allocation is allocation


def test_pooled_memory_is_given_back_before_giving_up():
    memory = Memory(10_000)
    pool = Pool(memory, "here")
    pool.give(pool.take(8000))
    assert memory.live == size_class(8000)
    assert pool.take(5000).capacity == size_class(5000)
    assert memory.live == size_class(5000)


def test_too_much_is_refused_and_changes_nothing():
    pool = Pool(Memory(10_000), "here")
    block = pool.take(1000)
    before = (pool.stats.used, pool.stats.peak)
    with pytest.raises(OutOfMemoryError, match="alloc on here"):
        pool.take(50_000)
    assert (pool.stats.used, pool.stats.peak) == before
    pool.give(block)
    assert pool.stats.used == 0


def test_more_than_the_pool_keeps_goes_back_at_once():
    memory = Memory(1 << 20)
    pool = Pool(memory, "here", keep_bytes=2048)
    blocks = [pool.take(1000) for _ in range(5)]
    for block in blocks:
        pool.give(block)
    assert pool.stats.pooled <= 2048
    assert memory.live == pool.stats.pooled
