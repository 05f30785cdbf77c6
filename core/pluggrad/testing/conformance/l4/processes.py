"""Threads, forks and Ctrl-C: a device lives in a process that does more than computing."""
from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

import numpy as np

from pluggrad import dtypes
from pluggrad.errors import PluggradError
from pluggrad.tensor import Tensor
from pluggrad.testing.conformance.kernels import affine
from pluggrad.testing.conformance.l4.long_work import long_work
from pluggrad.testing.conformance.mismatch import Mismatch, expect
from pluggrad.testing.conformance.registry import conformance
from pluggrad.testing.conformance.requirement import requires
from pluggrad.testing.conformance.subject import Subject

NEEDS = requires(dtype="int32")
_THREADS: Final = 6
_CHILD_LIMIT_S: Final = 15.0


@conformance("L4", "threads/count", requires=requires(feature="threads"),
             suggests="`threads` is not the number of threads that run tasks")
def thread_count(subject: Subject) -> None:
    count = subject.device.threads  # type: ignore[attr-defined]
    expect(1 <= count <= max(subject.capabilities.cores, 1), "Device.threads", got=str(count),
           expected=f"1 to capabilities.cores, {subject.capabilities.cores}")


def _in_threads(work: Callable[[int], None]) -> None:
    """Run `work` in several threads; the first error of any is raised here."""
    errors: list[BaseException] = []
    start = threading.Barrier(_THREADS)

    def guarded(number: int) -> None:
        try:
            start.wait()
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,), daemon=True) for number in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@conformance("L4", "threads/launches", requires=NEEDS,
             suggests="threads that use one device disturb each other")
def launches_from_threads(subject: Subject) -> None:
    kernel, data = subject.load(affine(1000)), np.arange(1000, dtype=np.int32)
    slots = [[subject.upload(np.zeros_like(data)), subject.upload(data + number)]
             for number in range(_THREADS)]
    serial = threading.Lock()  # submission is serialized for each device by the core

    def work(number: int) -> None:
        for step in range(40):
            with serial:
                event = subject.device.submit(kernel.commands((0, 1)), slots[number], (step, number))
            event.wait()
            with serial:
                found = subject.download(slots[number][0], dtypes.int32, 1000)
            subject.expect(found, (data + number) * step + number, "int32",
                           op=f"thread {number}, launch {step}")

    _in_threads(work)


@conformance("L4", "threads/tensors", requires=NEEDS,
             suggests="threads that use one device disturb each other")
def tensors_in_threads(subject: Subject) -> None:
    def work(number: int) -> None:
        for step in range(8):
            size = 50 + 10 * number
            data = np.arange(size, dtype=np.int32)
            found = (subject.tensor(data) * (number + 2) + step).numpy()
            subject.expect(found, data * (number + 2) + step, "int32", op=f"thread {number}, step {step}")

    _in_threads(work)


@conformance("L4", "threads/compile", requires=NEEDS, suggests="the toolchain is not safe in several threads")
def compile_in_threads(subject: Subject) -> None:
    def work(number: int) -> None:
        for step in range(3):
            size = 100 + 16 * (3 * number + step)
            data = np.arange(size, dtype=np.int32)
            out, _ = subject.run(affine(size), [np.zeros_like(data), data], (3, number))
            subject.expect(out, data * 3 + number, "int32", op=f"thread {number}, kernel {step}")

    _in_threads(work)


# ---- fork --------------------------------------------------------------------------------------------------
def _product(subject: Subject, factor: int) -> list[int]:
    found: list[int] = (subject.tensor(np.arange(40, dtype=np.int32)) * factor + 1).tolist()
    return found


def _in_child(subject: Subject) -> None:
    """Ends the process: status 0 if the device works, 1 for a clear error, 2 for anything else."""
    try:
        right = _product(subject, 5) == [5 * i + 1 for i in range(40)]
        if not right:
            sys.stderr.write("the child's results are wrong\n")
        status = 0 if right else 2
    except PluggradError as error:
        sys.stderr.write(f"the child says: {error}\n")
        status = 1
    except BaseException as error:
        sys.stderr.write(f"the child ends with {type(error).__name__}: {error}\n")
        status = 2
    sys.stderr.flush()
    os._exit(status)


