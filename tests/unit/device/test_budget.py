"""Memory is counted while it is handed out, from any thread, and never while a driver failed to give it."""

from __future__ import annotations

import re
import threading

import pytest

from pluggrad.plugin_api import MemoryBudget, OutOfMemoryError


def test_what_is_beyond_the_limit_is_refused_before_the_driver_is_asked():
    budget = MemoryBudget("acme:0", 1000)
    with budget.taking(1000):
        assert budget.used == 1000
    expected = re.escape("memory of acme:0: expected at most 1,000 bytes, of which 1,000 are in use, got a "
                         "request for 1 bytes")
    with pytest.raises(OutOfMemoryError, match=expected), budget.taking(1):
        pytest.fail("the driver was asked")
    budget.give(400)
    with budget.taking(400):
        pass
    assert budget.used == 1000


def test_one_piece_may_be_limited_further():
    budget = MemoryBudget("acme:0", 1000, largest=300)
    with pytest.raises(OutOfMemoryError, match="in pieces of 300 at most, got a request for 301"), \
            budget.taking(301):
        pytest.fail("the driver was asked")
    with budget.taking(300):
        pass


def test_a_limit_beyond_all_memory_is_not_mentioned():
    assert "pieces" not in str(MemoryBudget("acme:0", 1000, largest=1 << 40).exhausted(1))


@pytest.mark.parametrize("error", [OutOfMemoryError("the driver has none"), KeyboardInterrupt()])
def test_what_the_driver_did_not_give_is_not_counted(error):
    budget = MemoryBudget("acme:0", 1000)
    with pytest.raises(type(error)), budget.taking(600):
        raise error
    assert budget.used == 0


def test_threads_together_stay_within_the_limit():
    budget, refused = MemoryBudget("acme:0", 50), []

    def take() -> None:
        for _ in range(50):
            try:
                with budget.taking(1):
                    pass
            except OutOfMemoryError:
                refused.append(1)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (budget.used, len(refused)) == (50, 150)
