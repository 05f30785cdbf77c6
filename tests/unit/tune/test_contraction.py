"""Tiles of contractions: whatever is chosen computes the same, and packs what tiles would read badly."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pluggrad import dtypes
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Axis, Kernel, axis, const
from pluggrad.target import Capabilities
from pluggrad.tune import tune
from pluggrad.tune.contraction import without_shared_gates
from tests.unit.kernel.kernels import load, matmul, op, read, reduce, store, strided, write
from tests.unit.tune.test_actions import kinds, same

ALL = frozenset({"float32", "int32", "bool"})
WIDE = Capabilities(ALL, ALL, vector_bytes=64, vector_registers=32, cores=4)
NARROW = Capabilities(ALL, ALL, vector_bytes=16, vector_registers=16, cores=4)
OWN = replace(WIDE, local_bytes=1 << 15, cache_bytes=1 << 16)  # tasks have memory of their own
SIZES = [(1, 1, 1), (1, 64, 33), (5, 7, 11), (14, 32, 64), (15, 33, 65), (64, 64, 64), (100, 200, 101),
         (129, 127, 128)]


def run(kernel: Kernel, target: Capabilities) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    given = [generator.integers(-3, 4, b.size).astype(b.dtype.numpy) for b in kernel.buffers]
    tuned = tune(kernel, target)
    memory = given + [np.full(t.size, 99).astype(t.dtype.numpy) for t in tuned.temporaries]
    for phase in tuned.phases:
        interpret(phase.kernel, [memory[i] for i in phase.args], [])
    return memory[:len(given)]


@pytest.mark.parametrize("target", [WIDE, NARROW, OWN], ids=["wide", "narrow", "own"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_product_of_any_size(size, target):
    kernel = kinds(matmul(*size))
    generator = np.random.default_rng(0)
    expected = [generator.integers(-3, 4, b.size).astype(b.dtype.numpy) for b in kernel.buffers]
    interpret(kernel, expected, [])
    for x, y in zip(run(kernel, target), expected, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("target", [WIDE, NARROW], ids=["wide", "narrow"])
def test_sums_stay_in_registers(target):
    for kernel in (kinds(matmul(*size)) for size in SIZES):
        main = tune(kernel, target).phases[-1].kernel
        width = target.vector_bytes // 4
        used = 1
        for a in main.axes:
            if a.in_registers:
                used *= -(-a.extent // width) if a.kind == "VECTOR" else a.extent
        assert used <= target.vector_registers


def test_the_team_packs_columns_and_reads_rows_as_they_lie():
    tuned = tune(kinds(matmul(512, 512, 512)), WIDE)
    assert len(tuned.phases) == 2
    main = tuned.phases[-1]
    read = {main.args[n.arg] for n in toposort(main.kernel.stores) if n.op is ops.LOAD}
    assert read == {0, 3}, "the left operand, and panels of the right one"


def test_a_task_packs_the_columns_that_it_runs_over():
    kernel = kinds(matmul(256, 1030, 60))
    main, = [phase.kernel for phase in tune(kernel, OWN).phases]
    fill, result = main.stores
    assert main.buffers[fill.arg[0]].role == "local"
    assert any(a.kind == "LOOP" and a.id in result.arg[1] and a.id not in fill.arg[1] for a in main.axes)
    expected = run(kernel, WIDE)
    for x, y in zip(run(kernel, OWN), expected, strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_task_packs_no_more_than_its_memory_takes():
    small = replace(WIDE, local_bytes=4096)
    tuned = tune(kinds(matmul(512, 512, 512)), small)
    assert not any(phase.kernel.local for phase in tuned.phases)


def against_rows(m: int, n: int, k: int, *, same: bool = False) -> Kernel:
    """x @ y.T, which reads neither along its outputs. same: y is x."""
    product = op("MUL", load(0, strided(a0=k, a2=1)), load(0 if same else 1, strided(a1=k, a2=1)))
    axes = (Axis(0, m, "LOOP"), Axis(1, n, "LOOP"), Axis(2, k, "LOOP"))
    buffers = (read(m * k), *([] if same else [read(n * k)]), write(m * n))
    total = reduce("ADD", product, 2)
    return kinds(Kernel("test", buffers, (), axes,
                        (store(len(buffers) - 1, (0, 1), strided(a0=n, a1=1), total),)))


def test_a_product_with_itself_packs_one_side():
    kernel = against_rows(256, 256, 256, same=True)
    assert len(tune(kernel, WIDE).temporaries) == 1
    x = np.random.default_rng(0).integers(-3, 4, 256 * 256).astype(np.float32).reshape(256, 256)
    np.testing.assert_array_equal(run(kernel, WIDE)[1].reshape(256, 256), x @ x.T)


@pytest.mark.parametrize("length", [2500, 4098, 2503], ids=["even", "even in more blocks", "prime"])
def test_panels_of_a_long_product_stay_in_cache(length):
    small = replace(WIDE, cache_bytes=1 << 17)
    kernel = against_rows(120, 130, length)
    tuned = tune(kernel, small)
    packed, partial, _ = [phase.kernel for phase in tuned.phases]
    assert packed.name.endswith("_partial_pack"), "vectors are read from panels, whatever the length"
    assert partial.name.endswith("_partial")
    gated = any(len(n.src) > 1 for n in toposort(partial.stores) if n.op is ops.LOAD)
    assert gated == (length == 2503), "blocks that divide the sum need no gates"
    generator = np.random.default_rng(0)
    expected = [generator.integers(-3, 4, b.size).astype(b.dtype.numpy) for b in kernel.buffers]
    interpret(kernel, expected, [])
    for x, y in zip(run(kernel, small), expected, strict=True):
        np.testing.assert_array_equal(x, y)


def test_small_products_are_one_kernel():
    assert len(tune(kinds(matmul(16, 16, 16)), WIDE).phases) == 1


def with_long_end(m: int, n: int, k: int) -> Kernel:
    """Two results of a product and three more inputs of its size, as an optimizer's step has them."""
    product = op("MUL", load(0, strided(a0=k, a2=1)), load(1, strided(a2=n, a1=1)))
    total, at = reduce("ADD", product, 2), strided(a0=n, a1=1)
    first = op("ADD", op("MUL", total, load(2, at)), load(3, at))
    second = op("ADD", total, load(4, at))
    axes = (Axis(0, m, "LOOP"), Axis(1, n, "LOOP"), Axis(2, k, "LOOP"))
    buffers = (read(m * k), read(k * n), read(m * n), read(m * n), read(m * n), write(m * n), write(m * n))
    stores = (store(5, (0, 1), at, first), store(6, (0, 1), at, second))
    return kinds(Kernel("test", buffers, (), axes, stores))


