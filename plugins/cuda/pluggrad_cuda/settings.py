"""The settings of this plugin; `pluggrad.config.show_config()` lists them."""
from __future__ import annotations

from typing import Final

from pluggrad.plugin_api import Setting

MEMORY_MB: Final = Setting(
    "CUDA_MEMORY_MB", int, 0, "memory that one cuda device hands out at most (0: all that it has)",
    scoped=False, minimum=0)
