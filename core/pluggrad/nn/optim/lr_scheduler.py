"""Schedules: the learning rate of every group of an optimizer as a function of the steps so far.

Made after the optimizer, a schedule sets the rates for step 0; call its `step()` after each step (or epoch)
of training, outside captured functions. No new rate compiles anything. The rates are those of PyTorch's
schedules of the same names.
"""
from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

from pluggrad import runtime
from pluggrad.errors import JitError, StateError, ValueRangeError
from pluggrad.nn.optim.groups import ParamGroup
from pluggrad.nn.optim.optimizer import Optimizer

__all__ = [
    "LRScheduler", "LambdaLR", "StepLR", "MultiStepLR", "ConstantLR", "LinearLR", "ExponentialLR",
    "PolynomialLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "OneCycleLR", "SequentialLR",
    "ReduceLROnPlateau",
]


class LRScheduler(ABC):
    """What schedules share: the optimizer, the rates it began with, and the number of the step."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.base_lrs = [optimizer.initial_lr(group) for group in optimizer.param_groups]
        self.last_epoch = 0
        self._set()

    def step(self) -> None:
        """Count one more step, and set the rates for it. JitError inside a captured function."""
        _check_not_captured(self)
        self.last_epoch += 1
        self._set()

    def get_last_lr(self) -> list[float]:
        """The rates that were set last, one for each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    @abstractmethod
    def _set(self) -> None:
        """Give the groups what belongs to step `last_epoch`."""

    def state_dict(self) -> dict[str, Any]:
        """What changes from step to step, and the rates at the start; not the options."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from there, and set the rates. StateError if the number of groups, or a name, differs."""
        self._check_state(state_dict)
        self.last_epoch, self.base_lrs = int(state_dict["last_epoch"]), list(state_dict["base_lrs"])
        self._set()

    def _check_state(self, given: Mapping[str, Any]) -> None:
        own = self.state_dict()
        rates = given.get("base_lrs", ())
        if set(own) != set(given) or len(rates) != len(self.base_lrs):
            raise StateError(op=f"{type(self).__name__}.load_state_dict",
                             expected=f"{', '.join(own)}, for {len(self.base_lrs)} groups",
                             got=f"{', '.join(given)}, for {len(rates)}")


def _check_not_captured(schedule: object) -> None:
    if runtime.capturing():  # the count of steps would stand still from then on
        raise JitError(op=f"{type(schedule).__name__}.step", got="one inside",
                       expected="a call outside of captured functions",
                       hint="Call it after the captured step, which reads the rate anew each time")


class _Formula(LRScheduler):
    """A schedule that is one function for all groups."""

    @abstractmethod
    def rate(self, base: float, step: int) -> float:
        """The learning rate at a step of a group that began with `base`."""

    def _set(self) -> None:
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = self.rate(base, self.last_epoch)


class LambdaLR(LRScheduler):
    """The starting rate times `lr_lambda(step)`; a list has a function for each group."""

    def __init__(self, optimizer: Optimizer,
                 lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]]) -> None:
        count = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * count if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != count:
            raise ValueRangeError(op="LambdaLR", expected=f"{count} functions, one for each group",
                                  got=str(len(self.lr_lambdas)))
        super().__init__(optimizer)

    def _set(self) -> None:
        rows = zip(self.optimizer.param_groups, self.base_lrs, self.lr_lambdas, strict=True)
        for group, base, factor in rows:
            group["lr"] = base * factor(self.last_epoch)


