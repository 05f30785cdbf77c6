"""Tensor maps as `boxes.h` reads them: what the plugin tells the driver, held to what the header says."""
from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from typing import Any, Final

from pluggrad.kernel.kernel import Box, BufferParam

_KNOWN: Final = 0x7E5042
_ELEMENT_BYTES: Final = {1: 2}  # CUtensorMapDataType
_LIMITS: Final = {"rank": 5, "extent": 1 << 31, "stride": (1 << 40) - 1, "box": 256}
_ALIGNMENT: Final = 16
_SWIZZLE_128B, _SPAN_BYTES = 3, 128


def encoded(boxes: Sequence[Box], buffers: Sequence[BufferParam], addresses: Sequence[int]) -> list[Any]:
    """A map for each box, as memory that begins at a multiple of 64 bytes."""
    if not boxes:
        return []
    from pluggrad_cuda.tensor_maps import arguments

    return [_aligned(encode(*arguments(box, buffers[box.source], addresses[box.source]))) for box in boxes]


def encode(kind: int, rank: int, address: int, extents: Any, strides: Any, held: Any, every: Any,
           interleave: int, swizzle: int, promotion: int, fill: int) -> bytes:
    """As cuTensorMapEncodeTiled is called, but for where the map is to be; AssertionError where it would
    refuse, or where `boxes.h` knows nothing of what is asked for."""
    size = _ELEMENT_BYTES[kind]
    assert 1 <= rank <= _LIMITS["rank"]
    assert address % _ALIGNMENT == 0
    assert all(0 < extent <= _LIMITS["extent"] for extent in extents)
    assert all(0 < n <= _LIMITS["box"] for n in held)
    assert held[0] * size == _SPAN_BYTES
    before = extents[0] * size
    for stride, extent in zip(strides[:rank - 1], extents[1:rank], strict=True):
        assert stride % _ALIGNMENT == 0
        assert before <= stride <= _LIMITS["stride"]
        before = stride * extent
    assert list(every) == [1] * rank
    assert (interleave, swizzle, fill) == (0, _SWIZZLE_128B, 0)
    assert promotion in range(4)
    return struct.pack("<QII4Q5I5II36x", address, rank, size, *_five(strides)[:4], *_five(extents),
                       *_five(held), _KNOWN)


def _five(values: Sequence[int]) -> list[int]:
    return [*values, *[0] * (5 - len(values))]


def _aligned(content: bytes) -> Any:
    memory = (ctypes.c_char * (len(content) + 64))()
    offset = -ctypes.addressof(memory) % 64
    ctypes.memmove(ctypes.addressof(memory) + offset, content, len(content))
    return (ctypes.c_char * len(content)).from_buffer(memory, offset)
