"""The settings of this plugin; `pluggrad.config.show_config()` lists them."""
from __future__ import annotations

from typing import Final

from pluggrad.plugin_api import Setting

THREADS: Final = Setting(
    "CPU_THREADS", int, 0, "threads of the cpu device (0: one for each core this process may use)",
    scoped=False, minimum=0)
TEAM: Final = Setting(
    "CPU_TEAM", str, "native", "thread team of the cpu device: native, or portable (plain Python threads)",
    scoped=False)
TARGET: Final = Setting(
    "CPU_TARGET", str, "native",
    "instruction set of the cpu device: native, avx512, avx2, sse2, neon, or plain (scalar code)",
    scoped=False)
