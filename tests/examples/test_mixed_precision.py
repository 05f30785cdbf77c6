"""The digits example in halves: as good as in float32, as the mean of several seeds."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np

from pluggrad import Tensor, autocast, dtypes, jit, manual_seed, nn
from pluggrad.data import digits

NETWORK = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "digits.py"))["network"]
EPOCHS, BATCH, SEEDS = 5, 64, 3
POINTS = 0.5  # of a percentage


def test_halves_come_as_far_as_float32():
    exact = np.mean([accuracy(None, seed) for seed in range(SEEDS)])
    assert exact > 98
    for half in (dtypes.bfloat16, dtypes.float16):
        assert np.mean([accuracy(half, seed) for seed in range(SEEDS)]) > exact - POINTS


def accuracy(half: dtypes.DType | None, seed: int) -> float:
    """Of all 1,797 images, of which a fifth was not learned from, in percent."""
    x_train, y_train, x_test, y_test = (part.numpy() for part in digits())
    manual_seed(seed)
    model, random = NETWORK(8), np.random.default_rng(seed)
    optimizer = nn.optim.AdamW([model], lr=3e-3)
    scaler = nn.optim.GradScaler(enabled=half is dtypes.float16)

    def logits(images: Tensor) -> Tensor:
        with autocast(half or dtypes.bfloat16, enabled=half is not None):
            found = model(images)
        assert found.dtype is (half or dtypes.float32)
        return found

    @jit
    def step(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        scaler.scale(logits(images).cross_entropy(labels)).backward()
        scaler.step(optimizer)
        scaler.update()

    with Tensor.train():
        for _ in range(EPOCHS):
            whole = len(x_train) // BATCH * BATCH
            for chosen in random.permutation(len(x_train))[:whole].reshape(-1, BATCH):
                step(Tensor(x_train[chosen]), Tensor(y_train[chosen]))
    assert {param.dtype for param in optimizer.params} == {dtypes.float32}
    answers = logits(Tensor(np.concatenate([x_train, x_test]))).numpy().argmax(1)
    return float((answers == np.concatenate([y_train, y_test])).mean() * 100)
