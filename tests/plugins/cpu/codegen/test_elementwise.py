"""Integer, bool and comparison ops, and casts between every two dtypes, against NumPy."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.errors import CompileError
from pluggrad.graph import ops
from pluggrad.lower.program import Program
from pluggrad_cpu.elementwise import RENDERED_OPS
from pluggrad_cpu.llvm import host_triple

LANES, COUNT = 8, 64
ARITHMETIC = [d for d in dtypes.ALL if d not in (dtypes.float16, dtypes.bfloat16)]
BASELINE = f"{host_triple()}|x86-64|"
MACHINES = ["host", "baseline"] if host_triple().startswith("x86_64") else ["host"]


def machine(cpu: str) -> dict[str, str]:
    """With and without instructions for float16 and rounding."""
    return {"arch": BASELINE} if cpu == "baseline" else {}


def mapped(program: Any, op: str, sources: list[DType], result: DType, lanes: int = LANES) -> Program:
    p = program(op.lower(), tasks=COUNT // max(lanes, 1))
    inputs = [p.buffer(dtype, COUNT) for dtype in sources]
    out = p.buffer(result, COUNT, "out")
    steps = ((p.axis(lanes, vector=True), 1),) if lanes else ()
    start = p("MUL", dtypes.int64, p("TASK", dtypes.int64), p.const(max(lanes, 1)))
    p.store(out, start, p(op, result, *(p.load(x, start, steps) for x in inputs)), steps)
    return p.build()


def widen(bits: np.ndarray) -> np.ndarray:
    """bfloat16 bits as float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def narrow(x: np.ndarray) -> np.ndarray:
    """float32 rounded to bfloat16 bits, ties to even."""
    bits = x.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(x), bits >> 16 | 0x40, rounded).astype(np.uint16)


