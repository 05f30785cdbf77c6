"""Commands on their way into command buffers: launches as compute passes, copies and fills as blits."""
from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final

import Foundation
import Metal

from pluggrad_metal.bytewise import Bytewise
from pluggrad_metal.queue import Queue

_BATCH: Final = 64  # commands of one command buffer: the GPU begins with it while the next is encoded
_NAMED: Final = 4  # kernels in the label of a command buffer
_BLIT_UNIT: Final = 4  # bytes: what offsets and sizes of blits are multiples of on macOS
_SET_BYTES: Final = 4096  # what the driver copies into the command buffer itself


class Encoder:
    """`with Encoder(queue, bytewise) as encoder:` encodes a command list, and commits it in batches.

    It ends each pass before the next one begins and before its buffer is committed, as Metal demands, also
    where an error stops it; what was not committed then never runs. `buffers` are those that were.
    """

    def __init__(self, queue: Queue, bytewise: Bytewise) -> None:
        self.buffers: list[Any] = []
        self._queue, self._bytewise = queue, bytewise
        self._buffer: Any = None
        self._pass: Any = None
        self._computes = False  # whether the pass is a compute pass
        self._count = 0
        self._names: list[str] = []
        self._pipeline: Any = None
        self._bound: dict[int, tuple[Any, int]] = {}  # by index: buffer and offset, as the pass has them

    def __enter__(self) -> Encoder:
        self._queue.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        try:
            self._end_pass()
            if error is None:
                self._commit()
        finally:
            self._queue.__exit__(kind, error, trace)

    # ---- commands ------------------------------------------------------------------------------------------
    def launch(self, pipeline: Any, name: str, buffers: Sequence[tuple[Any, int]], values: bytes, tasks: int,
               items: int, barrier: bool = True) -> None:
        """Run a pipeline on buffers from their offsets on; `values` go behind them.

        barrier: after all that was encoded before; otherwise beside what came since the last barrier.
        """
        self._next(computes=True)
        encoder = self._pass
        if barrier and self._pipeline is not None:
            encoder.memoryBarrierWithScope_(Metal.MTLBarrierScopeBuffers)
        if self._pipeline is not pipeline:
            encoder.setComputePipelineState_(pipeline)
            self._pipeline = pipeline
        for index, (buffer, offset) in enumerate(buffers):
            bound = self._bound.get(index)
            if bound is None or bound[0] is not buffer or bound[1] != offset:
                encoder.setBuffer_offset_atIndex_(buffer, offset, index)
                self._bound[index] = (buffer, offset)
        if values:
            self._set_values(values, len(buffers))
        encoder.dispatchThreadgroups_threadsPerThreadgroup_(
            Metal.MTLSizeMake(tasks, 1, 1), Metal.MTLSizeMake(items, 1, 1))
        self._names.append(name)

    def _set_values(self, values: bytes, index: int) -> None:
        self._bound.pop(index, None)
        if len(values) <= _SET_BYTES:
            self._pass.setBytes_length_atIndex_(values, len(values), index)
            return
        buffer = self._queue.device.newBufferWithBytes_length_options_(
            values, len(values), Metal.MTLResourceStorageModeShared)
        self._pass.setBuffer_offset_atIndex_(buffer, 0, index)

    def copy(self, target: Any, target_offset: int, source: Any, source_offset: int, nbytes: int) -> None:
        """Copy bytes from one buffer to another, or within one where they do not overlap."""
        if target_offset % _BLIT_UNIT or source_offset % _BLIT_UNIT or nbytes % _BLIT_UNIT:
            arguments = [(source, source_offset), (target, target_offset)]
            self.launch(*self._bytewise.copy(arguments, nbytes))
            return
        self._next(computes=False)
        self._pass.copyFromBuffer_sourceOffset_toBuffer_destinationOffset_size_(
            source, source_offset, target, target_offset, nbytes)
        self._names.append("copy")

    def fill(self, target: Any, offset: int, nbytes: int) -> None:
        """Set bytes of a buffer to zero."""
        if offset % _BLIT_UNIT or nbytes % _BLIT_UNIT:
            self.launch(*self._bytewise.fill([(target, offset)], nbytes))
            return
        self._next(computes=False)
        self._pass.fillBuffer_range_value_(target, Foundation.NSMakeRange(offset, nbytes), 0)
        self._names.append("fill")

    # ---- passes and command buffers ------------------------------------------------------------------------
    def _next(self, computes: bool) -> None:
        """A pass of the kind that the next command needs."""
        if self._count == _BATCH:
            self._end_pass()
            self._commit()
        self._count += 1
        if self._pass is not None and self._computes is computes:
            return
        self._end_pass()
        if self._buffer is None:
            self._buffer = self._queue.begin()
        self._computes = computes
        if computes:
            self._pass = self._buffer.computeCommandEncoderWithDispatchType_(Metal.MTLDispatchTypeConcurrent)
        else:
            self._pass = self._buffer.blitCommandEncoder()

    def _end_pass(self) -> None:
        if self._pass is not None:
            self._pass.endEncoding()
        self._pass = self._pipeline = None
        self._bound.clear()

    def _commit(self) -> None:
        if self._buffer is None:
            return
        shown = list(dict.fromkeys(self._names))
        more = f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
        self._buffer.setLabel_(", ".join(shown[:_NAMED]) + more)
        self._queue.commit(self._buffer)
        self.buffers.append(self._buffer)
        self._buffer, self._count = None, 0
        self._names.clear()
