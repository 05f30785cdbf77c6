"""What a realization takes with it: the thread's own pending handles, and nobody else's."""
from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from pluggrad import dtypes, runtime
from pluggrad.graph import build, ops
from tests.unit.runtime.handles import REF, Kept, counting


def added(number: float) -> Kept:
    """[0, 1, 2] + number, not computed."""
    return Kept(build.binary(ops.ADD, counting(3, REF), build.const(number, dtypes.float32, REF)))


def in_another_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_pending_handles_come_along():
    pending = added(3)
    runtime.add_pending(pending)
    runtime.realize([added(4)])
    assert pending.node.op is ops.BUFFER


def test_those_of_another_thread_do_not():
    pending = added(3)
    in_another_thread(lambda: runtime.add_pending(pending))
    runtime.realize([added(4)])
    runtime.realize_pending()
    assert pending.node.op is not ops.BUFFER


def test_any_thread_can_ask_for_them():
    pending = added(3)
    in_another_thread(lambda: runtime.add_pending(pending))
    np.testing.assert_array_equal(runtime.fetch(pending), [3, 4, 5])
    assert pending.node.op is ops.BUFFER
