"""Timers at the borders of pluggrad's stages, put on from outside: functions of this process are wrapped.

What happens within another timed function counts there only, so that the parts add up.
"""
from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, Final

# part -> where its functions are called from: a module and a dotted name in it
PLACES: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "open the device": (("pluggrad.runtime.session", "Session.__init__"),),
    "autograd": (("pluggrad.tensor", "Tensor.backward"),),
    "normalize": (("pluggrad.runtime.realization", "normalize"),),
    "schedule": (("pluggrad.plan.build", "schedule"),),
    "kernel": (("pluggrad.plan.build", "build"),),
    "tune": (("pluggrad.runtime.tuning", "tune"),),
    "plan": (("pluggrad.runtime.compilation", "build_plan"),),
    "lower": (("pluggrad.runtime.compilation", "lower"),),
    "render": (("pluggrad_cpu.compiler", "LLVMToolchain.render"),),
    "LLVM": (("pluggrad_cpu.compiler", "LLVMToolchain.compile_many"),),
    "link": (("pluggrad.runtime.session", "LoadedPlan.__init__"),),
    "cache on disk": (("pluggrad.runtime.session", "load_plan"), ("pluggrad.runtime.session", "store_plan"),
                      ("pluggrad.runtime.compilation", "load_binary"),
                      ("pluggrad.runtime.compilation", "store_binaries")),
    "run": (("pluggrad.runtime.session", "LoadedPlan.run"),),
}
# modules that pluggrad imports when it first needs them, and the part that this belongs to
IMPORTS: Final = {"pluggrad.runtime.session": "import what runs plans",
                  "pluggrad.runtime.compilation": "import the compiler"}


class StageTimers:
    """`parts`: seconds by part, of all calls since `install`."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self._open: list[float] = []  # for each timed function that runs, the seconds of those within it

    def install(self) -> None:
        """Wrap every function of PLACES, when its module is imported: that too is a part of what is timed.

        A place that does not exist any more is an AttributeError then.
        """
        self.parts |= dict.fromkeys([*PLACES, *IMPORTS.values()], 0.0)
        modules = {module for places in PLACES.values() for module, _ in places}
        for name in modules & sys.modules.keys():
            self._wrap(sys.modules[name])
        sys.meta_path.insert(0, _AtImport(modules - sys.modules.keys(), self))

    def _wrap(self, module: ModuleType) -> None:
        for part, places in PLACES.items():
            for _, path in [place for place in places if place[0] == module.__name__]:
                owner, name = _found(module.__name__, path)
                setattr(owner, name, self.timed(part, getattr(owner, name)))

    def executing(self, execute: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
        """What executes a module, timed if it is one of IMPORTS, its places wrapped after that."""
        def run(module: ModuleType) -> None:
            part = IMPORTS.get(module.__name__)
            (execute if part is None else self.timed(part, execute))(module)
            self._wrap(module)

        return run

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


class _AtImport:
    """Finds modules as Python does, and has the timers put on when one of `wanted` is executed."""

    def __init__(self, wanted: set[str], timers: StageTimers) -> None:
        self._wanted, self._timers = wanted, timers

    def find_spec(self, name: str, path: Sequence[str] | None = None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in self._wanted else None
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = self._timers.executing(  # type: ignore[method-assign, assignment]
                spec.loader.exec_module)
        return spec


def _found(module: str, path: str) -> tuple[Any, str]:
    """The module or class that holds a name, and the last part of the name."""
    owner: Any = import_module(module)
    *outer, name = path.split(".")
    for step in outer:
        owner = getattr(owner, step)
    return owner, name