class StepLR(_Formula):
    """Times `gamma` every `step_size` steps."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        _at_least_one("StepLR", step_size=step_size)
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer)

    def rate(self, base: float, step: int) -> float:
        return base * self.gamma ** (step // self.step_size)


class MultiStepLR(_Formula):
    """Times `gamma` at each of the `milestones`."""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer)

    def rate(self, base: float, step: int) -> float:
        return base * self.gamma ** bisect_right(self.milestones, step)


class ConstantLR(_Formula):
    """Times `factor` for the first `total_iters` steps."""

    def __init__(self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5) -> None:
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer)

    def rate(self, base: float, step: int) -> float:
        return base * self.factor if step < self.total_iters else base


class LinearLR(_Formula):
    """From `start_factor` to `end_factor` times the rate in `total_iters` equal steps: a warm-up."""

    def __init__(self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0,
                 total_iters: int = 5) -> None:
        _at_least_one("LinearLR", total_iters=total_iters)
        if not 0 < start_factor <= 1:
            raise ValueRangeError(op="LinearLR", expected="a start_factor above 0, up to 1",
                                  got=str(start_factor))
        if not 0 <= end_factor <= 1:
            raise ValueRangeError(op="LinearLR", expected="an end_factor from 0 to 1", got=str(end_factor))
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer)

    def rate(self, base: float, step: int) -> float:
        done = min(step, self.total_iters) / self.total_iters
        return base * (self.start_factor + (self.end_factor - self.start_factor) * done)


class ExponentialLR(_Formula):
    """Times `gamma` at every step."""

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self.gamma = gamma
        super().__init__(optimizer)

    def rate(self, base: float, step: int) -> float:
        return base * self.gamma**step


class PolynomialLR(_Formula):
    """Times (1 - step / total_iters) ** power, down to 0."""

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0) -> None:
        _at_least_one("PolynomialLR", total_iters=total_iters)
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer)

    def rate(self, base: float, step: int) -> float:
        left = 1 - min(step, self.total_iters) / self.total_iters
        return base * math.pow(left, self.power)


class CosineAnnealingLR(_Formula):
    """From the rate to `eta_min` along half a cosine in `T_max` steps, and back in as many.

    I. Loshchilov and F. Hutter, "SGDR", https://arxiv.org/abs/1608.03983, without restarts.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        _at_least_one("CosineAnnealingLR", T_max=T_max)
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer)

    def rate(self, base: float, step: int) -> float:
        return _cosine(base, self.eta_min, step / self.T_max)


class CosineAnnealingWarmRestarts(_Formula):
    """From the rate to `eta_min` along half a cosine in `T_0` steps, then anew in `T_mult` times as many.

    I. Loshchilov and F. Hutter, "SGDR", https://arxiv.org/abs/1608.03983.
    """

    def __init__(self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0) -> None:
        _at_least_one("CosineAnnealingWarmRestarts", T_0=T_0, T_mult=T_mult)
        self.T_0, self.T_mult, self.eta_min = T_0, T_mult, eta_min
        super().__init__(optimizer)

    def rate(self, base: float, step: int) -> float:
        period = self.T_0
        while step >= period:
            if self.T_mult == 1:
                step %= period
                break
            step, period = step - period, period * self.T_mult
        return _cosine(base, self.eta_min, step / period)


