"""Timers at the borders of pluggrad's stages, put on from outside: functions of this process are wrapped.

What happens within another timed function counts there only, so that the parts add up.
"""
from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

# part -> where its functions are called from: a module and a dotted name in it
PLACES: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "open the device": (("pluggrad.runtime.session", "Session.__init__"),),
    "autograd": (("pluggrad.tensor", "Tensor.backward"),),
    "normalize": (("pluggrad.runtime.realization", "normalize"),),
    "schedule": (("pluggrad.plan.build", "schedule"),),
    "kernel": (("pluggrad.plan.build", "build"),),
    "tune": (("pluggrad.plan.build", "tune"),),
    "plan": (("pluggrad.runtime.session", "build_plan"),),
    "lower": (("pluggrad.runtime.compiled", "lower"),),
    "render": (("pluggrad_cpu.compiler", "LLVMToolchain.render"),),
    "LLVM": (("pluggrad_cpu.compiler", "LLVMToolchain.compile_many"),),
    "link": (("pluggrad.runtime.session", "LoadedPlan.__init__"),),
    "cache on disk": (("pluggrad.runtime.session", "load_plan"), ("pluggrad.runtime.session", "store_plan"),
                      ("pluggrad.runtime.compiled", "_load_binary"),
                      ("pluggrad.runtime.compiled", "_store_binaries")),
    "run": (("pluggrad.runtime.session", "LoadedPlan.run"),),
}


class StageTimers:
    """`parts`: seconds by part, of all calls since `install`."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self._open: list[float] = []  # for each timed function that runs, the seconds of those within it

    def install(self) -> None:
        """Wrap every function of PLACES; a place that does not exist any more is an AttributeError."""
        for part, places in PLACES.items():
            self.parts.setdefault(part, 0.0)
            for module, path in places:
                owner, name = _found(module, path)
                setattr(owner, name, self.timed(part, getattr(owner, name)))

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its own time added to a part."""
        def run(*args: Any, **kwargs: Any) -> Any:
            self._open.append(0.0)
            begin = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                taken = time.perf_counter() - begin
                self.parts[part] = self.parts.get(part, 0.0) + taken - self._open.pop()
                if self._open:
                    self._open[-1] += taken

        return run


def _found(module: str, path: str) -> tuple[Any, str]:
    """The module or class that holds a name, and the last part of the name."""
    owner: Any = import_module(module)
    *outer, name = path.split(".")
    for step in outer:
        owner = getattr(owner, step)
    return owner, name
