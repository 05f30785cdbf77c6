"""`with profile() as p:` listens to kernels, copies and compilation."""
from __future__ import annotations

import atexit
import json
import os
import time
from pathlib import Path
from typing import Self

from pluggrad.config import PROFILE
from pluggrad.device.hookspecs import CopyFinished, KernelCompiled, KernelFinished, hookimpl
from pluggrad.device.registry import REGISTRY
from pluggrad.profiling.limits import limits_of
from pluggrad.profiling.table import KernelTotal, table_text, totals
from pluggrad.profiling.trace import trace


class Profile:
    """What ran in a `with` block; `print` shows it as a table, beside what each device reaches at most.

    finished, copied, compiled: the events as they came, each with device, start and seconds. kernels: a row
    for each kernel. seconds: how long the block took. `save` and `trace`: what ran when.
    """

    def __init__(self, file: str | os.PathLike[str] | None = None) -> None:
        self._file = None if file is None else Path(file)
        self._start = time.perf_counter()
        self.seconds = 0.0
        self.finished: list[KernelFinished] = []
        self.copied: list[CopyFinished] = []
        self.compiled: list[KernelCompiled] = []

    # ---- the block -----------------------------------------------------------------------------------------
    def __enter__(self) -> Self:
        if self._file is not None:
            self._file.touch()  # what cannot be written is said before the work, not after it
        REGISTRY.add_observer(self)
        self._start = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds = time.perf_counter() - self._start
        REGISTRY.remove_observer(self)
        if self._file is not None:
            self.save(self._file)

    # ---- what it hears -------------------------------------------------------------------------------------
    @hookimpl
    def pluggrad_kernel_compiled(self, event: KernelCompiled) -> None:
        """Called for each kernel that is compiled."""
        self.compiled.append(event)

    @hookimpl
    def pluggrad_kernel_finished(self, event: KernelFinished) -> None:
        """Called for each kernel that ran."""
        self.finished.append(event)

    @hookimpl
    def pluggrad_copy_finished(self, event: CopyFinished) -> None:
        """Called for each copy."""
        self.copied.append(event)

    # ---- what it tells -------------------------------------------------------------------------------------
    @property
    def kernels(self) -> list[KernelTotal]:
        """A row for each kernel on each device: those that took longest come first."""
        return totals(self.finished)

    def trace(self) -> dict[str, object]:
        """The block in the Trace Event Format: a row for each device, and one for compilation."""
        return trace(self._start, self.finished, self.copied, self.compiled)

    def save(self, file: str | os.PathLike[str]) -> None:
        """Write `trace` to a file, which https://ui.perfetto.dev and chrome://tracing open."""
        Path(file).write_text(json.dumps(self.trace()), encoding="utf-8")

    def __str__(self) -> str:
        found = {device: limits_of(device) for device in {event.device for event in self.finished}}
        limits = {device: each for device, each in found.items() if each is not None}
        return table_text(self.kernels, self.copied, self.compiled, self.seconds, limits)


def profile(file: str | os.PathLike[str] | None = None) -> Profile:
    """`with profile() as p:` times each kernel in the block; `print(p)` shows a table of them.

        with profile("trace.json") as p:
            model(x).sum().backward()
        print(p)                                     # a line for each kernel, those that took longest first
        slowest = p.kernels[0]
        print(slowest.kernel.title, slowest.seconds, slowest.gflops)

    file: also write a trace there, as `p.save(file)` does later, which https://ui.perfetto.dev and
    chrome://tracing open. While it runs, kernels run one by one, each waited for: a device that replays
    command lists, or runs them asynchronously, does so more slowly than usual. `python -m pluggrad run
    --profile FILE SCRIPT` and PLUGGRAD_PROFILE=FILE profile a script as it is.
    """
    return Profile(file)


_followed: list[Profile] = []


def follow_setting() -> None:
    """Start the profile that the setting PROFILE asks for, once; its trace is written when Python ends."""
    if PROFILE.value and not _followed:
        _followed.append(Profile(PROFILE.value).__enter__())
        atexit.register(_followed[0].__exit__)
