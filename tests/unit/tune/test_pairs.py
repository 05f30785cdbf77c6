"""Products of bfloat16 by pairs: the same sums, of half as many steps, where the device has DOT2."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pluggrad import dtypes
from pluggrad.graph.ops import ELEMENTWISE
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Kernel, cast
from pluggrad.target import Capabilities
from pluggrad.tune import Tuned, tune
from tests.unit.kernel.kernels import kernel, load, op, read, reduce, store, strided, write
from tests.unit.tune.test_actions import kinds

F32, HALF = dtypes.float32, dtypes.bfloat16
NAMES = frozenset(dtype.name for dtype in dtypes.ALL)
WITHOUT = Capabilities(NAMES, NAMES - {"bfloat16"}, frozenset(op.name for op in ELEMENTWISE), vector_bytes=64,
                       vector_registers=32, cores=4)
PAIRS = replace(WITHOUT, ops=WITHOUT.ops | {"DOT2"})
OWN = replace(PAIRS, local_bytes=1 << 16, cache_bytes=1 << 17)  # tasks have memory of their own
BLOCKS = replace(PAIRS, cache_bytes=1 << 14)  # panels of a long sum do not stay in cache
ORIENTATIONS = [(False, False), (True, False), (False, True), (True, True)]


def product(m: int, n: int, k: int, transposed: tuple[bool, bool] = (False, False),
            stored: dtypes.DType = HALF) -> Kernel:
    """out[m, n] = the sum over k of a * b, both bfloat16, or rounded to it from what is stored."""
    first = strided(a0=1, a2=m) if transposed[0] else strided(a0=k, a2=1)
    second = strided(a2=1, a1=k) if transposed[1] else strided(a2=n, a1=1)
    a, b = [cast(cast(load(slot, at, stored), HALF), F32) for slot, at in ((0, first), (1, second))]
    buffers = [read(m * k, stored), read(k * n, stored), write(m * n)]
    return kinds(kernel([m, n, k], buffers, store(2, (0, 1), strided(a0=n, a1=1),
                                                  reduce("ADD", op("MUL", a, b), 2))))


def same(untuned: Kernel, target: Capabilities) -> Tuned:
    generator = np.random.default_rng(0)
    numbers = [generator.integers(-3, 4, b.size).astype(np.float32) for b in untuned.buffers]
    given = [x if b.dtype is F32 else (x.view(np.uint32) >> 16).astype(np.uint16)
             for x, b in zip(numbers, untuned.buffers, strict=True)]
    expected = [x.copy() for x in given]
    interpret(untuned, expected, [])
    tuned = tune(untuned, target)
    memory = given + [np.full(t.size, 99).astype(t.dtype.numpy) for t in tuned.temporaries]
    for phase in tuned.phases:
        interpret(phase.kernel, [memory[i] for i in phase.args], [])
    np.testing.assert_array_equal(memory[2], expected[2])
    return tuned


def dots(tuned: Tuned) -> int:
    return sum(n.op is ops.DOT2 for phase in tuned.phases for n in toposort(phase.kernel.stores))


@pytest.mark.parametrize("target", [PAIRS, OWN], ids=["team", "own"])
@pytest.mark.parametrize("transposed", ORIENTATIONS, ids=str)
@pytest.mark.parametrize("size", [(128, 128, 64), (97, 129, 101), (65, 64, 257)], ids=str)
def test_a_product_of_any_size_and_orientation(size, transposed, target):
    assert dots(same(product(*size, transposed), target)) > 0


def test_what_is_stored_in_float32_is_rounded_as_pairs_are_packed():
    tuned = same(product(256, 128, 64, stored=F32), PAIRS)
    assert dots(tuned) == 1
    assert {t.dtype for t in tuned.temporaries} == {dtypes.uint32}, "both operands are packed"


def test_a_long_sum_goes_by_blocks():
    tuned = same(product(64, 128, 4099), BLOCKS)
    assert dots(tuned) == 1
    assert F32 in {t.dtype for t in tuned.temporaries}, "the sums of blocks"


def test_rows_are_read_as_they_lie():
    """Neighbors along the sum are neighbors in memory: only the columns need packing."""
    assert len(same(product(256, 128, 256), OWN).phases) == 1


@pytest.mark.parametrize("target", [WITHOUT, replace(PAIRS, vector_bytes=0)], ids=["without", "scalar"])
def test_a_device_without_them_multiplies_one_by_one(target):
    assert dots(same(product(33, 65, 101), target)) == 0


def test_other_sums_stay_as_they_are():
    whole = product(64, 64, 8)  # so few steps that a pair spares little
    assert dots(same(whole, PAIRS)) == 0
    float32 = kinds(kernel([64, 64, 64], [read(4096), read(4096), write(4096)], store(
        2, (0, 1), strided(a0=64, a1=1),
        reduce("ADD", op("MUL", load(0, strided(a0=64, a2=1)), load(1, strided(a2=64, a1=1))), 2))))
    assert dots(same(float32, PAIRS)) == 0
