"""Flops and bytes of kernels whose cost is known."""
from __future__ import annotations

import pytest

from pluggrad import dtypes
from pluggrad.kernel.cost import Cost, cost, estimate_us
from pluggrad.kernel.kernel import axis
from pluggrad.target import Capabilities
from tests.unit.kernel.kernels import (
    F32,
    elementwise,
    kernel,
    load,
    matmul,
    op,
    read,
    reduce,
    store,
    strided,
    write,
)


def test_matmul_is_two_flops_an_inner_step() -> None:
    assert cost(matmul(8, 16, 32)) == Cost(2 * 8 * 16 * 32, 4 * (8 * 32 + 32 * 16 + 8 * 16), 2 * 8 * 16 * 32)


def test_transcendentals_weigh_more() -> None:
    add = cost(elementwise("ADD", 100, [F32, F32], F32))
    exp = cost(elementwise("EXP", 100, [F32], F32))
    assert add == Cost(100, 1200, 100)
    assert exp.flops > 5 * add.flops
    assert exp.bytes == 800


def test_what_does_not_depend_on_an_axis_is_not_repeated() -> None:
    scale = op("EXP", load(0, axis(0)))
    value = reduce("ADD", op("MUL", load(1, strided(a0=50, a1=1)), scale), 1)
    small = kernel([2, 50], [read(2), read(100), write(2)], store(2, (0,), axis(0), value))
    assert cost(small).flops == 2 * 30 + 100 + 100


def test_an_element_read_often_counts_once() -> None:
    shifted = op("ADD", load(0, axis(0)), load(0, strided(1, a0=1)))
    built = kernel([99], [read(100), write(99)], store(1, (0,), axis(0), shifted))
    assert cost(built).bytes == 4 * (100 + 99)


def test_index_arithmetic_is_free() -> None:
    index = op("CDIV", op("MUL", axis(0), axis(0)), axis(0))
    built = kernel([10], [read(10), write(10)], store(1, (0,), axis(0), load(0, index)))
    assert cost(built).flops == 0


def test_time_is_the_slower_of_arithmetic_and_memory() -> None:
    names = frozenset({dtypes.float32.name})
    machine = Capabilities(names, names, cores=8, flops_per_core=1e9, bytes_per_second=1e9,
                           shared_cache_bytes=1000)
    assert estimate_us(Cost(1000, 0), machine) == pytest.approx(1.0)
    assert estimate_us(Cost(0, 1000), machine) == pytest.approx(2.0)
    assert estimate_us(Cost(1000, 1000), machine) == pytest.approx(2.0)
    assert estimate_us(Cost(3000, 1000), machine) == pytest.approx(3.0)


def test_what_fits_into_the_cache_is_faster_than_memory() -> None:
    names = frozenset({dtypes.float32.name})
    machine = Capabilities(names, names, bytes_per_second=1e9, shared_cache_bytes=2000)
    assert estimate_us(Cost(0, 1000), machine) * 2 < estimate_us(Cost(0, 1001), machine)
