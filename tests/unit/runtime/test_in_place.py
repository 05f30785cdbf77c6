"""A write goes over the memory of the old version only where nobody can see the old version any more."""
from __future__ import annotations

import numpy as np
import pytest

from pluggrad import dtypes, runtime
from pluggrad.graph import build, ops
from pluggrad.graph.leaf import Identity
from tests.unit.runtime.handles import Kept, counting, stored

FIRST_TWO = (("slice", ((0, 2, 1),)),)
SEVENS = np.array([7.0, 7.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], np.float32)


def storage(handle: Kept) -> object:
    return handle.node.arg.storage


def write_sevens(handle: Kept) -> None:
    """The first two elements become 7; nothing is computed yet."""
    seven = build.const(7.0, handle.node.dtype, handle.node.device)
    handle.held = build.update(handle.held, seven, FIRST_TWO)


def test_an_unseen_version_is_overwritten(device):
    handle = Kept(counting(8, device))
    before = storage(handle)
    write_sevens(handle)
    runtime.realize([handle])
    assert storage(handle) is before
    np.testing.assert_array_equal(runtime.read(handle.node), SEVENS)


def test_a_version_that_somebody_holds_is_not(device):
    handle = Kept(counting(8, device))
    old = handle.held
    doubled = build.binary(ops.ADD, old, old)  # a graph that has not run holds it too
    write_sevens(handle)
    runtime.realize([handle])
    np.testing.assert_array_equal(runtime.read(handle.node), SEVENS)
    np.testing.assert_array_equal(runtime.read(old), np.arange(8))
    np.testing.assert_array_equal(runtime.read(doubled), 2 * np.arange(8))


def test_two_handles_of_one_value_do_not_see_each_others_writes(device):
    x = counting(8, device)
    first = Kept(build.binary(ops.ADD, x, x))
    second = Kept(first.node)
    runtime.realize([first, second])
    write_sevens(first)
    runtime.realize([first])
    np.testing.assert_array_equal(runtime.read(first.node)[:3], [7, 7, 4])
    np.testing.assert_array_equal(runtime.read(second.node)[:3], [0, 2, 4])


@pytest.mark.parametrize("together", [False, True])
def test_a_leaf_made_of_a_stored_value_does_not_see_later_writes(device, together):
    handle = Kept(counting(8, device))
    leaf = Kept(build.leaf(handle.node, Identity(None)))
    if not together:
        runtime.realize([leaf])
    write_sevens(handle)
    runtime.realize([handle, leaf])
    np.testing.assert_array_equal(runtime.read(handle.node), SEVENS)
    np.testing.assert_array_equal(runtime.read(leaf.node), np.arange(8))


def test_a_kernel_reads_before_it_overwrites(device):
    n = 1000
    handle = Kept(counting(n, device))
    y, three = stored(np.full(n, 100), device), stored(np.full(n, 3), device)
    product = Kept(build.binary(ops.MUL, build.binary(ops.MUL, handle.held, three), y))
    # does not read what it overwrites
    handle.held = build.update(handle.held, build.binary(ops.ADD, y, three), ())
    runtime.realize([handle, product])
    np.testing.assert_array_equal(runtime.read(handle.node), np.full(n, 103))
    np.testing.assert_array_equal(runtime.read(product.node), 300 * np.arange(n))


@pytest.mark.parametrize("n", [2, 7, 4099])
def test_a_value_is_written_over_itself_in_another_order(device, n):
    handle = Kept(counting(n, device, dtypes.int32))
    handle.held = build.update(handle.held, handle.held, (("flip", (0,)),))
    runtime.realize([handle])
    np.testing.assert_array_equal(runtime.read(handle.node), np.arange(n)[::-1])


def test_a_value_is_written_over_itself_shifted(device):
    handle = Kept(counting(4099, device))
    tail = build.slice(handle.held, ((0, 4098, 1),))
    handle.held = build.update(handle.held, tail, (("slice", ((1, 4098, 1),)),))
    runtime.realize([handle])
    np.testing.assert_array_equal(runtime.read(handle.node), [0, *range(4098)])


def test_writes_in_a_row_take_over_each_others_memory(device):
    handle = Kept(counting(8, device))
    for i in range(4):
        value = build.const(10.0 * i, dtypes.float32, device)
        handle.held = build.update(handle.held, value, (("slice", ((2 * i, 1, 1),)),))
    runtime.realize([handle])
    np.testing.assert_array_equal(runtime.read(handle.node), [0, 1, 10, 3, 20, 5, 30, 7])


def test_memory_seen_from_outside_is_never_overwritten(device):
    handle = Kept(counting(8, device))
    before = storage(handle)
    before.exported = True
    write_sevens(handle)
    runtime.realize([handle])
    assert storage(handle) is not before
    np.testing.assert_array_equal(runtime.read(handle.node), SEVENS)
