"""Schedules: rates by hand, states, and that no rate compiles anything. PyTorch's are in tests/pytorch."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pluggrad import GlobalCounters, Tensor, jit
from pluggrad.errors import JitError, StateError, ValueRangeError
from pluggrad.nn import optim
from pluggrad.nn.optim import lr_scheduler


def made(lr=1.0, **options):
    return optim.SGD([Tensor([1.0])], lr=lr, **options)


def rates(schedule, count):
    found = []
    for _ in range(count):
        found.append(schedule.get_last_lr()[0])
        schedule.step()
    return found


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda o: lr_scheduler.StepLR(o, 2, 0.5), [1, 1, 0.5, 0.5, 0.25]),
        (lambda o: lr_scheduler.MultiStepLR(o, [3, 1], 0.5), [1, 0.5, 0.5, 0.25, 0.25]),
        (lambda o: lr_scheduler.ExponentialLR(o, 0.5), [1, 0.5, 0.25, 0.125, 0.0625]),
        (lambda o: lr_scheduler.LinearLR(o, 0.25, 1.0, 3), [0.25, 0.5, 0.75, 1, 1]),
        (lambda o: lr_scheduler.ConstantLR(o, 0.5, 2), [0.5, 0.5, 1, 1, 1]),
        (lambda o: lr_scheduler.PolynomialLR(o, 4, 2.0), [1, 0.5625, 0.25, 0.0625, 0]),
        (lambda o: lr_scheduler.CosineAnnealingLR(o, 4, 0.5), [1, 0.5 + 0.25 * (1 + 0.5**0.5), 0.75]),
        (lambda o: lr_scheduler.LambdaLR(o, lambda step: step * 0.5), [0, 0.5, 1, 1.5, 2]),
        (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 1, 2), [1, 1, 0.5, 1]),
    ],
)
def test_rates(make, expected):
    np.testing.assert_allclose(rates(make(made()), len(expected)), expected, rtol=1e-12, atol=1e-12)


def test_warm_up_and_then_a_cosine():
    optimizer = made(lr=0.2)
    schedule = lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.LinearLR(optimizer, 0.5, 1.0, 2), lr_scheduler.CosineAnnealingLR(optimizer, 2)],
        milestones=[2],
    )
    np.testing.assert_allclose(rates(schedule, 5), [0.1, 0.15, 0.2, 0.1, 0], atol=1e-12)


def test_plateau():
    optimizer = made()
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, cooldown=1, min_lr=0.2)
    found = []
    for loss in (1.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, Tensor(0.9), math.nan, 0.9, 0.1):
        schedule.step(loss)
        found.append(optimizer.lr)
    assert found == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2, 0.2]
    rising = lr_scheduler.ReduceLROnPlateau(made(), mode="max", patience=0, threshold_mode="abs")
    for score in (0.1, 0.2, 0.3):
        rising.step(score)
    assert rising.get_last_lr() == [1.0]


def test_each_group_keeps_its_share():
    optimizer = optim.SGD([{"params": Tensor([1.0])}, {"params": Tensor([1.0]), "lr": 10.0}], lr=1.0)
    schedule = lr_scheduler.StepLR(optimizer, 1, 0.5)
    schedule.step()
    assert schedule.get_last_lr() == [0.5, 5.0]
    both = lr_scheduler.LambdaLR(optimizer, [lambda step: 1.0, lambda step: 0.1])
    assert both.get_last_lr() == [1.0, 1.0]  # of the rates before the first schedule


def test_one_cycle_moves_the_momentum_too():
    optimizer = made(momentum=0.9)
    schedule = lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=5, pct_start=0.4)
    assert optimizer.param_groups[0]["momentum"] == 0.95
    schedule.step()
    assert (optimizer.lr, optimizer.param_groups[0]["momentum"]) == (1.0, 0.85)


def test_a_schedule_goes_on_from_its_state():
    for make in (
        lambda o: lr_scheduler.CosineAnnealingLR(o, 7),
        lambda o: lr_scheduler.OneCycleLR(o, 1.0, 9),
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o), lr_scheduler.ExponentialLR(o, 0.9)], [2]
        ),
    ):
        one, other = made(0.3, momentum=0.9), made(0.8, momentum=0.9)
        first, second = make(one), make(other)
        for _ in range(3):
            first.step()
        second.load_state_dict(first.state_dict())
        for _ in range(3):
            assert dict(one.param_groups[0].options()) == dict(other.param_groups[0].options())
            first.step()
            second.step()
    plateau, restored = (lr_scheduler.ReduceLROnPlateau(made(), patience=1) for _ in range(2))
    for _ in range(2):
        plateau.step(1.0)
    restored.load_state_dict(plateau.state_dict())
    restored.step(1.0)
    assert restored.get_last_lr() == [pytest.approx(0.1)]


def test_rates_compile_nothing_and_reach_captured_steps():
    x = Tensor([1.0])
    optimizer = optim.SGD([x], lr=1.0)
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.5)

    @jit
    def step(scale):
        optimizer.zero_grad()
        loss = (x * scale).sum()
        loss.backward()
        optimizer.step()
        return loss

    values, scheduled = [], []
    for _ in range(4):
        step(Tensor([1.0]))
        schedule.step()
        values.append(x.item())
        scheduled.append(GlobalCounters.scheduled)
    np.testing.assert_allclose(values, [0, -0.5, -0.75, -0.875], rtol=1e-6)
    assert step.captures == 1
    assert scheduled[1:] == [scheduled[1]] * 3


def test_a_schedule_stays_outside_captured_functions():
    optimizer = made()
    schedule = lr_scheduler.StepLR(optimizer, 2)  # its first call changes nothing that a capture would notice

    def step(after):
        optimizer.params[0].sum().backward()
        optimizer.step()
        after()

    for after, message in ((schedule.step, "expected a call outside of captured functions"),
                           (lambda: setattr(optimizer, "lr", 0.5), "lr to stay while a function")):
        with pytest.raises(JitError, match=message):
            jit(lambda after=after: step(after))()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda o: lr_scheduler.StepLR(o, 0), "step_size of at least 1"),
        (lambda o: lr_scheduler.CosineAnnealingLR(o, 0), "T_max of at least 1"),
        (lambda o: lr_scheduler.LinearLR(o, start_factor=0.0), "a start_factor above 0"),
        (lambda o: lr_scheduler.LambdaLR(o, []), "1 functions, one for each group, got 0"),
        (lambda o: lr_scheduler.OneCycleLR(o, 1.0), "total_steps, or epochs and steps_per_epoch"),
        (lambda o: lr_scheduler.OneCycleLR(o, 1.0, 5, pct_start=2.0), "a pct_start from 0 to 1"),
        (lambda o: lr_scheduler.OneCycleLR(o, 1.0, 5, anneal_strategy="x"), "an anneal_strategy among"),
        (lambda o: lr_scheduler.OneCycleLR(o, [1.0, 2.0], 5), "1 numbers, one for each group"),
        (lambda o: lr_scheduler.OneCycleLR(optim.Adagrad(o.params), 1.0, 5), "momentum or b1"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=1.0), "a factor below 1"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, mode="least"), "mode 'min' or 'max'"),
        (lambda o: lr_scheduler.SequentialLR(o, [], [1]), "a milestone between each two schedules"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueRangeError, match=message):
        make(made())


def test_states_that_are_refused():
    schedule = lr_scheduler.StepLR(made(), 1)
    with pytest.raises(StateError, match="last_epoch, base_lrs, for 1 groups"):
        schedule.load_state_dict({"last_epoch": 1, "base_lrs": [1.0, 2.0]})
    with pytest.raises(StateError, match="best, num_bad_epochs"):
        lr_scheduler.ReduceLROnPlateau(made()).load_state_dict({"best": 1.0})
