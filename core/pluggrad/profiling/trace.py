"""A profile in the Trace Event Format, which Perfetto and Chrome open: JSON, times in microseconds."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from pluggrad.device.hookspecs import CopyFinished, KernelCompiled, KernelFinished
from pluggrad.profiling.table import rate
from pluggrad.version import __version__

_PROCESS: Final = 1
_COMPILER: Final = "compile"


class _Slice(NamedTuple):
    """Something that took time, in the row called `row`; `start` and `seconds` on one clock."""

    row: str
    name: str
    category: str
    start: float
    seconds: float
    args: dict[str, Any]


def trace(start: float, finished: Sequence[KernelFinished], copied: Sequence[CopyFinished],
          compiled: Sequence[KernelCompiled]) -> dict[str, object]:
    """A row for each device, with its kernels and copies, and one for compilation. Times begin at `start`."""
    slices = [*map(_kernel, finished), *map(_copy, copied)]
    for event in compiled:
        slices += _compilation(event)
    rows = sorted({part.row for part in slices}, key=lambda row: (row == _COMPILER, row))
    events = [_metadata("process_name", 0, name="pluggrad")]
    for number, row in enumerate(rows, 1):
        events += [_metadata("thread_name", number, name=row),
                   _metadata("thread_sort_index", number, sort_index=number)]
        events += _in_order([part for part in slices if part.row == row], number, start)
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"pluggrad": __version__}}


def _kernel(event: KernelFinished) -> _Slice:
    kernel = event.kernel
    return _Slice(str(event.device), kernel.title, "kernel", event.start, event.seconds, {
        "kernel": kernel.name, "buffers": kernel.buffers, "axes": kernel.axes,
        "operations": kernel.flops, "bytes": kernel.bytes,
        "GFLOP/s": round(rate(kernel.flops, event.seconds), 3),
        "GB/s": round(rate(kernel.bytes, event.seconds), 3)})


def _copy(event: CopyFinished) -> _Slice:
    source = {} if event.source is None else {"from": str(event.source)}
    return _Slice(str(event.device), event.kind, "copy", event.start, event.seconds, {
        "bytes": event.nbytes, "GB/s": round(rate(event.nbytes, event.seconds), 3), **source})


def _compilation(event: KernelCompiled) -> Iterator[_Slice]:
    for phase, start, seconds in event.phases:
        yield _Slice(_COMPILER, f"{phase} {event.kernel.title}", "compile", start, seconds,
                     {"kernel": event.kernel.name, "device": str(event.device)})


def _in_order(slices: list[_Slice], row: int, start: float) -> Iterator[dict[str, Any]]:
    """Complete events, by time: none begins before the one before it in the row has ended."""
    free = 0.0
    for part in sorted(slices, key=lambda part: part.start):
        begin = max(free, round((part.start - start) * 1e6, 3))
        free = max(begin, round((part.start + part.seconds - start) * 1e6, 3))
        yield {"ph": "X", "name": part.name, "cat": part.category, "ts": begin,
               "dur": round(free - begin, 3), "pid": _PROCESS, "tid": row, "args": part.args}


def _metadata(kind: str, row: int, **args: Any) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": _PROCESS, "tid": row, "args": args}
