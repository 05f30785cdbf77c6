"""Whole programs through renderer, compiler and machine code."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pluggrad import dtypes
from pluggrad.lower.program import Program
from tests.program_cases import matmul_program

F32, I64, BOOL = dtypes.float32, dtypes.int64, dtypes.bool_
LANES = 16


def add_1d(program: Any, n: int) -> Program:
    """x + y*s in vectors, the last of which is masked."""
    p = program("add", tasks=-(-n // LANES))
    x, y, out = p.buffer(F32, n), p.buffer(F32, n), p.buffer(F32, n, "out")
    scale, lane = p.value(F32), p.axis(LANES, vector=True)
    start = p("MUL", I64, p("TASK", I64), p.const(LANES))
    gate = p("LT", BOOL, p("ADD", I64, start, p("LANE", I64, arg=lane, axes=[lane])), p.const(n))
    a, b = (p.load(buffer, start, ((lane, 1),), gate) for buffer in (x, y))
    p.store(out, start, p("ADD", F32, a, p("MUL", F32, b, scale)), ((lane, 1),), gate)
    return p.build()


@pytest.mark.parametrize("n", [1, 15, 16, 17, 1000])
def test_gated_tail_reads_and_writes_nothing_outside(program: Any, run: Any, n: int) -> None:
    x, y = np.arange(n, dtype="f"), np.ones(n, "f")
    padded = np.full(n + 64, -7, "f")
    run(add_1d(program, n), x, y, padded[:n], values=[0.5])
    np.testing.assert_array_equal(padded[:n], x + np.float32(0.5))
    assert (padded[n:] == -7).all()


def test_only_the_tasks_asked_for_run(program: Any, run: Any) -> None:
    x, y, out = np.arange(64, dtype="f"), np.ones(64, "f"), np.zeros(64, "f")
    run(add_1d(program, 64), x, y, out, values=[1.0], tasks=(1, 3))
    np.testing.assert_array_equal(out[16:48], x[16:48] + 1)
    assert not out[:16].any()
    assert not out[48:].any()


@pytest.mark.parametrize("op", ["ADD", "MAX", "MIN"])
def test_row_reduction_with_vector_accumulators(program: Any, run: Any, op: str) -> None:
    rows, columns = 5, 256
    p = program("row_reduction", tasks=rows)
    x, out = p.buffer(F32, rows * columns), p.buffer(F32, rows, "out")
    tile, lane = p.axis(4), p.axis(LANES, vector=True)
    task = p("TASK", I64)
    row = p("MUL", I64, task, p.const(columns))
    acc = p("ACC", F32, p.const({"ADD": 0.0, "MAX": -np.inf, "MIN": np.inf}[op], F32), axes=(tile, lane))
    step = p("LOOP", I64, arg=(0, columns // 64))
    value = p.load(x, p("ADD", I64, row, p("MUL", I64, step, p.const(64))), ((tile, LANES), (lane, 1)))
    p("SET", None, acc, p(op, F32, acc, value))
    p("END", None)
    p.store(out, task, p("HREDUCE", F32, acc, arg=(op, (tile, lane)), axes=()))
    data = np.random.default_rng(0).standard_normal((rows, columns)).astype("f")
    data[1, 77] = data[2, 0] = np.nan
    got = np.zeros(rows, "f")
    run(p.build(), data.ravel(), got)
    want = {"ADD": data.sum(1), "MAX": data.max(1), "MIN": data.min(1)}[op]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_register_tiled_matmul(run: Any) -> None:
    n = 64
    a, b = np.random.default_rng(1).standard_normal((2, n, n)).astype("f")
    c = np.zeros((n, n), "f")
    run(matmul_program(n, 8, 2, LANES), a.ravel(), b.ravel(), c.reshape(-1))
    np.testing.assert_allclose(c, a @ b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("lanes", [1, 3, 6, 16])
@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.int64, dtypes.bool_], ids=str)
def test_horizontal_reduction_of_any_width(program: Any, run: Any, dtype: dtypes.DType, lanes: int) -> None:
    p = program("horizontal")
    x, out = p.buffer(dtype, 2 * lanes), p.buffer(dtype, 2, "out")
    tile, lane = p.axis(2), p.axis(lanes, vector=True)
    value = p.load(x, p.const(0), ((tile, lanes), (lane, 1)))
    per_row = p("HREDUCE", dtype, value, arg=("MAX", (lane,)), axes=(tile,))
    p.store(out, p.const(0), per_row, ((tile, 1),))
    data = np.random.default_rng(2).integers(0, 2, 2 * lanes).astype(dtype.numpy)
    got = np.zeros(2, dtype.numpy)
    run(p.build(), data, got)
    np.testing.assert_array_equal(got, data.reshape(2, lanes).max(1))


def test_if_else_and_nested_blocks(program: Any, run: Any) -> None:
    """The sum of 0..task for even tasks, minus one for odd ones, and 7 more where the task is 4."""
    p = program("branches", tasks=6)
    out, task = p.buffer(I64, 6, "out"), p("TASK", I64)
    total = p("ACC", I64, p.const(0))
    odd = p("CMOD", I64, task, p.const(2))
    p("IF", None, p("EQ", BOOL, odd, p.const(0)))
    i = p("LOOP", I64, arg=(0, 6))
    p("IF", None, p("LE", BOOL, i, task))
    p("SET", None, total, p("ADD", I64, total, i))
    p("END", None)
    p("END", None)
    p("IF", None, p("EQ", BOOL, task, p.const(4)))
    p("SET", None, total, p("ADD", I64, total, p.const(7)))
    p("END", None)
    p("ELSE", None)
    p("SET", None, total, p.const(-1))
    p("END", None)
    p.store(out, task, total)
    got = np.zeros(6, np.int64)
    run(p.build(), got)
    np.testing.assert_array_equal(got, [0, -1, 3, -1, 17, -1])


def test_a_loop_over_nothing_is_skipped(program: Any, run: Any) -> None:
    p = program("nothing")
    out = p.buffer(I64, 1, "out")
    p("LOOP", I64, arg=(3, 3))
    p.store(out, p.const(0), p.const(5))
    p("END", None)
    got = np.zeros(1, np.int64)
    run(p.build(), got)
    assert got[0] == 0


def test_positions_along_register_axes(program: Any, run: Any) -> None:
    p = program("lanes")
    out, tile, lane = p.buffer(I64, 32, "out"), p.axis(4), p.axis(8, vector=True)
    row = p("MUL", I64, p("LANE", I64, arg=tile, axes=[tile]), p.const(100))
    number = p("ADD", I64, row, p("LANE", I64, arg=lane, axes=[lane]))
    p.store(out, p.const(0), number, ((tile, 8), (lane, 1)))
    got = np.zeros(32, np.int64)
    run(p.build(), got)
    np.testing.assert_array_equal(got.reshape(4, 8), 100 * np.arange(4)[:, None] + np.arange(8))


def test_accumulators_are_set_together(program: Any, run: Any) -> None:
    """A value may use the accumulator it is set to at a different place than the one that it replaces."""
    p = program("together")
    out, lane = p.buffer(F32, 8, "out"), p.axis(8, vector=True)
    a, b = p("ACC", F32, p.const(1.0, F32), axes=(lane,)), p("ACC", F32, p.const(1.0, F32), axes=(lane,))
    p("LOOP", I64, arg=(0, 5))
    total = p("ADD", F32, a, b)
    p("SET", None, a, b)
    p("SET", None, b, total)
    p("END", None)
    p.store(out, p.const(0), b, ((lane, 1),))
    got = np.zeros(8, "f")
    run(p.build(), got)
    np.testing.assert_array_equal(got, np.full(8, 13, "f"))
