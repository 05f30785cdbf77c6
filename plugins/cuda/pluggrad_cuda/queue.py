"""The stream of one GPU: one use at a time, its context current; waits that Ctrl-C ends; faults by name."""
from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final

from pluggrad.plugin_api import DeviceError, DeviceLost, Event, KernelFault, OutOfMemoryError, poll
from pluggrad_cuda import driver, libcuda

_NON_BLOCKING: Final = 1  # CU_STREAM_NON_BLOCKING: no waiting for other libraries' work on the default stream
_NAMED: Final = 3  # kernels that the name of a list mentions


class Queue:
    """`with queue:` around every use of the driver: its context is current, its errors become ours."""

    def __init__(self, gpu: driver.Gpu) -> None:
        self.gpu, self.name = gpu, f"cuda:{gpu.index} ({gpu.name})"
        self._driver, self.context = driver.cuda(), driver.context(gpu.index)
        self._lock = threading.RLock()
        self._lost = ""
        self._last: Mark | None = None
        self._marks: deque[Any] = deque()  # of pycuda, to be recorded again: destroying one needs the context
        self._discarded: deque[tuple[str, int]] = deque()
        with self:
            self.stream = self._driver.Stream(_NON_BLOCKING)
        self.handle = int(self.stream.handle)

    # ---- use of the driver ---------------------------------------------------------------------------------
    def __enter__(self) -> Queue:
        driver.fork_guard.check()
        self._lock.acquire()
        try:
            if self._lost:
                raise self._gone()
            self.context.push()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        try:
            self._driver.Context.pop()
            if isinstance(error, (libcuda.DriverCallFailed, self._driver.Error)):
                raise self.fault(error) from error
        finally:
            self._lock.release()

    def fault(self, error: Exception, work: str = "") -> DeviceError | OutOfMemoryError:
        """The error for one of the driver's; after one that the context keeps, the device is lost."""
        code = error.code if isinstance(error, libcuda.DriverCallFailed) else libcuda.code_in(str(error))
        text = f"{error}, found at {work}" if work else str(error)
        if code in libcuda.STICKY:
            self._lost = self._lost or text
            return self._gone()
        if code == libcuda.OUT_OF_MEMORY:
            return OutOfMemoryError(op=f"memory of {self.name}", expected="enough for all that is in use",
                                    got=text, hint="Free tensors, or use smaller ones; nvidia-smi shows what "
                                                   "other processes hold")
        return KernelFault(op=self.name, expected="commands without a fault", got=text)

    def _gone(self) -> DeviceLost:
        return DeviceLost(op=self.name, expected="a device that answers", got=f"lost after {self._lost}",
                          hint="Its tensors are gone; other devices go on. Faults show late: PLUGGRAD_SYNC=1 "
                               "finds the kernel")

    @property
    def lost(self) -> bool:
        """Whether an error made the context unusable."""
        return bool(self._lost)

    # ---- what is in flight ---------------------------------------------------------------------------------
    def mark(self) -> Mark:
        """A point behind all that was enqueued, with its time; the caller holds the queue."""
        event = self._marks.popleft() if self._marks else self._driver.Event()
        event.record(self.stream)
        self._last = Mark(self, event)
        return self._last

    def reuse(self, event: Any) -> None:
        """Take a mark's event back, whichever thread lets go of it."""
        self._marks.append(event)

    def busy(self) -> bool:
        """Whether something that was enqueued is not complete."""
        with self:
            return self._last is not None and not self._last.event.query()

    def wait(self) -> None:
        """Return when all that was enqueued is complete, and give back what was discarded."""
        with self:
            last = self._last
        if last is not None:
            self.wait_for(last)
        self._destroy_discarded()

    def wait_for(self, mark: Mark, work: str = "") -> None:
        """Return when a mark is reached; a fault found then names `work`."""
        poll(lambda: self._reached(mark, work))

    def _reached(self, mark: Mark, work: str) -> bool:
        with self:
            try:
                return bool(mark.event.query())
            except self._driver.Error as error:
                raise self.fault(error, work) from error

    # ---- handles that are no longer needed -----------------------------------------------------------------
    def discard(self, destroy: str, handle: int) -> None:
        """Have `destroy` called on a handle when nothing is in flight; finalizers of any thread may."""
        self._discarded.append((destroy, handle))

    def _destroy_discarded(self) -> None:
        with self:
            if self._last is not None and not self._last.event.query():
                return
            while self._discarded:
                libcuda.call(*self._discarded.popleft())

    def close(self) -> None:
        """Wait, and let go of stream and events while their context is there."""
        self.wait()
        with self:
            self._last = None
            self._marks.clear()
            del self.stream


class Mark:
    """A point in the stream. Its event goes back to the queue for another one."""

    __slots__ = ("_queue", "event")

    def __init__(self, queue: Queue, event: Any) -> None:
        self._queue, self.event = queue, event

    def __del__(self) -> None:
        self._queue.reuse(self.event)


class CudaEvent(Event):
    """Completion of a command list: the mark behind it, and the one before it for its time."""

    __slots__ = ("_queue", "first", "last", "_kernels")

    def __init__(self, queue: Queue, first: Mark, last: Mark, kernels: Sequence[str]) -> None:
        self._queue, self.first, self.last, self._kernels = queue, first, last, kernels

    def wait(self) -> None:
        self._queue.wait_for(self.last, list_name(self._kernels))


def list_name(kernels: Sequence[str]) -> str:
    """A command list as errors name it: by its first kernels."""
    names = list(dict.fromkeys(kernels))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"the list of {', '.join(names[:_NAMED]) or 'copies'}{more}"
