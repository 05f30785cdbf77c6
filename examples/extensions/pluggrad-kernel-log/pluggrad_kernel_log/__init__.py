"""How often each kernel ran and how long it took: written at exit to the file that KERNEL_LOG names.

Observed kernels run one by one, which costs time; so nothing is observed where the variable is not set.
"""
from __future__ import annotations

import atexit
import os
from collections import defaultdict
from pathlib import Path
from typing import Final

from pluggrad.plugin_api import KernelFinished, hookimpl

LOG: Final = os.environ.get("KERNEL_LOG", "")
seconds_of: Final = defaultdict[tuple[str, str], list[float]](list)

if LOG:

    @hookimpl
    def pluggrad_kernel_finished(event: KernelFinished) -> None:
        """Called after every launch: keep it short."""
        seconds_of[str(event.device), event.kernel.title].append(event.seconds)

    @atexit.register
    def write() -> None:
        """The slowest first."""
        lines = ["     us  runs  device  kernel"]
        for (device, title), seconds in sorted(seconds_of.items(), key=lambda item: -sum(item[1])):
            lines.append(f"{sum(seconds) * 1e6:7.0f}  {len(seconds):4d}  {device}  {title}")
        Path(LOG).write_text("\n".join(lines) + "\n", encoding="utf-8")