class OneCycleLR(LRScheduler):
    """Up from max_lr / div_factor to `max_lr` in the first `pct_start` of all steps, then down to almost 0.

    The last rate is the first divided by `final_div_factor`. total_steps: or `epochs` of `steps_per_epoch`.
    three_phase: down to the first rate as fast as up, then on to the last. cycle_momentum: the momentum, or
    b1, goes from `max_momentum` to `base_momentum` while the rate goes up, and back. max_lr and both momenta:
    numbers, or a list with one for each group. ValueRangeError if `step` is called too often.
    L. N. Smith and N. Topin, "Super-Convergence", https://arxiv.org/abs/1708.07120.
    """

    def __init__(self, optimizer: Optimizer, max_lr: float | Sequence[float], total_steps: int | None = None,
                 epochs: int | None = None, steps_per_epoch: int | None = None, pct_start: float = 0.3,
                 anneal_strategy: Literal["cos", "linear"] = "cos", cycle_momentum: bool = True,
                 base_momentum: float | Sequence[float] = 0.85, max_momentum: float | Sequence[float] = 0.95,
                 div_factor: float = 25.0, final_div_factor: float = 1e4, three_phase: bool = False) -> None:
        self.total_steps = _total("OneCycleLR", total_steps, epochs, steps_per_epoch)
        if not 0 <= pct_start <= 1:
            raise ValueRangeError(op="OneCycleLR", expected="a pct_start from 0 to 1", got=str(pct_start))
        if anneal_strategy not in _ANNEALING:
            raise ValueRangeError(op="OneCycleLR", expected=f"an anneal_strategy among {list(_ANNEALING)}",
                                  got=repr(anneal_strategy))
        self._anneal = _ANNEALING[anneal_strategy]
        groups = optimizer.param_groups
        peaks = _for_each(max_lr, groups)
        first = [peak / div_factor for peak in peaks]
        rates = [(low, high, low / final_div_factor) for low, high in zip(first, peaks, strict=True)]
        self._cycles = [("lr", group, low, high, last) for group, (low, high, last) in
                        zip(groups, rates, strict=True)]
        if cycle_momentum:
            self._cycles += _momenta(groups, base_momentum, max_momentum)
        up = pct_start * self.total_steps - 1
        self._ends = (up, 2 * up, self.total_steps - 1) if three_phase else (up, self.total_steps - 1)
        super().__init__(optimizer)
        self.base_lrs = first

    def _set(self) -> None:
        if self.last_epoch > self.total_steps:  # a call after the last step, too, as loops have it
            raise ValueRangeError(op="OneCycleLR", expected=f"at most {self.total_steps} calls of step",
                                  got=str(self.last_epoch))
        for name, group, low, high, last in self._cycles:
            group[name] = self._between(low, high, last)

    def _between(self, low: float, high: float, last: float) -> float:
        values = (low, high, low, last) if len(self._ends) == 3 else (low, high, last)
        begin = 0.0
        for phase, end in enumerate(self._ends):
            if self.last_epoch <= end or end == self._ends[-1]:
                done = min((self.last_epoch - begin) / (end - begin), 1)
                return self._anneal(values[phase], values[phase + 1], done)
            begin = end
        raise AssertionError("a cycle has an end")


class SequentialLR(LRScheduler):
    """One schedule after another: the next begins, at its step 0, at each of the `milestones`."""

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler],
                 milestones: Sequence[int]) -> None:
        if len(milestones) != len(schedulers) - 1:
            raise ValueRangeError(op="SequentialLR", expected="a milestone between each two schedules",
                                  got=f"{len(schedulers)} schedules and {len(milestones)} milestones")
        if any(each.optimizer is not optimizer for each in schedulers):
            raise ValueRangeError(op="SequentialLR", expected="schedules of the same optimizer",
                                  got="one of another")
        self.schedulers, self.milestones = list(schedulers), list(milestones)
        super().__init__(optimizer)

    def _set(self) -> None:
        number = bisect_right(self.milestones, self.last_epoch)
        present = self.schedulers[number]
        present.last_epoch = self.last_epoch - (self.milestones[number - 1] if number else 0)
        present._set()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "schedulers": [each.state_dict() for each in self.schedulers]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self._check_state(state_dict)
        for schedule, state in zip(self.schedulers, state_dict["schedulers"], strict=True):
            schedule.load_state_dict(state)
        super().load_state_dict(state_dict)


