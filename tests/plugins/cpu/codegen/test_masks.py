"""Masks of AVX-512 for fewer bytes than a register holds.

LLVM 22 widens them with `kmovb`, and where it spills the result it forgets to: then bytes beyond are written.
"""
from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.lower.program import Program
from tests.plugins.cpu.codegen.conftest import ProgramBuilder, toolchain_for
from tests.program_interpreter import run_program

TYPES = [dtypes.bool_, dtypes.uint8, dtypes.int16, dtypes.float32, dtypes.float64]
AVX512 = "x86_64-unknown-linux-gnu|x86-64-v4|"
ROWS, COLUMNS, PITCH = 32, 8, 31


def gated_rows() -> Program:
    """Rows of int16 and of two comparisons under one gate: more masks at once than there are registers."""
    p = ProgramBuilder("rows")
    x, gates = p.buffer(dtypes.int16, ROWS * COLUMNS), p.buffer(dtypes.bool_, ROWS * COLUMNS)
    column, row, zero = p.axis(COLUMNS), p.axis(ROWS, vector=True), p.const(0)
    block, rows = ((column, ROWS), (row, 1)), ((column, 1), (row, PITCH))
    gate, value, limit = p.load(gates, zero, block), p.load(x, zero, block), p.const(0, dtypes.int16)
    below = [p(op, dtypes.bool_, value, limit) for op in ("LT", "LE")]
    for dtype, result in ((dtypes.int16, value), *[(dtypes.bool_, less) for less in below]):
        p.store(p.buffer(dtype, ROWS * PITCH, "out"), zero, result, rows, gate)
    return p.build()


def test_rows_of_bytes_beside_rows_of_words_end_where_their_gates_do(run: Any) -> None:
    program, random = gated_rows(), np.random.default_rng(0)
    x = random.integers(-2, 3, ROWS * COLUMNS).astype(np.int16)
    gates = random.random(ROWS * COLUMNS) < 0.6
    want = [x, gates, np.full(ROWS * PITCH, 7, np.int16), *[np.ones(ROWS * PITCH, bool) for _ in range(2)]]
    got = [array.copy() for array in want]
    run_program(program, want, [])
    run(program, *got)
    for number, (one, other) in enumerate(zip(got, want)):
        np.testing.assert_array_equal(one, other, f"buffer {number}")


def gated_copy(dtype: DType, lanes: int) -> Program:
    p = ProgramBuilder("copy")
    x, gates, out = p.buffer(dtype, lanes), p.buffer(dtypes.bool_, lanes), p.buffer(dtype, lanes, "out")
    steps, zero = ((p.axis(lanes, vector=True), 1),), p.const(0)
    gate = p.load(gates, zero, steps)
    p.store(out, zero, p.load(x, zero, steps, gate), steps, gate)
    return p.build()


@pytest.mark.parametrize("lanes", [2, 4, 8, 16, 32])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_no_mask_is_widened_by_a_move_between_mask_registers(dtype: DType, lanes: int) -> None:
    tools = toolchain_for(AVX512)
    text = tools.assembly(tools.render(gated_copy(dtype, lanes)))
    assert "%k1" in text
    assert re.findall(r"kmov[bwd]\s+%k\d, %k\d", text) == []


def test_no_mask_of_a_row_is_widened_by_a_move_between_mask_registers() -> None:
    tools = toolchain_for(AVX512)
    text = tools.assembly(tools.render(gated_rows()))
    assert re.findall(r"kmovb\s+\S+, %k\d", text) == []
