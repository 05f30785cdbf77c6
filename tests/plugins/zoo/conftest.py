"""A registry that sees chosen fake plugins and nothing else, in this process or in one of its own."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pluggrad import config
from pluggrad.device.registry import Registry
from tests.fake_plugins.install import install, write_metadata

Finished = subprocess.CompletedProcess[str]


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, fresh_cache: Path) -> Iterator[Callable[..., None]]:
    """`settings(DEVICE="a,b")` sets PLUGGRAD_ variables for one test; the cache folder is always its own."""

    def change(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"PLUGGRAD_{name}", value)
        config.reload()

    change()
    yield change
    monkeypatch.undo()
    config.reload()


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Registry]]:
    """`zoo("fake-acme", ...)` installs fake plugins and returns a new registry that looks only there.

    core: beside them stands the core's own distribution.
    """
    folder = tmp_path / "site"

    def make(*names: str, core: bool = False) -> Registry:
        install(folder, *names)
        if core:
            groups = {"pluggrad.devices.v1": {"ref": "pluggrad.device.ref"}}
            write_metadata(folder, "pluggrad", "0.1.0", groups)
        importlib.invalidate_caches()  # the finders may have listed the folder before
        return Registry([str(folder)])

    monkeypatch.syspath_prepend(str(folder))
    yield make
    for module in [name for name in sys.modules if name.startswith("fake_")]:
        del sys.modules[module]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Finished]:
    """`run("-m", "pluggrad", ..., plugins=[...])` starts Python with fake plugins beside the real ones."""

    def start(*arguments: str, plugins: tuple[str, ...] = (), **variables: str) -> Finished:
        folder = install(tmp_path / "site", *plugins)
        settings = {f"PLUGGRAD_{name}": value for name, value in variables.items()}
        environment = {**os.environ, **settings, "PYTHONPATH": str(folder)}
        return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True,
                              text=True, timeout=300, check=False)

    return start
