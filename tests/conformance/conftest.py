"""The conformance suite as a plugin's author runs it: in a process of its own, on an installed plugin."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fake_plugins.install import write_metadata

Finished = subprocess.CompletedProcess[str]


def run_suite(site: Path, *arguments: str, limit_s: float = 300, **variables: str) -> Finished:
    """`python -m pluggrad conformance ...` with the folder `site` on the path, and variables set."""
    environment = {**os.environ, **variables, "PYTHONPATH": str(site)}
    environment.pop("PLUGGRAD_VERIFY", None)  # as users run it
    return subprocess.run([sys.executable, "-m", "pluggrad", "conformance", *arguments], env=environment,
                          capture_output=True, text=True, timeout=limit_s, check=False)


@pytest.fixture
def conformance(tmp_path: Path) -> Callable[..., Finished]:
    """`conformance("acme", "-k", ..., module=path, NAME="")` installs a module as that device's plugin."""

    def run(device: str, *arguments: str, module: Path, **variables: str) -> Finished:
        site = tmp_path / "site"
        site.mkdir(exist_ok=True)
        (site / module.name).write_text(module.read_text(encoding="utf-8"), encoding="utf-8")
        write_metadata(site, f"fake-{device}", "1.2", {"pluggrad.devices.v1": {device: module.stem}})
        return run_suite(site, device, *arguments, **variables)

    return run
