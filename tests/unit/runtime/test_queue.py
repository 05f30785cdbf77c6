"""Command lists in flight on a device that runs them later: hazards, faults found late, waiting, exit."""
from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

from pluggrad import Context, Device, GlobalCounters, Tensor, jit, memory_stats
from pluggrad.device.contract import Event
from pluggrad.errors import KernelFault, TensorIndexError
from pluggrad.runtime.queue import Queue
from pluggrad.runtime.sessions import session
from pluggrad.target import DeviceId
from tests.deferred_device import MAX_IN_FLIGHT, opened
from tests.interrupts import ctrl_c

pytestmark = pytest.mark.usefixtures("deferred_devices")
NAMES = ["deferred", "deferred:1"]  # submitting lists, and replaying prepared ones


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return request.param


def values(n: int, name: str, dtype: type = np.float32) -> Tensor:
    """0, 1, 2, ... on the device. What is computed from integers does not keep them for a gradient."""
    return Tensor(np.arange(n, dtype=dtype), device=name).realize()


def in_flight(name: str) -> int:
    return len(session(DeviceId.parse(name)).queue)


# ---- results are those of a synchronous device -----------------------------------------------------------


def test_nobody_waits_before_a_value_is_read(name):
    x = values(8, name)
    with opened(name).held():
        y = (x * 2).realize()
        z = (y + 1).realize()
        submitted = in_flight(name)
    assert submitted == 2
    np.testing.assert_array_equal(z.numpy(), np.arange(8) * 2 + 1)
    assert in_flight(name) == 0


def test_a_training_loop(name):
    def train(device: str) -> list[float]:
        w = Tensor(np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3), device=device, requires_grad=True)
        x = Tensor(np.linspace(0, 2, 20, dtype=np.float32).reshape(5, 4), device=device)

        @jit
        def step(x):
            w.grad = None
            loss = ((x @ w).tanh() ** 2).sum()
            loss.backward()
            w.assign(w - 0.1 * w.grad).realize()
            return loss

        return [loss.item() for loss in [step(x) for _ in range(12)]]

    assert train(name) == train("ref")


def test_no_more_than_the_device_takes_are_in_flight(name):
    x = values(4, name)
    Device[name].synchronize()
    worker = opened(name).worker
    worker.most_pending = 0
    for _ in range(5 * MAX_IN_FLIGHT):
        x = (x + 1).realize()
        assert in_flight(name) <= MAX_IN_FLIGHT
    assert x.tolist() == [20, 21, 22, 23]
    assert worker.most_pending <= MAX_IN_FLIGHT + 1  # the copy of the read


# ---- hazards ---------------------------------------------------------------------------------------------


def test_memory_is_handed_out_again_while_a_list_reads_it(name):
    x = values(64, name, np.int32)
    with opened(name).held():
        y = (x + 1).realize()
        block = x.node.arg.storage.block
        del x
        z = Tensor(np.full(64, 7, np.int32), device=name).realize()
        same = z.node.arg.storage.block is block  # the memory that the first list still has to read
    assert same
    np.testing.assert_array_equal(y.numpy(), np.arange(64) + 1)
    np.testing.assert_array_equal(z.numpy(), np.full(64, 7))


def test_memory_goes_back_to_the_device_only_when_nothing_uses_it(name):
    pool = session(DeviceId.parse(name)).pool
    pool._keep = 0
    x = values(64, name, np.int32)
    Device[name].synchronize()
    with opened(name).held():
        y = (x + 1).realize()
        allocation = x.node.arg.storage.block.allocation
        del x
        freed = allocation.freed
    assert not freed
    np.testing.assert_array_equal(y.numpy(), np.arange(64) + 1)
    del y
    assert allocation.freed
    assert pool.stats.pooled == 0
    assert opened(name).allocator.live == 0


def test_pooled_memory_is_given_back_for_more_when_what_is_in_flight_is_complete(name, monkeypatch):
    pool = session(DeviceId.parse(name)).pool
    alloc = pool._allocator.alloc
    x = values(1 << 16, name, np.int32)

    def limited(nbytes, kind="device"):
        if nbytes > 1 << 19 and pool.stats.pooled:
            raise MemoryError
        return alloc(nbytes, kind)

    monkeypatch.setattr(pool._allocator, "alloc", limited)
    with opened(name).held():
        y = (x + 1).realize()
        allocation = x.node.arg.storage.block.allocation
        del x
        threading.Timer(0.05, opened(name).worker.gate.set).start()
        big = Tensor.zeros(1 << 18, device=name).contiguous().realize()
    assert allocation.freed
    assert y[5].item() == 6
    assert big.sum().item() == 0


