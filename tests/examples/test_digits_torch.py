"""The digit classifier beside the same network, first weights, recipe and images in PyTorch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from pluggrad import Tensor
from pluggrad.data import digits
from pluggrad.nn.state import get_state_dict

SEEDS = range(3)
TOLERANCE = 0.005


def arrays() -> list[np.ndarray]:
    return [part.numpy() for part in digits()]


def trained_here(seed: int) -> tuple[dict[str, np.ndarray], float]:
    """The weights that training began with, and the accuracy on the test images."""
    from examples import digits as example

    x_train, y_train, x_test, y_test = arrays()
    Tensor.manual_seed(seed)
    model = example.network(x_train.shape[-1])
    first = {name: tensor.numpy().copy() for name, tensor in get_state_dict(model).items()}
    Tensor.training = True
    try:
        example.train(model, x_train, y_train, example.read_options(["--seed", str(seed)]))
    finally:
        Tensor.training = False
    return first, example.accuracy(model, x_test, y_test)


def network_in_torch() -> Any:
    from torch import nn

    def convolution(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )

    return nn.Sequential(
        convolution(1, 32),
        nn.MaxPool2d(2),
        convolution(32, 32),
        convolution(32, 64),
        nn.MaxPool2d(2),
        convolution(64, 64),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(64, 10),
    )


def accuracy_in_torch(seed: int, first: dict[str, np.ndarray]) -> float:
    import torch

    from examples.digits import LABEL_SMOOTHING, PEAK_LR, moved, read_options

    options = read_options(["--seed", str(seed)])
    x_train, y_train, x_test, y_test = arrays()
    torch.manual_seed(seed)
    model = network_in_torch()
    model.load_state_dict({name: torch.tensor(array) for name, array in first.items()})
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR)
    random, full = np.random.default_rng(seed), len(x_train) // options.batch * options.batch
    steps = options.epochs * full // options.batch
    for step in range(steps):
        if step % (full // options.batch) == 0:
            batches = random.permutation(len(x_train))[:full].reshape(-1, options.batch)
        chosen = batches[step % len(batches)]
        optimizer.param_groups[0]["lr"] = PEAK_LR / 2 * (1 + math.cos(math.pi * step / steps))
        optimizer.zero_grad()
        answers = model(torch.tensor(moved(x_train[chosen], random)))
        loss_of(answers, torch.tensor(y_train[chosen]).long()).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        return float((model(torch.tensor(x_test)).argmax(1).numpy() == y_test).mean())


@pytest.mark.torch
def test_as_accurate_as_pytorch():
    here, there = [], []
    for seed in SEEDS:
        first, reached = trained_here(seed)
        here.append(reached)
        there.append(accuracy_in_torch(seed, first))
    assert min(here) >= 0.985
    assert abs(np.mean(here) - np.mean(there)) <= TOLERANCE, (here, there)
