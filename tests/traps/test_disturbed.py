"""Threads, fork, Ctrl-C, exhausted memory, a device's fault: a clear error, nothing lost, all usable."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import suppress

import numpy as np
import pytest

from pluggrad import Tensor, jit, memory_stats
from pluggrad.errors import KernelFault, OutOfMemoryError
from pluggrad.nn import Linear, Sequential, optim, state
from pluggrad.runtime.loaded import LoadedPlan
from pluggrad.runtime.sessions import session

# ---- threads -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lazy", [True, False], ids=["lazy", "stored"])
def test_threads_that_share_tensors(device_name, lazy):
    """Every thread builds on the same tensors, which any of them may realize at any time."""
    rounds, threads = 60, 3
    base = np.arange(1000, dtype=np.float32)
    shared = [(Tensor(base, device=device_name) + index) * 2 for index in range(rounds)]
    if not lazy:
        Tensor.realize(*shared)
    barrier, wrong = threading.Barrier(threads), []

    def work(number):
        try:
            for index, each in enumerate(shared):
                barrier.wait(30)
                expected = (base + index) * 2
                if number == 0:
                    each.realize()
                value = (each * (number + 1) + each.sum() * 0).numpy()
                if not np.array_equal(value, expected * (number + 1)):
                    wrong.append((number, index))
        except BaseException as error:
            wrong.append((number, error))
            barrier.abort()

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_threads_that_build_one_graph_and_backward(device_name):
    wrong = []
    weight = Tensor(np.full((8, 8), 0.5, np.float32), device=device_name, requires_grad=False)

    def work(number):
        try:
            for index in range(40):
                x = Tensor(np.full(8, number + 1.0, np.float32), device=device_name)
                loss = ((x @ weight) * index).sum()
                loss.backward()
                if not np.array_equal(x.grad.numpy(), np.full(8, 4.0 * index)) or (
                    loss.item() != 32.0 * (number + 1) * index):
                    wrong.append((number, index))
        except BaseException as error:
            wrong.append((number, error))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


# ---- fork ----------------------------------------------------------------------------------------


@pytest.mark.device("cpu")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_forked_from_an_active_team_trains(tmp_path):
    script = textwrap.dedent("""
        import os, sys, threading, warnings
        import numpy as np
        from pluggrad import Tensor, jit
        from pluggrad.nn import Linear, optim
        warnings.simplefilter("ignore", DeprecationWarning)

        def train(steps):
            model = Linear(600, 600)
            optimizer = optim.SGD(model, lr=0.5)
            x = Tensor(np.random.default_rng(0).standard_normal((256, 600)).astype(np.float32))
            @jit
            def step(x):
                optimizer.zero_grad()
                loss = ((model(x) - 1) ** 2).mean()
                loss.backward()
                optimizer.step()
                return loss
            return [step(x).item() for _ in range(steps)]

        def falls(losses):
            return all(after < before for before, after in zip(losses, losses[1:]))

        assert falls(train(8))
        big = Tensor.rand(4_000_000).realize()
        team = {thread.name for thread in threading.enumerate()} - {"MainThread"}
        child = os.fork()
        if child == 0:
            ok = threading.active_count() == 1 and falls(train(8))
            ok = ok and abs((big * 2).mean().item() - 1) < 0.01
            workers = {thread.name for thread in threading.enumerate()} - {"MainThread"}
            os._exit(0 if ok and workers == team else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0, status
        assert falls(train(8))
        print("team", len(team))
    """)
    environment = {**os.environ, "PLUGGRAD_DEVICE": "cpu", "PLUGGRAD_CPU_THREADS": "3"}
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300,
                            env=environment, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split()[0] == "team"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_forked_while_another_thread_computes(device_name):
    """The child inherits no lock that is held, and no tensor that is half computed. A driver that cannot be
    used in a child says so, and does not wait for ever."""
    script = textwrap.dedent("""
        import os, sys, threading, time, warnings
        import numpy as np
        from pluggrad import Tensor
        from pluggrad.errors import DeviceError
        warnings.simplefilter("ignore", DeprecationWarning)

        shared = Tensor(np.ones((500, 500), np.float32), device=sys.argv[1]).realize()
        started, stop = threading.Event(), threading.Event()

        def work():
            while not stop.is_set():
                (shared @ shared + Tensor.rand(500, 500, device=sys.argv[1])).sum().item()
                started.set()

        other = threading.Thread(target=work)
        other.start()
        started.wait(30)
        codes = []
        for _ in range(8):
            time.sleep(0.003)
            child = os.fork()
            if child == 0:
                try:
                    drawn = Tensor.rand(1000, device=sys.argv[1]).mean().item()
                    right = (shared @ shared).sum().item() == 500.0**3 and 0.4 < drawn < 0.6
                except DeviceError as error:
                    right = "fork" in str(error)
                os._exit(0 if right else 1)
            deadline = time.monotonic() + 60
            ended, status = os.waitpid(child, os.WNOHANG)
            while not ended and time.monotonic() < deadline:
                time.sleep(0.01)
                ended, status = os.waitpid(child, os.WNOHANG)
            if not ended:
                os.kill(child, 9)
                _, status = os.waitpid(child, 0)
            codes.append(os.waitstatus_to_exitcode(status))
        stop.set()
        other.join()
        print(codes)
    """)
    environment = {**os.environ, "PLUGGRAD_CPU_THREADS": "2"}
    result = subprocess.run([sys.executable, "-c", script, device_name], capture_output=True, text=True,
                            timeout=550, env=environment, check=False)
    assert (result.stdout.strip(), result.stderr) == (str([0] * 8), "")


# ---- Ctrl-C --------------------------------------------------------------------------------------


@pytest.mark.device("cpu")
def test_ctrl_c_during_a_kernel(monkeypatch):
    threads = session(Tensor([1.0], device="cpu").node.device).device.threads
    count = int(30_000 * threads**0.5)  # half a second or more, on any machine
    x = Tensor(np.linspace(0, 1, count, dtype=np.float32), device="cpu")
    sent, run, shares = [], LoadedPlan.run, []

    def interrupt():
        sent.append(time.perf_counter())
        signal.raise_signal(signal.SIGINT)

    def interrupted(*arguments):  # compiled by now: only the kernel is left
        threading.Timer(0.1, interrupt).start()
        run(*arguments)

    for _ in range(3):  # a busy machine may hold this process up once
        result = (x.reshape(count, 1) * x).sin().sum(1) * 0 + x
        with monkeypatch.context() as patched:
            patched.setattr(LoadedPlan, "run", interrupted)
            with pytest.raises(KeyboardInterrupt):
                result.realize()
            late = time.perf_counter() - sent[-1]
        assert (Tensor([1.0, 2.0], device="cpu") * 2).tolist() == [2, 4]
        assert result[:3].shape == (3,)
        begin = time.perf_counter()
        np.testing.assert_array_equal(result.numpy(), x.numpy())  # computed after all
        shares.append(late / (time.perf_counter() - begin))
        if shares[-1] < 0.5:
            return
    pytest.fail(f"the kernel ran to its end: {shares}")


def steps_of(wrap):
    model = Sequential(Linear(256, 256), Tensor.relu, Linear(256, 8))
    optimizer = optim.Adam(model, lr=1e-3)

    @wrap
    def step(x, y):
        optimizer.zero_grad()
        loss = model(x).cross_entropy(y)
        loss.backward()
        optimizer.step()
        return loss

    return model, optimizer, step


def repeat_until_interrupted(delay, action):
    """Python drops an interrupt that falls into a finalizer: pressed again, it arrives. Not too soon, or a
    busy machine gets two."""
    caught = threading.Event()

    def press():
        pause = delay
        while not caught.wait(pause):
            signal.raise_signal(signal.SIGINT)
            pause = 20.0

    presser = threading.Thread(target=press, daemon=True)
    try:
        presser.start()
        for _ in range(200_000):
            action()
    finally:
        caught.set()
        with suppress(KeyboardInterrupt):  # pressed a second time just now
            presser.join()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of such a finalizer
@pytest.mark.parametrize("wrap", [jit, lambda f: f], ids=["jit", "eager"])
def test_ctrl_c_at_any_time_loses_no_weights(wrap):
    generator = np.random.default_rng(0)
    x, y = Tensor(np.ones((64, 256), np.float32)), Tensor(np.zeros(64, np.int32))
    for delay in generator.uniform(0.002, 0.02, 12):
        model, optimizer, step = steps_of(wrap)
        for _ in range(2):
            step(x, y)
        with pytest.raises(KeyboardInterrupt):
            repeat_until_interrupted(delay, lambda step=step: step(x, y))
        values = [t.numpy() for t in (*state.get_parameters(model), *optimizer.m, *optimizer.v)]
        assert all(np.isfinite(value).all() for value in values)
        assert np.isfinite(step(x, y).item())


# ---- memory --------------------------------------------------------------------------------------


@pytest.mark.device("cpu")
def test_out_of_memory():
    small = Tensor.rand(1000, device="cpu").realize()
    gc.collect()  # what other tests left in cycles would be given back in between
    used = memory_stats()["cpu"]["used"]
    x = Tensor.rand(1 << 50, device="cpu")
    for _ in range(2):
        with pytest.raises(OutOfMemoryError, match=r"4,503,599,627,370,496 bytes") as caught:
            x.realize()
        assert f"{used:,} bytes in use" in str(caught.value)
        assert isinstance(caught.value, MemoryError)
    assert x.shape == (1 << 50,)
    assert memory_stats()["cpu"]["used"] == used
    assert x[:3].shape == (3,)
    np.testing.assert_allclose((small * 2).numpy(), small.numpy() * 2)


@pytest.mark.device("cpu")
def test_out_of_memory_gives_pooled_memory_back(monkeypatch):
    pool = session(Tensor([1.0], device="cpu").node.device).pool
    alloc, limit = pool._allocator.alloc, 64 << 20
    pool.trim()
    gc.collect()
    taken = pool.stats.used

    def limited(nbytes, kind="device"):
        if pool.stats.used - taken + pool.stats.pooled + nbytes > limit:
            raise OutOfMemoryError(op="cpu memory", expected="less", got=f"{nbytes:,} bytes")
        return alloc(nbytes, kind)

    monkeypatch.setattr(pool._allocator, "alloc", limited)
    first = Tensor.ones(10 << 20, device="cpu").contiguous().realize()  # 40 MiB
    del first
    second = (Tensor.arange(12 << 20, device="cpu").cast("float32") * 2).realize()  # needs what was pooled
    with pytest.raises(OutOfMemoryError, match=r"in use by live tensors"):
        (second + 1).realize()
    assert second[7].item() == 14
    del second
    assert Tensor.ones(12 << 20, device="cpu").contiguous().realize()[5].item() == 1


@pytest.mark.parametrize("wrap", [jit, lambda f: f], ids=["jit", "eager"])
def test_a_step_without_memory_did_not_happen(wrap):
    model, optimizer, step = steps_of(wrap)
    step(Tensor.ones(4, 256).realize(), Tensor([0, 1, 2, 3]))
    before = [t.numpy() for t in (*state.get_parameters(model), *optimizer.m)]
    optimizer.zero_grad()
    (model(Tensor.rand(1 << 40, 256)) ** 2).mean().backward()
    with pytest.raises(OutOfMemoryError):
        optimizer.step()
    for tensor, value in zip((*state.get_parameters(model), *optimizer.m), before, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), value)
    assert np.isfinite(step(Tensor.ones(4, 256).realize(), Tensor([0, 1, 2, 3])).item())
    assert optimizer._counts[0].value == 2


# ---- a fault -------------------------------------------------------------------------------------


def test_a_fault_of_the_device(device_name, monkeypatch):
    w = Tensor([1.0, 2.0], device=device_name, requires_grad=False).realize()
    kept = Tensor([5.0], device=device_name).realize()
    lazy = w * 3

    def fault(*arguments):
        raise KernelFault("the device fell off the bus")

    with monkeypatch.context() as patched:
        patched.setattr(LoadedPlan, "run", fault)
        with pytest.raises(KernelFault, match="fell off the bus"):
            lazy.numpy()
        with pytest.raises(KernelFault, match="fell off the bus"):
            (kept + 1).realize()
    np.testing.assert_array_equal(lazy.numpy(), [3, 6])
    assert (kept + 1).item() == 6


def test_a_fault_while_overwriting_marks_what_was_overwritten(device_name, monkeypatch):
    w = Tensor([1.0, 2.0], device=device_name, requires_grad=False).realize()
    other = Tensor([7.0], device=device_name).realize()
    w.assign(w + 1).realize()
    w.assign(w * 2)

    def fault(*arguments):
        raise KernelFault("stopped")

    with monkeypatch.context() as patched:
        patched.setattr(LoadedPlan, "run", fault)
        with pytest.raises(KernelFault, match="stopped"):
            w.realize()
    assert (other * 2).item() == 14
    with pytest.raises(KernelFault, match="being overwritten when a command list stopped"):
        w.numpy()
    assert (other * 3).item() == 21
    w.assign(Tensor([3.0, 4.0], device=device_name))
    np.testing.assert_array_equal(w.numpy(), [3, 4])