def test_host_memory_may_change_once_it_was_uploaded(name):
    data = np.arange(8, dtype=np.float32)
    with opened(name).held():
        x = Tensor(data, device=name).realize()
        data[:] = -1
    assert x.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


def test_a_write_waits_for_what_reads_the_old_value(name):
    x = values(8, name)
    with opened(name).held():
        before = (x * 10).realize()
        x.assign(x + 1).realize()
        after = (x * 10).realize()
    assert before.tolist() == [0, 10, 20, 30, 40, 50, 60, 70]
    assert after.tolist() == [10, 20, 30, 40, 50, 60, 70, 80]


def test_replays_that_are_in_flight_together_have_their_own_values(name):
    @jit
    def f(x, rate):
        return x * rate + Tensor.rand(8, device=name)

    rates = [Tensor([float(i)], device=name).realize() for i in range(4)]
    Tensor.manual_seed(3)
    f(values(8, name), rates[0])
    with opened(name).held():
        found = [f(x, rate) for x, rate in zip([values(8, name)] * 3, rates[1:], strict=True)]
    Tensor.manual_seed(3)
    expected = [np.arange(8) * i + Tensor.rand(8, device="ref").numpy() for i in range(4)][1:]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.numpy(), other, rtol=1e-6)


def test_an_index_in_data_is_checked_before_the_call_returns(name):
    x, indices = values(8, name), Tensor([1, 9], device=name).realize()
    with pytest.raises(TensorIndexError):
        x[indices].realize()
    assert in_flight(name) == 0
    assert x[Tensor([1, 7], device=name)].tolist() == [1, 7]


def test_devices_wait_for_each_other(name):
    x = values(8, name)
    with opened(name).held():
        y = (x + 1).realize()
        threading.Timer(0.05, opened(name).worker.gate.set).start()
        assert y.to("ref").tolist() == list(range(1, 9))


def test_counters_and_memory_keep_their_meaning(name, settled):
    x = values(1000, name, np.int32)
    Device[name].synchronize()
    used = memory_stats()[name]["used"]
    GlobalCounters.reset()
    with opened(name).held():
        y = (x + 1).realize()
        during = memory_stats()[name]["used"]
    assert during == 2 * used
    assert (GlobalCounters.realizations, GlobalCounters.kernels) == (1, 1)
    del y
    gc.collect()
    assert memory_stats()[name]["used"] == used


# ---- faults found late -----------------------------------------------------------------------------------


def test_a_fault_found_late_names_the_list_and_spoils_it_and_those_after_it(name):
    device, x = opened(name), values(8, name)
    good = (x + 1).realize()
    device.fail(KernelFault("it burned"), after=1)
    with device.held():
        before, bad, after = (x * 2).realize(), (x * 3).realize(), (good * 4).realize()
    with pytest.raises(KernelFault, match=r"command list mul_8: .*got it burned\. .*PLUGGRAD_SYNC=1 names"):
        before.numpy()
    assert before.tolist() == [0, 2, 4, 6, 8, 10, 12, 14]
    assert good.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert x.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    for lost in (bad, after):
        with pytest.raises(KernelFault, match="it burned"):
            lost.numpy()
        with pytest.raises(KernelFault, match="it burned"):
            (lost + 1).realize()
    np.testing.assert_array_equal((x * 3).numpy(), np.arange(8) * 3)  # the device goes on


def test_lists_behind_a_failed_one_have_ended_when_it_is_reported(name):
    """Until then they use the memory that the report sets free."""
    ended = []

    class Ending(Event):
        def __init__(self, number: int, error: Exception | None = None) -> None:
            self.number, self.error = number, error

        def wait(self) -> None:
            ended.append(self.number)
            if self.error is not None:
                raise self.error

    queue = Queue(opened(name), name)
    for event in (Ending(0, KernelFault("it burned")), Ending(1, KernelFault("it burned, too")), Ending(2)):
        queue.add(event, "list", [], None)
    with pytest.raises(KernelFault, match=r"it burned\."):
        queue.wait()
    assert (ended, len(queue)) == ([0, 1, 2], 0)


def test_what_a_failed_list_wrote_over_is_unusable(name):
    device, x = opened(name), values(8, name)
    x.assign(x + 0).realize()
    Device[name].synchronize()
    device.fail(KernelFault("it burned"))
    x.assign(x + 1).realize()
    with pytest.raises(KernelFault, match="it burned"):
        Device[name].synchronize()
    Device[name].synchronize()  # reported once
    with pytest.raises(KernelFault, match="it burned"):
        x.numpy()


