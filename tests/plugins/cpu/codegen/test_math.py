"""Elementary functions: the stated error bounds, and the values at the edges."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.lower.program import Program
from pluggrad_cpu.llvm import host_triple
from pluggrad_cpu.math import ERROR_BOUNDS, FUNCTIONS

LANES = 16
COUNT = 1 << 16
# the reference has more digits where long double has; elsewhere its own rounding counts as an error too
WIDE: Any = np.longdouble
REFERENCE: dict[str, Callable[[Any], Any]] = {
    "EXP": np.exp, "EXP2": np.exp2, "LOG": np.log, "LOG2": np.log2, "SIN": np.sin, "COS": np.cos,
    "TANH": np.tanh,
}
FLOATS = [dtypes.float32, dtypes.float64]


def unary(program: Any, op: str, dtype: DType, n: int, lanes: int = LANES) -> Program:
    p = program(op.lower(), tasks=n // max(lanes, 1))
    x, out = p.buffer(dtype, n), p.buffer(dtype, n, "out")
    start = p("MUL", dtypes.int64, p("TASK", dtypes.int64), p.const(max(lanes, 1)))
    steps = ((p.axis(lanes, vector=True), 1),) if lanes else ()
    p.store(out, start, p(op, dtype, p.load(x, start, steps)), steps)
    return p.build()


def inputs(op: str, dtype: DType) -> np.ndarray:
    """Where errors are largest: whole ranges, near zeros of the function, where formulas switch."""
    random = np.random.default_rng(3)
    single = dtype is dtypes.float32
    largest, n = (88.7 if single else 709.7), COUNT // 4
    if op in ("EXP", "EXP2"):
        base = 1 if op == "EXP" else math.log2(math.e)
        below = -103.9 if single else -744.9  # the smallest subnormal
        parts = [random.uniform(below * base, largest * base, 3 * n), random.uniform(-1, 1, n)]
    elif op in ("LOG", "LOG2"):
        parts = [np.exp(random.uniform(-largest, largest, n)), random.uniform(0.5, 2, n),
                 1 + random.normal(0, 1e-3, n), np.linspace(0.70, 0.72, n)]
    elif op in ("SIN", "COS"):
        parts = [random.uniform(-10, 10, n), random.uniform(-1e5, 1e5, n), np.arange(n) * (np.pi / 2),
                 np.exp(random.uniform(-20, largest, n)) * random.choice([-1, 1], n)]
    else:
        parts = [random.uniform(-7, 7, n), random.uniform(0.5, 1.5, n), random.normal(0, 1, n),
                 np.exp(random.uniform(-80, 2, n))]
    return np.concatenate(parts).astype(dtype.numpy)


def reference(op: str, x: np.ndarray) -> np.ndarray:
    if op == "ERF":
        return np.asarray(scipy.special.erf(x.astype(np.float64))).astype(WIDE)
    return np.asarray(REFERENCE[op](x.astype(WIDE)))


def ulps(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    near = want.astype(got.dtype)
    return np.abs(got.astype(WIDE) - want) / np.spacing(np.abs(near)).astype(WIDE)


@pytest.mark.parametrize("cpu", ["host", "baseline"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("op", sorted(FUNCTIONS))
def test_error_bound(program: Any, run: Any, op: str, dtype: DType, cpu: str) -> None:
    if cpu == "baseline" and not host_triple().startswith("x86_64"):
        pytest.skip("only x86-64 has machines without fused multiply-add")
    x = inputs(op, dtype)
    out = np.zeros_like(x)
    arch = {"arch": f"{host_triple()}|x86-64|"} if cpu == "baseline" else {}
    run(unary(program, op, dtype, x.size), x, out, **arch)
    error = ulps(out, reference(op, x))
    worst = error.argmax()
    allowed = ERROR_BOUNDS[op][dtype.name]
    # SciPy's erf is itself up to 2.4 units off, long double is double on some systems
    if dtype is dtypes.float64 and (op == "ERF" or np.finfo(WIDE).nmant < 60):
        allowed += 2.5
    assert error[worst] <= allowed, f"{op}({x[worst]!r}) = {out[worst]!r} is {error[worst]:.2f} ulp off"


INF, NAN = math.inf, math.nan
SPECIAL: dict[str, list[tuple[float, float]]] = {
    "EXP": [(0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, 0.0), (NAN, NAN), (1e30, INF), (-1e30, 0.0)],
    "EXP2": [(0.0, 1.0), (3.0, 8.0), (-126.0, 2.0**-126), (INF, INF), (-INF, 0.0), (NAN, NAN), (1e30, INF)],
    "LOG": [(1.0, 0.0), (0.0, -INF), (-0.0, -INF), (-1.0, NAN), (INF, INF), (-INF, NAN), (NAN, NAN)],
    "LOG2": [(1.0, 0.0), (8.0, 3.0), (2.0**-149, -149.0), (0.0, -INF), (-0.0, -INF), (-1e-40, NAN),
             (INF, INF), (NAN, NAN)],
    "SIN": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (NAN, NAN), (1e-40, 1e-40)],
    "COS": [(0.0, 1.0), (-0.0, 1.0), (INF, NAN), (-INF, NAN), (NAN, NAN)],
    "TANH": [(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (NAN, NAN), (100.0, 1.0), (-1e-40, -1e-40)],
    "ERF": [(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (NAN, NAN), (7.0, 1.0), (-7.0, -1.0)],
}


@pytest.mark.parametrize("lanes", [0, 1, 4, 16])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("op", sorted(SPECIAL))
def test_special_values(program: Any, run: Any, op: str, dtype: DType, lanes: int) -> None:
    pairs = SPECIAL[op] + [SPECIAL[op][0]] * (-len(SPECIAL[op]) % 16)
    x, want = (np.array(column, dtype.numpy) for column in zip(*pairs))
    out = np.zeros_like(x)
    run(unary(program, op, dtype, x.size, lanes), x, out)
    np.testing.assert_array_equal(out, want)
    np.testing.assert_array_equal(np.signbit(out[want == 0]), np.signbit(want[want == 0]))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_logarithm_of_subnormal_numbers(program: Any, run: Any, dtype: DType) -> None:
    smallest = np.finfo(dtype.numpy).smallest_subnormal
    x = (smallest * np.arange(1, 65)).astype(dtype.numpy)
    out = np.zeros_like(x)
    run(unary(program, "LOG", dtype, x.size), x, out)
    assert ulps(out, np.log(x.astype(WIDE))).max() <= ERROR_BOUNDS["LOG"][dtype.name]


def test_largest_angles_are_reduced_exactly(program: Any, run: Any) -> None:
    # the double whose multiple of pi/2 is closest, after J.-M. Muller, "Elementary Functions"
    x = np.full(16, 6381956970095103.0 * 2.0**797)
    x[1], x[2] = np.finfo(np.float64).max, -np.finfo(np.float64).max
    out = np.zeros_like(x)
    run(unary(program, "COS", dtypes.float64, 16), x, out)
    np.testing.assert_allclose(out[0], -4.68716592425462761112e-19, rtol=1e-15)
    np.testing.assert_allclose(out[1:3], -0.99998768942655991, rtol=1e-15)
    run(unary(program, "SIN", dtypes.float64, 16), x, out)
    np.testing.assert_allclose(out[1:3], [0.004961954789184062, -0.004961954789184062], rtol=1e-15)


@pytest.mark.parametrize("cpu", ["host", "baseline"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("op", "function"), [
    ("FLOOR", np.floor), ("CEIL", np.ceil), ("TRUNC", np.trunc), ("ROUND", np.rint), ("SQRT", np.sqrt),
    ("ABS", np.abs), ("NEG", np.negative), ("RECIP", np.reciprocal)])
def test_exact_functions(program: Any, run: Any, op: str, function: Any, dtype: DType, cpu: str) -> None:
    if cpu == "baseline" and not host_triple().startswith("x86_64"):
        pytest.skip("only x86-64 has machines without rounding instructions")
    edges = [0.0, -0.0, 0.3, -0.3, 0.5, -0.5, 0.7, -0.7, 1.5, -1.5, 2.5, -2.5, 0.49999997, 8388607.5,
             -8388608.0, 4503599627370495.5, 1e30, -1e30, INF, -INF, NAN, 3.0, -3.0, 1e-40]
    values = np.concatenate([edges, np.random.default_rng(0).normal(0, 5, 64 - len(edges))])
    x = values.astype(dtype.numpy)
    out = np.zeros_like(x)
    arch = {"arch": f"{host_triple()}|x86-64|"} if cpu == "baseline" else {}
    run(unary(program, op, dtype, 64), x, out, **arch)
    with np.errstate(all="ignore"):
        want = function(x)
    np.testing.assert_array_equal(out, want)
    numbers = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(out[numbers]), np.signbit(want[numbers]))
