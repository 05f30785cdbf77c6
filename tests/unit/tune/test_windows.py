"""Reductions over small windows keep what they compute, and take a vector of windows at a time."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pluggrad import Tensor
from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Kernel
from pluggrad.tune import tune
from tests.golden.expressions import TARGET, stages, stored, value

WIDE = replace(TARGET.capabilities, vector_bytes=64, vector_registers=32)
# what is computed, and the extents of its TILE axes on 32 registers of 64 bytes; lanes are 16
POOLING: dict[str, tuple[Callable[[], Tensor], list[int]]] = {
    "side by side": (lambda: stored(3, 2, 24, 24).max_pool2d((2, 2)), [4, 2, 2]),
    "overlapping": (lambda: stored(2, 23, 33).max_pool2d((3, 3), stride=2), [3, 3]),
    "padded": (lambda: stored(2, 24, 24).max_pool2d((3, 3), stride=2, padding=1), [3, 3]),
    "means in one dimension": (lambda: stored(7, 40).avg_pool1d(4), [4]),
}


def tuned(x: Tensor) -> tuple[Kernel, Kernel]:
    built = stages(value(x)).built[0]
    (phase,) = tune(built.kernel, WIDE).phases
    return built.kernel, phase.kernel


@pytest.mark.parametrize("name", POOLING)
def test_windows_are_held_in_registers(name: str) -> None:
    expression, tiles = POOLING[name]
    kernel, pooling = tuned(expression())
    assert sorted(a.extent for a in pooling.axes if a.kind == "TILE") == sorted(tiles)
    assert [a.extent for a in pooling.axes if a.kind == "VECTOR"] == [16]
    assert not [a for a in pooling.axes if a.kind == "REDUCE"]
    want = [np.random.default_rng(1).standard_normal(b.size).astype(b.dtype.numpy) for b in kernel.buffers]
    got = [data.copy() for data in want]
    interpret(kernel, want, [0.25] * len(kernel.values))
    interpret(pooling, got, [0.25] * len(kernel.values))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("expression", [
    lambda: stored(2, 40, 40).max_pool2d((8, 8)), lambda: stored(64, 6).reshape(64, 3, 2).max(2),
    lambda: stored(4, 30, 30).max_pool2d((3, 3), stride=1), lambda: stored(100, 8).sum(1)],
    ids=["large windows", "few windows", "steps of one", "rows"])
def test_other_reductions_are_not_windows(expression: Callable[[], Tensor]) -> None:
    _, kernel = tuned(expression())
    assert not [a for a in kernel.axes if a.kind == "TILE" and a.extent in (3, 8)]


def test_nested_reductions_hold_one_window() -> None:
    """The largest element, and how many are as large: as the gradient of a maximum needs them."""
    x = stored(3, 8, 2, 24, 2)
    largest = x.max((2, 4), keepdim=True)
    ties = (x == largest).cast(x.dtype).sum((2, 4))
    kernel, pooling = tuned(largest.reshape(ties.shape) + ties)
    assert [a.extent for a in pooling.axes if a.kind == "TILE"] == [4, 2, 2]
    want = [np.random.default_rng(3).integers(0, 3, b.size).astype(b.dtype.numpy) for b in kernel.buffers]
    got = [data.copy() for data in want]
    interpret(kernel, want, [])
    interpret(pooling, got, [])
    np.testing.assert_array_equal(got[0], want[0])
