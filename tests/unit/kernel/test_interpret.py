"""Whole kernels through the interpreter: reductions, contractions, gates, blocks, stores."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.errors import InternalError
from pluggrad.ir.node import Node, node
from pluggrad.kernel import interpret as interpreter
from pluggrad.kernel import numpy_ops, ops
from pluggrad.kernel.interpret import compile_kernel, interpret
from pluggrad.kernel.kernel import Axis, BufferParam, Kernel, axis, const
from tests.unit.kernel.kernels import (
    F32,
    kernel,
    load,
    matmul,
    op,
    read,
    reduce,
    scatter,
    softmax,
    store,
    strided,
    write,
)

Array = np.ndarray[Any, Any]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def normal(rng: np.random.Generator, n: int) -> Array:
    return rng.standard_normal(n, np.float32)


# ------------------------------------------------------------------------------------------------- stores


@pytest.mark.parametrize("name", ["ADD", "MUL", "MAX", "MIN", None])
def test_what_meets_is_combined_in_order(rng: np.random.Generator, name: str | None) -> None:
    index, value = rng.integers(0, 7, 200), normal(rng, 200)
    buffer = normal(rng, 7)
    expected = buffer.copy()
    for i, x in zip(index, value, strict=True):
        combine = {"ADD": np.add, "MUL": np.multiply, "MAX": np.maximum, "MIN": np.minimum}.get(str(name))
        expected[i] = x if combine is None else combine(expected[i], x)
    interpret(scatter(name, 200, 7), [buffer, index, value], [])
    np.testing.assert_array_equal(buffer, expected)


# --------------------------------------------------------------------------------------------- reductions

NUMBERS = [dtype for dtype in dtypes.ALL if dtype is not dtypes.bfloat16]
REFERENCE = {"ADD": np.sum, "MUL": np.prod, "MAX": np.max, "MIN": np.min}


@pytest.mark.parametrize("dtype", NUMBERS, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("name", REFERENCE)
def test_reduction_over_inner_and_outer_axis(name: str, dtype: DType, rng: np.random.Generator) -> None:
    source = rng.integers(0, 4, 15).astype(dtype.numpy)
    for bound, kept in ((1, 0), (0, 1)):
        extents = (3, 5)
        value = reduce(name, load(0, strided(a0=5, a1=1), dtype), bound)
        buffers = [read(15, dtype), write(extents[kept], dtype)]
        built = kernel(extents, buffers, store(1, (kept,), axis(kept), value))
        out = np.empty(extents[kept], dtype.numpy)
        interpret(built, [source, out], [])
        how = {"dtype": dtype.numpy} if name in ("ADD", "MUL") else {}
        np.testing.assert_array_equal(out, REFERENCE[name](source.reshape(3, 5), axis=bound, **how))


def test_bfloat16_is_summed_in_float32_and_rounded_once() -> None:
    ones = np.full(1000, 0x3F80, np.uint16)
    out = np.empty(1, np.uint16)
    value = reduce("ADD", load(0, axis(0), dtypes.bfloat16), 0)
    buffers = [read(1000, dtypes.bfloat16), write(1, dtypes.bfloat16)]
    built = kernel([1000], buffers, store(1, (), const(0), value))
    interpret(built, [ones, out], [])
    assert out[0] == 0x447A  # 1000.0; rounding after each addition would stick at 256


@pytest.mark.parametrize(("name", "want"), [("ADD", 0.0), ("MUL", 1.0), ("MAX", -np.inf), ("MIN", np.inf)])
def test_reduction_of_nothing(name: str, want: float) -> None:
    out = np.zeros(2, np.float32)
    built = kernel([2, 0], [read(0), write(2)],
                   store(1, (0,), axis(0), reduce(name, load(0, strided(a0=0, a1=1)), 1)))
    interpret(built, [np.empty(0, np.float32), out], [])
    assert out.tolist() == [want, want]


def test_nan_goes_through_max_and_min() -> None:
    for name in ("MAX", "MIN"):
        out = np.zeros(1, np.float32)
        value = reduce(name, load(0, axis(0)), 0)
        built = kernel([3], [read(3), write(1)], store(1, (), const(0), value))
        interpret(built, [np.array([1, np.nan, 2], np.float32), out], [])
        assert np.isnan(out[0])


def test_a_value_that_does_not_vary_counts_once_for_each_position() -> None:
    out = np.zeros(1, np.int32)
    value = reduce("ADD", op("CAST", const(3), dtype=dtypes.int32), 0, 1)
    interpret(kernel([4, 5], [write(1, dtypes.int32)], store(0, (), const(0), value)), [out], [])
    assert out[0] == 60


def test_softmax_with_extreme_rows(rng: np.random.Generator) -> None:
    x = normal(rng, 35) * 50
    out = np.empty(35, np.float32)
    interpret(softmax(7, 5), [x, out], [])
    rows = x.reshape(7, 5).astype(np.float64)
    exp = np.exp(rows - rows.max(1, keepdims=True))
    np.testing.assert_allclose(out.reshape(7, 5), exp / exp.sum(1, keepdims=True), rtol=2e-6, atol=1e-30)


# ------------------------------------------------------------------------------------------- contractions


@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64, dtypes.int32, dtypes.float16],
                         ids=lambda dtype: dtype.name)
def test_matmul(dtype: DType, rng: np.random.Generator) -> None:
    m, n, k = 3, 5, 7
    a, b = (rng.integers(-3, 4, size).astype(dtype.numpy) for size in (m * k, k * n))
    out = np.empty(m * n, dtype.numpy)
    interpret(matmul(m, n, k, dtype), [a, b, out], [])
    np.testing.assert_array_equal(out.reshape(m, n), a.reshape(m, k) @ b.reshape(k, n))


def test_no_product_of_a_matmul_is_made(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    largest = 0
    multiply = numpy_ops.ELEMENTWISE["MUL"]

    def spy(x: Array, y: Array) -> Array:
        nonlocal largest
        result: Array = multiply(x, y)
        largest = max(largest, result.size)
        return result

    monkeypatch.setitem(numpy_ops.ELEMENTWISE, "MUL", spy)
    a, b, out = normal(rng, 64 * 32), normal(rng, 32 * 48), np.empty(64 * 48, np.float32)
    interpret(matmul(64, 48, 32), [a, b, out], [])
    want = a.reshape(64, 32) @ b.reshape(32, 48)
    np.testing.assert_allclose(out.reshape(64, 48), want, rtol=1e-4, atol=1e-4)
    assert largest <= 64 * 48


def test_batched_transposed_contraction_with_a_shared_product(rng: np.random.Generator) -> None:
    # axes: 0 batch, 1 row, 2 column, 3 inner; a is (batch, inner, row), b is (column, batch, inner)
    sizes = (2, 3, 4, 5)
    a, b = normal(rng, 2 * 5 * 3), normal(rng, 4 * 2 * 5)
    product = op("MUL", load(0, strided(a0=15, a3=3, a1=1)), load(1, strided(a2=10, a0=5, a3=1)))
    total, largest = reduce("ADD", product, 3), reduce("MAX", product, 3)
    out = [np.empty(24, np.float32), np.empty(24, np.float32)]
    where = strided(a0=12, a1=4, a2=1)
    built = kernel(sizes, [read(30), read(40), write(24), write(24)],
                   store(2, (0, 1, 2), where, total), store(3, (0, 1, 2), where, largest))
    interpret(built, [a, b, *out], [])
    products = np.einsum("bkr,cbk->brck", a.reshape(2, 5, 3), b.reshape(4, 2, 5))
    np.testing.assert_allclose(out[0].reshape(2, 3, 4), products.sum(3), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(out[1].reshape(2, 3, 4), products.max(3))


def test_convolution_with_padding(rng: np.random.Generator) -> None:
    # axes: 0 position, 1 tap; out[i] = sum over t of x[i + t - 1] * w[t]
    x, w, out = normal(rng, 6), normal(rng, 3), np.empty(6, np.float32)
    index = strided(-1, a0=1, a1=1)
    after = op("LE", const(0), index, dtype=dtypes.bool_)
    inside = op("AND", after, op("LT", index, const(6), dtype=dtypes.bool_))
    value = reduce("ADD", op("MUL", load(0, index, gate=inside), load(1, axis(1))), 1)
    built = kernel([6, 3], [read(6), read(3), write(6)], store(2, (0,), axis(0), value))
    interpret(built, [x, w, out], [])
    np.testing.assert_allclose(out, np.correlate(x, w, "same"), rtol=1e-5, atol=1e-6)


def test_sum_over_an_axis_that_only_one_factor_has(rng: np.random.Generator) -> None:
    a, b, out = normal(rng, 6), normal(rng, 2), np.empty(2, np.float32)
    value = reduce("ADD", op("MUL", load(0, strided(a0=3, a1=1)), load(1, axis(0))), 1)
    interpret(kernel([2, 3], [read(6), read(2), write(2)], store(2, (0,), axis(0), value)), [a, b, out], [])
    np.testing.assert_allclose(out, (a.reshape(2, 3) * b[:, None]).sum(1), rtol=1e-5)


# ------------------------------------------------------------------------------------ axes, gates, values


def tail_sum(n: int, factor: int) -> Kernel:
    """A sum and a copy over n elements, the axis split by `factor`, as tuning leaves it."""
    blocks = -(-n // factor)
    def tail(outer: int, inner: int) -> Node:
        position = strided(**{f"a{outer}": factor, f"a{inner}": 1})
        return node(ops.TAIL, (position,), (outer, factor, n), dtypes.bool_)
    def element(outer: int, inner: int) -> Node:
        return load(0, strided(**{f"a{outer}": factor, f"a{inner}": 1}), gate=tail(outer, inner))
    total = reduce("ADD", element(2, 3), 2, 3)
    axes = (Axis(0, blocks, "PARALLEL"), Axis(1, factor, "VECTOR"),
            Axis(2, blocks, "REDUCE"), Axis(3, factor, "TILE"))
    where, value = strided(a0=factor, a1=1), op("ADD", element(0, 1), total)
    return Kernel("tail", (read(n), write(n)), (), axes, (store(1, (0, 1), where, value, tail(0, 1)),))


def test_split_axes_with_tails() -> None:
    x = np.arange(10, dtype=np.float32)
    out = np.full(12, -1, np.float32)
    interpret(tail_sum(10, 4), [x, out], [])
    np.testing.assert_array_equal(out, [*(x + 45), -1, -1])


def test_kernel_without_axes_and_with_values() -> None:
    out = np.zeros(1, np.float32)
    small = node(ops.VALUE, (), 0, dtypes.uint8)
    value = op("MUL", node(ops.VALUE, (), 1, F32), op("CAST", small, dtype=F32))
    built = kernel([], [write(1)], store(0, (), const(0), value), values=(dtypes.uint8, F32))
    interpret(built, [out], [3, 0.5])
    assert out[0] == 1.5


def test_general_index_reads_like_numpy(rng: np.random.Generator) -> None:
    x, out = normal(rng, 12), np.empty(12, np.float32)
    index = op("ADD", op("MUL", op("CMOD", axis(0), const(3)), const(4)), op("CDIV", axis(0), const(3)))
    interpret(kernel([12], [read(12), write(12)], store(1, (0,), axis(0), load(0, index))), [x, out], [])
    np.testing.assert_array_equal(out, x.reshape(3, 4).T.ravel())


def test_index_from_data_and_scattered_store() -> None:
    order = np.array([2, 0, 3, 1], np.int64)
    x, out = np.arange(4, dtype=np.float32), np.zeros(4, np.float32)
    built = kernel([4], [read(4, dtypes.int64), read(4), write(4)],
                   store(2, (0,), load(0, axis(0), dtypes.int64), load(1, axis(0))))
    interpret(built, [order, x, out], [])
    np.testing.assert_array_equal(out[order], x)


@pytest.mark.parametrize("offset", [-1, 1])
@pytest.mark.parametrize("general", [False, True])
def test_access_outside_a_buffer_is_an_internal_error(offset: int, general: bool) -> None:
    index = strided(offset, a0=1)
    index = op("MAX", index, const(-5)) if general else index
    built = kernel([4], [read(4), write(4)], store(1, (0,), axis(0), load(0, index)))
    with pytest.raises(InternalError, match="load of buffer 0"):
        interpret(built, [np.zeros(4, np.float32), np.zeros(4, np.float32)], [])


def test_arguments_of_the_wrong_kind_are_refused() -> None:
    run = compile_kernel(kernel([4], [read(4), write(4)], store(1, (0,), axis(0), load(0, axis(0)))))
    good = np.zeros(4, np.float32)
    for bad in (np.zeros(3, np.float32), np.zeros(4), np.zeros((2, 2), np.float32)):
        with pytest.raises(InternalError, match="buffer 0"):
            run([bad, good], [])
    with pytest.raises(InternalError, match="2 buffers"):
        run([good], [])


# ------------------------------------------------------------------------------------------------ storing


def test_stores_see_what_was_there_before() -> None:
    a, b = np.arange(4, dtype=np.float32), np.arange(4, 8, dtype=np.float32)
    both = [BufferParam(F32, 4, "inout"), BufferParam(F32, 4, "inout")]
    crossed = [store(to, (0,), axis(0), load(1 - to, axis(0))) for to in (0, 1)]
    swap = kernel([4], both, *crossed)
    interpret(swap, [a, b], [])
    assert (a.tolist(), b.tolist()) == ([4, 5, 6, 7], [0, 1, 2, 3])


def test_reversal_in_place() -> None:
    a = np.arange(5, dtype=np.float32)
    built = kernel([5], [BufferParam(F32, 5, "inout")], store(0, (0,), axis(0), load(0, strided(4, a0=-1))))
    interpret(built, [a], [])
    assert a.tolist() == [4, 3, 2, 1, 0]


def test_strided_store_leaves_the_gaps() -> None:
    out = np.full(10, -1, np.float32)
    built = kernel([3], [read(3), write(10)], store(1, (0,), strided(1, a0=3), load(0, axis(0))))
    interpret(built, [np.array([1, 2, 3], np.float32), out], [])
    assert out.tolist() == [-1, 1, -1, -1, 2, -1, -1, 3, -1, -1]


def test_a_store_may_not_leave_out_an_axis_of_its_value() -> None:
    built = kernel([2, 3], [read(6), write(2)], store(1, (0,), axis(0), load(0, strided(a0=3, a1=1))))
    with pytest.raises(InternalError, match="axes"):
        compile_kernel(built)


# ------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize("limit", [1, 7, 30])
def test_blocks_change_nothing(limit: int, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    x, whole, cut = normal(rng, 77), np.empty(77, np.float32), np.empty(77, np.float32)
    interpret(softmax(7, 11), [x, whole], [])
    tail, tail_cut = np.full(12, -1, np.float32), np.full(12, -1, np.float32)
    interpret(tail_sum(10, 4), [x, tail], [])
    monkeypatch.setattr(interpreter, "BLOCK_ELEMENTS", limit)
    interpret(softmax(7, 11), [x, cut], [])
    interpret(tail_sum(10, 4), [x, tail_cut], [])
    np.testing.assert_array_equal(cut, whole)
    np.testing.assert_array_equal(tail_cut, tail)


def test_long_chain() -> None:
    value = load(0, axis(0))
    for _ in range(5000):
        value = op("ADD", value, const(1.0, F32))
    out = np.zeros(3, np.float32)
    built = kernel([3], [read(3), write(3)], store(1, (0,), axis(0), value))
    interpret(built, [np.zeros(3, np.float32), out], [])
    assert out.tolist() == [5000.0] * 3


def test_temporaries_are_freed(rng: np.random.Generator) -> None:
    import tracemalloc

    n = 1 << 18
    value = load(0, axis(0))
    for _ in range(40):
        value = op("NEG", op("ABS", value))
    x, out = normal(rng, n), np.empty(n, np.float32)
    run = compile_kernel(kernel([n], [read(n), write(n)], store(1, (0,), axis(0), value)))
    tracemalloc.start()
    run([x, out], [])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * x.nbytes
