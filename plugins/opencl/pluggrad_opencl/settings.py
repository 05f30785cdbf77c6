"""The settings of this plugin; `pluggrad.config.show_config()` lists them."""
from __future__ import annotations

from typing import Final

from pluggrad.plugin_api import Setting

SCHEDULE: Final = Setting(
    "OPENCL_SCHEDULE", str, "auto",
    "shape of the opencl device's kernels: cpu (wide vectors), gpu (groups of work items), or auto",
    scoped=False)
MEMORY_MB: Final = Setting(
    "OPENCL_MEMORY_MB", int, 0, "memory that one opencl device hands out at most (0: all that it has)",
    scoped=False, minimum=0)
