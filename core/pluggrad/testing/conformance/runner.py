"""Running tests in worker processes: what hangs or crashes is one failure, and the others go on."""
from __future__ import annotations

import os
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pluggrad import config
from pluggrad.errors import DeviceUnavailable
from pluggrad.testing.conformance.outcome import Description, Failure, Outcome
from pluggrad.testing.conformance.processes import Death, Worker
from pluggrad.testing.conformance.registry import ConformanceTest

OPEN_LIMIT_S: Final = 60.0  # for a process to start, and a driver to open its device

OnOutcome = Callable[[ConformanceTest, Outcome], None]


@dataclass(frozen=True, slots=True)
class Opened:
    """What a first process found: the device, or why it cannot be opened."""

    description: Description | None
    reason: str = ""


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Runner:
    """Worker processes for one device; their caches and output lie in a private folder."""

    def __init__(self, device: str, folder: Path, *, jobs: int, limit_s: float) -> None:
        self.device, self.jobs, self.limit_s = device, jobs, limit_s
        self._folder = folder
        self._environment = _environment(device, folder)
        self._lock = threading.Lock()
        self._alive: set[Worker] = set()
        self._serial = 0
        self._stopped = False

    # ---- one process ---------------------------------------------------------------------------------------
    def look(self) -> Opened:
        """Open the device in a process of its own and ask what it is; DeviceUnavailable if there is none."""
        with self.worker() as worker:
            try:
                reply = worker.ask({"do": "open"}, max(self.limit_s, OPEN_LIMIT_S))
            except Death as death:
                return Opened(None, f"opening the device: {death}")
        if "description" in reply:
            return Opened(Description.from_data(reply["description"]))
        if reply["absent"]:
            raise DeviceUnavailable(reply["error"])
        return Opened(None, reply["error"])

    @contextmanager
    def worker(self) -> Iterator[Worker]:
        """A worker for a block."""
        worker = self.start()
        try:
            yield worker
        finally:
            self.end(worker)

    def start(self) -> Worker:
        """A new worker; Death once the run was stopped."""
        with self._lock:
            if self._stopped:
                raise Death("the run was stopped")
            self._serial += 1
            worker = Worker(self.device, self._folder / f"worker-{self._serial}.log", self._environment)
            self._alive.add(worker)
            return worker

    def end(self, worker: Worker) -> None:
        """Be done with a worker."""
        with self._lock:
            self._alive.discard(worker)
        if self._stopped:
            worker.kill()
        else:
            worker.stop()

    # ---- many tests ----------------------------------------------------------------------------------------
    def run(self, tests: Iterable[ConformanceTest], on_outcome: OnOutcome) -> None:
        """Run tests on `jobs` workers; `on_outcome` is called for each as it ends, one at a time."""
        queue = _Queue(self, deque(tests), on_outcome)
        threads = [threading.Thread(target=queue.serve, daemon=True) for _ in range(self.jobs)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)  # a join without a limit would hold Ctrl-C back on some systems
        except BaseException:
            self.stop()
            raise
        if queue.error is not None:
            raise queue.error
        queue.finish()

    def stop(self) -> None:
        """End every worker now."""
        with self._lock:
            self._stopped = True
            alive = list(self._alive)
        for worker in alive:
            worker.kill()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped


@dataclass(frozen=True, slots=True)
class _Suspicion:
    """A test that killed its worker in a batch and passes by itself."""

    test: ConformanceTest
    together: Outcome
    alone: Outcome


