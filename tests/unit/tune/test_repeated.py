"""What several loops of a row compute is computed once and kept, and the kernel computes what it did."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pluggrad import Tensor
from pluggrad.ir.walk import toposort
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
    assert [b.size for b in after.buffers if b.role == "local"] == [LONG]
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
