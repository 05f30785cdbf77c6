"""Blocks that are strided along lanes and contiguous along registers, next to memory that faults."""
from __future__ import annotations

import ctypes
import mmap
import random
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.lower.program import Program
from pluggrad_cpu.llvm import host_triple
from tests.plugins.cpu.codegen.conftest import HOST, ProgramBuilder, toolchain_for
from tests.program_interpreter import run_program

I64, BOOL = dtypes.int64, dtypes.bool_
TYPES = [dtypes.bool_, dtypes.bfloat16, dtypes.float32, dtypes.float64]
GATES = ["", "whole", "lanes", "registers", "both"]
MACHINES = [HOST, f"{host_triple()}|x86-64|"] if host_triple().startswith("x86_64") else [HOST]
FAR = 1 << 40  # an index that no buffer has


@dataclass(frozen=True)
class Case:
    """`extent` registers of `lanes`, each lane `stride` after the one before, under random gates."""

    lanes: int
    extent: int
    stride: int
    gate: str = ""

    @property
    def block(self) -> int:
        return self.lanes * self.extent

    def gates(self) -> np.ndarray:
        """(extent, lanes) bools, alike along what the gate does not vary over."""
        block = (self.extent, self.lanes)
        if self.gate in ("", "whole"):
            return np.ones(block, bool)
        shape = {"lanes": (1, self.lanes), "registers": (self.extent, 1), "both": block}[self.gate]
        return np.broadcast_to(np.random.default_rng(self.block).random(shape) < 0.6, block)

    def reached(self) -> tuple[int, int]:
        """The first and the last element whose gate is true, seen from lane 0 of register 0."""
        index = np.arange(self.extent)[:, None] + np.arange(self.lanes) * self.stride
        index = index[self.gates()] if self.gates().any() else np.zeros(1, int)
        return int(index.min()), int(index.max())


def copies(case: Case, dtype: DType) -> Program:
    """The block of x to rows of `plain`, and to the same places of `out` if its lanes do not overlap."""
    p = ProgramBuilder("block")
    first, last = case.reached()
    size = last - first + 1
    x, out, plain = p.buffer(dtype, size), p.buffer(dtype, size, "out"), p.buffer(dtype, case.block, "out")
    gates = p.buffer(BOOL, case.block)
    tile, lane = p.axis(case.extent), p.axis(case.lanes, vector=True)
    start, passes, zero = p.value(I64), p.value(BOOL), p.const(0)
    rows = ((tile, case.lanes), (lane, 1))
    steps = {"lanes": rows[1:], "registers": rows[:1], "both": rows}
    gate = passes if case.gate == "whole" else None
    if case.gate in steps:
        gate = p.load(gates, zero, steps[case.gate])
    strides = ((tile, 1), (lane, case.stride))
    value = p.load(x, start, strides, gate)
    p.store(plain, zero, value, rows)
    if abs(case.stride) >= case.extent:
        p.store(out, start, value, strides, gate)
    return p.build()


class Fenced:
    """Memory between two pages that must not be touched."""

    def __init__(self) -> None:
        self.page = mmap.PAGESIZE
        self.memory = mmap.mmap(-1, 6 * self.page)
        self.bytes = np.frombuffer(self.memory, np.uint8)
        if sys.platform == "win32":
            return
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for fence in (0, 5 * self.page):
            assert protect(self.bytes.ctypes.data + fence, self.page, 0) == 0

    def copy(self, values: np.ndarray, at_end: bool) -> np.ndarray:
        """The values right after the first fence or right before the second."""
        assert values.nbytes <= 4 * self.page
        start = 5 * self.page - values.nbytes if at_end else self.page
        place = self.bytes[start:start + values.nbytes].view(values.dtype)
        place[:] = values
        return place


@pytest.fixture(scope="module")
def fences() -> list[Fenced]:
    return [Fenced(), Fenced()]


def data(dtype: DType, n: int, seed: int) -> np.ndarray:
    raw = np.random.default_rng(seed).integers(1, 120, n)
    return (raw % 2 if dtype is BOOL else raw).astype(dtype.numpy)


def cases(seed: str) -> list[Case]:
    """The shapes that differ most, and some at random."""
    draw = random.Random(seed)
    fixed = [(16, 8, 40), (16, 7, 40), (8, 16, 17), (4, 5, -9), (16, 2, 2), (8, 3, 3), (16, 4, -4), (8, 1, 2),
             (16, 1, 3), (8, 1, -4), (8, 3, 2), (6, 3, 8), (2, 2, 5), (32, 16, 16)]
    drawn = [(draw.choice([2, 3, 4, 8, 16, 32]), draw.randint(1, 17),
              draw.choice([2, 3, 4, 5, 8, 17, 50, -2, -30])) for _ in range(4)]
    return [Case(*shape, gate=seed) for shape in fixed + drawn]


def check(case: Case, dtype: DType, program: Program, kernel: Any, fences: list[Fenced],
          passes: bool) -> None:
    size = program.buffers[0].size
    gates = case.gates().ravel()
    x, out, plain = data(dtype, size, 1), data(dtype, size, 2), data(dtype, case.block, 3)
    start = -case.reached()[0] if passes else FAR
    want = [x.copy(), out.copy(), plain.copy(), gates]
    run_program(program, want, [start, passes])
    for at_end in (False, True):
        got = [fence.copy(values, at_end) for fence, values in zip(fences, (x, out))]
        rows = plain.copy()
        kernel(*got, rows, gates, values=[start, passes])
        np.testing.assert_array_equal(rows, want[2], f"{case} {dtype}: loaded")
        np.testing.assert_array_equal(got[1], want[1], f"{case} {dtype}: stored")


@pytest.mark.parametrize("arch", MACHINES, ids=["host", "baseline"][:len(MACHINES)])
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_blocks_of_any_shape(run: Any, fences: list[Fenced], dtype: DType, gate: str, arch: str) -> None:
    shapes = cases(gate)
    programs = [copies(case, dtype) for case in shapes]
    for case, program, kernel in zip(shapes, programs, run.compile_many(programs, arch)):
        check(case, dtype, program, kernel, fences, True)
        if gate == "whole":
            check(case, dtype, program, kernel, fences, False)


def test_several_axes_of_registers_run_through_memory_or_across_it(run: Any) -> None:
    """Axes of stride 4 and 1 are one run of 12 elements; the third starts another block."""
    p = ProgramBuilder("axes")
    x, out = p.buffer(dtypes.float32, 1000), p.buffer(dtypes.float32, 2 * 3 * 4 * 8, "out")
    slow, block, fast, lane = p.axis(3), p.axis(2), p.axis(4), p.axis(8, vector=True)
    value = p.load(x, p.const(5), ((slow, 4), (block, 400), (fast, 1), (lane, 50)))
    p.store(out, p.const(0), value, ((slow, 4), (block, 12), (fast, 1), (lane, 24)))
    data = np.random.default_rng(0).random(1000, np.float32)
    got = np.zeros(192, np.float32)
    run(p.build(), data, got)
    want = [data[5 + 400 * b + 50 * n:][:12] for n in range(8) for b in range(2)]
    np.testing.assert_array_equal(got, np.concatenate(want))


@pytest.mark.parametrize("stride", [2, 3136])
def test_the_code_of_a_block_grows_with_its_rows_and_not_with_its_elements(stride: int) -> None:
    text = toolchain_for(HOST).render(copies(Case(16, 16, stride), dtypes.float32))
    assert len(text.splitlines()) < 16 * 16 + 16 * 3 * 2
