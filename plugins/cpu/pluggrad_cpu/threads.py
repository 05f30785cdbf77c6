"""Thread teams: who runs the tasks of a command list.

`NativeTeam` (Linux): workers are Python threads that each sit in one native call, without the GIL (team.ll).
`PortableTeam` (anywhere): plain Python threads that take chunks of tasks; each chunk is one native call.
Both start their workers with the first parallel command, stop them before the interpreter goes, and forget
them in a forked child, which makes its own.
"""
from __future__ import annotations

import atexit
import ctypes
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from weakref import WeakSet

from pluggrad.plugin_api import DeviceUnavailable
from pluggrad_cpu import native, settings

_teams: Final[WeakSet[Team]] = WeakSet()
_JOIN_SECONDS: Final = 2.0
_NAP_SECONDS: Final = 0.02  # how long the portable team's caller sleeps before it looks for Ctrl-C


@dataclass(frozen=True, slots=True)
class Step:
    """One command as the portable team runs it: addresses, tasks, and how many of them make a chunk."""

    kernel: Callable[[int, int, int, int], None]
    args: int
    values: int
    tasks: int
    chunk: int
    parallel: bool


class CommandList(Protocol):
    """What a team runs. `address` is that of a `%List` (commands.ll); it must outlive the call."""

    address: int
    parallel: bool

    def steps(self) -> Sequence[Step]: ...


class Team(ABC):
    """Runs one list at a time: hold `lock` while calling `run`, and while writing what the list binds.

    worth_us: a wave of less estimated work is not worth waking anybody for. awake_us: with less than that the
    caller alone is done sooner even where the others are awake.
    """

    worth_us: float
    awake_us: float

    def __init__(self, runtime: native.Runtime, threads: int) -> None:
        self._native, self.size = runtime, threads
        self._workers: list[threading.Thread] = []
        self.lock = threading.Lock()
        _teams.add(self)

    @abstractmethod
    def run(self, commands: CommandList) -> None:
        """Run a list to its end.

        Ctrl-C is seen every 20 to 40 ms, or when the chunk that the caller runs ends, if that is later. Any
        exception drops the tasks not begun, waits for those under way and leaves the team ready for more.
        """

    @abstractmethod
    def _serve(self) -> Callable[[], object]:
        """What a worker thread does."""

    @abstractmethod
    def _dismiss(self) -> None:
        """Tell the workers to end."""

    @abstractmethod
    def forget(self) -> None:
        """In a forked child: only the calling thread is left, and it runs nothing."""
        self._workers = []
        self.lock = threading.Lock()

    def close(self) -> None:
        """End the workers; the next parallel command starts new ones."""
        with self.lock:
            if not self._workers:
                return
            self._dismiss()
            for worker in self._workers:
                worker.join(_JOIN_SECONDS)
            self.forget()

    def _hire(self) -> None:
        for index in range(len(self._workers) + 1, self.size):
            worker = threading.Thread(target=self._serve(), name=f"pluggrad-cpu-{index}", daemon=True)
            self._workers.append(worker)
            worker.start()


class _TeamState(ctypes.Structure):
    """`%Team` of team.ll; Python itself touches only `cancel`."""

    _fields_ = [
        ("bell", ctypes.c_int32), ("asleep", ctypes.c_int32), ("patience", ctypes.c_int32),
        ("_line0", ctypes.c_char * 116),
        ("gate", ctypes.c_int32), ("caller_sleeps", ctypes.c_int32), ("_line1", ctypes.c_char * 120),
        ("next_chunk", ctypes.c_int64), ("_line2", ctypes.c_char * 120),
        ("wave", ctypes.c_void_p), ("list", ctypes.c_void_p), ("position", ctypes.c_int64),
        ("phase", ctypes.c_int32), ("cancel", ctypes.c_int32), ("stop", ctypes.c_int32),
        ("calls", ctypes.c_int32), ("_called", ctypes.c_int64 * 16), ("_began", ctypes.c_int64),
    ]


