"""pluggrad: a tensor and deep-learning framework whose devices are plugins.

Names resolve on first access, so that importing the package, or `pluggrad.plugin_api`, loads neither NumPy
nor a device.
"""
from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pluggrad import array_api, data, dtypes, errors, io, nn
    from pluggrad.config import Context, show_config
    from pluggrad.jit import TinyJit, function, jit
    from pluggrad.profiling import profile
    from pluggrad.runtime import GlobalCounters, memory_stats, reset_peak_memory_stats
    from pluggrad.runtime.devices import (
        Device,
        default_device,
        device,
        devices,
        set_default_device,
    )
    from pluggrad.tensor import Tensor, Variable, autocast, manual_seed, no_grad
    from pluggrad.transform import (
        anomaly,
        checkpoint,
        custom_vjp,
        grad,
        hessian,
        jacobian,
        jvp,
        value_and_grad,
        vjp,
        vmap,
    )
    from pluggrad.version import __version__

# name -> the module that holds it; a name that is a module itself stands for it
_HOMES: Final[dict[str, str]] = {
    "Tensor": "pluggrad.tensor",
    "autocast": "pluggrad.tensor",
    "manual_seed": "pluggrad.tensor",
    "no_grad": "pluggrad.tensor",
    "Device": "pluggrad.runtime.devices",
    "default_device": "pluggrad.runtime.devices",
    "device": "pluggrad.runtime.devices",
    "devices": "pluggrad.runtime.devices",
    "set_default_device": "pluggrad.runtime.devices",
    "Variable": "pluggrad.tensor",
    "jit": "pluggrad.jit",
    "TinyJit": "pluggrad.jit",
    "function": "pluggrad.jit",
    "grad": "pluggrad.transform",
    "value_and_grad": "pluggrad.transform",
    "vjp": "pluggrad.transform",
    "jvp": "pluggrad.transform",
    "jacobian": "pluggrad.transform",
    "hessian": "pluggrad.transform",
    "vmap": "pluggrad.transform",
    "anomaly": "pluggrad.transform",
    "checkpoint": "pluggrad.transform",
    "custom_vjp": "pluggrad.transform",
    "GlobalCounters": "pluggrad.runtime",
    "memory_stats": "pluggrad.runtime",
    "reset_peak_memory_stats": "pluggrad.runtime",
    "profile": "pluggrad.profiling",
    "Context": "pluggrad.config",
    "show_config": "pluggrad.config",
    "__version__": "pluggrad.version",
}
_MODULES: Final = frozenset({"array_api", "data", "dtypes", "errors", "io", "nn"})

__all__ = [
    "Tensor",
    "dtypes",
    "Device",
    "device",
    "devices",
    "default_device",
    "set_default_device",
    "nn",
    "data",
    "array_api",
    "io",
    "jit",
    "TinyJit",
    "function",
    "Variable",
    "grad",
    "value_and_grad",
    "vjp",
    "jvp",
    "jacobian",
    "hessian",
    "vmap",
    "checkpoint",
    "anomaly",
    "custom_vjp",
    "no_grad",
    "autocast",
    "manual_seed",
    "Context",
    "show_config",
    "memory_stats",
    "reset_peak_memory_stats",
    "profile",
    "GlobalCounters",
    "errors",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"pluggrad.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'pluggrad' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def _public(name: str) -> property:
    """A function that bears the name of a package of ours: importing the package must not hide it."""
    return property(lambda package: getattr(import_module(_HOMES[name]), name), lambda package, module: None)


class _Package(ModuleType):
    device = _public("device")
    jit = _public("jit")


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
