"""train, test and no_grad, as blocks and as decorators."""

from __future__ import annotations

import pytest

from pluggrad import Tensor, jit, no_grad


def test_training_for_a_block_or_a_function():
    seen = []

    @Tensor.train()
    def step(depth: int) -> None:
        seen.append(Tensor.training)
        if depth:
            step(depth - 1)
        with Tensor.test():
            seen.append(Tensor.training)

    step(1)
    assert seen == [True, True, False, False]
    assert Tensor.training is False
    with pytest.raises(ValueError, match="left"), Tensor.train():
        raise ValueError("left")
    assert Tensor.training is False


def test_decorated_functions_are_captured(device):
    weight = Tensor([2.0], requires_grad=True)

    @jit
    @Tensor.train()
    def step(x):
        return (x * weight).dropout(0.5)

    @jit
    @Tensor.test()
    @no_grad()
    def evaluate(x):
        return (x * weight).dropout(0.5)

    x = Tensor([1.0] * 64)
    for _ in range(2):
        assert set(step(x).tolist()) == {0, 4}
        assert evaluate(x).tolist() == [2] * 64
    assert (step.captures, evaluate.captures) == (1, 1)


def test_no_grad_as_a_decorator():
    @no_grad()
    def double(x):
        return x * 2

    x = Tensor([1.0])
    (gradient,) = (double(x) * x).sum().gradient(x)
    assert gradient.item() == 2
