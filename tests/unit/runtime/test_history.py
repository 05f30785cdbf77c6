"""Which computations a stored value remembers: those that can still carry a gradient to a live leaf."""
from __future__ import annotations

import gc

import numpy as np
import pytest

from pluggrad import Context, Tensor
from pluggrad.graph import ops
from pluggrad.runtime.sessions import session
from tests.unit.runtime.handles import REF


def tensor(**options: object) -> Tensor:
    return Tensor(np.arange(4, dtype=np.float32), device="ref", **options)


def version(x: Tensor) -> object:
    assert x.node.op is ops.BUFFER
    return x.node.arg


def test_a_live_leaf_keeps_history():
    x = tensor()
    y = (x * 2).realize()
    assert version(y).history is not None
    assert version(y).depth == 1
    assert version((y + 1).realize()).depth == 2


def test_a_dead_leaf_drops_it():
    x = tensor()
    y = x * 2
    del x
    assert version(y.realize()).history is None
    assert not version(y).cut


@pytest.mark.parametrize("make", [lambda x: x.detach() * 2, lambda x: x.cast("int32") + 1],
                         ids=["detached", "integer"])
def test_what_carries_no_gradient_has_none(make):
    x = tensor(requires_grad=True)
    y = make(x).realize()
    assert version(y).history is None


def test_depth_is_limited_for_leaves_that_nobody_marked():
    with Context(HISTORY_LIMIT=3):
        x = tensor()
        y = x
        depths = []
        for _ in range(6):
            y = (y + 1).realize()
            depths.append(version(y).depth)
        assert max(depths) == 3
        assert version(y).cut


def test_a_marked_leaf_keeps_history_however_deep():
    with Context(HISTORY_LIMIT=3):
        x = tensor(requires_grad=True)
        y = x
        for _ in range(6):
            y = (y + 1).realize()
        assert version(y).depth == 6
        y.sum().backward()
        np.testing.assert_array_equal(x.grad.numpy(), np.ones(4))


def test_a_loop_that_replaces_its_value_holds_one():
    x = Tensor(np.zeros(1 << 16, np.float32), device="ref")
    x.realize()
    pool = session(REF).pool
    gc.collect()
    before = pool.stats.used
    for _ in range(40):
        x = (x + 1).realize()
    assert x.numpy()[0] == 40
    assert pool.stats.used <= before + 2048


def test_reading_a_value_cuts_nothing():
    with Context(HISTORY_LIMIT=2):
        x = tensor()
        y = x
        for _ in range(5):
            y = y + 1
            y.numpy()
        y.sum().backward()
        np.testing.assert_array_equal(x.grad.numpy(), np.ones(4))
