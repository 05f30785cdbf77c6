"""Programs that use every instruction but the elementwise ones in each of its forms, with data to run on.

A test of a renderer runs each and compares with the interpreter: `expected`.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pluggrad import dtypes
from pluggrad.dtypes import DType, Scalar
from pluggrad.lower.program import Program
from tests.program_builder import ProgramBuilder
from tests.program_interpreter import run_program

F32, I64, BOOL = dtypes.float32, dtypes.int64, dtypes.bool_
LANES = 8
MOVED = (dtypes.bool_, dtypes.uint8, dtypes.bfloat16, dtypes.float16, dtypes.float32, dtypes.float64)
_STRIDES = ((0, 2), (1, 1), (-1, LANES), (3, 1), (-2, 2 * LANES))  # with the offset of the first lane


@dataclass(frozen=True)
class ProgramCase:
    """A program and what it is run on; its buffers are changed in place."""

    program: Program
    arrays: tuple[np.ndarray, ...]
    values: tuple[Scalar, ...] = ()

    def inputs(self) -> list[np.ndarray]:
        """Fresh copies of the buffers."""
        return [array.copy() for array in self.arrays]

    def expected(self) -> list[np.ndarray]:
        """The buffers after the interpreter has run."""
        arrays = self.inputs()
        run_program(self.program, arrays, self.values)
        return arrays

    def check(self, got: Sequence[np.ndarray]) -> None:
        """AssertionError unless the buffers are as expected; sums may be in another order."""
        for number, (x, y) in enumerate(zip(got, self.expected(), strict=True)):
            compare: Callable[..., None] = np.testing.assert_array_equal
            if x.dtype in (np.float32, np.float64):
                x, y = x.astype(np.float64), y.astype(np.float64)
                compare = np.testing.assert_allclose
                compare(x, y, rtol=1e-5, atol=1e-6, err_msg=f"buffer {number}")
            else:
                compare(x, y, err_msg=f"buffer {number}")


def some(dtype: DType, n: int) -> np.ndarray:
    """n elements that differ from their neighbors."""
    if dtype.kind == "b":
        return np.random.default_rng(0).integers(0, 2, n).astype(bool)
    if dtype is dtypes.bfloat16:
        return (np.arange(1, n + 1, dtype=np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return np.arange(1, n + 1).astype(dtype.numpy)


def strided(dtype: DType, gate: str, passes: bool = True) -> ProgramCase:
    """Vectors at every stride to every stride; gated by "lanes", by a run-time value ("all"), or not ("")."""
    p = ProgramBuilder("strided")
    size = 2 + 3 * LANES
    lane, allowed = p.axis(LANES, vector=True), p.value(BOOL)
    few = p("LT", BOOL, p("LANE", I64, arg=lane, axes=[lane]), p.const(LANES - 3))
    gates = {"": None, "lanes": few, "all": allowed}
    x, arrays = p.buffer(dtype, size), [some(dtype, size)]
    for stride, offset in _STRIDES:
        for store_stride in (1, -1, 2):
            out = p.buffer(dtype, 1 + LANES * abs(store_stride), "out")
            arrays.append(np.zeros(p.buffers[out].size, dtype.numpy))
            value = p.load(x, p.const(offset), ((lane, stride),), gates[gate])
            where = p.const(0 if store_stride > 0 else LANES)
            p.store(out, where, value, ((lane, store_stride),), gates[gate])
    return ProgramCase(p.build(), tuple(arrays), (passes,))


def gathered(dtype: DType, gated: bool) -> ProgramCase:
    """Elements at indices in data to other indices; where gated, some are far outside."""
    p = ProgramBuilder("gathered")
    x, index, out = p.buffer(dtype, 100), p.buffer(dtypes.int32, LANES), p.buffer(dtype, 100, "out")
    lane = p.axis(LANES, vector=True)
    chosen = p("CAST", I64, p.load(index, p.const(0), ((lane, 1),)))
    inside = p("LT", BOOL, chosen, p.const(100)) if gated else None
    value = p.load(x, chosen, None, inside)
    p.store(out, p("SUB", I64, p.const(99), chosen), value, None, inside)
    where = np.array([5, 99, 0, 42, 17, 3, 88, 61], np.int32)
    if gated:
        where[[2, 5]] = 1 << 30
    return ProgramCase(p.build(), (some(dtype, 100), where, np.zeros(100, dtype.numpy)))


def horizontal(dtype: DType, op: str, lanes: int) -> ProgramCase:
    """HREDUCE along lanes, along a tile, and along both."""
    p = ProgramBuilder("horizontal")
    x, out = p.buffer(dtype, 3 * lanes), p.buffer(dtype, 3 + lanes + 1, "out")
    tile, lane = p.axis(3), p.axis(lanes, vector=True)
    value = p.load(x, p.const(0), ((tile, lanes), (lane, 1)))
    p.store(out, p.const(0), p("HREDUCE", dtype, value, arg=(op, (lane,)), axes=(tile,)), ((tile, 1),))
    p.store(out, p.const(3), p("HREDUCE", dtype, value, arg=(op, (tile,)), axes=(lane,)), ((lane, 1),))
    p.store(out, p.const(3 + lanes), p("HREDUCE", dtype, value, arg=(op, (tile, lane)), axes=()))
    return ProgramCase(p.build(), (some(dtype, 3 * lanes), np.zeros(3 + lanes + 1, dtype.numpy)))


def grouped(dtype: DType, op: str, group: int, lanes: int) -> ProgramCase:
    """GREDUCE of two registers in a loop, each item storing what it got."""
    p = ProgramBuilder("grouped", tasks=2)
    width = 2 * max(lanes, 1)
    x, out = (p.buffer(dtype, 2 * 3 * group * width, role) for role in ("in", "out"))
    strides = [(p.axis(2), max(lanes, 1))]
    if lanes:
        strides.append((p.axis(lanes, vector=True), 1))
    row = p("MUL", I64, p("TASK", I64), p.const(3))
    item = p("MUL", I64, p("ITEM", I64), p.const(width))
    row = p("ADD", I64, row, p("LOOP", I64, arg=(0, 3)))
    start = p("ADD", I64, p("MUL", I64, row, p.const(group * width)), item)
    total = p("GREDUCE", dtype, p.load(x, start, strides), arg=op)
    p.store(out, start, total, strides)
    p("END", None)
    program = replace(p.build(), group=group)
    size = program.buffers[0].size
    data = np.random.default_rng(3).integers(0, 3, size).astype(dtype.numpy)
    return ProgramCase(program, (data, np.zeros(size, dtype.numpy)))


def exchanged(dtype: DType, group: int) -> ProgramCase:
    """In a loop each item stores an element of a row to local memory, and reads its opposite's."""
    p = ProgramBuilder("exchanged", tasks=2)
    x, out = p.buffer(dtype, 2 * 3 * group), p.buffer(dtype, 2 * 3 * group, "out")
    local = p.buffer(dtype, group, "local")
    item = p("ITEM", I64)
    opposite = p("SUB", I64, p.const(group - 1), item)
    row = p("MUL", I64, p("TASK", I64), p.const(3))
    row = p("ADD", I64, row, p("LOOP", I64, arg=(0, 3)))
    place = p("ADD", I64, p("MUL", I64, row, p.const(group)), item)
    p.store(local, item, p.load(x, place))
    p("BARRIER", None)
    p.store(out, place, p.load(local, opposite))
    p("BARRIER", None)
    p("END", None)
    data = some(dtype, 2 * 3 * group)
    return ProgramCase(replace(p.build(), group=group), (data, np.zeros_like(data)))