class _Queue:
    """Threads that share a queue of tests; each drives a worker, and replaces it when it dies."""

    def __init__(self, runner: Runner, tests: deque[ConformanceTest], on_outcome: OnOutcome) -> None:
        self._runner, self._tests, self._on_outcome = runner, tests, on_outcome
        self._lock = threading.Lock()
        self._broken: dict[str, _Suspicion | None] = {}  # batches that a worker died of
        self.error: BaseException | None = None

    def serve(self) -> None:
        """Run tests until there are none; an error of the runner itself is kept."""
        worker: Worker | None = None
        try:
            while not self._runner.stopped and self.error is None:
                try:
                    test = self._tests.popleft()
                except IndexError:
                    break
                alone = test.batch in self._broken
                if test.isolated:
                    outcome = self._run_apart(test)
                else:
                    outcome, worker = self._run_shared(worker, test, alone)
                if not self._runner.stopped:
                    self._judge(test, outcome, alone)
        except BaseException as error:
            if not self._runner.stopped:
                self.error = error
        finally:
            if worker is not None:
                self._runner.end(worker)

    def _judge(self, test: ConformanceTest, outcome: Outcome, alone: bool) -> None:
        """Pass an outcome on. Who was killed among others is run by itself; if that passes, somebody else of
        the batch is to blame, and if nobody is, it fails after all."""
        together = outcome
        if outcome.ending == "killed" and test.batch and not alone:
            outcome = self._run_apart(test, alone=True)
        with self._lock:
            suspicion = self._broken.get(test.batch)
            if outcome.ending == "passed" and together is not outcome and test.batch not in self._broken:
                self._broken[test.batch] = _Suspicion(test, together, outcome)
                return
            if outcome.ending != "passed" and (suspicion is not None or together is not outcome):
                self._broken[test.batch] = None
            if outcome.ending != "passed" and suspicion is not None:
                self._on_outcome(suspicion.test, suspicion.alone)
            self._on_outcome(test, outcome)

    def _run_apart(self, test: ConformanceTest, alone: bool = False) -> Outcome:
        """Run a test in a process of its own."""
        with self._runner.worker() as worker:
            try:  # on a busy machine a process takes its time to start, which is not the test's
                worker.ask({"do": "start"}, OPEN_LIMIT_S)
            except Death as death:
                failure = Failure(f"starting a process for this test: {death}", output=worker.output())
                return Outcome("killed", 0.0, failure)
            return self._run(worker, test, alone)[0]

    def finish(self) -> None:
        """What crashes only in company is the failure of the test that crashed first."""
        for suspicion in self._broken.values():
            if suspicion is not None:
                self._on_outcome(suspicion.test, suspicion.together)
        self._broken.clear()

    def _run_shared(self, worker: Worker | None, test: ConformanceTest,
                    alone: bool) -> tuple[Outcome, Worker | None]:
        if worker is None:
            worker = self._runner.start()
            try:
                worker.ask({"do": "open"}, max(self._runner.limit_s, OPEN_LIMIT_S))
            except Death as death:
                failure = Failure(f"opening the device for this test: {death}", output=worker.output())
                self._runner.end(worker)
                return Outcome("killed", 0.0, failure), None
        outcome, alive = self._run(worker, test, alone)
        if not alive:
            self._runner.end(worker)
        return outcome, worker if alive else None

    def _run(self, worker: Worker, test: ConformanceTest, alone: bool) -> tuple[Outcome, bool]:
        limit_s = max(self._runner.limit_s, test.limit_s or 0.0)
        try:
            reply = worker.ask({"do": "run", "id": test.id, "alone": alone}, limit_s)
        except Death as death:
            case = {name: str(test.case.get(name, "")) for name in ("op", "dtype")}
            failure = Failure(str(death), **case, suggests=test.suggests, output=worker.output())
            return Outcome("killed", limit_s if "no answer" in str(death) else 0.0, failure), False
        return Outcome.from_data(reply).with_output(worker.output()), True


def _environment(device: str, folder: Path) -> dict[str, str]:
    """The caller's environment with empty caches: the core's, and those that drivers keep by the user's.

    The device is the default one, so that no other plugin is probed: it might bring the process down.
    """
    caches: dict[str, Any] = {config.CACHE_DIR.variable: str(folder / "cache"),
                              "XDG_CACHE_HOME": str(folder / "drivers")}
    for path in caches.values():
        Path(path).mkdir(mode=0o700, exist_ok=True)
    # unbuffered: what a test printed before it crashed is kept
    return {**os.environ, **caches, config.DEVICE.variable: device, "PYTHONUNBUFFERED": "1"}


@contextmanager
def runner(device: str, *, jobs: int, limit_s: float) -> Iterator[Runner]:
    """A runner whose folder goes away with it."""
    with tempfile.TemporaryDirectory(prefix="pluggrad-conformance-", ignore_cleanup_errors=True) as folder:
        made = Runner(device, Path(folder), jobs=jobs, limit_s=limit_s)
        try:
            yield made
        finally:
            made.stop()