class NativeTeam(Team):
    """Workers spin for a moment between waves, then sleep on a futex; one native call runs a list."""

    # an awake team costs 1 us, waking a sleeping one 15 to 50 us; estimates of short waves are low: what they
    # read lies in the caches of the cores that have just written it
    worth_us, awake_us = 20.0, 1.0

    def __init__(self, runtime: native.Runtime, threads: int) -> None:
        super().__init__(runtime, threads)
        self._start, self._resume = runtime.start, runtime.resume
        self._renew()

    def _renew(self) -> None:
        self._state = _TeamState()
        self._address = ctypes.addressof(self._state)

    def run(self, commands: CommandList) -> None:
        if commands.parallel and len(self._workers) < self.size - 1:
            self._hire()
        try:
            unfinished = self._start(self._address, commands.address)
            while unfinished:  # back in Python for a moment: signals are delivered here
                unfinished = self._resume(self._address)
        except BaseException:
            _insist(self._cancel)
            raise

    def _cancel(self) -> None:
        self._state.cancel = 1
        while self._resume(self._address):
            pass

    def _serve(self) -> Callable[[], object]:
        serve, state = self._native.serve, self._state
        return lambda: serve(ctypes.addressof(state))

    def _dismiss(self) -> None:
        self._native.stop(self._address)

    def forget(self) -> None:
        super().forget()
        self._renew()


class _Job:
    """The tasks of one parallel step, handed out in chunks."""

    def __init__(self, step: Step) -> None:
        self._step, self._next, self._inside = step, 0, 0
        self._changed = threading.Condition()

    def work(self, *, inside: int) -> None:
        """Run chunks until none are left. `inside`: 1 for a worker, which the caller has to wait for."""
        step = self._step
        while True:
            with self._changed:
                lo = self._next
                if lo >= step.tasks:
                    return
                self._next = lo + step.chunk
                self._inside += inside
            step.kernel(step.args, step.values, lo, min(lo + step.chunk, step.tasks))
            with self._changed:
                self._inside -= inside
                self._changed.notify_all()

    def cancel(self) -> None:
        with self._changed:
            self._next = self._step.tasks

    def settle(self) -> None:
        """Return once nobody is inside any more."""
        with self._changed:
            while self._inside:
                self._changed.wait(_NAP_SECONDS)


class _Board:
    """Where the caller posts the job at hand. One that nobody came for in time is replaced, never queued."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._job: _Job | None = None
        self._closed = False

    def post(self, job: _Job) -> None:
        with self._changed:
            self._job = job
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def next_after(self, done: _Job | None) -> _Job | None:
        """The job posted, once it is another than `done`; None when the board is closed."""
        with self._changed:
            while self._job is done and not self._closed:
                self._changed.wait()
            return None if self._closed else self._job


class PortableTeam(Team):
    """The same semantics in plain Python, for systems whose sleep and wake calls team.ll does not know."""

    # a command costs 100 to 200 us of waking and of passing the interpreter lock around
    worth_us = awake_us = 300.0

    def __init__(self, runtime: native.Runtime, threads: int) -> None:
        super().__init__(runtime, threads)
        self._board = _Board()

    def run(self, commands: CommandList) -> None:
        if commands.parallel and len(self._workers) < self.size - 1:
            self._hire()
        self._native.bind(commands.address)
        for step in commands.steps():
            self._run_step(step)

    def _run_step(self, step: Step) -> None:
        job = _Job(step)
        try:
            if step.parallel:
                self._board.post(job)
            job.work(inside=0)
            job.settle()
        except BaseException:
            _insist(job.cancel)
            _insist(job.settle)
            raise

    def _serve(self) -> Callable[[], object]:
        board = self._board

        def serve() -> None:
            job: _Job | None = None
            while (job := board.next_after(job)) is not None:
                job.work(inside=1)

        return serve

    def _dismiss(self) -> None:
        self._board.close()

    def forget(self) -> None:
        super().forget()
        self._board = _Board()


def _insist(action: Callable[[], None]) -> None:
    """Do it however often Ctrl-C is pressed meanwhile."""
    while True:
        try:
            return action()
        except KeyboardInterrupt:
            continue


_KINDS: Final[dict[str, type[Team]]] = {"native": NativeTeam, "portable": PortableTeam}


def make_team(runtime: native.Runtime, threads: int) -> Team:
    """A team of `threads`, the caller included: of the kind that is set, portable where it must be."""
    kind = settings.TEAM.value
    if kind not in _KINDS:
        raise DeviceUnavailable(op=settings.TEAM.variable, expected=" or ".join(_KINDS), got=repr(kind))
    return _KINDS[kind if native.team_supported() else "portable"](runtime, threads)


def _forget_all() -> None:
    for team in list(_teams):
        team.forget()


def _close_all() -> None:
    for team in list(_teams):
        team.close()


atexit.register(_close_all)  # before LLVM unmaps the code that workers run
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
