"""The sessions of this process, by device: looked up at every realization, each opened on first use."""
from __future__ import annotations

import atexit
from dataclasses import replace
from typing import TYPE_CHECKING, overload

from pluggrad.device.registry import REGISTRY
from pluggrad.runtime.memory import MemoryReport, MemoryStats
from pluggrad.runtime.queue import drain
from pluggrad.target import DeviceId

if TYPE_CHECKING:
    from pluggrad.runtime.session import Session

_sessions: dict[DeviceId, Session] = {}
atexit.register(drain)  # before the registry, which is older, closes the devices


def session(device: DeviceId) -> Session:
    """The session of a device, opened on first use."""
    found = _sessions.get(device)
    if found is None:
        from pluggrad.runtime.session import Session  # loads what compiles, loads and caches

        found = _sessions[device] = Session(device)
    return found


def opened(device: DeviceId) -> Session | None:
    """The session of a device, if something has used it."""
    return _sessions.get(device)


def sessions() -> list[Session]:
    """Those of the devices in use."""
    return list(_sessions.values())


def memory_of(device: DeviceId) -> MemoryStats:
    """A copy of one device's figures; all 0 where nothing used it yet. Opens nothing."""
    found = _sessions.get(device)
    return MemoryStats() if found is None else replace(found.pool.stats)


@overload
def memory_stats(device: None = None) -> MemoryReport: ...
@overload
def memory_stats(device: str | DeviceId) -> MemoryStats: ...
def memory_stats(device: str | DeviceId | None = None) -> MemoryReport | MemoryStats:
    """Bytes of memory in use, pooled and at most in use so far; see `MemoryStats`.

    device: the figures of that one, all 0 where nothing used it yet. None: a table of all devices in use, by
    their names, which `print` shows line by line.

        print(memory_stats())            # cpu: 1.2 MiB in use, 4.0 MiB pooled, 3.1 MiB at most in use
        memory_stats("cpu").peak
    """
    if device is None:
        return MemoryReport({str(name): memory_of(name) for name in list(_sessions)})
    return memory_of(REGISTRY.resolve(device))


def reset_peak_memory_stats(device: str | DeviceId | None = None) -> None:
    """Let `peak` of a device, or of all, begin anew from what is in use now."""
    chosen = list(_sessions) if device is None else [REGISTRY.resolve(device)]
    for name in chosen:
        if name in _sessions:
            _sessions[name].pool.reset_peak()
