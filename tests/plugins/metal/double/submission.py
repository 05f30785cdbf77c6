"""Queues, command buffers and encoders. What is committed runs when it is next looked at, in order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from machine import MACHINE, Error, Object, Range, Size, selector

MTLBarrierScopeBuffers = 1
MTLDispatchTypeConcurrent = 1
MTLCommandBufferStatusCompleted = 4
MTLCommandBufferStatusError = 5
MTLCommandBufferErrorAccessRevoked = 4
MTLCommandBufferErrorOutOfMemory = 8
MTLCommandBufferErrorDeviceRemoved = 11

_NOT_COMMITTED = 0
_COMMITTED = 2
_UNCOMPLETED = 64  # command buffers of a queue: `commandBuffer` then waits for one to complete
_SET_BYTES = 4096
_BLIT_UNIT = 4


class CommandQueue(Object):
    """Command buffers, in the order in which they were committed."""

    def __init__(self) -> None:
        self.committed: list[CommandBuffer] = []
        self.clock = 100.0
        self.turn = threading.RLock()  # real ones complete on a thread of the driver's

    @selector(autoreleased=True)
    def commandBuffer(self) -> CommandBuffer:
        MACHINE.expect(len(self.committed) < _UNCOMPLETED, "commandBuffer would wait natively")
        return CommandBuffer(self)

    def run_until(self, last: CommandBuffer) -> None:
        """Run what was committed, up to a command buffer."""
        with self.turn:
            while last in self.committed:
                self._run(self.committed[0])
                self.committed.pop(0)

    def _run(self, buffer: CommandBuffer) -> None:
        buffer.started = self.clock
        if MACHINE.failures:
            buffer.code = MACHINE.failures.pop(0)
        if not buffer.code:
            for command in buffer.commands:
                command()
        self.clock += 0.001
        buffer.ended = self.clock
        buffer.state = MTLCommandBufferStatusError if buffer.code else MTLCommandBufferStatusCompleted
        buffer.commands.clear()
        buffer.retained.clear()


class CommandBuffer(Object):
    """Holds all that its commands use until they are complete."""

    def __init__(self, queue: CommandQueue) -> None:
        self.queue = queue
        self.commands: list[Callable[[], None]] = []
        self.retained: list[Any] = []
        self.encoder: Encoder | None = None
        self.state, self.code, self.polls = _NOT_COMMITTED, 0, 0
        self.started = self.ended = 0.0
        self.text = ""

    def _begin(self, encoder: Encoder) -> Encoder:
        MACHINE.expect(self.state == _NOT_COMMITTED, "an encoder of a command buffer that is committed")
        MACHINE.expect(self.encoder is None, "an encoder while another of the command buffer is open")
        self.encoder = encoder
        return encoder

    @selector("Q", autoreleased=True)
    def computeCommandEncoderWithDispatchType_(self, kind: int) -> Encoder:
        return self._begin(ComputeEncoder(self, concurrent=kind == MTLDispatchTypeConcurrent))

    @selector(autoreleased=True)
    def blitCommandEncoder(self) -> Encoder:
        return self._begin(BlitEncoder(self))

    @selector("@")
    def setLabel_(self, label: str) -> None:
        self.text = label

    def label(self) -> str:
        MACHINE.expect(MACHINE.pool_depth, "label is autoreleased, and no pool is open")
        return self.text

    @selector()
    def commit(self) -> None:
        MACHINE.expect(self.state == _NOT_COMMITTED, "a command buffer is committed twice")
        MACHINE.expect(self.encoder is None, "a command buffer is committed while an encoder is open")
        self.state, self.polls = _COMMITTED, MACHINE.polls
        self.queue.committed.append(self)

    def status(self) -> int:
        if self.state == _COMMITTED and not MACHINE.held:
            self.polls -= 1
            if self.polls < 0:
                self.queue.run_until(self)
        return self.state

    def error(self) -> Error | None:
        MACHINE.expect(MACHINE.pool_depth, "error is autoreleased, and no pool is open")
        return Error("MTLCommandBufferErrorDomain", self.code, "the GPU stopped") if self.code else None

    def GPUStartTime(self) -> float:
        MACHINE.expect(self.state == MTLCommandBufferStatusCompleted, "times of what is not complete")
        return self.started

    def GPUEndTime(self) -> float:
        MACHINE.expect(self.state == MTLCommandBufferStatusCompleted, "times of what is not complete")
        return self.ended


class Encoder(Object):
    """Writes commands to a command buffer until it is ended."""

    def __init__(self, buffer: CommandBuffer) -> None:
        self.buffer, self.ended = buffer, False

    def __del__(self) -> None:
        if not self.ended:
            MACHINE.misuse("Command encoder released without endEncoding")

    def encode(self, command: Callable[[], None], *used: Any) -> None:
        """Add a command, and retain the buffers that it uses."""
        self.expect_open()
        self.buffer.commands.append(command)
        self.buffer.retained += used

    def expect_open(self) -> None:
        MACHINE.expect(not self.ended, "a command for an encoder that is ended")

    @selector()
    def endEncoding(self) -> None:
        self.expect_open()
        self.ended = True
        self.buffer.encoder = None


class Span(NamedTuple):
    """Bytes of a buffer that a dispatch touches."""

    buffer: Any
    start: int
    stop: int
    written: bool

    def meets(self, other: Span) -> bool:
        """Whether the two may not run side by side."""
        same = self.buffer is other.buffer and self.start < other.stop and other.start < self.stop
        return same and (self.written or other.written)


@dataclass
class Bound:
    """What a compute encoder has set."""

    pipeline: Any = None
    buffers: dict[int, tuple[Any, int]] = field(default_factory=dict)
    values: dict[int, bytes] = field(default_factory=dict)


class ComputeEncoder(Encoder):
    """Dispatches, which run side by side unless a barrier stands between them."""

    def __init__(self, buffer: CommandBuffer, concurrent: bool) -> None:
        super().__init__(buffer)
        self.bound, self.concurrent = Bound(), concurrent
        self.running: list[Span] = []  # since the last barrier

    @selector("@")
    def setComputePipelineState_(self, pipeline: Any) -> None:
        self.expect_open()
        self.bound.pipeline = pipeline

    @selector("@QQ")
    def setBuffer_offset_atIndex_(self, buffer: Any, offset: int, index: int) -> None:
        self.expect_open()
        MACHINE.expect(index < 31, f"buffer index {index}: there are 31")
        MACHINE.expect(buffer is not None and offset < buffer.length(), f"offset {offset} beyond a buffer")
        self.bound.buffers[index] = buffer, offset
        self.bound.values.pop(index, None)

    @selector("*QQ")
    def setBytes_length_atIndex_(self, data: Any, length: int, index: int) -> None:
        self.expect_open()
        MACHINE.expect(0 < length <= min(memoryview(data).nbytes, _SET_BYTES), f"setBytes of {length} bytes")
        MACHINE.expect(index < 31, f"buffer index {index}: there are 31")
        self.bound.values[index] = bytes(memoryview(data)[:length])
        self.bound.buffers.pop(index, None)

    @selector("Q")
    def memoryBarrierWithScope_(self, scope: int) -> None:
        self.expect_open()
        MACHINE.expect(scope & MTLBarrierScopeBuffers, "a barrier that does not hold for buffers")
        self.running.clear()

    @selector("SS")
    def dispatchThreadgroups_threadsPerThreadgroup_(self, groups: Size, threads: Size) -> None:
        pipeline = self.bound.pipeline
        MACHINE.expect(pipeline is not None, "a dispatch without a pipeline")
        function = pipeline.function
        count = threads.width * threads.height * threads.depth
        fits = all(groups) and 0 < count <= function.threads
        MACHINE.expect(fits, f"{groups} of {threads}: {function.name}")
        values = b""
        buffers, spans = [], []
        for argument in function.arguments:
            if argument.is_values and argument.index in self.bound.values:
                values = self.bound.values[argument.index]
                continue
            MACHINE.expect(argument.index in self.bound.buffers,
                           f"{function.name} is dispatched without its buffer {argument.index}")
            buffer, offset = self.bound.buffers[argument.index]
            if argument.is_values:
                values = buffer.data[offset:].tobytes()
                continue
            buffers.append(buffer.data[offset:])
            spans.append(Span(buffer, offset, buffer.length(), argument.written))
        if self.concurrent:
            self._expect_apart(spans, function.name)
        self.encode(lambda: function.run(buffers, values), *[span.buffer for span in spans])

    def _expect_apart(self, spans: list[Span], name: str) -> None:
        for span in spans:
            if any(span.buffer is old.buffer and span.start == old.start and span.meets(old)
                   for old in self.running):
                raise MACHINE.misuse(f"{name} is dispatched beside what it depends on, without a barrier")
        self.running += spans


class BlitEncoder(Encoder):
    """Copies and fills, in units of four bytes."""

    @selector("@Q@QQ")
    def copyFromBuffer_sourceOffset_toBuffer_destinationOffset_size_(
            self, source: Any, source_offset: int, target: Any, target_offset: int, size: int) -> None:
        for number in (source_offset, target_offset, size):
            MACHINE.expect(number % _BLIT_UNIT == 0, f"a blit at or of {number} bytes")
        MACHINE.expect(size and source_offset + size <= source.length(), "a blit from beyond a buffer")
        MACHINE.expect(target_offset + size <= target.length(), "a blit to beyond a buffer")
        apart = source_offset + size <= target_offset or target_offset + size <= source_offset
        MACHINE.expect(source is not target or apart, "a blit onto itself")
        from_, to = source.data[source_offset:], target.data[target_offset:]

        def copy() -> None:
            to[:size] = from_[:size]
        self.encode(copy, source, target)

    @selector("@RC")
    def fillBuffer_range_value_(self, target: Any, where: Range, value: int) -> None:
        for number in where:
            MACHINE.expect(number % _BLIT_UNIT == 0, f"a fill at or of {number} bytes")
        MACHINE.expect(where.length and sum(where) <= target.length(), "a fill beyond a buffer")
        data = target.data[where.location:sum(where)]

        def fill() -> None:
            data[:] = value
        self.encode(fill, target)
