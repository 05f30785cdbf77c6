"""Schedules give the rates, and momenta, that PyTorch's of the same names give, for every step."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor
from pluggrad.nn import optim
from pluggrad.nn.optim import lr_scheduler

pytestmark = pytest.mark.torch

STEPS = 30
CASES = [
    ("LambdaLR", ([lambda step: 0.9**step, lambda step: 1 / (1 + step)],), {}),
    ("StepLR", (4,), {"gamma": 0.3}),
    ("MultiStepLR", ([3, 8, 8, 20],), {}),
    ("ConstantLR", (), {"factor": 0.25, "total_iters": 7}),
    ("LinearLR", (), {"start_factor": 0.1, "end_factor": 0.8, "total_iters": 11}),
    ("ExponentialLR", (0.93,), {}),
    ("PolynomialLR", (), {"total_iters": 13, "power": 1.7}),
    ("CosineAnnealingLR", (9,), {"eta_min": 0.01}),
    ("CosineAnnealingWarmRestarts", (5,), {"eta_min": 0.01}),
    ("CosineAnnealingWarmRestarts", (3, 2), {}),
    ("OneCycleLR", ([0.5, 2.0],), {"total_steps": STEPS + 1}),
    ("OneCycleLR", (0.5, None, 5, 7), {"anneal_strategy": "linear", "pct_start": 0.4}),
    ("OneCycleLR", (0.5, 40), {"three_phase": True, "base_momentum": 0.7, "div_factor": 10}),
    ("OneCycleLR", (0.5,), {"total_steps": 40, "cycle_momentum": False, "final_div_factor": 7}),
]


def both(name="SGD", **options):
    import torch

    one, other = [[{"params": [made()]}, {"params": [made()], "lr": 0.3}]
                  for made in (lambda: Tensor([1.0]), lambda: torch.ones(1, requires_grad=True))]
    return getattr(optim, name)(one, lr=0.1, **options), getattr(torch.optim, name)(other, lr=0.1, **options)


def options_of(optimizer):
    """The rate and the momentum of each group."""
    groups = optimizer.param_groups
    momenta = [group.get("betas", [group.get("b1", group.get("momentum"))])[0] for group in groups]
    return [group["lr"] for group in groups] + momenta


def compare(ours, theirs, schedule, other, steps=STEPS, metric=None):
    for step in range(steps):
        found, expected = options_of(ours), options_of(theirs)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-15, err_msg=str(step))
        theirs.step()
        for each in (schedule, other):
            each.step() if metric is None else each.step(metric(step))


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
@pytest.mark.parametrize(("name", "arguments", "options"), CASES, ids=lambda value: str(value)[:20])
def test_rates(name, arguments, options, optimizer):
    from torch.optim import lr_scheduler as torch_schedules

    ours, theirs = both(optimizer, **({"momentum": 0.9} if optimizer == "SGD" else {}))
    schedule = getattr(lr_scheduler, name)(ours, *arguments, **options)
    compare(ours, theirs, schedule, getattr(torch_schedules, name)(theirs, *arguments, **options))


def test_one_after_another():
    from torch.optim import lr_scheduler as torch_schedules

    ours, theirs = both()

    def chained(module, optimizer):
        parts = [
            module.LinearLR(optimizer, 0.1, 1.0, 5),
            module.CosineAnnealingLR(optimizer, 10),
            module.ExponentialLR(optimizer, 0.9),
        ]
        return module.SequentialLR(optimizer, parts, [5, 15])

    compare(ours, theirs, chained(lr_scheduler, ours), chained(torch_schedules, theirs))


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 2},
        {"patience": 1, "cooldown": 3, "factor": 0.5, "min_lr": [0.01, 0.1]},
        {"mode": "max", "patience": 0, "threshold": 0.05, "threshold_mode": "abs"},
    ],
)
def test_plateau(options):
    from torch.optim import lr_scheduler as torch_schedules

    ours, theirs = both()
    noise = np.random.default_rng(0).standard_normal(STEPS) * 0.3
    schedule = lr_scheduler.ReduceLROnPlateau(ours, **options)
    other = torch_schedules.ReduceLROnPlateau(theirs, **options)
    compare(ours, theirs, schedule, other, metric=lambda step: float(1 / (1 + step) + noise[step]))


NORMS = [(2.0, 0.5), (1.0, 3.0), (3.5, 100.0), (float("inf"), 0.1)]


@pytest.mark.parametrize(("norm_type", "max_norm"), NORMS)
def test_clipping_by_norm(norm_type, max_norm):
    import torch

    from pluggrad.nn import clip_grad_norm_

    generator = np.random.default_rng(1)
    arrays = [generator.standard_normal(shape).astype(np.float32) for shape in ((3, 4), (5,), ())]
    ours, theirs = [Tensor(a) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
    for one, other, array in zip(ours[:2], theirs[:2], arrays, strict=False):
        one.grad, other.grad = Tensor(array), torch.tensor(array)
    found = clip_grad_norm_(ours, max_norm, norm_type)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    np.testing.assert_allclose(found.item(), expected.item(), rtol=1e-5)
    for one, other in zip(ours[:2], theirs[:2], strict=True):
        np.testing.assert_allclose(one.grad.numpy(), other.grad.numpy(), rtol=1e-5)
    assert ours[2].grad is None


@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
def test_muon(adjust):
    import torch

    start = np.random.default_rng(2).standard_normal((6, 4)).astype(np.float32)
    ours, theirs = Tensor(start), torch.tensor(start, requires_grad=True)
    options = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1, "adjust_lr_fn": adjust}
    one, other = optim.Muon([ours], **options), torch.optim.Muon([theirs], **options)
    for step in range(4):
        gradient = np.random.default_rng(step).standard_normal((6, 4)).astype(np.float32)
        ours.grad, theirs.grad = Tensor(gradient), torch.tensor(gradient)
        one.step()
        other.step()
    # PyTorch iterates in bfloat16
    np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), atol=0.02)
