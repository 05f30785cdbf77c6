"""Loss scaling, which keeps gradients in the range of float16."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pluggrad import dtypes, runtime
from pluggrad.errors import GradientError, StateError, ValueRangeError
from pluggrad.nn.optim.optimizer import Optimizer
from pluggrad.tensor import Tensor, no_grad

_KEYS: Final = ("scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker")


class _Checked(NamedTuple):
    """Since the last `update`: whether an optimizer's gradients were infinite, and its step was made."""

    infinite: Tensor
    stepped: bool


class GradScaler:
    """Multiplies the loss, so that gradients do not vanish in float16, and divides the gradients by as much.

        scaler = nn.optim.GradScaler()
        with autocast("float16"):
            loss = model(x).cross_entropy(y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    A step whose gradients hold an infinity or a NaN changes no tensor, and `update` then multiplies the scale
    by `backoff_factor`; after `growth_interval` good steps in a row it multiplies it by `growth_factor`. The
    scale is a tensor and nothing is read back, so that all five lines work in a captured function. The step
    count of an optimizer goes on where a step is left out. bfloat16 has the range of float32 and needs no
    scaling. device: that of the loss. enabled: False leaves everything as it is without a scaler.
    """

    def __init__(self, device: Any = None, init_scale: float = 65536.0, growth_factor: float = 2.0,
                 backoff_factor: float = 0.5, growth_interval: int = 2000, enabled: bool = True) -> None:
        for name, value, fits, expected in (
            ("init_scale", init_scale, init_scale > 0, "above 0"),
            ("growth_factor", growth_factor, growth_factor > 1, "above 1"),
            ("backoff_factor", backoff_factor, 0 < backoff_factor < 1, "between 0 and 1"),
            ("growth_interval", growth_interval, growth_interval >= 1, "of at least 1"),
        ):
            if not fits:
                raise ValueRangeError(op="GradScaler", expected=f"{name} {expected}", got=str(value))
        self.growth_factor, self.backoff_factor = float(growth_factor), float(backoff_factor)
        self.growth_interval, self.enabled = int(growth_interval), enabled
        self._scale = Tensor(float(init_scale), device=device, dtype=dtypes.float32, requires_grad=False)
        self._good_steps = Tensor(0, device=device, dtype=dtypes.int32)
        Tensor.realize(self._scale, self._good_steps)  # a captured function looks up what is stored
        self._checked: dict[Optimizer, _Checked] = {}

    def scale(self, outputs: Any) -> Any:
        """The loss, or each of a list of losses, times the scale."""
        if not self.enabled:
            return outputs
        if isinstance(outputs, list | tuple):
            return type(outputs)([self.scale(output) for output in outputs])
        return outputs * self._scale.detach()

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the gradients by the scale now, to clip them, say, before `step`. Once before each step."""
        if not self.enabled:
            return
        if optimizer in self._checked:
            raise GradientError(op="GradScaler.unscale_", expected="one call for each optimizer and update",
                                got="a second one", hint="Call update() after the steps of all optimizers")
        factor, finite = self._scale.detach().reciprocal(), None
        with no_grad():
            for param in optimizer.params:
                if param.grad is None:
                    continue
                known = param.grad.isfinite().all().to(self._scale.device)
                finite = known if finite is None else finite & known
                param.grad = param.grad * factor.to(param.device).cast(param.grad.dtype)
            infinite = Tensor(False, device=self._scale.device) if finite is None else ~finite
        runtime.add_pending(infinite)  # computed with the step
        self._checked[optimizer] = _Checked(infinite, False)

    def step(self, optimizer: Optimizer) -> None:
        """`optimizer.step()` with gradients divided by the scale; no tensor changes if one is not finite."""
        if not self.enabled:
            optimizer.step()
            return
        if optimizer not in self._checked:
            self.unscale_(optimizer)
        infinite, stepped = self._checked[optimizer]
        if stepped:
            raise GradientError(op="GradScaler.step", expected="one call for each optimizer and update",
                                got="a second one", hint="Call update() after the steps of all optimizers")
        self._checked[optimizer] = _Checked(infinite, True)
        optimizer._unless = infinite
        try:
            optimizer.step()
        finally:
            optimizer._unless = None

    def update(self, new_scale: float | None = None) -> None:
        """Fit the scale to what the steps since the last `update` met, or set it. Once in each iteration."""
        if not self.enabled:
            return
        if new_scale is not None:
            self._scale.assign(float(new_scale))
            self._checked.clear()
            return
        if not self._checked:
            raise GradientError(op="GradScaler.update", expected="a step since the last update", got="none",
                                hint="In a captured function: scale, step and update together")
        infinite, *others = (checked.infinite for checked in self._checked.values())
        for other in others:
            infinite = infinite | other
        self._checked.clear()
        good = self._good_steps + 1
        due = good >= self.growth_interval
        grown = self._scale * self.growth_factor
        higher = (due & grown.isfinite()).where(grown, self._scale)
        self._scale.assign(infinite.where(self._scale * self.backoff_factor, higher))
        self._good_steps.assign((infinite | due).where(0, good))

    def get_scale(self) -> float:
        """The scale, read from the device; 1.0 if the scaler is not enabled."""
        return self._scale.item() if self.enabled else 1.0

    def is_enabled(self) -> bool:
        """Whether it scales at all."""
        return self.enabled

    def state_dict(self) -> dict[str, float]:
        """Scale and options under PyTorch's names; empty if the scaler is not enabled."""
        if not self.enabled:
            return {}
        values = (self._scale.item(), self.growth_factor, self.backoff_factor, self.growth_interval,
                  self._good_steps.item())
        return dict(zip(_KEYS, values, strict=True))

    def load_state_dict(self, state_dict: Mapping[str, float]) -> None:
        """Go on from what `state_dict` returned; StateError names what it lacks."""
        if not self.enabled:
            return
        missing = [key for key in _KEYS if key not in state_dict]
        if missing:
            raise StateError(op="GradScaler.load_state_dict", expected=", ".join(_KEYS),
                             got=f"none of the name {', '.join(missing)}")
        self.growth_factor = float(state_dict["growth_factor"])
        self.backoff_factor = float(state_dict["backoff_factor"])
        self.growth_interval = int(state_dict["growth_interval"])
        self._scale.assign(float(state_dict["scale"]))
        self._good_steps.assign(int(state_dict["_growth_tracker"]))

    def __repr__(self) -> str:
        return (f"GradScaler(growth_factor={self.growth_factor}, backoff_factor={self.backoff_factor}, "
                f"growth_interval={self.growth_interval}, enabled={self.enabled})")
