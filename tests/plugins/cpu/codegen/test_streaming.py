"""Stores of streamed buffers: past the caches where they are aligned, and right where they are not."""
from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.lower.program import Program
from pluggrad_cpu.llvm import host_triple
from tests.plugins.cpu.codegen.conftest import HOST, toolchain_for

LANES, STEPS = 32, 6
BASELINE = [f"{host_triple()}|x86-64|"] if host_triple().startswith("x86_64") else []


def copy(program: Any, dtype: DType) -> Program:
    """Vectors from x to a streamed buffer, a task each."""
    p = program("streams", tasks=STEPS)
    x, out = p.buffer(dtype, LANES * STEPS), p.buffer(dtype, LANES * STEPS, "out")
    p.buffers[out] = replace(p.buffers[out], streamed=True)
    lane = p.axis(LANES, vector=True)
    first = p("MUL", dtypes.int64, p("TASK", dtypes.int64), p.const(LANES))
    p.store(out, first, p.load(x, first, ((lane, 1),)), ((lane, 1),))
    return p.build()


def aligned_and_not(dtype: DType) -> list[np.ndarray]:
    """Zeros at a multiple of 64 bytes, and one element further."""
    raw = np.zeros(2 * LANES * STEPS * dtype.itemsize + 128, np.uint8)
    start = -raw.ctypes.data % 64
    nbytes = LANES * STEPS * dtype.itemsize
    return [raw[at:at + nbytes].view(dtype.numpy) for at in (start, start + dtype.itemsize)]


@pytest.mark.parametrize("arch", [HOST, *BASELINE], ids=["host", "baseline"][:1 + len(BASELINE)])
def test_what_is_streamed_arrives_at_any_address(program: Any, run: Any, arch: str) -> None:
    kinds = [dtypes.uint8, dtypes.float16, dtypes.float32, dtypes.float64]
    programs = [copy(program, dtype) for dtype in kinds]
    for dtype, kernel in zip(kinds, run.compile_many(programs, arch)):
        x = np.arange(LANES * STEPS).astype(dtype.numpy)
        for out in aligned_and_not(dtype):
            out[:] = 0
            kernel(x, out)
            np.testing.assert_array_equal(out, x)


@pytest.mark.skipif(not BASELINE, reason="names instructions of x86")
def test_streaming_stores_are_followed_by_a_fence(program: Any) -> None:
    toolchain = toolchain_for(HOST)
    source = toolchain.render(copy(program, dtypes.float32))
    assert source.index("nontemporal") < source.index("fence")
    assert "movnt" in toolchain.assembly(source)


def test_what_lies_ahead_is_asked_for_even_beyond_the_end(program: Any, run: Any) -> None:
    built = copy(program, dtypes.float32)
    built = replace(built, buffers=(replace(built.buffers[0], ahead=1 << 40), built.buffers[1]))
    x, out = np.arange(LANES * STEPS, dtype=np.float32), np.zeros(LANES * STEPS, np.float32)
    run(built, x, out)
    np.testing.assert_array_equal(out, x)
