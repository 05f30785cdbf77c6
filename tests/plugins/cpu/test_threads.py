"""Thread teams: every task once, commands in order, Ctrl-C, fork, two submitters, exit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from pluggrad.plugin_api import Launch, Prepared, dtypes
from pluggrad_cpu import native
from pluggrad_cpu.device import CpuDevice
from pluggrad_cpu.memory import Block
from tests.plugins.cpu.conftest import MakeDevice
from tests.plugins.cpu.kernels import ADD, COUNT, MEET, SLOW, array, filled, launch, load, slow_steps

PARALLEL_US = 1e3
MOST_TASKS = 5000
PATIENCE = 10_000_000_000  # turns of a loop, some seconds, until a thread counts as missing


def workers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("pluggrad-cpu-")}


def counting(device: CpuDevice, tasks: int, work_us: float) -> Prepared:
    return device.prepare([launch(load(device, COUNT, "count", 1), tasks, work_us, 0)], ())


def assert_usable(device: CpuDevice) -> None:
    block = filled(device, np.zeros(100, np.int64))
    counting(device, 100, PARALLEL_US)([block], ())
    assert (array(device, block, "int64") == 1).all()
    device.allocator.free(block)


@pytest.mark.parametrize("work_us", [0.0, PARALLEL_US, 1e6], ids=["alone", "team", "small-chunks"])
def test_every_task_runs_exactly_once(device: CpuDevice, work_us: float) -> None:
    block = filled(device, np.zeros(MOST_TASKS, np.int64))
    counts = array(device, block, "int64")
    for tasks in (0, 1, 2, 3, 7, 8, 23, 24, 25, 64, 997, MOST_TASKS):
        for repeat in range(3):
            counts[:] = 0
            counting(device, tasks, work_us)([block], ())
            assert (counts[:tasks] == 1).all(), (tasks, repeat)
            assert not counts[tasks:].any(), (tasks, repeat)


def test_a_team_that_fell_asleep_wakes_up(device: CpuDevice) -> None:
    block = filled(device, np.zeros(500, np.int64))
    run = counting(device, 500, PARALLEL_US)
    for _ in range(20):
        run([block], ())
        time.sleep(0.003)
    assert (array(device, block, "int64") == 20).all()


def test_commands_run_in_order_with_a_barrier_between(device: CpuDevice) -> None:
    add = load(device, ADD, "add", 2, [dtypes.float32])
    there, back = launch(add, 999, PARALLEL_US, 1, 0), launch(add, 999, PARALLEL_US, 0, 1)
    alone = launch(add, 999, 0.0, 0, 1)
    first, second = (filled(device, np.zeros(999, np.float32)) for _ in range(2))
    run = device.prepare([there, back, there, alone] * 100, [dtypes.float32])
    run([first, second], [1.0])
    assert (array(device, first, "float32") == 400).all()


@pytest.mark.parametrize("work_us", [0.0, 5.0, PARALLEL_US], ids=["alone", "awake", "all"])
def test_every_task_of_a_wave_runs_exactly_once(device: CpuDevice, work_us: float) -> None:
    count = load(device, COUNT, "count", 1)
    sizes = [1, 700, 0, 3, 64, 2, MOST_TASKS, 0]
    blocks = [filled(device, np.zeros(MOST_TASKS, np.int64)) for _ in sizes]
    wave = [replace(launch(count, tasks, work_us * (i % 3), i), barrier=False)
            for i, tasks in enumerate(sizes)]
    run = device.prepare(wave, ())
    for _ in range(50):
        run(blocks, ())
    for block, tasks in zip(blocks, sizes):
        counts = array(device, block, "int64")
        assert (counts[:tasks] == 50).all()
        assert not counts[tasks:].any()


def test_a_wave_begins_when_the_one_before_is_complete(device: CpuDevice) -> None:
    add = load(device, ADD, "add", 2, [dtypes.float32])
    blocks = [filled(device, np.zeros(999, np.float32)) for _ in range(4)]
    there = [replace(launch(add, 999, 9.0, to, 0), barrier=to == 1) for to in (1, 2, 3)]
    back = [replace(launch(add, 999, 9.0, 0, 3), barrier=True)]
    run = device.prepare((there + back) * 100, [dtypes.float32])
    run(blocks, [1.0])
    assert [float(array(device, block, "float32").min()) for block in blocks] == [200, 199, 199, 199]


def assert_all_meet(device: CpuDevice, wave: list[Launch]) -> None:
    """Every thread of the device has a task of the wave at the same time."""
    run = device.prepare(wave, [dtypes.int64, dtypes.int64])
    for _ in range(5):
        block = filled(device, np.zeros(2, np.int64))
        run([block], [device.threads, PATIENCE])
        tasks = sum(command.tasks for command in wave)
        assert array(device, block, "int64").tolist() == [tasks, 0]
        device.allocator.free(block)


def test_all_threads_share_a_wave_of_single_tasks(make_device: MakeDevice) -> None:
    device = make_device("native")
    meet = load(device, MEET, "meet", 1, [dtypes.int64, dtypes.int64])
    assert_all_meet(device, [replace(launch(meet, 1, PARALLEL_US, 0), barrier=False) for _ in range(30)])


def test_all_threads_take_part_in_long_work(device: CpuDevice) -> None:
    meet = load(device, MEET, "meet", 1, [dtypes.int64, dtypes.int64])
    assert_all_meet(device, [launch(meet, 60, 60 * PARALLEL_US, 0)])


def test_workers_stay_awake_after_a_list_for_a_share_of_its_time(make_device: MakeDevice) -> None:
    device = make_device("native")
    slow, block = load(device, SLOW, "slow", 1, [dtypes.int64]), filled(device, np.zeros(6, np.int64))
    shared, alone = (device.prepare([launch(slow, 6, work_us, 0)], [dtypes.int64])
                     for work_us in (PARALLEL_US, 0.0))
    state, times = device._team._state, native._TIMES_NS  # type: ignore[attr-defined]
    shared([block], [1])
    assert times["idle"] <= state.patience <= times["linger"]
    shared([block], [slow_steps(0.01)])  # far longer than eight times that
    assert state.patience == times["linger"]
    alone([block], [1])  # calls nobody, and says nothing about the next list
    assert state.patience == times["linger"]


def tasks_after_an_interrupt(run: Prepared, block: Block, counts: np.ndarray, steps: int) -> int:
    """How many tasks of a list were run after SIGINT, which comes once the first were."""
    run_before: list[int] = []

    def interrupt() -> None:
        while not counts.any():
            time.sleep(0.01)
        run_before.append(int(counts.sum()))
        signal.raise_signal(signal.SIGINT)

    sender = threading.Thread(target=interrupt)
    sender.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run([block], [steps])
    finally:
        sender.join()
    return int(counts.sum()) - run_before[0]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("team", ["native", "portable"])
def test_ctrl_c_comes_soon_and_leaves_the_device_usable(make_device: MakeDevice, team: str, threads: int,
                                                        ) -> None:
    device = make_device(team, threads)
    tasks, seconds = 10_000, 20.0
    slow = load(device, SLOW, "slow", 1, [dtypes.int64])
    block = filled(device, np.zeros(tasks, np.int64))
    counts = array(device, block, "int64")
    run = device.prepare([launch(slow, tasks, seconds * 1e6, 0)], [dtypes.int64])
    for _ in range(2):
        counts[:] = 0
        # 20 to 40 ms of 2 ms each; most of the rest of the list still shows that nobody looks
        assert tasks_after_an_interrupt(run, block, counts, slow_steps(seconds / tasks)) < 1000
        kept = counts.copy()
        assert_usable(device)
        assert (counts == kept).all(), "a worker went on after the interrupt"


def test_an_exception_while_binding_leaves_the_device_usable(device: CpuDevice) -> None:
    run = counting(device, 100, PARALLEL_US)
    block = device.allocator.alloc(800)
    device.allocator.free(block)
    with pytest.raises(AttributeError):
        run([block], ())
    assert_usable(device)


def test_two_threads_may_submit_at_once(device: CpuDevice) -> None:
    add = load(device, ADD, "add", 2, [dtypes.float32])
    shared = device.prepare([launch(add, 300, PARALLEL_US, 0, 0)] * 3, [dtypes.float32])
    blocks = [filled(device, np.zeros(300, np.float32)) for _ in range(2)]
    failures: list[BaseException] = []

    def submit(block: object, value: float) -> None:
        try:
            for _ in range(200):
                shared([block], [value])
        except BaseException as error:
            failures.append(error)

    submitters = [threading.Thread(target=submit, args=pair) for pair in zip(blocks, (1.0, 2.0))]
    for thread in submitters:
        thread.start()
    for thread in submitters:
        thread.join()
    device.synchronize()
    assert not failures
    assert (array(device, blocks[0], "float32") == 600).all()
    assert (array(device, blocks[1], "float32") == 1200).all()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads cannot be bound to a core here")
def test_workers_that_share_one_core_run_every_task_once_and_still_come(device: CpuDevice) -> None:
    allowed = os.sched_getaffinity(0)
    blocks = [filled(device, np.zeros(size, np.int64)) for size in (500, 2)]
    short = counting(device, 500, PARALLEL_US)
    meet = load(device, MEET, "meet", 1, [dtypes.int64, dtypes.int64])
    long = device.prepare([launch(meet, 60, 60 * PARALLEL_US, 0)], [dtypes.int64, dtypes.int64])
    os.sched_setaffinity(0, {min(allowed)})  # workers inherit it: they come late, and rest
    try:
        for _ in range(2000):
            short([blocks[0]], ())
        assert (array(device, blocks[0], "int64") == 2000).all()
        long([blocks[1]], [device.threads, PATIENCE])
        assert array(device, blocks[1], "int64").tolist() == [60, 0]
        device.close()  # also while they rest
    finally:
        os.sched_setaffinity(0, allowed)


def test_one_thread_hires_nobody(make_device: MakeDevice) -> None:
    device = make_device("native", threads=1)
    before = workers()
    assert_usable(device)
    assert (device.threads, workers()) == (1, before)


def test_workers_start_with_the_first_parallel_command_and_end_on_close(device: CpuDevice) -> None:
    before = workers()
    counting(device, 1, PARALLEL_US)([filled(device, np.zeros(1, np.int64))], ())
    assert workers() == before
    for _ in range(2):
        assert_usable(device)
        assert len(workers() - before) == 2
        device.close()
        assert workers() == before


def exit_status(pid: int, seconds: float) -> int:
    """The exit status of a child; it is killed, and the test fails, if that takes longer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    pytest.fail(f"the child hung for {seconds} s")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_makes_a_team_of_its_own(device: CpuDevice) -> None:
    assert_usable(device)
    submitting = threading.Event()
    block = filled(device, np.zeros(2000, np.int64))
    slow = load(device, SLOW, "slow", 1, [dtypes.int64])
    busy = device.prepare([launch(slow, 100, 50e3, 0)], [dtypes.int64])

    def keep_busy() -> None:  # the fork then finds the team's lock held and workers inside
        submitting.set()
        busy([block], [slow_steps(0.002)])

    other = threading.Thread(target=keep_busy)
    other.start()
    submitting.wait()
    time.sleep(0.01)
    child = os.fork()
    if child == 0:
        try:
            before = threading.active_count()
            assert_usable(device)
            os._exit(0 if threading.active_count() == before + 2 else 2)
        except BaseException:
            os._exit(1)
    assert exit_status(child, 100) == 0
    other.join()
    assert_usable(device)


@pytest.mark.parametrize("team", ["native", "portable"])
def test_the_interpreter_exits_cleanly_with_an_active_team(team: str) -> None:
    script = """
        import numpy as np
        from pluggrad_cpu.device import CpuDevice
        from pluggrad_cpu.target import host_target
        from tests.plugins.cpu.test_threads import assert_usable
        device = CpuDevice(host_target())
        assert_usable(device)
    """
    root = os.path.abspath(os.path.join(__file__, "../../../.."))
    settings = {"PLUGGRAD_CPU_TEAM": team, "PLUGGRAD_CPU_THREADS": "3", "PYTHONPATH": root}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=os.environ | settings,
                          capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