@pytest.mark.parametrize("size", [(5, 7, 11), (64, 33, 65)], ids=str)
def test_a_long_end_goes_on_from_stored_sums(size):
    kernel = with_long_end(*size)
    tuned = tune(kernel, WIDE)
    sums, end = tuned.phases[-2].kernel, tuned.phases[-1].kernel
    assert sum(n.op is ops.STORE for n in toposort(sums.stores)) == 1
    assert not any(n.op is ops.REDUCE for n in toposort(end.stores))
    generator = np.random.default_rng(0)
    expected = [generator.integers(-3, 4, b.size).astype(b.dtype.numpy) for b in kernel.buffers]
    interpret(kernel, expected, [])
    for x, y in zip(run(kernel, WIDE), expected, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(("size", "gates"), [(4, 2), (5, 1)], ids=["too short", "long enough"])
def test_an_operand_loses_a_gate_that_it_needs_no_more(size, gates):
    """a[k + i] * b[k] for k + i < 4, of 5 steps: without the gate b is read at 4."""
    at = strided(0, a0=1, a1=1)
    gate = op("LT", at, const(4), dtype=dtypes.bool_)
    product = op("MUL", load(0, at, gate=gate), load(1, axis(1), gate=gate))
    value = op("WHERE", gate, product, const(0.0, dtypes.float32))
    axes = (Axis(0, 2, "PARALLEL"), Axis(1, 5, "REDUCE"))
    kernel = Kernel("test", (read(4), read(size), write(2)), (), axes,
                    (store(2, (0,), axis(0), reduce("ADD", value, 1)),))
    made = without_shared_gates(kernel)
    assert sum(n.op is ops.LOAD and len(n.src) > 1 for n in toposort(made.stores)) == gates
    same(kernel, made)
