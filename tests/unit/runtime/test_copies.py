"""Values move between devices as they are, once."""
from __future__ import annotations

import numpy as np
import pytest

from pluggrad import dtypes, runtime
from pluggrad.errors import MixedDevices
from pluggrad.graph import build, ops
from pluggrad.runtime import GlobalCounters
from pluggrad.target import DeviceId
from tests.unit.runtime.handles import Kept, counting, stored


@pytest.fixture
def other(other_device: str) -> DeviceId:
    """A second device beside `device`."""
    return DeviceId.parse(other_device)


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda d: d.name)
def test_there_and_back(device, other, dtype):
    data = np.arange(12).astype(dtype.numpy).reshape(3, 4)
    there = build.copy(stored(data, other, dtype), device)
    back = build.copy(build.permute(there, (1, 0)), other)
    assert (there.device, back.device) == (device, other)
    np.testing.assert_array_equal(runtime.read(back), data.T)


def test_computed_on_both_sides(device, other):
    x = build.binary(ops.ADD, counting(5, other), counting(5, other))
    y = build.binary(ops.MUL, build.copy(x, device), counting(5, device))
    z = build.binary(ops.SUB, build.copy(y, other), x)
    np.testing.assert_array_equal(runtime.read(z), 2 * np.arange(5) ** 2 - 2 * np.arange(5))


def test_a_value_is_transferred_once(device, other):
    moved = build.copy(counting(5, other), device)
    one, two = Kept(build.binary(ops.ADD, moved, moved)), Kept(build.unary(ops.NEG, moved))
    runtime.realize([one])
    before = GlobalCounters.uploads
    runtime.realize([two])
    assert GlobalCounters.uploads == before
    np.testing.assert_array_equal(runtime.read(two.node), -np.arange(5))


def test_handles_of_two_devices_are_realized_together(device, other):
    here, there = [Kept(build.unary(ops.NEG, counting(5, place))) for place in (other, device)]
    runtime.realize([here, there])
    assert here.node.op is ops.BUFFER
    assert there.node.op is ops.BUFFER
    assert (here.node.device, there.node.device) == (other, device)


def test_a_long_chain_of_transfers(device, other):
    n = counting(3, other)
    for _ in range(30):
        more = build.binary(ops.ADD, n, build.const(1.0, n.dtype, n.device))
        n = build.copy(build.copy(more, device), other)
    np.testing.assert_array_equal(runtime.read(n), np.arange(3) + 30)


def test_operands_of_two_devices_are_refused(device, other):
    with pytest.raises(MixedDevices, match=f"{other} and {device}"):
        build.binary(ops.ADD, counting(3, other), counting(3, device))
