"""Every shape of load and store: strides, gathers, gates."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.lower.program import Program
from pluggrad_cpu.llvm import host_triple

I64, BOOL = dtypes.int64, dtypes.bool_
LANES = 8
TYPES = [dtypes.bool_, dtypes.uint8, dtypes.bfloat16, dtypes.float32, dtypes.float64]
STRIDES = [(0, 2), (1, 1), (-1, LANES), (3, 1), (-2, 2 * LANES)]  # with the offset of the first lane
MACHINES = ["host", "x86-64"] if host_triple().startswith("x86_64") else ["host"]


def machine(cpu: str) -> dict[str, str]:
    """With and without vector gathers."""
    return {} if cpu == "host" else {"arch": f"{host_triple()}|{cpu}|"}


def data(dtype: DType, n: int) -> np.ndarray:
    if dtype.kind == "b":
        return np.random.default_rng(0).integers(0, 2, n).astype(bool)
    return np.arange(1, n + 1).astype(dtype.numpy)


def copy(program: Any, dtype: DType, stride: int, offset: int, store_stride: int, gate: str) -> Program:
    """One vector from x, `stride` apart, to out, `store_stride` apart; gated by "lanes", "scalar" or not."""
    p = program("copy")
    size = 1 + offset + LANES * max(abs(stride), 1)
    x, out = p.buffer(dtype, size), p.buffer(dtype, 1 + LANES * abs(store_stride), "out")
    lane, passes = p.axis(LANES, vector=True), p.value(BOOL)
    few = p("LT", BOOL, p("LANE", I64, arg=lane, axes=[lane]), p.const(LANES - 3))
    value = p.load(x, p.const(offset), ((lane, stride),), {"": None, "lanes": few, "scalar": passes}[gate])
    where = p.const(0 if store_stride > 0 else LANES * -store_stride)
    p.store(out, where, value, ((lane, store_stride),))
    return p.build()


@pytest.mark.parametrize("cpu", MACHINES)
@pytest.mark.parametrize("gate", ["", "lanes", "scalar"])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_strides(program: Any, run: Any, dtype: DType, gate: str, cpu: str) -> None:
    cases = [(*access, store_stride) for access in STRIDES for store_stride in (1, -1, 2)]
    programs = [copy(program, dtype, *case, gate) for case in cases]
    kernels = run.compile_many(programs, **machine(cpu))
    for (stride, offset, store_stride), built, kernel in zip(cases, programs, kernels):
        x = data(dtype, built.buffers[0].size)
        for passes in (True, False):
            out = np.zeros(built.buffers[1].size, dtype.numpy)
            kernel(x, out, values=[passes])
            want = x[offset + stride * np.arange(LANES)]
            want[{"": LANES, "lanes": LANES - 3, "scalar": LANES * passes}[gate] :] = 0
            first = 0 if store_stride > 0 else LANES * -store_stride
            np.testing.assert_array_equal(out[first + store_stride * np.arange(LANES)], want)


@pytest.mark.parametrize("cpu", MACHINES)
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_gather_and_scatter_by_index(program: Any, run: Any, dtype: DType, gated: bool, cpu: str) -> None:
    p = program("gather")
    x, index, out = p.buffer(dtype, 100), p.buffer(dtypes.int32, LANES), p.buffer(dtype, 100, "out")
    lane = p.axis(LANES, vector=True)
    chosen = p("CAST", I64, p.load(index, p.const(0), ((lane, 1),)))
    inside = p("LT", BOOL, chosen, p.const(100)) if gated else None
    value = p.load(x, chosen, None, inside)
    p.store(out, p("SUB", I64, p.const(99), chosen), value, None, inside)
    source, got = data(dtype, 100), np.zeros(100, dtype.numpy)
    where = np.array([5, 99, 0, 42, 17, 3, 88, 61], np.int32)
    if gated:
        where[2] = where[5] = 1 << 30
    run(p.build(), source, where, got, **machine(cpu))
    valid = where[where < 100]
    want = np.zeros(100, dtype.numpy)
    want[99 - valid] = source[valid]
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("lanes", [0, LANES])
def test_a_false_gate_reads_nothing_of_an_empty_buffer(program: Any, run: Any, lanes: int) -> None:
    p = program("empty")
    x, out = p.buffer(dtypes.float32, 0), p.buffer(dtypes.float32, LANES, "out")
    steps = ((p.axis(lanes, vector=True), 1),) if lanes else ()
    never = p("LT", BOOL, p("TASK", I64), p.const(0))
    p.store(out, p.const(0), p.load(x, p.const(1 << 40), steps, never), steps)
    got = np.ones(LANES, "f")
    run(p.build(), np.zeros(0, "f"), got)
    assert not got[: lanes or 1].any()


def test_gated_store_in_one_lane(program: Any, run: Any) -> None:
    p = program("guarded", tasks=10)
    out, task = p.buffer(I64, 10, "out"), p("TASK", I64)
    odd = p("EQ", BOOL, p("CMOD", I64, task, p.const(2)), p.const(1))
    p.store(out, task, task, (), odd)
    got = np.full(10, -1, np.int64)
    run(p.build(), got)
    np.testing.assert_array_equal(got, [i if i % 2 else -1 for i in range(10)])
