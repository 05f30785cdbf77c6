"""Stores of streamed buffers: past the caches where they are aligned, and right where they are not."""
from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.kernel.kernel import Axis, Kernel, axis
from pluggrad.lower import lower
from pluggrad.lower.program import Program
from pluggrad.target import Capabilities, Target
from pluggrad.tune.heuristics import tune_kernel
from pluggrad_cpu.llvm import host_triple
from tests.plugins.cpu.codegen.conftest import HOST, toolchain_for
from tests.unit.kernel.kernels import load, op, read, store, strided, write

LANES, STEPS = 32, 6
NAMES = frozenset(dtype.name for dtype in dtypes.ALL)
CACHELESS = Capabilities(NAMES, NAMES, vector_bytes=64, vector_registers=32, shared_cache_bytes=1 << 10,
                         streaming_line_bytes=64)
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


SIZES = [641, 650, 655]
KINDS = [dtypes.int16, dtypes.float32, dtypes.float64]


def rows(n: int, dtype: DType) -> Kernel:
    """out[i, j] = x[i, j] * y[i], its vectors shifted to lines, as of outputs that are much larger."""
    gated = store(2, (0, 1), strided(a0=n, a1=1),
                  op("MUL", load(0, strided(a0=n, a1=1), dtype), load(1, axis(0), dtype)))
    axes = (Axis(0, 7, "PARALLEL"), Axis(1, n, "PARALLEL"))
    buffers = (read(7 * n, dtype), read(7, dtype), write(7 * n, dtype))
    return tune_kernel(Kernel("rows", buffers, (), axes, (gated,)), CACHELESS)[0]


@pytest.mark.parametrize("n", SIZES)
def test_rows_that_begin_within_lines_arrive_at_any_address(run: Any, n: int) -> None:
    """Whole, whichever way the buffer lies, and nothing of what is beside it is touched."""
    programs = [lower(rows(n, dtype), Target("test", CACHELESS)) for dtype in KINDS]
    for dtype, built, kernel in zip(KINDS, programs, run.compile_many(programs)):
        assert built.buffers[2].streamed
        x, y = np.arange(7 * n).reshape(7, n).astype(dtype.numpy) % 50, np.arange(7).astype(dtype.numpy)
        raw = np.full(7 * n + 160, 99, dtype.numpy)
        for beyond in (0, 1, 5):
            raw[:] = 99
            start = -raw.ctypes.data % 64 // dtype.itemsize + 16 * beyond + beyond
            kernel(x.reshape(-1), y, raw[start:start + 7 * n])
            np.testing.assert_array_equal(raw[start:start + 7 * n].reshape(7, n), x * y[:, None])
            assert (raw[:start] == 99).all()
            assert (raw[start + 7 * n:] == 99).all()


def test_each_line_of_a_block_is_asked_for_once(program: Any) -> None:
    """Rows of 32 floats, two lines, for each of 16 lanes."""
    p = program("block")
    x = p.buffer(dtypes.float32, 1 << 16)
    lane, row = p.axis(16, vector=True), p.axis(32)
    p("PREFETCH", None, p.const(0), arg=(x, ((lane, 512), (row, 1))), axes=[lane, row])
    assert toolchain_for(HOST).render(p.build()).count("call void @llvm.prefetch") == 2 * 16


def test_what_lies_ahead_is_asked_for_even_beyond_the_end(program: Any, run: Any) -> None:
    p = program("asks", tasks=STEPS)
    x, out = p.buffer(dtypes.float32, LANES * STEPS), p.buffer(dtypes.float32, LANES * STEPS, "out")
    lane = p.axis(LANES, vector=True)
    first = p("MUL", dtypes.int64, p("TASK", dtypes.int64), p.const(LANES))
    for beyond in (1 << 40, -(1 << 40)):
        far = p("ADD", dtypes.int64, first, p.const(beyond))
        p("PREFETCH", None, far, arg=(x, ((lane, 1),)), axes=[lane])
    p.store(out, first, p.load(x, first, ((lane, 1),)), ((lane, 1),))
    built = p.build()
    assert toolchain_for(HOST).render(built).count("call void @llvm.prefetch") == 2 * LANES * 4 // 64
    source, result = np.arange(LANES * STEPS, dtype=np.float32), np.zeros(LANES * STEPS, np.float32)
    run(built, source, result)
    np.testing.assert_array_equal(result, source)