def branches() -> ProgramCase:
    """The sum of 0..task for even tasks, minus one for odd ones, and 7 more where the task is 4."""
    p = ProgramBuilder("branches", tasks=6)
    out, task = p.buffer(I64, 6, "out"), p("TASK", I64)
    total = p("ACC", I64, p.const(0))
    p("IF", None, p("EQ", BOOL, p("CMOD", I64, task, p.const(2)), p.const(0)))
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
    return ProgramCase(p.build(), (np.zeros(6, np.int64),))


def swapped_accumulators() -> ProgramCase:
    """Fibonacci numbers: the sum is taken before either register changes, and used after both did."""
    p = ProgramBuilder("swapped")
    out = p.buffer(I64, 10, "out")
    a, b = p("ACC", I64, p.const(0)), p("ACC", I64, p.const(1))
    i = p("LOOP", I64, arg=(0, 10))
    following = p("ADD", I64, a, b)
    p("SET", None, a, b)
    p("SET", None, b, following)
    p.store(out, i, a)
    p("END", None)
    return ProgramCase(p.build(), (np.zeros(10, np.int64),))


def scalars(dtype: DType, constant: Scalar, value: Scalar) -> ProgramCase:
    """A constant and a run-time value in every lane, and for themselves."""
    p = ProgramBuilder("scalars")
    out, lane = p.buffer(dtype, 2 * LANES + 2, "out"), p.axis(LANES, vector=True)
    fixed, given = p.const(constant, dtype), p.value(dtype)
    p.store(out, p.const(0), fixed, ((lane, 1),))
    p.store(out, p.const(LANES), given, ((lane, 1),))
    p.store(out, p.const(2 * LANES), fixed)
    p.store(out, p.const(2 * LANES + 1), given)
    return ProgramCase(p.build(), (np.zeros(2 * LANES + 2, dtype.numpy),), (value,))