def data(dtype: DType, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    if dtype.kind == "b":
        return random.integers(0, 2, COUNT).astype(bool)
    if dtype.is_int:
        x = random.integers(dtype.min, dtype.max, COUNT, dtype.numpy, endpoint=True)
        x[:6] = dtype.min, dtype.max, 0, 1, dtype.max - 1, 2
        return x
    x = random.normal(0, 300, COUNT)
    edges = [0.0, -0.0, np.nan, np.inf, -np.inf, 0.5, -0.5, 255.5, -129.0, 65504.0, 65519.9, 65520.0, 2.0**31,
             -(2.0**31), 2.0**32, 2.0**63, -(2.0**63), 2.0**64, 1e-7, 6e-8, 2.9e-8, 3e38, 2147483583.0,
             1.0 + 2**-11, 1.0 + 3 * 2**-11]
    x[: len(edges)] = edges
    with np.errstate(over="ignore"):
        return narrow(x) if dtype is dtypes.bfloat16 else x.astype(dtype.numpy)


def converted(x: np.ndarray, source: DType, target: DType) -> np.ndarray:
    """The cast as NumPy does it, saturating where NumPy leaves it open."""
    if source is dtypes.bfloat16:
        x, source = widen(x), dtypes.float32
    if target is dtypes.bfloat16:
        return narrow(x.astype(np.float32))
    if source.is_float and target.is_int:
        limit = 2.0**70
        exact = [0 if v != v else int(max(min(v, limit), -limit)) for v in x.astype(np.float64).tolist()]
        return np.array([max(min(v, target.max), target.min) for v in exact], target.numpy)
    if target is dtypes.float16 and source.is_int:
        return x.astype(np.float32).astype(np.float16)
    return x.astype(target.numpy)


@pytest.mark.parametrize("cpu", MACHINES)
@pytest.mark.parametrize("source", dtypes.ALL, ids=str)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_cast(program: Any, run: Any, source: DType, cpu: str) -> None:
    kernels = run.compile_many([mapped(program, "CAST", [source], d) for d in dtypes.ALL], **machine(cpu))
    for target, kernel in zip(dtypes.ALL, kernels):
        x, out = data(source), np.zeros(COUNT, target.numpy)
        kernel(x, out)
        want = converted(x, source, target)
        if target is dtypes.bfloat16:
            out, want = widen(out), widen(want)
        np.testing.assert_array_equal(out, want, err_msg=f"{source.name} to {target.name}")


@pytest.mark.parametrize("cpu", MACHINES)
def test_float64_is_rounded_once_on_its_way_to_float16(program: Any, run: Any, cpu: str) -> None:
    # just above a tie of float16: rounding to float32 first would lose what breaks the tie
    x = np.linspace(1, 2, COUNT).astype(np.float16).astype(np.float64) + 2.0**-11 + 2.0**-40
    out = np.zeros(COUNT, np.float16)
    run(mapped(program, "CAST", [dtypes.float64], dtypes.float16), x, out, **machine(cpu))
    np.testing.assert_array_equal(out, x.astype(np.float16))


@pytest.mark.parametrize("cpu", MACHINES)
def test_every_float16_survives_a_round_trip(program: Any, run: Any, cpu: str) -> None:
    p = program("round_trip", tasks=1 << 12)
    x, out = p.buffer(dtypes.float16, 1 << 16), p.buffer(dtypes.float16, 1 << 16, "out")
    lane = p.axis(16, vector=True)
    start = p("MUL", dtypes.int64, p("TASK", dtypes.int64), p.const(16))
    wide = p("CAST", dtypes.float32, p.load(x, start, ((lane, 1),)))
    p.store(out, start, p("CAST", dtypes.float16, wide), ((lane, 1),))
    values = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    got = np.zeros_like(values)
    run(p.build(), values, got, **machine(cpu))
    numbers = ~np.isnan(values)
    np.testing.assert_array_equal(got[numbers].view(np.uint16), values[numbers].view(np.uint16))
    assert np.isnan(got[~numbers]).all()


# name: NumPy's function, kinds of dtype that have it
BINARY: dict[str, tuple[Any, str]] = {
    "ADD": (np.add, "biuf"), "SUB": (np.subtract, "iuf"), "MUL": (np.multiply, "biuf"),
    "DIV": (np.divide, "f"),
    "MAX": (np.maximum, "biuf"), "MIN": (np.minimum, "biuf"), "AND": (np.bitwise_and, "biu"),
    "OR": (np.bitwise_or, "biu"), "XOR": (np.bitwise_xor, "biu"), "SHL": (np.left_shift, "iu"),
    "SHR": (np.right_shift, "iu"), "LT": (np.less, "biuf"), "LE": (np.less_equal, "biuf"),
    "EQ": (np.equal, "biuf"), "NE": (np.not_equal, "biuf"),
}


@pytest.mark.parametrize("lanes", [0, LANES])
@pytest.mark.parametrize("op", BINARY)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_binary(program: Any, run: Any, op: str, lanes: int) -> None:
    function, kinds = BINARY[op]
    operands = [d for d in ARITHMETIC if d.kind in kinds]
    results = [dtypes.bool_ if op in ("LT", "LE", "EQ", "NE") else d for d in operands]
    programs = [mapped(program, op, [d, d], r, lanes) for d, r in zip(operands, results)]
    for dtype, result, kernel in zip(operands, results, run.compile_many(programs)):
        x, y, out = data(dtype, 1), data(dtype, 2), np.zeros(COUNT, result.numpy)
        y[6:20] = x[6:20]
        if op in ("SHL", "SHR"):
            y = (np.arange(COUNT) % dtype.bits).astype(dtype.numpy)
        kernel(x, y, out)
        np.testing.assert_array_equal(out, function(x, y), err_msg=dtype.name)


@pytest.mark.parametrize(("op", "function", "operands"), [
    ("NEG", np.negative, dtypes.INTS), ("ABS", np.abs, dtypes.INTS),
    ("NOT", np.invert, (*dtypes.INTS, dtypes.bool_))])
def test_unary_of_integers(program: Any, run: Any, op: str, function: Any,
                           operands: tuple[DType, ...]) -> None:
    kernels = run.compile_many([mapped(program, op, [dtype], dtype) for dtype in operands])
    for dtype, kernel in zip(operands, kernels):
        x, out = data(dtype), np.zeros(COUNT, dtype.numpy)
        kernel(x, out)
        np.testing.assert_array_equal(out, function(x), err_msg=dtype.name)


@pytest.mark.parametrize("dtype", dtypes.INTS, ids=str)
def test_division_toward_zero(program: Any, run: Any, dtype: DType) -> None:
    x = np.maximum(data(dtype), dtype.min + (dtype.kind == "i"))
    y = np.array([3, 7, 1, 100] * 16, dtype.numpy)
    if dtype.kind == "i":
        y[::3] *= -1
    quotient, rest = np.zeros(COUNT, dtype.numpy), np.zeros(COUNT, dtype.numpy)
    run(mapped(program, "CDIV", [dtype, dtype], dtype), x, y, quotient)
    run(mapped(program, "CMOD", [dtype, dtype], dtype), x, y, rest)
    want = [int(abs(int(a)) // abs(int(b))) * (1 if (a < 0) == (b < 0) else -1) for a, b in zip(x, y)]
    np.testing.assert_array_equal(quotient, np.array(want, dtype.numpy))
    np.testing.assert_array_equal(quotient * y + rest, x)


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=str)
def test_where(program: Any, run: Any, dtype: DType) -> None:
    condition, x, y, out = data(dtypes.bool_), data(dtype, 1), data(dtype, 2), np.zeros(COUNT, dtype.numpy)
    run(mapped(program, "WHERE", [dtypes.bool_, dtype, dtype], dtype), condition, x, y, out)
    np.testing.assert_array_equal(out, np.where(condition, x, y))


@pytest.mark.parametrize(("source", "target"), [
    (dtypes.float32, dtypes.uint32), (dtypes.int64, dtypes.float64), (dtypes.float16, dtypes.int16),
    (dtypes.int8, dtypes.uint8), (dtypes.bool_, dtypes.uint8), (dtypes.uint8, dtypes.bool_)], ids=str)
def test_bitcast(program: Any, run: Any, source: DType, target: DType) -> None:
    x, out = data(source), np.zeros(COUNT, target.numpy)
    if target.kind == "b":
        x &= 1
    run(mapped(program, "BITCAST", [source], target), x, out)
    np.testing.assert_array_equal(out.view(np.uint8), x.view(np.uint8))


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=str)
def test_constants_and_run_time_values(program: Any, run: Any, dtype: DType) -> None:
    p = program("scalars")
    out, lane = p.buffer(dtype, 2 * LANES, "out"), p.axis(LANES, vector=True)
    p.store(out, p.const(0), p.const(1, dtype), ((lane, 1),))
    p.store(out, p.const(LANES), p.value(dtype), ((lane, 1),))
    got = np.zeros(2 * LANES, dtype.numpy)
    value = 0x4060 if dtype is dtypes.bfloat16 else 1 if dtype.kind == "b" else 100
    run(p.build(), got, values=[value])
    one = 0x3F80 if dtype is dtypes.bfloat16 else 1
    np.testing.assert_array_equal(got, np.repeat(np.array([one, value]).astype(dtype.numpy), LANES))


def test_what_is_rendered_covers_every_row_but_three() -> None:
    missing = {op.name for op in ops.ELEMENTWISE} - RENDERED_OPS
    decomposed = {"IDIV", "MOD", "POW"}  # lowering writes these in terms of the others
    assert missing == decomposed
    assert set(ops.GRAPH_OPS) >= RENDERED_OPS


def test_arithmetic_in_half_precision_is_refused(program: Any, run: Any) -> None:
    with pytest.raises(CompileError, match="ADD of float16"):
        run.compile(mapped(program, "ADD", [dtypes.float16] * 2, dtypes.float16))