class ReduceLROnPlateau:
    """Times `factor` when a metric, given to `step`, has not improved for more than `patience` calls.

    mode: "min" for losses, "max" for scores. Better means by more than `threshold`: a share of the best one
    ("rel") or a difference ("abs", as `threshold_mode`). cooldown: calls after a reduction that do not count.
    min_lr: no rate falls below it. eps: a smaller change of a rate is not made.
    """

    def __init__(self, optimizer: Optimizer, mode: Literal["min", "max"] = "min", factor: float = 0.1,
                 patience: int = 10, threshold: float = 1e-4, threshold_mode: Literal["rel", "abs"] = "rel",
                 cooldown: int = 0, min_lr: float | Sequence[float] = 0.0, eps: float = 1e-8) -> None:
        if factor >= 1:
            raise ValueRangeError(op="ReduceLROnPlateau", expected="a factor below 1", got=str(factor))
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            raise ValueRangeError(op="ReduceLROnPlateau", got=f"{mode!r} and {threshold_mode!r}",
                                  expected="mode 'min' or 'max' and threshold_mode 'rel' or 'abs'")
        self.optimizer, self.mode, self.factor, self.patience = optimizer, mode, factor, patience
        self.threshold, self.threshold_mode = threshold, threshold_mode
        self.cooldown, self.eps = cooldown, eps
        self.min_lrs = _for_each(min_lr, optimizer.param_groups)
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0

    def step(self, metrics: Any) -> None:
        """Take note of a metric: a number, or a tensor with one element. JitError as of other schedules."""
        _check_not_captured(self)
        current = float(metrics)
        self.last_epoch += 1
        if self._better(current):
            self.best, self.num_bad_epochs = current, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def get_last_lr(self) -> list[float]:
        """The present rates, one for each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def _better(self, current: float) -> bool:
        sign = 1 if self.mode == "min" else -1
        if self.threshold_mode == "rel":
            return sign * current < sign * self.best * (1 - sign * self.threshold)
        return sign * current < sign * self.best - self.threshold

    def _reduce(self) -> None:
        for group, least in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
            lower = max(group["lr"] * self.factor, least)
            if group["lr"] - lower > self.eps:
                group["lr"] = lower

    def state_dict(self) -> dict[str, Any]:
        """What changes from step to step."""
        return {name: getattr(self, name) for name in _PLATEAU_STATE}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from there. StateError if a name is missing or unknown."""
        if set(state_dict) != set(_PLATEAU_STATE):
            raise StateError(op="ReduceLROnPlateau.load_state_dict", expected=", ".join(_PLATEAU_STATE),
                             got=", ".join(state_dict))
        for name in _PLATEAU_STATE:
            setattr(self, name, state_dict[name])


_PLATEAU_STATE: Final = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")


def _cosine(begin: float, end: float, done: float) -> float:
    return end + (begin - end) * (1 + math.cos(math.pi * done)) / 2


def _linear(begin: float, end: float, done: float) -> float:
    return begin + (end - begin) * done


_ANNEALING: Final = {"cos": _cosine, "linear": _linear}


def _momenta(groups: Sequence[ParamGroup], base: float | Sequence[float],
             largest: float | Sequence[float]) -> list[tuple[str, ParamGroup, float, float, float]]:
    """Momentum as a cycle that runs against that of the rate."""
    rows = zip(groups, _for_each(base, groups), _for_each(largest, groups), strict=True)
    found = []
    for group, low, high in rows:
        name = next((name for name in ("momentum", "b1") if name in group), None)
        if name is None:
            raise ValueRangeError(op="OneCycleLR", expected="an optimizer with momentum or b1",
                                  got=repr(group), hint="or pass cycle_momentum=False")
        found.append((name, group, high, low, high))
    return found


def _for_each(value: float | Sequence[float], groups: Sequence[ParamGroup]) -> list[float]:
    """One number for each group."""
    if isinstance(value, int | float):
        return [float(value)] * len(groups)
    if len(value) != len(groups):
        raise ValueRangeError(op="a schedule", expected=f"{len(groups)} numbers, one for each group",
                              got=str(len(value)))
    return list(value)


def _total(op: str, total_steps: int | None, epochs: int | None, steps_per_epoch: int | None) -> int:
    if total_steps is None and (epochs is None or steps_per_epoch is None):
        raise ValueRangeError(op=op, expected="total_steps, or epochs and steps_per_epoch", got="neither")
    found = epochs * steps_per_epoch if total_steps is None else total_steps  # type: ignore[operator]
    _at_least_one(op, total_steps=found)
    return found


def _at_least_one(op: str, **counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueRangeError(op=op, expected=f"{name} of at least 1", got=str(count))