def masks() -> ProgramCase:
    """Conditions of operands of all sizes, combined, kept in a register, and chosen by."""
    p = ProgramBuilder("masks", tasks=4)
    lane = p.axis(LANES, vector=True)
    steps = ((lane, 1),)
    kinds = (dtypes.int8, dtypes.int16, F32, dtypes.float64)
    buffers = [p.buffer(dtype, 4 * LANES) for dtype in kinds]
    flags, out = p.buffer(BOOL, 4 * LANES), p.buffer(BOOL, 4 * LANES, "out")
    chosen = p.buffer(F32, 4 * LANES, "out")
    start = p("MUL", I64, p("TASK", I64), p.const(LANES))
    kept = p("ACC", BOOL, p.const(False, BOOL), axes=(lane,))
    for dtype, buffer in zip(kinds, buffers):
        below = p("LT", BOOL, p.load(buffer, start, steps), p.const(10, dtype))
        p("SET", None, kept, p("XOR", BOOL, kept, below))
    stored = p.load(flags, start, steps)
    either = p("WHERE", BOOL, stored, kept, p("NOT", BOOL, below))
    p.store(out, start, p("LE", BOOL, either, stored), steps)
    p.store(chosen, start, p("WHERE", F32, either, p.load(buffers[2], start, steps), p.const(-1, F32)), steps)
    random = np.random.default_rng(5)
    data = [random.integers(0, 20, 4 * LANES).astype(dtype.numpy) for dtype in kinds]
    return ProgramCase(p.build(), (*data, some(BOOL, 4 * LANES), np.zeros(4 * LANES, bool),
                                   np.zeros(4 * LANES, np.float32)))


