"""Run examples/digits.py up to the loss of its first step, in this process, and say where the time went.

    python benchmarks/first_step.py START     START: time.monotonic() when the process was started

The demo runs as it is. Its progress bar is replaced by one that ends the process when it is first moved, and
functions at the borders of stages are timed; what happens within another timed function counts there only.
"""
from __future__ import annotations

import json
import os
import runpy
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn

_DEMO: Final = Path(__file__).parents[1] / "examples" / "digits.py"
# part -> where its functions are: a module and a dotted name in it
_TIMED: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "data": (("pluggrad.data", "digits"),),
    "discover and open the device": (("pluggrad.runtime.session", "Session.__init__"),),
    "normalize": (("pluggrad.runtime.realization", "normalize"),),
    "cache: plans from disk": (("pluggrad.runtime.session", "load_plan"),),
    "cache: plans to disk": (("pluggrad.runtime.session", "store_plan"),),
    "cache: kernels": (("pluggrad.runtime.compiled", "_load_binary"),
                       ("pluggrad.runtime.compiled", "_store_binary")),
    "schedule, kernel, tune, plan": (("pluggrad.runtime.session", "build_plan"),),
    "lower": (("pluggrad.runtime.compiled", "lower"),),
    "render": (("pluggrad_cpu.compiler", "LLVMToolchain.render"),),
    "compile (LLVM)": (("pluggrad_cpu.compiler", "LLVMToolchain.compile_many"),),
    "load": (("pluggrad.runtime.session", "LoadedPlan.__init__"),),
    "execute": (("pluggrad.runtime.session", "LoadedPlan.run"),),
    "backward": (("pluggrad.tensor", "Tensor.backward"),),
}
_PACKAGES: Final = ("pluggrad.tensor", "pluggrad.nn", "pluggrad.jit", "pluggrad.data", "pluggrad_cpu.plugin")

parts: dict[str, float] = {}
_open: list[float] = []  # for each timed function that runs, the seconds of those within it


def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, its own time added to a part."""
    def run(*args: Any, **kwargs: Any) -> Any:
        _open.append(0.0)
        begin = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            taken = time.perf_counter() - begin
            parts[part] = parts.get(part, 0.0) + taken - _open.pop()
            if _open:
                _open[-1] += taken

    return run


def install() -> None:
    """Put timers around the functions listed; a place that does not exist any more is an error."""
    for part, places in _TIMED.items():
        for module, path in places:
            owner: Any = import_module(module)
            *outer, name = path.split(".")
            for step in outer:
                owner = getattr(owner, step)
            setattr(owner, name, timed(part, getattr(owner, name)))


def imported(part: str, *modules: str) -> None:
    begin = time.perf_counter()
    for module in modules:
        import_module(module)
    parts[part] = time.perf_counter() - begin


def main(start: float) -> None:
    parts["start Python"] = time.monotonic() - start
    imported("import NumPy", "numpy")
    imported("import pluggrad", *_PACKAGES)
    begin = time.perf_counter()
    install()
    unseen = time.perf_counter() - begin  # timers, and the modules that they load early, are not the demo's

    begin = time.perf_counter()
    tqdm: Any = import_module("tqdm.auto")

    class Bar(tqdm.tqdm):  # type: ignore[misc]
        def update(self, n: float | None = 1) -> NoReturn:
            from pluggrad import GlobalCounters

            seconds = time.monotonic() - start - unseen
            parts["trace, and the rest"] = seconds - sum(parts.values())
            found = {"seconds": seconds, "parts": parts, "counters": GlobalCounters.snapshot()}
            print(json.dumps(found), flush=True)
            os._exit(0)

    tqdm.tqdm = Bar
    demo = runpy.run_path(str(_DEMO), run_name="demo")
    parts["import what else the demo needs"] = time.perf_counter() - begin
    demo["main"]([])
    sys.exit("the demo ended without moving its progress bar")


if __name__ == "__main__":
    main(float(sys.argv[1]))