def test_a_fault_found_by_the_next_list_leaves_that_to_be_tried_again(name):
    device, x = opened(name), values(8, name)
    device.fail(KernelFault("it burned"))
    held = [(x + i).realize() for i in range(MAX_IN_FLIGHT)]
    late = x * 5
    with pytest.raises(KernelFault, match="it burned"):
        late.realize()
    assert late.tolist() == [0, 5, 10, 15, 20, 25, 30, 35]
    with pytest.raises(KernelFault):
        held[0].numpy()


def test_a_fault_in_a_replay_leaves_the_function_usable(name):
    device = opened(name)
    f = jit(lambda x: (x * 2).sum())
    x = values(8, name)
    f(x).item()
    device.fail(KernelFault("it burned"))
    with pytest.raises(KernelFault, match="it burned"):
        f(x).item()
    assert f(x).item() == 56


def test_sync_raises_at_the_causing_call_and_names_the_kernel(name):
    device, x = opened(name), values(8, name)
    device.fail(KernelFault("it burned"))
    with Context(SYNC=1), pytest.raises(KernelFault, match=r"kernel k[0-9a-f]+: .*it burned"):
        (x + 1).realize()
    assert (x + 1).tolist() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_sync_does_not_blame_a_kernel_for_an_earlier_list(name):
    device, x = opened(name), values(8, name)
    device.fail(KernelFault("it burned"))
    (x + 1).realize()
    with Context(SYNC=1), pytest.raises(KernelFault, match="command list add_8"):
        (x * 2).realize()


def test_memory_of_failed_lists_is_given_back(name):
    device, x = opened(name), values(1000, name, np.int32)
    Device[name].synchronize()
    used = memory_stats()[name]["used"]
    for _ in range(3):
        device.fail(KernelFault("it burned"))
        y = (x.sum() + x.reshape(10, 100).max(1)).realize()
        with pytest.raises(KernelFault):
            y.numpy()
        del y
        gc.collect()
        assert memory_stats()[name]["used"] == used
    session(DeviceId.parse(name)).pool.trim()
    assert device.allocator.live == 1


# ---- waiting ---------------------------------------------------------------------------------------------


def test_ctrl_c_ends_the_wait_and_loses_nothing(name):
    x = values(8, name)
    with opened(name).held():
        y = (x + 1).realize()
        with pytest.raises(KeyboardInterrupt), ctrl_c(0.1):
            y.numpy()
        submitted = in_flight(name)
    assert submitted == 1
    assert y.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_two_threads_use_one_device(name):
    x, found = values(8, name), {}

    def work(number: int) -> None:
        y = x * number
        for _ in range(20):
            y = (y + number).realize()
        found[number] = y.tolist()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: [i * n + 20 * n for i in range(8)] for n in range(3)}


def in_a_process(tmp_path: Path, code: str) -> subprocess.CompletedProcess[str]:
    script = "from tests import deferred_device\ndeferred_device.install()\n" + textwrap.dedent(code)
    environment = os.environ | {"PLUGGRAD_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.getcwd()}
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment,
                          timeout=300, check=False)


@pytest.mark.parametrize("ending", ["", "raise SystemExit(0)"])
def test_a_process_that_ends_completes_what_is_in_flight(tmp_path, ending):
    result = in_a_process(tmp_path, f"""
        import threading, time
        from pluggrad import Tensor
        device = deferred_device.opened()
        x = (Tensor.ones(4, device="deferred").contiguous() + 1).realize()
        x.numpy()
        device.worker.gate.clear()
        device.put(lambda: print("complete", flush=True))
        y = (x + 1).realize()
        threading.Timer(0.2, device.worker.gate.set).start()
        {ending}
    """)
    assert (result.returncode, result.stdout, result.stderr) == (0, "complete\n", "")


def test_a_fault_that_nobody_saw_is_logged_when_the_process_ends(tmp_path):
    result = in_a_process(tmp_path, """
        from pluggrad import Tensor
        from pluggrad.errors import KernelFault
        deferred_device.opened().fail(KernelFault("it burned"))
        (Tensor.ones(4, device="deferred").contiguous() + 1).realize()
    """)
    assert result.returncode == 0
    assert "it burned" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_fork_waits_for_what_is_in_flight(tmp_path):
    result = in_a_process(tmp_path, """
        import os, threading
        from pluggrad import Tensor
        device = deferred_device.opened()
        x = (Tensor.ones(4, device="deferred").contiguous() + 1).realize()
        device.worker.gate.clear()
        y = (x + 1).realize()
        threading.Timer(0.2, device.worker.gate.set).start()
        child = os.fork()
        if not child:
            os._exit(int(y.node.arg.storage.block.allocation.bytes[:4].view("f4")[0]))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), y.tolist())
    """)
    assert (result.stdout, result.stderr) == ("3 [3.0, 3.0, 3.0, 3.0]\n", "")
