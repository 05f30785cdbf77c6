"""Mixed precision, reinterpreted bits and limits of dtypes beside PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, autocast, dtypes, nn

pytestmark = pytest.mark.torch

START = np.array([[1.0, 2.0, -1.0], [3.0, 4.0, 0.5]], np.float32)
# what each step's input is multiplied by: an infinite gradient leaves the step out
FACTORS = (1.0, 2.0, np.inf, 1.0, 0.5, 1.0, np.nan, np.inf, 1.0, 1.0, 1.0)


def ours(optimizer: str, options: dict[str, float]) -> list[tuple[float, np.ndarray]]:
    w = Tensor(START, requires_grad=True)
    stepper = getattr(nn.optim, optimizer)([w], **options)
    scaler = nn.optim.GradScaler(init_scale=256.0, growth_interval=3)
    seen = []
    for factor in FACTORS:
        stepper.zero_grad()
        loss = (Tensor([[1.0, 0.5]]) * factor @ w).square().sum()
        scaler.scale(loss).backward()
        scaler.step(stepper)
        scaler.update()
        seen.append((scaler.get_scale(), w.numpy()))
    return seen


def theirs(optimizer: str, options: dict[str, float]) -> list[tuple[float, np.ndarray]]:
    import torch

    w = torch.tensor(START, requires_grad=True)
    stepper = getattr(torch.optim, optimizer)([w], **options)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=3)
    seen = []
    for factor in FACTORS:
        stepper.zero_grad()
        loss = (torch.tensor([[1.0, 0.5]]) * factor @ w).square().sum()
        scaler.scale(loss).backward()
        scaler.step(stepper)
        scaler.update()
        seen.append((scaler.get_scale(), w.detach().numpy().copy()))
    return seen


@pytest.mark.parametrize(("optimizer", "options"), [
    ("SGD", {"lr": 0.05}), ("SGD", {"lr": 0.05, "momentum": 0.9}), ("RMSprop", {"lr": 0.01}),
], ids=str)
def test_grad_scaler_step_by_step(optimizer, options):
    for (scale, w), (torch_scale, torch_w) in zip(ours(optimizer, options), theirs(optimizer, options),
                                                  strict=True):
        assert scale == torch_scale
        np.testing.assert_allclose(w, torch_w, rtol=1e-5, atol=1e-6)


def test_a_scaled_step_in_bfloat16():
    import torch

    random = np.random.default_rng(0)
    x, w = random.normal(size=(8, 16)).astype(np.float32), random.normal(size=(16, 4)).astype(np.float32)
    a = Tensor(w, requires_grad=True)
    with autocast():
        product = Tensor(x) @ a
        loss = product.softmax().square().sum()
    loss.backward()
    b = torch.tensor(w, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        torch_product = torch.tensor(x) @ b
        torch_loss = torch_product.float().softmax(1).square().sum()
    torch_loss.backward()
    assert (product.dtype, a.grad.dtype) == (dtypes.bfloat16, dtypes.float32)
    assert (torch_product.dtype, b.grad.dtype) == (torch.bfloat16, torch.float32)
    expected = torch_product.detach().float().numpy()
    np.testing.assert_allclose(product.numpy(), expected, rtol=2**-7, atol=2**-7)
    np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=0.05, atol=0.02)


NAMES = ["uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]


@pytest.mark.parametrize("source", NAMES)
def test_bitcast_is_view(source):
    import torch

    values = np.random.default_rng(1).integers(0, 60, (2, 16), dtype=np.uint8)
    x, y = Tensor(values, device="ref").bitcast(source), torch.tensor(values).view(getattr(torch, source))
    for target in NAMES:
        have, want = x.bitcast(target), y.view(getattr(torch, target))
        assert have.shape == tuple(want.shape)
        wide = want.float() if target == "bfloat16" else want
        np.testing.assert_array_equal(have.numpy(), wide.numpy())


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
def test_finfo(name):
    import torch

    have, want = dtypes.finfo(name), torch.finfo(getattr(torch, name))
    for field in ("bits", "eps", "max", "min", "tiny", "smallest_normal"):
        assert getattr(have, field) == getattr(want, field), field
