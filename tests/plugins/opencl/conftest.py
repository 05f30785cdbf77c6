"""The first OpenCL device, open, and kernels for it written by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("pyopencl", reason="needs pyopencl")

from pluggrad_opencl import driver, settings
from pluggrad_opencl.device import OpenCLDevice
from pluggrad_opencl.plugin import OpenCLBackend

RunChild = Callable[..., str]


@pytest.fixture
def backend() -> OpenCLBackend:
    backend = OpenCLBackend()
    found = backend.probe()
    if not found.count:
        pytest.skip(f"needs an OpenCL device: {found.reason}")
    return backend


@pytest.fixture
def open_device(backend: OpenCLBackend) -> Iterator[Callable[[], OpenCLDevice]]:
    """`open_device()` opens the first device anew; all are closed after the test."""
    opened: list[OpenCLDevice] = []

    def make() -> OpenCLDevice:
        opened.append(OpenCLDevice(driver.device(0), backend.target(0, "")))
        return opened[-1]

    yield make
    for device in opened:
        device.close()


@pytest.fixture
def device(open_device: Callable[[], OpenCLDevice]) -> OpenCLDevice:
    return open_device()


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """`setting("SCHEDULE", "gpu")` for one test."""

    def change(name: str, value: str) -> None:
        found = getattr(settings, name)
        monkeypatch.setenv(found.variable, value)
        found.forget()

    yield change
    monkeypatch.undo()
    settings.SCHEDULE.forget()
    settings.MEMORY_MB.forget()


@pytest.fixture
def run_child() -> RunChild:
    """`run_child(code, NAME=value)`: what a fresh process prints, with these environment variables."""

    def run(code: str, **variables: str) -> str:
        made = subprocess.run([sys.executable, "-c", code], env=os.environ | variables, capture_output=True,
                              text=True, timeout=300, check=False)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    return run
