"""`python -m pluggrad env`: versions, platform, devices, settings and cache folder, for an issue report."""
from __future__ import annotations

import argparse
import os
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from pluggrad import config
from pluggrad.cli.devices import as_table
from pluggrad.cli.probing import find_default, probe_all
from pluggrad.device.names import CORE_DISTRIBUTION
from pluggrad.device.registry import REGISTRY
from pluggrad.errors import SettingError


def main(arguments: Sequence[str]) -> int:
    """Print the report. It holds no secrets: PLUGGRAD_ settings only, and the home folder written as `~`."""
    parser = argparse.ArgumentParser(prog="python -m pluggrad env", description=__doc__)
    parser.parse_args(arguments)
    for heading, lines in (("versions", _versions()), ("platform", _platform()), ("devices", _devices()),
                           ("settings", _settings()), ("cache", _cache())):
        print(f"{heading}:")
        for line in lines:
            print(f"  {_without_home(line)}".rstrip())
    return 0


def _versions() -> Iterator[str]:
    ours = sorted({CORE_DISTRIBUTION, *(entry.distribution for entry in REGISTRY.entries())})
    needed = {name for distribution in ours for name in _requirements(distribution)}
    for name in [*ours, *sorted(needed - set(ours))]:
        installed = _version(name)
        if installed or name in ours:
            yield f"{name} {installed or 'not installed'}"


def _requirements(distribution: str) -> list[str]:
    try:
        lines = requires(distribution) or []
    except PackageNotFoundError:
        return []
    return [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines]


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def _platform() -> Iterator[str]:
    yield f"python {platform.python_version()} ({platform.python_implementation()}) at {sys.executable}"
    yield f"{platform.platform()}, {platform.machine()}"
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield f"processors: {os.cpu_count()}, usable: {usable}"


def _devices() -> Iterator[str]:
    rows = probe_all()
    yield from as_table(rows, find_default(rows))


def _settings() -> Iterator[str]:
    declared = [setting for setting in config.settings() if setting.variable in os.environ]
    others = config.undeclared()
    for setting in declared:
        yield f"{setting.variable}={os.environ[setting.variable]}{_problem(setting)}"
    yield from (f"{name}={os.environ[name]} (of a plugin, or mistyped)" for name in others)
    if not declared and not others:
        yield "all as by default"


def _problem(setting: config.Setting[Any]) -> str:
    """Why its value is refused, which is no reason to leave out the rest of a report."""
    try:
        setting.check(setting.value)
    except SettingError as error:
        return f" (refused: {error})"
    return ""


def _cache() -> Iterator[str]:
    folder = config.cache_dir()
    if not folder.is_dir():
        yield f"{folder} (not made yet)"
        return
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    writable = "writable" if os.access(folder, os.W_OK) else "not writable"
    mode = folder.stat().st_mode & 0o777
    yield f"{folder} ({len(files)} files, {size / 2**20:.1f} MiB, {writable}, mode {mode:o})"


def _without_home(text: str) -> str:
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text
