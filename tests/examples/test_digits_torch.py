"""The digit classifier beside the same network, recipe and data order in PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pluggrad import Tensor
from pluggrad.data import digits

SEEDS = range(5)
TOLERANCE = 0.005


def arrays() -> list[np.ndarray]:
    x_train, y_train, x_test, y_test = (part.numpy() for part in digits())
    return [x_train.reshape(len(x_train), -1), y_train, x_test.reshape(len(x_test), -1), y_test]


def accuracy_here(seed: int) -> float:
    from examples import digits as example

    x_train, y_train, x_test, y_test = arrays()
    Tensor.manual_seed(seed)
    model = example.network(x_train.shape[1])
    Tensor.training = True
    try:
        example.train(model, x_train, y_train, example.read_options(["--seed", str(seed)]))
    finally:
        Tensor.training = False
    return float((example.logits(model, x_test).argmax(axis=1) == y_test).mean())


def accuracy_in_torch(seed: int) -> float:
    import torch

    from examples.digits import PEAK_LR, read_options

    options = read_options([])
    x_train, y_train, x_test, y_test = (torch.tensor(part) for part in arrays())
    torch.manual_seed(seed)
    model = torch.nn.Sequential(
        torch.nn.Linear(64, 256),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.1),
        torch.nn.Linear(256, 128),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.1),
        torch.nn.Linear(128, 10),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR)
    order, full = np.random.default_rng(seed), len(x_train) // options.batch * options.batch
    steps = options.epochs * full // options.batch
    for step in range(steps):
        if step % (full // options.batch) == 0:
            batches = order.permutation(len(x_train))[:full].reshape(-1, options.batch)
        chosen = torch.tensor(batches[step % len(batches)])
        optimizer.param_groups[0]["lr"] = PEAK_LR / 2 * (1 + math.cos(math.pi * step / steps))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x_train[chosen]), y_train[chosen].long()).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        return float((model(x_test).argmax(1) == y_test).float().mean())


@pytest.mark.torch
def test_as_accurate_as_pytorch():
    here = [accuracy_here(seed) for seed in SEEDS]
    there = [accuracy_in_torch(seed) for seed in SEEDS]
    assert min(here) >= 0.97
    assert abs(np.mean(here) - np.mean(there)) <= TOLERANCE
