"""Every elementwise row x dtype x special values, against Python numbers one by one."""
from __future__ import annotations

import math
import struct
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pluggrad import dtypes
from pluggrad.dtypes import DType, Scalar
from pluggrad.graph.grammar import OPERAND_KINDS
from pluggrad.graph.ops import ELEMENTWISE, GRAPH_OPS
from pluggrad.kernel.interpret import interpret
from tests.unit.kernel import scalar_reference as reference
from tests.unit.kernel.kernels import elementwise

TOLERANCE = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-21, "float64": 2.0**-50}
FLOAT_ROWS = {**reference.EXACT, **reference.APPROXIMATE}


def specials(dtype: DType) -> list[Scalar]:
    if dtype.kind == "b":
        return [False, True]
    if dtype.is_int:
        width = dtype.bits
        near_limits = [dtype.min, dtype.min + 1, dtype.max, dtype.max - 1]
        wanted = [0, 1, 2, 3, 7, width - 1, width, width + 1, 100, *near_limits]
        return sorted({*wanted, *([-1, -2, -3, -100] if dtype.kind == "i" else [])})
    precision, smallest, overflow = reference.FORMATS[dtype.name]
    largest = (2 - 2.0 ** (1 - precision)) * 2.0 ** (overflow - 1)
    positive = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.25, 0.3, 11.0, 100.7, 1e-3,
                2.0**smallest, 2.0 ** (2 - overflow), largest, math.inf]
    return [reference.rounded(sign * x, dtype) for x in positive for sign in (1, -1)] + [math.nan]


def to_storage(values: Sequence[Scalar], dtype: DType) -> np.ndarray[Any, Any]:
    if dtype is not dtypes.bfloat16:
        return np.array(values, dtype.numpy)
    bits = [struct.unpack("<I", struct.pack("<f", value))[0] >> 16 for value in values]
    return np.array(bits, np.uint16)


def from_storage(stored: np.ndarray[Any, Any], dtype: DType) -> list[Scalar]:
    if dtype is not dtypes.bfloat16:
        return stored.tolist()  # type: ignore[no-any-return]
    return [struct.unpack("<f", struct.pack("<I", int(bits) << 16))[0] for bits in stored]


def run(name: str, columns: Sequence[Sequence[Scalar]], sources: Sequence[DType],
        result: DType) -> list[Scalar]:
    buffers = [to_storage(column, dtype) for column, dtype in zip(columns, sources)]
    out = np.empty(len(columns[0]), result.numpy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        interpret(elementwise(name, out.size, sources, result), [*buffers, out], [])
    return from_storage(out, result)


def check(name: str, columns: Sequence[Sequence[Scalar]], got: Sequence[Scalar], want: Sequence[Scalar],
          tolerance: float = 0.0, unit: float = 0.0) -> None:
    for sources, g, w in zip(zip(*columns), got, want):
        any_sign = name in ("MAX", "MIN")  # of the two zeros, either may be the larger
        equal = g == w and (any_sign or math.copysign(1, g) == math.copysign(1, w))
        close = equal or (g != g and w != w) or abs(g - w) <= tolerance * abs(w) + unit
        assert close, f"{name}{sources}: got {g!r}, want {w!r}"


def arguments(name: str, dtype: DType) -> list[list[Scalar]]:
    values = specials(dtype)
    if GRAPH_OPS[name].arity == 1:
        return [values]
    return [[x for x in values for _ in values], [y for _ in values for y in values]]


ROWS = [(op.name, dtype) for op in sorted(ELEMENTWISE, key=lambda op: op.name) for dtype in dtypes.ALL
        if op.kind in ("unary", "binary") and dtype.kind in OPERAND_KINDS[op]]


@pytest.mark.parametrize(("name", "dtype"), ROWS, ids=lambda value: getattr(value, "name", value))
def test_row(name: str, dtype: DType) -> None:
    columns = arguments(name, dtype)
    got = run(name, columns, [dtype] * len(columns), dtype)
    if dtype.kind == "b":
        check(name, columns, got, [reference.BOOLEAN[name](*row) for row in zip(*columns)])
    elif dtype.is_int:
        check(name, columns, got, [reference.integer(name, dtype)(*row) for row in zip(*columns)])
    else:
        want = [reference.rounded(FLOAT_ROWS[name](*row), dtype) for row in zip(*columns)]
        close = name in reference.APPROXIMATE
        unit = 2.0 ** reference.FORMATS[dtype.name][1]
        check(name, columns, got, want, close * TOLERANCE[dtype.name], close * unit)


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("name", reference.COMPARE)
def test_comparison(name: str, dtype: DType) -> None:
    columns = arguments(name, dtype)
    want = [reference.COMPARE[name](*row) for row in zip(*columns)]
    assert run(name, columns, [dtype, dtype], dtypes.bool_) == want


@pytest.mark.parametrize("target", dtypes.ALL, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("source", dtypes.ALL, ids=lambda dtype: dtype.name)
def test_cast(source: DType, target: DType) -> None:
    values = specials(source)
    want = [reference.cast(x, source, target) for x in values]
    check("CAST", [values], run("CAST", [values], [source], target), want)


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda dtype: dtype.name)
def test_where(dtype: DType) -> None:
    values = specials(dtype)
    condition = [i % 3 == 0 for i in range(len(values))]
    columns = [condition, values, values[::-1]]
    want = [x if c else y for c, x, y in zip(*columns)]
    check("WHERE", columns, run("WHERE", columns, [dtypes.bool_, dtype, dtype], dtype), want)


@pytest.mark.parametrize("dtype", dtypes.FLOATS, ids=lambda dtype: dtype.name)
def test_bitcast_there_and_back(dtype: DType) -> None:
    bits = {2: dtypes.uint16, 4: dtypes.uint32, 8: dtypes.int64}[dtype.itemsize]
    values = specials(dtype)
    stored = to_storage(values, dtype)
    as_bits = run("BITCAST", [values], [dtype], bits)
    assert as_bits == stored.view(bits.numpy).tolist()
    check("BITCAST", [values], run("BITCAST", [as_bits], [bits], dtype), values)


@pytest.mark.parametrize("dtype", [dtypes.int64, dtypes.int32], ids=lambda dtype: dtype.name)
def test_index_division_is_toward_zero(dtype: DType) -> None:
    columns = [[7, -7, 7, -7, 0, 5], [2, 2, -2, -2, 3, 5]]
    assert run("CDIV", columns, [dtype, dtype], dtype) == [3, -3, -3, 3, 0, 1]
    assert run("CMOD", columns, [dtype, dtype], dtype) == [1, -1, 1, -1, 0, 0]


def test_every_row_is_covered() -> None:
    tested = {name for name, _ in ROWS} | set(reference.COMPARE) | {"WHERE", "CAST", "BITCAST"}
    assert tested == {op.name for op in ELEMENTWISE}
