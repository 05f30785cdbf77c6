"""The limits of a device: measured once, kept, and what is shown of a kernel beside them."""
from __future__ import annotations

import json

import pytest

from pluggrad.device.hookspecs import KernelInfo
from pluggrad.errors import CompileError
from pluggrad.profiling.limits import Limits
from pluggrad.runtime import cache, limits
from pluggrad.runtime.sessions import session
from pluggrad.target import DeviceId


@pytest.mark.parametrize(("flops", "nbytes", "text"), [
    (8_000, 100, "80% compute"), (100, 900, "90% memory"), (0, 2_500, "250% memory"), (0, 0, "0% compute")])
def test_the_closer_limit_is_named(flops, nbytes, text):
    kernel = KernelInfo("k", "sum", "", "", flops, nbytes)
    assert Limits(1e10, 1e9).text(kernel, 1e-6) == text
    assert Limits(1e10, 1e9).text(kernel, 0.0) == "0% compute"


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Figures handed out instead of measuring, the last one again and again; nothing is known beforehand."""
    left = [Limits(100.0, 10.0)]

    def give(place):
        return left.pop(0) if len(left) > 1 else left[0]

    monkeypatch.setattr(limits, "_measured", give)
    monkeypatch.setattr(limits, "_known", {})
    monkeypatch.setattr(cache, "folder", lambda: tmp_path)
    return left


def test_limits_are_measured_once_and_kept_on_disk(device_name, measured):
    place = session(DeviceId.parse(device_name))
    assert limits.limits_of(place) == Limits(100.0, 10.0)
    measured[:] = [Limits(1.0, 1.0)]
    assert limits.limits_of(place) == Limits(100.0, 10.0)
    limits._known.clear()  # as in another process
    assert limits.limits_of(place) == Limits(100.0, 10.0)


def test_measured_again_the_larger_figures_stay(device_name, measured):
    place = session(DeviceId.parse(device_name))
    limits.limits_of(place)
    measured[:] = [Limits(50.0, 20.0)]  # busy, but memory was free
    assert limits.measure(place) == limits.limits_of(place) == Limits(100.0, 20.0)
    assert json.loads(cache.load("limits", limits._key(place))) == [100.0, 20.0]


def test_a_device_that_cannot_run_the_probes_has_none(device_name, measured, monkeypatch):
    def refuse(place):
        raise CompileError("no", source="", log="")

    monkeypatch.setattr(limits, "_measured", refuse)
    assert session(DeviceId.parse(device_name)).limits() is None


def test_each_device_measures_itself(device_name, monkeypatch):
    monkeypatch.setattr(limits, "_LEAST_BYTES", 1 << 16)
    monkeypatch.setattr(limits, "_MOST_BYTES", 1 << 16)
    monkeypatch.setattr(limits, "_ROWS", 8)
    monkeypatch.setattr(limits, "_SIDE", 32)
    found = limits._measured(session(DeviceId.parse(device_name)))
    assert found.operations > 0
    assert found.bytes > 0
