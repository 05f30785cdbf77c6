"""Contractions whose time memory sets: every orientation computes the same, and reads in long runs."""
from __future__ import annotations

import numpy as np
import pytest

from pluggrad import dtypes
from pluggrad.kernel.grammar import verify_kernel
from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Axis, Kernel, const
from pluggrad.target import Capabilities
from pluggrad.tune import tune
from pluggrad.tune.accesses import accesses
from pluggrad.tune.matvec import find_stream, sweep_rows, tune_along_rows
from tests.unit.kernel.kernels import load, op, read, reduce, store, strided, write
from tests.unit.tune.test_contraction import ALL, run

WIDE = Capabilities(ALL, ALL, vector_bytes=64, vector_registers=32, cores=4, local_bytes=1 << 19,
                    shared_cache_bytes=1 << 20)


def product(uses: int, rows: int, columns: int, by_rows: bool) -> Kernel:
    """out[u, i] = sum over j of x[u, j] * m[i, j], or out[u, j] = sum over i of x[u, i] * m[i, j]."""
    kept, summed = (rows, columns) if by_rows else (columns, rows)
    matrix = strided(a1=columns, a2=1) if by_rows else strided(a1=1, a2=columns)
    value = op("MUL", load(0, strided(a0=summed, a2=1)), load(1, matrix))
    axes = (Axis(0, uses, "PARALLEL"), Axis(1, kept, "PARALLEL"), Axis(2, summed, "REDUCE"))
    total = op("MAX", reduce("ADD", value, 2), load(3, strided(a1=1)))
    buffers = (read(uses * summed), read(rows * columns), write(uses * kept), read(kept))
    return Kernel("test", buffers, (), axes, (store(2, (0, 1), strided(a0=kept, a1=1), total),))


@pytest.mark.parametrize("by_rows", [True, False], ids=["rows", "columns"])
@pytest.mark.parametrize(("uses", "rows", "columns"), [
    (1, 512, 1024), (1, 333, 1001), (2, 509, 1040), (7, 600, 777), (16, 300, 1024), (1, 24, 40_000),
    (1, 9000, 48)], ids=str)
def test_a_matrix_of_any_shape(uses, rows, columns, by_rows):
    kernel = product(uses, rows, columns, by_rows)
    generator = np.random.default_rng(0)
    expected = [generator.integers(-3, 4, b.size).astype(b.dtype.numpy) for b in kernel.buffers]
    interpret(kernel, expected, [])
    for phase in tune(kernel, WIDE).phases:
        verify_kernel(phase.kernel, "tune")
    np.testing.assert_array_equal(run(kernel, WIDE)[2], expected[2])


def matrix_runs(kernel: Kernel) -> list[int]:
    """Elements side by side of what a kernel reads from the matrix at once."""
    width = {a.id: a.extent for a in kernel.axes if a.kind == "VECTOR"}
    return [extent for x in accesses(kernel) if getattr(x.node, "arg", None) == 1
            for id, extent in width.items() if x.stride(id) == 1]


@pytest.mark.parametrize("by_rows", [True, False], ids=["rows", "columns"])
def test_lanes_follow_the_matrix(by_rows):
    kernel = product(1, 1024, 2048, by_rows)
    scheduled = (tune_along_rows if by_rows else sweep_rows)(kernel, WIDE)
    assert scheduled is not None
    assert matrix_runs(scheduled.contraction)
    assert scheduled.contraction.tasks >= 4


def test_sums_of_a_sweep_stay_near():
    scheduled = sweep_rows(product(1, 1024, 100_000, by_rows=False), WIDE)
    assert scheduled is not None
    assert 0 < scheduled.contraction.local_bytes <= 1 << 16
    assert sweep_rows(product(1, 1024, 4096, by_rows=False), Capabilities(ALL, ALL, vector_bytes=64)) is None


def test_shares_do_not_depend_on_cores():
    kernel = product(1, 1024, 2048, by_rows=False)
    many = Capabilities(ALL, ALL, vector_bytes=64, vector_registers=32, cores=64, local_bytes=1 << 19)
    few = Capabilities(ALL, ALL, vector_bytes=64, vector_registers=32, cores=1, local_bytes=1 << 19)
    assert tune(kernel, many).phases[0].kernel.axes == tune(kernel, few).phases[0].kernel.axes


def test_arithmetic_decides_where_elements_have_many_uses():
    assert find_stream(product(64, 1024, 1024, by_rows=True), WIDE) is None
    assert find_stream(product(4, 64, 64, by_rows=True), WIDE) is None


def total(rows: int, columns: int, name: str = "ADD") -> Kernel:
    """out[b, j] = 2 * sum over i of m[b, i, j] squared + y[j]."""
    element = load(0, strided(a0=rows * columns, a1=1, a2=columns))
    summed = reduce(name, op("MUL", element, element), 2)
    value = op("ADD", op("MUL", summed, const(2.0, dtypes.float32)), load(1, strided(a1=1)))
    axes = (Axis(0, 2, "PARALLEL"), Axis(1, columns, "PARALLEL"), Axis(2, rows, "REDUCE"))
    buffers = (read(2 * rows * columns), read(columns), write(2 * columns))
    return Kernel("test", buffers, (), axes, (store(2, (0, 1), strided(a0=columns, a1=1), value),))


@pytest.mark.parametrize("shape", [(512, 1024), (333, 1001), (9, 40_000), (9000, 600)], ids=str)
def test_sums_along_rows_are_swept_up_as_well(shape):
    kernel = total(*shape)
    assert sweep_rows(kernel, WIDE) is not None
    generator = np.random.default_rng(0)
    expected = [generator.integers(-3, 4, b.size).astype(b.dtype.numpy) for b in kernel.buffers]
    interpret(kernel, expected, [])
    for phase in tune(kernel, WIDE).phases:
        verify_kernel(phase.kernel, "tune")
    np.testing.assert_array_equal(run(kernel, WIDE)[2], expected[2])


def test_few_columns_small_sums_and_other_reductions_are_not_swept_up():
    assert sweep_rows(total(4096, 512), WIDE) is None
    assert sweep_rows(total(32, 1024), WIDE) is None
    assert sweep_rows(total(512, 1024, "MAX"), WIDE) is None
