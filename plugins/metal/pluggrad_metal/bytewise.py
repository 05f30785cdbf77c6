"""Copies and fills byte by byte, for sizes and offsets that blits do not take."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from pluggrad.plugin_api import dtypes, pack_values

_ITEMS: Final = 256
SOURCE: Final = f"""#include <metal_stdlib>
using namespace metal;

[[kernel, max_total_threads_per_threadgroup({_ITEMS})]]
void copy_bytes(
    device const uchar *source [[buffer(0)]],
    device uchar *target [[buffer(1)]],
    constant ulong *values [[buffer(2)]],
    uint task_id [[threadgroup_position_in_grid]],
    uint item_id [[thread_index_in_threadgroup]]) {{
    const ulong i = (ulong)task_id * {_ITEMS} + item_id;
    if (i < values[0]) target[i] = source[i];
}}

[[kernel, max_total_threads_per_threadgroup({_ITEMS})]]
void fill_bytes(
    device uchar *target [[buffer(0)]],
    constant ulong *values [[buffer(1)]],
    uint task_id [[threadgroup_position_in_grid]],
    uint item_id [[thread_index_in_threadgroup]]) {{
    const ulong i = (ulong)task_id * {_ITEMS} + item_id;
    if (i < values[0]) target[i] = 0;
}}
"""

Arguments = list[tuple[Any, int]]  # buffers, and offsets into them


class ByteLaunch(NamedTuple):
    """What `Encoder.launch` takes."""

    pipeline: Any
    name: str
    buffers: Arguments
    values: bytes
    tasks: int
    items: int


class Bytewise:
    """The two kernels, compiled when the first of them is needed. pipelines: compiles source, by name."""

    def __init__(self, pipeline: Callable[[str, str], Any]) -> None:
        self._make = pipeline
        self._pipelines: dict[str, Any] = {}

    def copy(self, buffers: Arguments, nbytes: int) -> ByteLaunch:
        """From the first buffer to the second."""
        return self._launch("copy_bytes", buffers, nbytes)

    def fill(self, buffers: Arguments, nbytes: int) -> ByteLaunch:
        """Zeros."""
        return self._launch("fill_bytes", buffers, nbytes)

    def _launch(self, name: str, buffers: Arguments, nbytes: int) -> ByteLaunch:
        pipeline = self._pipelines.get(name)
        if pipeline is None:
            pipeline = self._pipelines[name] = self._make(SOURCE, name)
        values = pack_values([nbytes], [dtypes.uint64])
        return ByteLaunch(pipeline, name, buffers, values, -(-nbytes // _ITEMS), _ITEMS)
