"""GradScaler: the same steps as without it, none where a gradient is infinite, and a scale that adapts."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, autocast, dtypes, jit, nn
from pluggrad.errors import GradientError, StateError
from pluggrad.nn import optim

OPTIMIZERS = {
    "sgd": lambda w: optim.SGD(w, lr=0.125, momentum=0.5),
    "adam": lambda w: optim.Adam(w, lr=0.125),
}


def weights() -> Tensor:
    return Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)


def step_of(w: Tensor, optimizer: optim.Optimizer, scaler: optim.GradScaler):
    def step(x: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = (x @ w).square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss

    return step


def all_of(optimizer: optim.Optimizer) -> list[list]:
    return [t.tolist() for t in (*optimizer.params, *[t for kept in optimizer.state for t in kept.values()])]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_those_without_a_scaler(device, name):
    x, results = Tensor([[1.0, 0.5]]), []
    for enabled in (True, False):
        w = weights()
        optimizer = OPTIMIZERS[name](w)
        scaler = optim.GradScaler(enabled=enabled)
        step = step_of(w, optimizer, scaler)
        losses = [step(x).item() for _ in range(3)]
        results.append((losses, all_of(optimizer)))
        assert w.grad.dtype is dtypes.float32
    assert results[0] == results[1]  # a power of two is divided out exactly
    assert scaler.get_scale() == 1
    assert scaler.state_dict() == {}


@pytest.mark.parametrize("wrap", [lambda f: f, jit], ids=["eager", "jit"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_infinite_gradient_changes_no_tensor(device, name, wrap):
    w = weights()
    optimizer = OPTIMIZERS[name](w)
    scaler = optim.GradScaler(init_scale=1024, growth_interval=2)
    step = wrap(step_of(w, optimizer, scaler))
    scales = []
    for factor in (1.0, np.inf, 1.0, 1.0, np.nan, 1.0):
        before = all_of(optimizer)
        step(Tensor([[1.0, 0.5]]) * factor)
        assert (all_of(optimizer) == before) is not np.isfinite(factor)
        scales.append(scaler.get_scale())
    assert scales == [1024, 512, 512, 1024, 512, 512]
    assert np.isfinite(all_of(optimizer)[0]).all()


def test_small_gradients_survive_float16(device):
    for scaler, expected in ((optim.GradScaler(), 2.0**-27), (optim.GradScaler(enabled=False), 0.0)):
        w = Tensor([[0.0]], requires_grad=True)
        optimizer = optim.SGD(w, lr=1.0)
        with autocast(dtypes.float16):
            loss = (Tensor([[1.0]]) @ w).sum() * 2.0**-27
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        assert w.item() == -expected


def test_gradients_are_clipped_between_unscale_and_step():
    w = weights()
    optimizer, scaler = optim.SGD(w, lr=1.0), optim.GradScaler()
    scaler.scale((w * 3).sum()).backward()
    scaler.unscale_(optimizer)
    assert w.grad.tolist() == [[3, 3], [3, 3]]
    assert nn.clip_grad_norm_([w], 1.0).item() == 6
    scaler.step(optimizer)
    scaler.update()
    np.testing.assert_allclose(w.numpy(), [[0.5, 1.5], [2.5, 3.5]], rtol=1e-5)


def test_one_scale_for_two_optimizers():
    first, second = weights(), weights()
    optimizers = [optim.SGD(w, lr=1.0) for w in (first, second)]
    scaler = optim.GradScaler(init_scale=4)
    losses = scaler.scale([first.sum(), (second * np.inf).sum()])
    assert losses[0].item() == 40
    for loss in losses:
        loss.backward()
    for optimizer in optimizers:
        scaler.step(optimizer)
    scaler.update()
    assert (first.tolist(), second.tolist()) == ([[0, 1], [2, 3]], [[1, 2], [3, 4]])
    assert scaler.get_scale() == 2


def test_without_gradients_nothing_happens():
    optimizer, scaler = optim.SGD(weights(), lr=1.0), optim.GradScaler(init_scale=8)
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 8


def test_the_scale_stays_finite():
    scaler = optim.GradScaler(init_scale=2.0**127, growth_interval=1)
    w = Tensor([0.0], requires_grad=True)
    step_of(w.reshape(1, 1), optim.SGD(w, lr=1.0), scaler)(Tensor([[1.0]]))
    assert scaler.get_scale() == 2.0**127


def test_state():
    scaler = optim.GradScaler(init_scale=16, growth_factor=4, backoff_factor=0.25, growth_interval=2)
    w = weights()
    step_of(w, optim.SGD(w, lr=0.0), scaler)(Tensor([[1.0, 1.0]]))
    state = scaler.state_dict()
    assert state == {"scale": 16, "growth_factor": 4, "backoff_factor": 0.25, "growth_interval": 2,
                     "_growth_tracker": 1}
    other = optim.GradScaler()
    other.load_state_dict(state)
    assert other.state_dict() == state
    options = "growth_factor=4.0, backoff_factor=0.25, growth_interval=2, enabled=True"
    assert repr(other) == f"GradScaler({options})"
    step_of(w, optim.SGD(w, lr=0.0), other)(Tensor([[1.0, 1.0]]))
    assert other.get_scale() == 64
    other.update(5.0)
    assert other.get_scale() == 5
    with pytest.raises(StateError, match="scale"):
        other.load_state_dict({})


def test_calls_out_of_order():
    w = weights()
    optimizer, scaler = optim.SGD(w, lr=1.0), optim.GradScaler()
    with pytest.raises(GradientError, match="expected a step since the last update"):
        scaler.update()
    scaler.scale(w.sum()).backward()
    scaler.unscale_(optimizer)
    with pytest.raises(GradientError, match=r"unscale_: expected one call"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(GradientError, match=r"step: expected one call"):
        scaler.step(optimizer)


@pytest.mark.parametrize("options", [{"init_scale": 0}, {"growth_factor": 1}, {"backoff_factor": 1.5},
                                     {"growth_interval": 0}], ids=str)
def test_options_are_checked(options):
    with pytest.raises(ValueError, match=f"GradScaler: expected {next(iter(options))}"):
        optim.GradScaler(**options)
