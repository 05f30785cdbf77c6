"""Writes at places that data decide: what may meet stays in order, all else is divided."""
from __future__ import annotations

import numpy as np
import pytest

from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Kernel
from pluggrad.tune import tune
from pluggrad.tune.scatter import ordered_axes
from tests.golden.expressions import TARGET, stages, stored, value


def built(shape: tuple[int, ...], axis: int) -> Kernel:
    """The kernel that adds values of this shape into 50 positions along an axis."""
    base = stored(*(50 if i == axis else d for i, d in enumerate(shape)))
    index = stored(*(d if i == axis else 1 for i, d in enumerate(shape)), dtype=np.int64).expand(shape)
    made = stages(value(base.scatter_add(axis, index, stored(*shape)))).built
    return made[-1].kernel


def tuned(kernel: Kernel) -> Kernel:
    (phase,) = tune(kernel, TARGET.capabilities).phases
    return phase.kernel


SHAPES = [((4000, 256), 0), ((300, 37), 0), ((37, 300), 1), ((5, 40, 64), 1), ((1 << 15,), 0), ((600, 1), 0)]


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_the_result_stays_to_the_last_bit(shape: tuple[int, ...], axis: int) -> None:
    kernel = built(shape, axis)
    rng = np.random.default_rng(3)
    before = [rng.integers(0, 50, b.size) if b.role == "in" and b.dtype.is_int
              else np.zeros(b.size, np.int64) if b.role == "status"
              else rng.standard_normal(b.size).astype(b.dtype.numpy) for b in kernel.buffers]
    after = [each.copy() for each in before]
    interpret(kernel, before, [])
    interpret(tuned(kernel), after, [])
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_the_scattered_axis_is_a_loop_that_is_not_divided(shape: tuple[int, ...], axis: int) -> None:
    kernel = built(shape, axis)
    (ordered,) = ordered_axes(kernel)
    (kept,) = [a for a in tuned(kernel).axes if a.id == ordered]
    assert (kept.kind, kept.extent) == ("LOOP", shape[axis])


def test_rows_are_vectors_inside_the_ordered_loop() -> None:
    axes = tuned(built((4000, 256), 0)).axes
    kinds = [a.kind for a in axes]
    assert kinds[0] == "PARALLEL"
    assert kinds[-1] == "VECTOR"
    assert next(a for a in axes if a.kind == "LOOP").extent == 4000
