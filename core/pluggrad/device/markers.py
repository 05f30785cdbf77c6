"""A note on disk while a plugin is probed in this process: one that kills it is skipped the next time."""
from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pluggrad import config
from pluggrad.device.discovery import Entry

if TYPE_CHECKING:
    from pathlib import Path


def _folder() -> Path:
    return config.cache_dir() / "probing"


def _stem(entry: Entry) -> str:
    return f"{entry.name}.{entry.distribution}"


def _host() -> str:
    """Where a process id means something: this machine and, on Linux, this namespace of process ids."""
    namespace = ""
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return f"{platform.node()} {namespace}".strip()


@contextmanager
def probing(entry: Entry) -> Iterator[None]:
    """Leave a marker for `entry` while the block runs. Only a process that dies in it leaves one behind."""
    marker = _write(entry)
    try:
        yield
    finally:
        if marker is not None:
            with suppress(OSError):
                marker.unlink()


def _write(entry: Entry) -> Path | None:
    if not config.CACHE.value:
        return None
    marker = _folder() / f"{_stem(entry)}.{os.getpid()}.json"
    try:
        config.cache_dir().mkdir(mode=0o700, parents=True, exist_ok=True)  # the mode is the last one's
        marker.parent.mkdir(mode=0o700, exist_ok=True)
        marker.write_text(json.dumps({"pid": os.getpid(), "host": _host(), "version": entry.version}))
    except OSError:  # without a cache folder there is no marker, and nothing else is lost
        return None
    return marker


def died(entry: Entry) -> int | None:
    """The id of a process on this machine that died while it probed this version of the plugin, or None."""
    for marker in _markers(entry):
        with suppress(OSError, ValueError, TypeError, KeyError):
            note = json.loads(marker.read_text())
            if note["host"] != _host():
                continue
            if note["version"] != entry.version:
                marker.unlink()
            elif not _alive(int(note["pid"])):
                return int(note["pid"])
    return None


def clear(entry: Entry) -> None:
    """Remove the markers of dead processes: the plugin was probed and the process lived."""
    for marker in _markers(entry):
        with suppress(OSError, ValueError, TypeError, KeyError):
            note = json.loads(marker.read_text())
            if note["host"] == _host() and not _alive(int(note["pid"])):
                marker.unlink()


def _markers(entry: Entry) -> list[Path]:
    if not config.CACHE.value:
        return []
    try:
        return sorted(_folder().glob(f"{_stem(entry)}.*.json"))
    except OSError:
        return []


def _alive(pid: int) -> bool:
    if sys.platform == "win32":
        return _alive_windows(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _alive_windows(pid: int) -> bool:
    import ctypes

    # os.kill would end the process on Windows; a handle that opens and still runs is alive
    kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined,unused-ignore]
    query_limited_information, still_active = 0x1000, 259
    handle = kernel32.OpenProcess(query_limited_information, False, pid)
    if not handle:
        return False
    code = ctypes.c_ulong()
    running = kernel32.GetExitCodeProcess(handle, ctypes.byref(code)) and code.value == still_active
    kernel32.CloseHandle(handle)
    return bool(running)
