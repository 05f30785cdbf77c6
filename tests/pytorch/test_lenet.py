"""Steps of LeNet with Adam beside PyTorch's: the same losses and the same weights, captured or not."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, jit, nn

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("device", "training")]

STEPS, BATCH = 3, 16


def arrays() -> list[np.ndarray]:
    """Images, labels, then the weight and bias of each layer."""
    rng = np.random.default_rng(0)
    shapes = [((32, 1, 5, 5), 0.1), ((64, 32, 5, 5), 0.03), ((1024, 256), 0.03), ((256, 10), 0.06)]
    parts: list[np.ndarray] = [rng.standard_normal((BATCH, 1, 28, 28)), rng.integers(0, 10, BATCH)]
    for shape, scale in shapes:
        outputs = shape[0] if len(shape) == 4 else shape[1]
        parts += [rng.standard_normal(shape) * scale, np.zeros(outputs)]
    return [part.astype(np.int64 if part.dtype.kind == "i" else np.float32) for part in parts]


def here(wrap) -> tuple[list[float], list[np.ndarray]]:
    x, y, *params = (Tensor(part).realize() for part in arrays())
    optimizer = nn.optim.Adam(params, lr=1e-3)
    w1, b1, w2, b2, w3, b3, w4, b4 = params

    def step() -> Tensor:
        optimizer.zero_grad()
        h = x.conv2d(w1, b1).relu().max_pool2d(2)
        h = h.conv2d(w2, b2).relu().max_pool2d(2)
        h = (h.flatten(1) @ w3 + b3).relu() @ w4 + b4
        loss = h.sparse_categorical_crossentropy(y).backward()
        return loss.realize(*optimizer.schedule_step())

    step = wrap(step)
    return [step().item() for _ in range(STEPS)], [param.numpy() for param in params]


def in_torch() -> tuple[list[float], list[np.ndarray]]:
    import torch
    import torch.nn.functional as F

    x, y, *params = (torch.tensor(part) for part in arrays())
    optimizer = torch.optim.Adam([param.requires_grad_() for param in params], lr=1e-3)
    w1, b1, w2, b2, w3, b3, w4, b4 = params
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        h = F.max_pool2d(F.relu(F.conv2d(x, w1, b1)), 2)
        h = F.max_pool2d(F.relu(F.conv2d(h, w2, b2)), 2)
        loss = F.cross_entropy(F.relu(h.flatten(1) @ w3 + b3) @ w4 + b4, y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [param.detach().numpy() for param in params]


@pytest.mark.parametrize("wrap", [lambda step: step, jit], ids=["eager", "captured"])
def test_lenet(wrap):
    (losses, params), (expected, others) = here(wrap), in_torch()
    np.testing.assert_allclose(losses, expected, rtol=2e-4)
    for param, other in zip(params, others, strict=True):
        # Adam moves by the sign of a tiny gradient: a few elements may take another step of 1e-3
        assert np.mean(np.abs(param - other) > 2e-5) < 0.02
        np.testing.assert_allclose(param, other, atol=6.1e-3)
