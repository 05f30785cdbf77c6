"""Attention's sums share what they are made of, and compute what the kernels computed before scheduling."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pluggrad.graph import products
from pluggrad.kernel.grammar import verify_kernel
from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Kernel
from pluggrad.kernel.text import summary
from pluggrad.lower import lower
from pluggrad.lower.verify import verify_program
from pluggrad.schedule import nested
from pluggrad.target import Target
from pluggrad.tune import Tuned, tune
from pluggrad.tune.blockwise import nests_reductions
from tests.golden.expressions import TARGET, Stages, stages, stored, value

HEADS, QUERIES, KEYS, WIDE, VALUES = 2, 37, 45, 8, 12
SMALL = replace(TARGET.capabilities, vector_registers=8)


@pytest.fixture(autouse=True)
def _few_count_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "MANY", 1)
    monkeypatch.setattr(nested, "_FEWEST_SCORES", 1)


def training(is_causal: bool, values: int = VALUES) -> Stages:
    """Attention and its gradients."""
    q, k = stored(HEADS, QUERIES, WIDE), stored(HEADS, KEYS, WIDE)
    v, g = stored(HEADS, KEYS, values), stored(HEADS, QUERIES, values)
    out = q.scaled_dot_product_attention(k, v, is_causal=is_causal)
    return stages(value(out, *out.gradient(q, k, v, gradient=g)), Target("small", SMALL))


def computed(kernels: list[tuple[Kernel, tuple[int, ...]]], given: list[np.ndarray]) -> list[np.ndarray]:
    """Memory after kernels, each with the numbers of its arguments."""
    memory = [data.copy() for data in given]
    for kernel, args in kernels:
        interpret(kernel, [memory[i] for i in args], [0.5] * len(kernel.values))
    return memory


def same(kernel: Kernel, tuned: Tuned) -> None:
    rng = np.random.default_rng(0)
    given = [rng.standard_normal(b.size).astype(b.dtype.numpy) for b in kernel.buffers]
    want = computed([(kernel, tuple(range(len(given))))], given)
    got = computed([(phase.kernel, phase.args) for phase in tuned.phases], given)
    for have, expected in zip(got, want, strict=True):
        np.testing.assert_allclose(have, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("values", [WIDE, VALUES], ids=["as wide as keys", "wider than keys"])
@pytest.mark.parametrize("is_causal", [False, True], ids=["plain", "causal"])
def test_sums_of_the_same_scores_are_one_kernel(is_causal: bool, values: int) -> None:
    found = training(is_causal, values)
    outputs = [len(region.outputs) for region in found.regions]
    assert sorted(outputs) == [1, 1, 2, 2], "the result with its level; keys with values; queries; a row sum"
    for built, tuned in zip(found.built, found.tuned, strict=True):
        assert len(tuned.phases) == 1, summary(built.kernel)
        same(built.kernel, tuned)


def test_sums_that_do_not_fit_together_are_computed_one_by_one() -> None:
    shared = [built.kernel for built in training(is_causal=True).built if len(built.kernel.stores) > 1]
    assert len(shared) == 2
    for kernel in shared:
        tighter = [tune(kernel, replace(SMALL, local_bytes=1 << n)) for n in range(15, 7, -1)]
        assert [len(each.phases) for each in (tighter[0], tighter[-1])] == [1, len(kernel.stores)]
        for each in tighter:
            same(kernel, each)
            for phase in each.phases:
                verify_kernel(phase.kernel, "tune")


def test_sums_that_no_task_has_room_for_take_lanes_along_one_loop_of_a_nest() -> None:
    tight = Target("tight", replace(SMALL, local_bytes=1 << 8))
    kernels = [built.kernel for built in training(is_causal=False).built]
    assert any(nests_reductions(kernel) and len(kernel.stores) == 1 for kernel in kernels)
    for kernel in kernels:
        tuned = tune(kernel, tight.capabilities)
        same(kernel, tuned)
        for phase in tuned.phases:
            verify_program(lower(phase.kernel, tight), "lower")
