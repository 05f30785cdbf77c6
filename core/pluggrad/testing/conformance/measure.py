"""What importing a plugin costs and loads; runs in a fresh process, and so imports as little as it can."""
from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

from pluggrad.device.registry import REGISTRY


@dataclass(frozen=True, slots=True)
class ImportCost:
    """Of importing a plugin's module and making its backend.

    cpu_seconds: processor time. modules: top-level names that it loaded. libraries: native libraries that it
    loaded through ctypes.
    """

    cpu_seconds: float
    modules: frozenset[str]
    libraries: tuple[str, ...]


def import_cost(device_type: str) -> ImportCost:
    """Import the plugin of a device type for the first time."""
    plugin = REGISTRY.plugin(device_type)
    libraries: list[str] = []

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "ctypes.dlopen" and arguments[0] is not None:
            libraries.append(str(arguments[0]))

    sys.addaudithook(heard)
    before, started = set(sys.modules), time.process_time()
    plugin.backend()
    seconds = time.process_time() - started
    loaded = frozenset(name.partition(".")[0] for name in set(sys.modules) - before)
    return ImportCost(seconds, loaded, tuple(libraries))
