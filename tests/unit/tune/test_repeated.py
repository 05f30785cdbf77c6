"""What several loops of a row compute is computed once and kept, and the kernel computes what it did."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pluggrad import Tensor
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.grammar import verify_kernel
from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Kernel
from pluggrad.tune import tune
from tests.golden.expressions import TARGET, stages, stored, value

KEEPING = replace(TARGET.capabilities, vector_bytes=64, vector_registers=32, local_bytes=1 << 12)
LONG = 300  # more than what is held in registers


def tuned(result: Tensor, local_bytes: int) -> tuple[Kernel, Kernel]:
    (built,) = stages(value(result)).built
    (phase,) = tune(built.kernel, replace(KEEPING, local_bytes=local_bytes)).phases
    return built.kernel, phase.kernel


def exponentials(kernel: Kernel) -> int:
    return sum(n.op.name in ("EXP", "EXP2", "ERF", "TANH") for n in toposort(kernel.stores))


def reductions(kernel: Kernel) -> list[tuple[str, int]]:
    """What is reduced in loops of its own, each with the number of its steps."""
    extents = {a.id: a.extent for a in kernel.axes if a.kind == "REDUCE"}
    return [(n.arg[0], extents[id]) for n in toposort(kernel.stores) if n.op is ops.REDUCE
            for id in n.arg[1] if id in extents]


REPEATED: dict[str, Callable[[], Tensor]] = {
    "softmax": lambda: stored(5, LONG).softmax(1),
    "a part of the row only": lambda: (lambda e: e / e.sum(1, keepdim=True) + stored(5, LONG))(
        stored(5, LONG).exp()),
    "through a mean": lambda: (lambda t: t - t.mean(1, keepdim=True))(stored(5, LONG).tanh()),
}


@pytest.mark.parametrize("name", REPEATED)
def test_a_dear_value_is_computed_once(name: str) -> None:
    before, after = tuned(REPEATED[name](), 1 << 12)
    verify_kernel(after, "keeping")
    assert exponentials(after) == 1
    assert LONG in [b.size for b in after.buffers if b.role == "local"]
    assert_same(before, after)


def assert_same(before: Kernel, after: Kernel) -> None:
    rng = np.random.default_rng(0)
    want = [rng.standard_normal(b.size).astype(b.dtype.numpy) for b in before.buffers]
    got = [data.copy() for data in want]
    interpret(before, want, [2.0] * len(before.values))
    interpret(after, got, [2.0] * len(after.values))
    np.testing.assert_allclose(got[0], want[0], rtol=1e-5, atol=1e-6)


def test_what_is_cheap_or_does_not_fit_is_computed_again() -> None:
    rows = stored(5, LONG)
    assert not tuned(rows - rows.mean(1, keepdim=True), 1 << 12)[1].local
    assert not tuned(rows.softmax(1), 4 * LONG - 1)[1].local


def test_what_is_kept_is_summed_up_as_it_is_kept() -> None:
    before, after = tuned(stored(5, LONG).softmax(1), 1 << 12)
    assert [name for name, _ in reductions(after)] == ["MAX"]
    assert [n.arg[2:] for n in after.stores] == [(), (), ("ADD",), ()]
    assert [b.size for b in after.buffers if b.role == "local"] == [LONG, 64]
    assert_same(before, after)


def test_several_reductions_share_the_loop_and_those_that_need_them_do_not() -> None:
    e = stored(5, LONG).exp()
    both = e / (e.sum(1, keepdim=True) + (e * stored(5, LONG)).max(1, keepdim=True))
    before, after = tuned(both, 1 << 12)
    assert reductions(after) == []
    assert_same(before, after)
    centered = e - e.mean(1, keepdim=True)
    before, after = tuned(centered / (centered * centered).sum(1, keepdim=True), 1 << 12)
    assert len(reductions(after)) == 1
    assert_same(before, after)


def test_partial_results_that_do_not_fit_are_left_in_a_loop_of_their_own() -> None:
    before, after = tuned(stored(5, LONG).softmax(1), 4 * (LONG + 63))
    assert [name for name, _ in reductions(after)] == ["MAX", "ADD"]
    assert_same(before, after)
