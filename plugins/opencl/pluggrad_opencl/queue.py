"""The in-order queue of one device: one submission at a time, waits that Ctrl-C ends, faults by name."""
from __future__ import annotations

import threading
from collections import deque
from types import TracebackType
from typing import Any, Final

import pyopencl as cl

from pluggrad.plugin_api import DeviceLost, Event, KernelFault, OutOfMemoryError, poll
from pluggrad_opencl.driver import fork_guard

_STATUS: Final = cl.status_code
# after these nothing of the device can be used any more
_LOST: Final = frozenset({
    _STATUS.DEVICE_NOT_AVAILABLE, _STATUS.INVALID_COMMAND_QUEUE, _STATUS.INVALID_CONTEXT,
    -9999,  # NVIDIA: a kernel touched memory that is not its own
})
_NO_MEMORY: Final = frozenset({_STATUS.MEM_OBJECT_ALLOCATION_FAILURE, _STATUS.OUT_OF_HOST_MEMORY})


def status_text(code: int) -> str:
    """The name of an OpenCL status."""
    return str(_STATUS.to_string(code, "status %d"))  # type: ignore[operator]  # added at run time


class Queue:
    """`with queue as commands:` around every use of the driver: one at a time, with its errors as ours."""

    def __init__(self, context: cl.Context, device: cl.Device, name: str) -> None:
        self.device, self.name = device, name
        # profiling costs nothing that could be measured, and gives event times without a queue of their own
        self._commands = cl.CommandQueue(context, device, cl.command_queue_properties.PROFILING_ENABLE)
        self._lock = threading.RLock()
        self._last: cl.Event | None = None
        self._staged: deque[cl.Event] = deque()  # dropping such an event would wait for it
        self._lost = ""

    # ---- use of the driver ---------------------------------------------------------------------------------
    def __enter__(self) -> cl.CommandQueue:
        fork_guard.check()
        self._lock.acquire()
        if self._lost:
            self._lock.release()
            raise self._gone()
        return self._commands

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        try:
            if isinstance(error, cl.Error):
                raise self.fault(error.code, f"{error.routine}") from error
        finally:
            self._lock.release()

    def fault(self, code: int, action: str) -> KernelFault | OutOfMemoryError:
        """The error for a status of the driver; from one that means so on, the device is lost."""
        text = f"{action}: {status_text(code)}"
        if code in _LOST:
            self._lost = text
            return self._gone()
        if code in _NO_MEMORY:
            return OutOfMemoryError(op=f"memory of {self.name}", expected="enough for all that is in use",
                                    got=text, hint="Free tensors, or use smaller ones")
        return KernelFault(op=self.name, expected="commands without a fault", got=text)

    def _gone(self) -> DeviceLost:
        return DeviceLost(op=self.name, expected="a device that answers", got=f"lost after {self._lost}",
                          hint="Its tensors are gone; other devices go on")

    # ---- commands in flight --------------------------------------------------------------------------------
    def sent(self, event: cl.Event) -> None:
        """Note the last command that was enqueued, and let the device begin."""
        self._last = event
        self._commands.flush()

    def write(self, buffer: cl.Buffer, offset: int, data: Any) -> None:
        """Copy host bytes that stay as they are, without waiting for what runs before."""
        with self as commands:
            while self._staged and self._staged[0].command_execution_status <= 0:
                self._staged.popleft()
            event = cl.enqueue_copy(commands, buffer, data, dst_offset=offset, is_blocking=False)
            self._staged.append(event)
            self.sent(event)

    def busy(self) -> bool:
        """Whether something that was submitted is not complete."""
        with self:
            return self._last is not None and self._last.command_execution_status > 0

    def wait(self) -> None:
        """Return when all that was submitted is complete; raises if the last of it failed."""
        with self:
            last = self._last
        if last is not None:
            self.wait_for(last)

    def wait_for(self, event: cl.Event) -> None:
        """Return when an event is complete; raises if its command failed."""
        poll(lambda: self._reached(event))

    def _reached(self, event: cl.Event) -> bool:
        with self:
            status = event.command_execution_status
        if status < 0:
            raise self.fault(status, "a command failed")
        return bool(status == 0)


class OpenCLEvent(Event):
    """Completion of a command list, which is that of its last command."""

    __slots__ = ("_queue", "first", "last")

    def __init__(self, queue: Queue, first: cl.Event, last: cl.Event) -> None:
        self._queue, self.first, self.last = queue, first, last

    def wait(self) -> None:
        self._queue.wait_for(self.last)
