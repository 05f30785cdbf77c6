"""Values move between devices as they are, once."""
from __future__ import annotations

import numpy as np
import pytest

from pluggrad import dtypes, runtime
from pluggrad.errors import MixedDevices
from pluggrad.graph import build, ops
from pluggrad.runtime import GlobalCounters
from pluggrad.target import DeviceId
from tests.unit.runtime.handles import REF, Kept, counting, stored

CPU = DeviceId("cpu")
pytestmark = pytest.mark.device("cpu")


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda d: d.name)
def test_there_and_back(dtype):
    data = np.arange(12).astype(dtype.numpy).reshape(3, 4)
    there = build.copy(stored(data, REF, dtype), CPU)
    back = build.copy(build.permute(there, (1, 0)), REF)
    assert (there.device, back.device) == (CPU, REF)
    np.testing.assert_array_equal(runtime.read(back), data.T)


def test_computed_on_both_sides():
    x = build.binary(ops.ADD, counting(5, REF), counting(5, REF))
    y = build.binary(ops.MUL, build.copy(x, CPU), counting(5, CPU))
    z = build.binary(ops.SUB, build.copy(y, REF), x)
    np.testing.assert_array_equal(runtime.read(z), 2 * np.arange(5) ** 2 - 2 * np.arange(5))


def test_a_value_is_transferred_once():
    moved = build.copy(counting(5, REF), CPU)
    one, two = Kept(build.binary(ops.ADD, moved, moved)), Kept(build.unary(ops.NEG, moved))
    runtime.realize([one])
    before = GlobalCounters.uploads
    runtime.realize([two])
    assert GlobalCounters.uploads == before
    np.testing.assert_array_equal(runtime.read(two.node), -np.arange(5))


def test_handles_of_two_devices_are_realized_together():
    here, there = Kept(build.unary(ops.NEG, counting(5, REF))), Kept(build.unary(ops.NEG, counting(5, CPU)))
    runtime.realize([here, there])
    assert here.node.op is ops.BUFFER
    assert there.node.op is ops.BUFFER
    assert (here.node.device, there.node.device) == (REF, CPU)


def test_a_long_chain_of_transfers():
    n = counting(3, REF)
    for _ in range(30):
        n = build.copy(build.copy(build.binary(ops.ADD, n, build.const(1.0, n.dtype, n.device)), CPU), REF)
    np.testing.assert_array_equal(runtime.read(n), np.arange(3) + 30)


def test_operands_of_two_devices_are_refused():
    with pytest.raises(MixedDevices, match="ref and cpu"):
        build.binary(ops.ADD, counting(3, REF), counting(3, CPU))
