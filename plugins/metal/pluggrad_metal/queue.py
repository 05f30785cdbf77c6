"""The in-order queue of one device: one submission at a time, waits that Ctrl-C ends, faults by name."""
from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final

import Metal
import objc

from pluggrad.plugin_api import DeviceLost, DeviceUnavailable, Event, KernelFault, OutOfMemoryError, poll
from pluggrad_metal.driver import fork_guard

# after these nothing of the device can be used any more
_LOST: Final = frozenset({Metal.MTLCommandBufferErrorAccessRevoked, Metal.MTLCommandBufferErrorDeviceRemoved})
_PENDING: Final = 48  # command buffers: a queue has 64, and waits natively, deaf to Ctrl-C, for another


class Queue:
    """`with queue:` around every use of the driver: one thread at a time, with an autorelease pool."""

    def __init__(self, device: Any, name: str) -> None:
        self.device, self.name = device, name
        self._lock = threading.RLock()
        self._pools: list[Any] = []  # of the thread that has the lock, which may enter again
        self._lost = ""
        with objc.autorelease_pool():
            self._commands = device.newCommandQueue()
        if self._commands is None:
            raise DeviceUnavailable(op=f"open {name}", expected="a command queue", got="none from the driver")
        self._pending: deque[Any] = deque()  # committed, and not yet seen to be complete
        self._failed: list[Any] = []  # complete without success, of which nobody has been told

    # ---- use of the driver ---------------------------------------------------------------------------------
    def __enter__(self) -> Queue:
        fork_guard.check()
        self._lock.acquire()
        if self._lost:
            self._lock.release()
            raise self._gone()
        pool = objc.autorelease_pool()
        pool.__enter__()
        self._pools.append(pool)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        try:
            self._pools.pop().__exit__(None, None, None)
        finally:
            self._lock.release()

    def _gone(self) -> DeviceLost:
        return DeviceLost(op=self.name, expected="a device that answers", got=f"lost after {self._lost}",
                          hint="Its tensors are gone; other devices go on")

    # ---- command buffers -----------------------------------------------------------------------------------
    def begin(self) -> Any:
        """A new command buffer; the caller has entered the queue. It keeps what is encoded into it alive."""
        while len(self._pending) >= _PENDING:
            self._settle(self._pending[0])
            oldest = self._pending.popleft()
            if _has_failed(oldest):
                self._failed.append(oldest)
        return self._commands.commandBuffer()

    def commit(self, buffer: Any) -> None:
        """Let a command buffer run after all that were committed before it."""
        buffer.commit()
        self._pending.append(buffer)

    def busy(self) -> bool:
        """Whether something that was committed is not complete."""
        with self:
            return bool(self._pending) and not _is_complete(self._pending[-1])

    def wait(self) -> None:
        """Return when all that was committed is complete; raises the first fault that nobody has seen."""
        with self:
            committed = [*self._failed, *self._pending]
        self.wait_for(committed)

    def wait_for(self, buffers: Sequence[Any]) -> None:
        """Return when these are complete, or raise the fault of the first that failed."""
        for buffer in buffers:
            self._settle(buffer)
        with self:
            for buffer in buffers:
                for known in (self._pending, self._failed):
                    if buffer in known:
                        known.remove(buffer)
        for buffer in buffers:
            if _has_failed(buffer):
                raise self.fault(buffer)

    def _settle(self, buffer: Any) -> None:
        """Wait until a command buffer is complete or has failed."""
        fork_guard.check()
        with objc.autorelease_pool():
            poll(lambda: _is_complete(buffer))

    def fault(self, buffer: Any) -> KernelFault | OutOfMemoryError:
        """The error of a command buffer that failed; from one that means so on, the device is lost."""
        with objc.autorelease_pool():
            error = buffer.error()
            code = 0 if error is None else int(error.code())
            text = "no reason given" if error is None else str(error.localizedDescription())
            text = f"{buffer.label() or 'a command buffer'}: {text} (code {code})"
        if code in _LOST:
            self._lost = text
            return self._gone()
        if code == Metal.MTLCommandBufferErrorOutOfMemory:
            return OutOfMemoryError(op=f"memory of {self.name}", expected="enough for all that is in use",
                                    got=text, hint="Free tensors, or use smaller ones")
        return KernelFault(op=self.name, expected="commands without a fault", got=text)


def _is_complete(buffer: Any) -> bool:
    return bool(buffer.status() >= Metal.MTLCommandBufferStatusCompleted)  # or failed, which comes behind it


def _has_failed(buffer: Any) -> bool:
    return bool(buffer.status() == Metal.MTLCommandBufferStatusError)


class MetalEvent(Event):
    """Completion of a command list, which is that of its command buffers."""

    __slots__ = ("_queue", "buffers")

    def __init__(self, queue: Queue, buffers: Sequence[Any]) -> None:
        self._queue, self.buffers = queue, tuple(buffers)

    def wait(self) -> None:
        self._queue.wait_for(self.buffers)
