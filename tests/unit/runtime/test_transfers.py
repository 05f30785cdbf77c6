"""Copies between any two devices: the way they take, and what they wait for."""
from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from pluggrad import GlobalCounters, Tensor, dtypes
from pluggrad.device.contract import implemented
from pluggrad.errors import KernelFault, UnsupportedDType
from pluggrad.runtime import copies
from pluggrad.runtime.sessions import session
from pluggrad.target import DeviceId
from tests.deferred_device import FEATURES, opened
from tests.unit.runtime.test_queue import values

pytestmark = pytest.mark.usefixtures("deferred_devices")


def place(name: str):
    return session(DeviceId.parse(name))


def declare(monkeypatch, name: str, features: frozenset[str]) -> None:
    target = place(name).target
    capabilities = replace(target.capabilities, features=features)
    monkeypatch.setattr(place(name), "target", replace(target, capabilities=capabilities))


WAYS = [
    ("deferred", "deferred:1", copies._directly),
    ("ref", "deferred", copies._out_of_shared),
    ("deferred", "ref", copies._into_shared),
    ("deferred", "distant", copies._staged),
]


@pytest.mark.parametrize(("origin", "to", "way"), WAYS)
def test_the_way_that_a_copy_takes(origin, to, way):
    assert copies._way(place(to), place(origin)) is way
    x = values(100, origin)
    moved = (x + 1).to(to)
    assert moved.device == to
    np.testing.assert_array_equal(moved.numpy(), np.arange(100) + 1)


@pytest.mark.parametrize(("origin", "to", "way"), WAYS)
def test_a_copy_has_memory_of_its_own(origin, to, way):
    x = values(8, origin)
    moved = x.to(to).realize()
    x.assign(x * 0).realize()
    assert moved.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    moved.assign(moved + 1).realize()
    assert x.tolist() == [0] * 8


@pytest.mark.parametrize(("origin", "to", "way"), WAYS)
def test_empty_and_odd_tensors(origin, to, way):
    for shape in ((0,), (), (3, 0), (7, 11)):
        data = np.random.default_rng(0).integers(0, 100, shape).astype(np.int16)
        np.testing.assert_array_equal(Tensor(data, device=origin).to(to).numpy(), data)


def test_peers_are_asked_first(monkeypatch):
    x = values(8, "deferred")
    x.to("deferred:1").realize()
    assert opened("deferred:1").peer_copies == 1
    monkeypatch.setattr(opened("deferred:1").allocator, "can_access", lambda other: False)
    assert copies._way(place("deferred:1"), place("deferred")) is copies._staged
    x.to("deferred:1").contiguous().realize()
    assert opened("deferred:1").peer_copies == 1


def test_a_feature_that_is_not_declared_is_never_called(monkeypatch):
    declare(monkeypatch, "deferred:1", FEATURES - {"peer"})
    assert copies._way(place("deferred:1"), place("deferred")) is copies._staged
    assert copies._way(place("deferred"), place("deferred:1")) is copies._staged


@pytest.mark.parametrize(("origin", "to", "way"), WAYS[:1] + WAYS[2:])
def test_a_fault_of_the_origin_is_found_by_the_copy(origin, to, way):
    x = values(8, origin)
    opened(origin).fail(KernelFault("it burned"))
    y = (x + 1).realize()
    with pytest.raises(KernelFault, match=r"command list add_8: .*it burned"):
        y.to(to).realize()
    assert values(3, to).tolist() == [0, 1, 2]


def test_a_copy_into_shared_memory_waits_for_what_uses_that_memory(monkeypatch):
    """Two of the same kind, the target as if the host shared its memory."""
    x = values(64, "distant")
    target = opened("deferred")
    monkeypatch.setattr(target.allocator, "host_view",
                        lambda allocation: allocation.bytes.data, raising=False)
    declare(monkeypatch, "deferred", FEATURES | {"zero_copy"})
    ints = Tensor(np.arange(64, dtype=np.int32), device="deferred").realize()
    with target.held():
        doubled = (ints * 2).realize()
        del ints
        threading.Timer(0.05, target.worker.gate.set).start()
        moved = x.to("deferred").realize()
    np.testing.assert_array_equal(doubled.numpy(), np.arange(64) * 2)
    np.testing.assert_array_equal(moved.numpy(), np.arange(64))


def test_a_copy_counts_once_and_needs_the_dtype(monkeypatch):
    x = Tensor(np.arange(4.0), device="ref", dtype=dtypes.float64).realize()
    before = GlobalCounters.uploads
    x.to("deferred").realize()
    assert GlobalCounters.uploads == before + 1
    target = place("distant").target
    fewer = replace(target.capabilities, dtypes=target.capabilities.dtypes - {"float64"})
    monkeypatch.setattr(place("distant"), "target", replace(target, capabilities=fewer))
    with pytest.raises(UnsupportedDType, match="float64"):
        x.to("distant").realize()


@pytest.mark.parametrize("name", ["deferred", "deferred:1", "distant"])
def test_the_devices_of_these_tests_declare_what_they_implement(name):
    device = opened(name)
    assert implemented(device) == device.target.capabilities.features
