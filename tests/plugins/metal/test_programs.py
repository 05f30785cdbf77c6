"""Whole programs, and parts of the conformance suite, on the double."""

from __future__ import annotations

import pytest

TRAIN = """
import numpy as np
from pluggrad import Tensor, jit
import Metal

def train(device):
    x = Tensor(np.linspace(-1, 1, 48, dtype=np.float32).reshape(12, 4), device=device)
    w = Tensor(np.linspace(0, 1, 12, dtype=np.float32).reshape(4, 3), device=device, requires_grad=True)

    @jit
    def step(x):
        loss = ((x @ w).tanh() - 0.5).square().mean()
        w.grad = None
        loss.backward()
        w.assign(w.detach() - 0.1 * w.grad)
        return loss

    return [step(x).item() for _ in range(5)]

np.testing.assert_allclose(train("metal"), train("ref"), rtol=1e-5)
assert Metal.MACHINE.misuses == [], Metal.MACHINE.misuses
print("trained")
"""


def test_a_training_loop(run_child):
    assert run_child("-c", TRAIN).endswith("trained")


@pytest.mark.parametrize("tests", ["L0/memory", "L0/launch", "L4/graph"])
def test_conformance(run_child, tests):
    assert "passed in" in run_child("-m", "pluggrad", "conformance", "metal", "-k", tests)
