"""What devices in host memory share: memory, run-time values as bytes, functions of shared libraries."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest

from pluggrad import dtypes
from pluggrad.device.host import HOST_ALIGNMENT, HostAllocator, load_function, pack_values
from pluggrad.device.seal import seal, unseal
from pluggrad.errors import KernelFault, OutOfMemoryError


@pytest.mark.parametrize("nbytes", [0, 1, 63, 64, 1000])
def test_memory_is_aligned_and_holds_what_was_copied(nbytes):
    memory, data = HostAllocator(), np.arange(nbytes, dtype=np.uint8)
    block, back = memory.alloc(nbytes), np.zeros(nbytes, np.uint8)
    assert nbytes == 0 or block.ctypes.data % HOST_ALIGNMENT == 0
    assert block.nbytes == nbytes
    memory.copyin(block, 0, data.data)
    memory.copyout(back.data, block, 0)
    assert (back == data).all()


def test_parts_of_memory():
    memory = HostAllocator()
    block = memory.alloc(16)
    memory.copyin(block, 4, memoryview(b"abcd"))
    assert bytes(memory.view(block, 4, 2)) == b"ab"
    assert memory.view(block, 4, 0).nbytes == 12
    assert bytes(memory.host_view(block)[4:8]) == b"abcd"


def test_more_memory_than_there_is():
    with pytest.raises(OutOfMemoryError, match="the host has no 4611686018427387904 bytes"):
        HostAllocator().alloc(1 << 62)


@pytest.mark.parametrize(("dtype", "value", "expected"), [
    (dtypes.bool_, True, b"\x01"), (dtypes.int8, -2, b"\xfe"), (dtypes.uint16, 0xABCD, b"\xcd\xab"),
    (dtypes.int64, -(1 << 63), struct.pack("<q", -(1 << 63))), (dtypes.float32, 0.1, struct.pack("<f", 0.1)),
    (dtypes.float64, 0.1, struct.pack("<d", 0.1)), (dtypes.float16, 1.5, struct.pack("<e", 1.5)),
    (dtypes.float16, 1e6, struct.pack("<e", math.inf)), (dtypes.bfloat16, -1.5, b"\xc0\xbf"),
], ids=str)
def test_a_value_stands_first_in_its_eight_bytes(dtype, value, expected):
    assert pack_values([value], [dtype]) == expected.ljust(8, b"\0")


def test_values_one_after_another():
    packed = pack_values([1, 2.0], [dtypes.int32, dtypes.float64])
    assert packed == struct.pack("<iid", 1, 0, 2.0)
    assert pack_values([], []) == b""


@pytest.mark.parametrize("binary", [b"", b"no library", seal(b"whole")[:-1], seal(b"whole") + b"x"])
def test_what_was_not_sealed_is_refused_before_the_system_sees_it(binary):
    for refusing in (unseal, lambda binary: load_function(binary, "f")):
        with pytest.raises(KernelFault, match=f"expected a sealed binary.* got {len(binary)} other bytes"):
            refusing(binary)


def test_what_was_sealed_comes_back():
    assert unseal(seal(b"code")) == b"code"
    assert unseal(seal(b"")) == b""


def test_what_is_no_library_is_refused():
    with pytest.raises(KernelFault, match="load: expected a shared library with the function f, got "):
        load_function(seal(b"no library"), "f")
