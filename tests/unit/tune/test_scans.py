"""Running reductions in vectors across rows or along a few rows at once: the same to the last bit."""
from __future__ import annotations

import numpy as np
import pytest

from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Kernel
from pluggrad.tune import tune
from pluggrad.tune.scans import is_scan
from tests.golden.expressions import TARGET, stages, stored, value


def built(shape: tuple[int, ...], axis: int) -> Kernel:
    """The kernel of the first running sums of these numbers."""
    kernels = [each.kernel for each in stages(value(stored(*shape).cumsum(axis))).built]
    return next(kernel for kernel in kernels if is_scan(kernel))


def tuned(kernel: Kernel) -> Kernel:
    (phase,) = tune(kernel, TARGET.capabilities).phases
    return phase.kernel


@pytest.mark.parametrize(("shape", "axis"), [((40, 256), 0), ((40, 37), 0), ((300, 9), 1), ((37, 64), 1),
                                             ((5, 40, 6), 1), ((9000,), 0), ((50,), 0)])
def test_the_result_stays_to_the_last_bit(shape: tuple[int, ...], axis: int) -> None:
    kernel = built(shape, axis)
    rng = np.random.default_rng(3)
    before = [rng.standard_normal(b.size).astype(b.dtype.numpy) for b in kernel.buffers]
    after = [each.copy() for each in before]
    interpret(kernel, before, [])
    interpret(tuned(kernel), after, [])
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_columns_are_lanes_and_rows_lie_side_by_side() -> None:
    assert [a.kind for a in tuned(built((40, 256), 0)).axes] == ["PARALLEL", "VECTOR", "LOOP"]
    assert [a.kind for a in tuned(built((64, 64), 1)).axes] == ["PARALLEL", "TILE", "LOOP"]


def test_few_long_rows_become_many_blocks() -> None:
    assert tuned(built((100_000,), 0)).tasks > 8
