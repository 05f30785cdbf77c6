"""The distributions of examples/extensions, installed as pip would, in this process or in one of its own."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pluggrad import config
from pluggrad.device.registry import REGISTRY
from pluggrad.runtime.sessions import _sessions
from tests.fake_plugins.install import install

SOURCES = Path(__file__).parents[3] / "examples" / "extensions"

Finished = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Path]]:
    """`installed("pluggrad-npblas", ...)` makes this process find examples until the module ends."""
    folder = tmp_path_factory.mktemp("site")
    before = set(sys.modules)

    def make(*names: str) -> Path:
        install(folder, *names, sources=SOURCES)
        importlib.invalidate_caches()
        REGISTRY.reset()
        return folder

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield make
    for module in set(sys.modules) - before:
        if str(folder) in (getattr(sys.modules[module], "__file__", None) or ""):
            del sys.modules[module]
    REGISTRY.reset()
    _sessions.clear()
    config.reload()


@pytest.fixture
def run(tmp_path: Path, fresh_cache: Path) -> Callable[..., Finished]:
    """`run("-c", code, extensions=[...], CC="clang")` starts Python with example distributions beside the
    real ones."""

    def start(*arguments: str, extensions: tuple[str, ...] = (), **variables: str) -> Finished:
        folder = install(tmp_path / "site", *extensions, sources=SOURCES)
        environment = {**os.environ, **variables, "PYTHONPATH": str(folder)}
        return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True,
                              text=True, timeout=300, check=False)

    return start
