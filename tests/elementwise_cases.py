"""Every elementwise op of a Program at every dtype that it has, on edge values, beside the interpreter.

A test of a renderer compiles `batch.program(lanes)`, runs it on `batch.arrays()` and calls `batch.check`.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.kernel import numpy_ops
from pluggrad.lower.program import Program
from tests.program_builder import ProgramBuilder
from tests.program_interpreter import run_program

COUNT = 96
STORED_ONLY = (dtypes.float16, dtypes.bfloat16)
MATH_ULPS = {"EXP": 3, "EXP2": 3, "LOG": 3, "LOG2": 3, "SIN": 4, "COS": 4, "TANH": 5, "ERF": 16, "SQRT": 3,
             "DIV": 3, "RECIP": 3}  # OpenCL's bounds, in float64 and without relaxed math
_COMPARISONS = ("LT", "LE", "EQ", "NE")
_KINDS = {  # of the operands
    "NEG": "iuf", "ABS": "iuf", "NOT": "biu", "RECIP": "f", "SQRT": "f", "EXP": "f", "EXP2": "f", "LOG": "f",
    "LOG2": "f", "SIN": "f", "COS": "f", "TANH": "f", "ERF": "f", "FLOOR": "f", "CEIL": "f", "TRUNC": "f",
    "ROUND": "f", "ADD": "biuf", "SUB": "iuf", "MUL": "biuf", "DIV": "f", "MAX": "biuf", "MIN": "biuf",
    "AND": "biu", "OR": "biu", "XOR": "biu", "SHL": "iu", "SHR": "iu", "CDIV": "iu", "CMOD": "iu",
    "LT": "biuf", "LE": "biuf", "EQ": "biuf", "NE": "biuf",
}
_UNARY = frozenset(list(_KINDS)[:list(_KINDS).index("ADD")])


@dataclass(frozen=True)
class Case:
    """`op` of operands of the dtypes `sources`, which gives `result`."""

    op: str
    sources: tuple[DType, ...]
    result: DType

    def __str__(self) -> str:
        return f"{self.op} {' '.join(d.name for d in self.sources)} -> {self.result.name}"

    def write(self, p: ProgramBuilder, start: int, steps: Sequence[tuple[int, int]]) -> None:
        """Load the operands at `start`, compute, store."""
        inputs = [p.buffer(dtype, COUNT) for dtype in self.sources]
        out = p.buffer(self.result, COUNT, "out")
        p.store(out, start, p(self.op, self.result, *(p.load(x, start, steps) for x in inputs)), steps)

    def operands(self) -> list[np.ndarray]:
        """Arrays of COUNT elements in which edges of the dtypes meet each other."""
        arrays = [edges(dtype, i) for i, dtype in enumerate(self.sources)]
        if self.op in ("SHL", "SHR"):
            arrays[1] = (np.arange(COUNT) % self.sources[1].bits).astype(self.sources[1].numpy)
        if self.op in ("CDIV", "CMOD"):  # lowering keeps zero, and the one quotient that overflows, away
            x, y = arrays
            y[y == 0] = 3
            if self.sources[0].kind == "i":
                x[(x == self.sources[0].min) & (y == -1)] = 7
        if self.op in ("SIN", "COS") and self.sources[0] is dtypes.float32:
            arrays[0] = np.clip(arrays[0], -1e30, 1e30)
        return arrays

    def check(self, operands: Sequence[np.ndarray], got: np.ndarray) -> None:
        """AssertionError unless `got` is what the interpreter makes of the operands."""
        want = np.zeros(COUNT, self.result.numpy)
        run_program(Batch((self,)).program(0), [*operands, want])
        if not self.result.is_float:
            np.testing.assert_array_equal(got, want, err_msg=str(self))
            return
        got, want = (numpy_ops.decode(x, self.result).astype(np.float64) for x in (got, want))
        if self.op in MATH_ULPS:
            with np.errstate(invalid="ignore"):
                spacing = np.spacing(np.abs(want).astype(self.result.numpy)).astype(np.float64)
                near = np.abs(got - want) <= MATH_ULPS[self.op] * spacing
            assert (near | (got == want) | (np.isnan(got) & np.isnan(want))).all(), (
                f"{self}: {list(zip(*operands, got, want))}")
            return
        np.testing.assert_array_equal(got, want, err_msg=str(self))
        if self.op not in ("MAX", "MIN"):  # which zero is the larger one is open
            numbers = ~np.isnan(want)
            signs = [np.signbit(x[numbers]) for x in (got, want)]
            np.testing.assert_array_equal(*signs, err_msg=str(self))


@dataclass(frozen=True)
class Batch:
    """Cases in one program, each with buffers of its own: operands, then the result."""

    cases: tuple[Case, ...]

    def program(self, lanes: int) -> Program:
        """One vector of `lanes` a task (0: a scalar)."""
        p = ProgramBuilder("elementwise", tasks=COUNT // max(lanes, 1))
        steps = ((p.axis(lanes, vector=True), 1),) if lanes else ()
        start = p("MUL", dtypes.int64, p("TASK", dtypes.int64), p.const(max(lanes, 1)))
        for case in self.cases:
            case.write(p, start, steps)
        return p.build()

    def arrays(self) -> list[np.ndarray]:
        """All buffers, results as zeros."""
        return [x for case in self.cases for x in (*case.operands(), np.zeros(COUNT, case.result.numpy))]

    def check(self, arrays: Sequence[np.ndarray]) -> None:
        """AssertionError for the first case whose result is wrong."""
        rest = iter(arrays)
        for case in self.cases:
            operands = [next(rest) for _ in case.sources]
            case.check(operands, next(rest))


def batches(arithmetic: Sequence[DType], size: int = 16) -> list[Batch]:
    """All cases for a target that computes in the floats of `arithmetic`."""
    every = tuple(cases(arithmetic))
    return [Batch(every[start:start + size]) for start in range(0, len(every), size)]


@cache
def _edges(dtype: DType) -> np.ndarray:
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.is_int:
        low, high = int(dtype.min), int(dtype.max)
        chosen = [0, 1, 2, 3, 7, high, high - 1, high // 2, low, low + 1]
        return np.array(chosen + [-1, -2, -7] * (dtype.kind == "i"), dtype.numpy)
    values = [
        0.0, -0.0, np.nan, np.inf, -np.inf, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 255.5, -129.0, 65504.0,
        65519.9, 65520.0, 2.0**31, -(2.0**31), 2147483583.0, 2.0**32, 2.0**63, -(2.0**63), 2.0**64,
        1e-7, 6e-8, 2.9e-8, 1e-40, 3e38, 3.14159, 100.25,
        1.0 + 2**-11, 1.0 + 3 * 2**-11, 1.0 + 2**-11 + 2**-30]
    with np.errstate(over="ignore"):
        return stored(np.array(values), dtype)


def edges(dtype: DType, turn: int = 0) -> np.ndarray:
    """COUNT elements: edges, shifted from operand to operand so that they meet, and random ones."""
    random = np.random.default_rng(turn)
    special = _edges(dtype)
    repeated = np.resize(special, min(64, len(special) ** 2) if turn else 64)
    repeated = np.repeat(special, 8)[:64] if turn and len(special) < 14 else repeated
    if turn and len(special) >= 14:
        repeated = np.roll(repeated, 5 * turn)
    rest = COUNT - len(repeated)
    if dtype.kind == "b":
        more = random.integers(0, 2, rest).astype(bool)
    elif dtype.is_int:
        more = random.integers(dtype.min, dtype.max, rest, dtype.numpy, endpoint=True)
    else:
        more = stored(random.normal(0, 30, rest), dtype)
    return np.concatenate([repeated, more])


def stored(x: np.ndarray, dtype: DType) -> np.ndarray:
    """float64 values as they are stored."""
    return numpy_ops.encode(numpy_ops.cast(dtypes.float64, dtype)(x), dtype)


def cases(arithmetic: Sequence[DType]) -> Iterator[Case]:
    """All, for a target that computes in the floats of `arithmetic`."""
    for op, kinds in _KINDS.items():
        for dtype in dtypes.ALL:
            if dtype.kind in kinds and (dtype.kind != "f" or dtype in arithmetic):
                sources = (dtype,) if op in _UNARY else (dtype, dtype)
                yield Case(op, sources, dtypes.bool_ if op in _COMPARISONS else dtype)
    for dtype in dtypes.ALL:
        yield Case("WHERE", (dtypes.bool_, dtype, dtype), dtype)
        yield from (Case("CAST", (dtype,), target) for target in dtypes.ALL)
        yield from (Case("BITCAST", (dtype,), target) for target in dtypes.ALL
                    if target.itemsize == dtype.itemsize and dtypes.bool_ not in (dtype, target))
    yield Case("BITCAST", (dtypes.bool_,), dtypes.uint8)
