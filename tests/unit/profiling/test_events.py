"""What observers are told: each kernel and copy, what it is and how long it took, and only if they listen."""
from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from pluggrad import Context, Tensor, jit
from pluggrad.device.hookspecs import hookimpl
from pluggrad.device.registry import REGISTRY
from pluggrad.errors import PluggradWarning
from pluggrad.runtime import loaded
from pluggrad.runtime.sessions import session
from pluggrad.target import DeviceId
from tests import deferred_device


class Observer:
    """Keeps every event."""

    def __init__(self) -> None:
        self.compiled, self.finished, self.copied = [], [], []

    @hookimpl
    def pluggrad_kernel_compiled(self, event):
        self.compiled.append(event)

    @hookimpl
    def pluggrad_kernel_finished(self, event):
        self.finished.append(event)

    @hookimpl
    def pluggrad_copy_finished(self, event):
        self.copied.append(event)


@pytest.fixture
def observer():
    made = Observer()
    REGISTRY.add_observer(made)
    yield made
    REGISTRY.remove_observer(made)


@pytest.fixture
def deferred():
    deferred_device.install()
    yield
    gc.collect()
    deferred_device.remove()


def product(device: str, n: int) -> Tensor:
    return Tensor(np.ones((n, n), np.float32), device=device).realize()


def test_each_kernel_that_runs_is_told_of(device_name, observer):
    x = product(device_name, 65)
    begin = time.perf_counter()
    y = ((x @ x).relu() + 1).realize()
    end = time.perf_counter()
    assert y.sum().item() == 66 * 65 * 65
    event = max(observer.finished, key=lambda event: event.kernel.flops)
    assert event.device == DeviceId.parse(device_name)
    assert event.kernel.flops == 2 * 65**3 + 3 * 65**2  # not what tiles compute beyond the edge
    assert event.kernel.bytes >= 65 * 65 * 4
    assert "65" in event.kernel.title
    assert "float32[4225]" in event.kernel.buffers
    assert "REDUCE" in event.kernel.axes
    assert begin <= event.start
    assert event.seconds > 0
    assert event.start + event.seconds <= end


def test_a_kernel_is_told_of_when_it_is_compiled(device_name, observer):
    x = product(device_name, 67)
    begin = time.perf_counter()
    (x * 2 + x.exp()).realize()
    compiled, finished = observer.compiled[-1], observer.finished[-1]
    assert compiled.kernel == finished.kernel
    assert compiled.kernel.name in compiled.source or "kernel" in compiled.source
    assert [phase.phase for phase in compiled.phases] == ["lower", "render", "compile"]
    assert all(phase.start >= begin for phase in compiled.phases)
    assert compiled.seconds == pytest.approx(sum(phase.seconds for phase in compiled.phases))
    told = len(observer.compiled)
    (x * 2 + x.exp()).contiguous().realize()
    assert len(observer.compiled) == told


def test_a_plan_from_disk_tells_the_same(device_name, observer):
    place = session(DeviceId.parse(device_name))

    def kernels() -> list:
        observer.finished.clear()
        (product(device_name, 69).softmax(1) * 3).realize()
        return [event.kernel for event in observer.finished]

    first, compiled = kernels(), len(observer.compiled)
    place._plans.clear()
    assert kernels() == first
    assert first
    assert len(observer.compiled) == compiled


def test_replays_are_told_of_kernel_by_kernel(device_name, observer):
    x = product(device_name, 33)
    f = jit(lambda x: ((x @ x).softmax(1) @ x).sum())
    f(x).realize()
    observer.finished.clear()
    first = f(x).item()
    assert len({event.kernel.name for event in observer.finished}) > 1
    starts = [event.start for event in observer.finished]
    assert starts == sorted(starts)
    REGISTRY.remove_observer(observer)
    told = len(observer.finished)
    try:
        assert f(x).item() == first
        assert len(observer.finished) == told
    finally:
        REGISTRY.add_observer(observer)


def test_nothing_runs_step_by_step_while_nobody_listens(device_name, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("a list ran command by command")

    monkeypatch.setattr(loaded, "run_stepwise", refuse)
    x = product(device_name, 8)
    assert (x + 1).sum().item() == 128

    class CompileOnly:
        @hookimpl
        def pluggrad_kernel_compiled(self, event):
            heard.append(event)

    heard, made = [], CompileOnly()
    REGISTRY.add_observer(made)
    try:
        (x + 1).tanh().realize()
    finally:
        REGISTRY.remove_observer(made)
    assert len(heard) <= 1  # none, where the disk cache had it


def test_copies_are_told_of(observer, deferred):
    x = Tensor(np.arange(8, dtype=np.float32), device="ref").realize()
    moved = x.to("deferred").realize()
    moved.numpy()
    found = [(str(e.device), e.kind, e.nbytes, e.source and str(e.source)) for e in observer.copied]
    assert found == [("ref", "upload", 32, None), ("deferred", "transfer", 32, "ref"),
                     ("deferred", "download", 32, None)]
    assert all(event.seconds > 0 for event in observer.copied)
    observer.copied.clear()
    base = x.contiguous().realize()
    base[2:4] = 5  # a copy of the base, since `x` still needs it
    kept = (x + base).realize()
    assert kept.tolist() == [0, 2, 7, 8, 8, 10, 12, 14]
    assert {event.kind for event in observer.copied} <= {"copy", "download", "upload"}


def test_a_device_that_measures_is_believed(observer, deferred, monkeypatch):
    device = deferred_device.opened()
    monkeypatch.setattr(device, "elapsed", lambda event: 1e-9)
    x = Tensor(np.arange(8, dtype=np.float32), device="deferred").realize()
    (x + 1).realize()
    assert [event.seconds for event in observer.finished] == [1e-9]
    monkeypatch.setattr(device, "elapsed", lambda event: 3600.0)  # a clock that runs too fast
    (x + 2).realize()
    assert observer.finished[-1].seconds < 3600


def test_an_observer_that_raises_takes_nothing_away(device_name):
    class Broken:
        @hookimpl
        def pluggrad_kernel_finished(self, event):
            raise RuntimeError("I broke")

    broken, x = Broken(), product(device_name, 8)
    REGISTRY.add_observer(broken)
    try:
        REGISTRY._warned.clear()
        with pytest.warns(PluggradWarning, match="left out of pluggrad_kernel_finished: RuntimeError"):
            y = (x + 4).realize()
        (x + 5).realize()  # said once
    finally:
        REGISTRY.remove_observer(broken)
    assert y.sum().item() == 5 * 64


def test_observing_and_sync_go_together(device_name, observer):
    x = product(device_name, 8)
    with Context(SYNC=1):
        (x + 7).realize()
    assert len(observer.finished) == 1


def test_an_installed_extension_observes_from_the_first_kernel_on(tmp_path, device_name):
    metadata = tmp_path / "site_observer-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: site-observer\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[pluggrad.extensions.v1]\nobserver = site_observer\n")
    (tmp_path / "site_observer.py").write_text(textwrap.dedent("""
        from pluggrad.plugin_api import hookimpl

        @hookimpl
        def pluggrad_kernel_finished(event):
            print("ran", event.device, event.kernel.title)
    """))
    code = f"from pluggrad import Tensor; print((Tensor([1.0, 2.0], device={device_name!r}) + 3).tolist())"
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment,
                            check=True)
    assert result.stdout == f"ran {device_name} add_2\n[4.0, 5.0]\n"
