"""Open cpu devices under chosen settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pluggrad_cpu import native, settings
from pluggrad_cpu.device import CpuDevice
from pluggrad_cpu.target import host_target

MakeDevice = Callable[..., CpuDevice]


def _forget_settings() -> None:
    for setting in (settings.TEAM, settings.THREADS, settings.TARGET):
        setting.forget()


@pytest.fixture
def make_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeDevice]:
    """`make_device(team, threads)` opens a device; all are closed after the test."""
    made: list[CpuDevice] = []

    def make(team: str = "native", threads: int = 3) -> CpuDevice:
        if team == "native" and not native.team_supported():
            pytest.skip("the native thread team needs Linux on x86-64 or aarch64")
        monkeypatch.setenv(settings.TEAM.variable, team)
        monkeypatch.setenv(settings.THREADS.variable, str(threads))
        _forget_settings()
        made.append(CpuDevice(host_target()))
        return made[-1]

    yield make
    for device in made:
        device.close()
    monkeypatch.undo()
    _forget_settings()


@pytest.fixture(params=["native", "portable"])
def device(request: pytest.FixtureRequest, make_device: MakeDevice) -> CpuDevice:
    """A device with three threads, once with each kind of team."""
    return make_device(request.param)