@conformance("L4", "fork/child", requires=requires(dtype="int32", fork=True), isolated=True,
             suggests="a forked child of a process that has the device open hangs, crashes or computes "
                      "wrongly: renew locks and threads with os.register_at_fork, or raise an error there")
def fork_child(subject: Subject) -> None:
    subject.expect(np.array(_product(subject, 3)), np.arange(40) * 3 + 1, "int64", op="before the fork")
    child = os.fork()
    if child == 0:
        _in_child(subject)
    deadline = time.monotonic() + _CHILD_LIMIT_S
    ended, status = os.waitpid(child, os.WNOHANG)
    while not ended and time.monotonic() < deadline:
        time.sleep(0.01)
        ended, status = os.waitpid(child, os.WNOHANG)
    if not ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise Mismatch("a forked child that uses the device", expected="results, or an error",
                       got=f"no answer within {_CHILD_LIMIT_S:g} s")
    code = os.waitstatus_to_exitcode(status)
    expect(code in (0, 1), "a forked child that uses the device",
           expected="right results, or a PluggradError",
           got=f"killed by {signal.Signals(-code).name}" if code < 0 else "neither: see the output")
    subject.expect(np.array(_product(subject, 7)), np.arange(40) * 7 + 1, "int64", op="after the fork")


# ---- Ctrl-C ------------------------------------------------------------------------------------------------
def _interrupt_main() -> None:
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        signal.raise_signal(signal.SIGINT)


@conformance("L4", "interrupt/long-list", requires=NEEDS, isolated=True,
             suggests="Ctrl-C waits for the end of a long native call: return to Python every 50 ms")
def interrupt_long_list(subject: Subject) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent in the background may ignore it
    work = long_work(subject, 6.0)
    timer = threading.Timer(0.3, _interrupt_main)
    started = time.perf_counter()
    timer.start()
    try:
        work.submit(subject).wait()
        time.sleep(1)  # where it comes at once, it came within the list
    except KeyboardInterrupt:
        seconds = time.perf_counter() - started
        expect(seconds < 3.0, "Ctrl-C 0.3 s after a list of 6 s began",
               expected="KeyboardInterrupt within 3 s", got=f"after {seconds:.1f} s")
    else:
        raise Mismatch("Ctrl-C while a list runs", expected="KeyboardInterrupt", got="none")
    finally:
        timer.cancel()
    data = np.arange(9, dtype=np.int32)
    out, _ = subject.run(affine(9), [np.zeros_like(data), data], (2, 2))
    subject.expect(out, data * 2 + 2, "int32", op="a launch after Ctrl-C",
                   suggests="the device is unusable after Ctrl-C")


@conformance("L4", "interrupt/tensors", requires=NEEDS, isolated=True, limit_s=60.0,
             suggests="Ctrl-C in a program on this device comes late, or spoils the device")
def interrupt_tensors(subject: Subject) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    x = Tensor(np.ones((64, 64), np.int32), device=subject.name)
    timer = threading.Timer(0.5, _interrupt_main)
    timer.start()
    started = time.perf_counter()
    try:
        while time.perf_counter() - started < 20:
            x = (x @ x).realize()
    except KeyboardInterrupt:
        seconds = time.perf_counter() - started
        expect(seconds < 5.0, "Ctrl-C after 0.5 s", expected="KeyboardInterrupt within 5 s",
               got=f"after {seconds:.1f} s")
    else:
        raise Mismatch("Ctrl-C in a loop of products", expected="KeyboardInterrupt", got="none within 20 s")
    finally:
        timer.cancel()
    subject.expect(np.array(_product(subject, 4)), np.arange(40) * 4 + 1, "int64", op="after Ctrl-C")