def matmul_program(n: int, rows: int, columns: int, lanes: int) -> Program:
    """One tile of `rows` x `columns` vectors a task, held in registers over the loop along k."""
    width = columns * lanes
    p = ProgramBuilder("matmul", tasks=(n // rows) * (n // width))
    a, b, c = p.buffer(F32, n * n), p.buffer(F32, n * n), p.buffer(F32, n * n, "out")
    r, j, lane = p.axis(rows), p.axis(columns), p.axis(lanes, vector=True)
    task, across = p("TASK", I64), p.const(n // width)
    row = p("MUL", I64, p("CDIV", I64, task, across), p.const(rows * n))
    column = p("MUL", I64, p("CMOD", I64, task, across), p.const(width))
    acc = p("ACC", F32, p.const(0.0, F32), axes=(r, j, lane))
    k = p("LOOP", I64, arg=(0, n))
    x = p.load(a, p("ADD", I64, row, k), ((r, n),))
    y = p.load(b, p("ADD", I64, p("MUL", I64, k, p.const(n)), column), ((j, lanes), (lane, 1)))
    p("SET", None, acc, p("ADD", F32, acc, p("MUL", F32, x, y)))
    p("END", None)
    p.store(c, p("ADD", I64, row, column), acc, ((r, n), (j, lanes), (lane, 1)))
    return p.build()


def matmul(n: int = 32, rows: int = 4, columns: int = 2, lanes: int = LANES) -> ProgramCase:
    x, y = np.random.default_rng(1).standard_normal((2, n * n)).astype(np.float32)
    return ProgramCase(matmul_program(n, rows, columns, lanes), (x, y, np.zeros(n * n, np.float32)))


_SCALARS: tuple[tuple[DType, Scalar, Scalar], ...] = (
    *[(dtype, dtype.min, dtype.max) for dtype in dtypes.INTS], (BOOL, True, False),
    (dtypes.float16, -0.0, 1.5), (dtypes.float32, float("-inf"), 0.1), (dtypes.float64, float("nan"), 0.1),
    (dtypes.float32, 1e-7, -0.0), (dtypes.float64, 1 / 3, 5e-324))


# by name, for parametrized tests; those of groups are apart, as not every language has them
def reversed_in_local_memory(dtype: DType) -> ProgramCase:
    """Each task stores a vector in memory of its own and reads it from the other end."""
    p = ProgramBuilder("local", tasks=3)
    lane = p.axis(LANES, vector=True)
    x, out = p.buffer(dtype, 3 * LANES), p.buffer(dtype, 3 * LANES, "out")
    own = p.buffer(dtype, LANES, "local")
    start = p("MUL", I64, p("TASK", I64), p.const(LANES))
    p.store(own, p.const(0), p.load(x, start, ((lane, 1),)), ((lane, 1),))
    p.store(out, start, p.load(own, p.const(LANES - 1), ((lane, -1),)), ((lane, 1),))
    return ProgramCase(p.build(), (some(dtype, 3 * LANES), np.zeros(3 * LANES, dtype.numpy)))


CASES: dict[str, Callable[[], ProgramCase]] = {
    "branches": branches, "swapped accumulators": swapped_accumulators, "masks": masks, "matmul": matmul,
    **{f"strided {d.name} {gate or 'open'}": lambda d=d, gate=gate: strided(d, gate)
       for d in MOVED for gate in ("", "lanes", "all")},
    "strided shut": lambda: strided(F32, "all", passes=False),
    **{f"gathered {d.name}{' gated' * gated}": lambda d=d, gated=gated: gathered(d, gated)
       for d in MOVED for gated in (False, True)},
    **{f"local memory {d.name}": lambda d=d: reversed_in_local_memory(d) for d in MOVED},
    **{f"horizontal {op} {d.name} x{lanes}": lambda d=d, op=op, lanes=lanes: horizontal(d, op, lanes)
       for d, op in ((F32, "ADD"), (F32, "MAX"), (I64, "MIN"), (BOOL, "ADD"), (dtypes.int8, "MUL"))
       for lanes in (1, 3, 6, 16, 24)},
    **{f"scalars {d.name} {c!r} {v!r}": lambda d=d, c=c, v=v: scalars(d, c, v) for d, c, v in _SCALARS},
}
GROUPS: dict[str, Callable[[], ProgramCase]] = {
    f"grouped {op} {d.name} x{lanes} by {group}":
        lambda d=d, op=op, group=group, lanes=lanes: grouped(d, op, group, lanes)
    for d, op, group, lanes in (
        (F32, "ADD", 2, 0), (F32, "MAX", 100, 2), (dtypes.int8, "ADD", 3, 4), (dtypes.uint64, "MIN", 32, 0),
        (BOOL, "MAX", 5, 2), (F32, "ADD", 256, 4), (dtypes.float64, "MAX", 96, 0),
        (dtypes.int8, "MIN", 16, 2))}
GROUPS |= {f"exchanged {d.name} by {group}": lambda d=d, group=group: exchanged(d, group)
           for d, group in ((F32, 64), (BOOL, 3), (dtypes.bfloat16, 32))}


def value_bits(value: Scalar, dtype: DType) -> np.ndarray[Any, np.dtype[Any]]:
    """A run-time value as one element of its storage."""
    return np.array([value]).astype(dtype.numpy)
