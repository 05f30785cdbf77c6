"""Maps of tensors, by which the engine copies boxes of a buffer: what the driver encodes for a launch."""
from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_uint32, c_uint64
from typing import Any, Final

from pluggrad.plugin_api import Box, BufferParam
from pluggrad_cuda import libcuda

ALIGNMENT: Final = 1024  # bytes, of the shared memory that spans lie in
_BYTES: Final = 128  # of a map, whose address is a multiple of half as much
_TYPES: Final = {2: libcuda.MAP_OF_UINT16}  # by bytes of an element: bits are copied as they are


def arguments(box: Box, param: BufferParam, address: int) -> tuple[Any, ...]:
    """What the driver is told of a box of a buffer at an address, behind where the map is to be."""
    rank, size = len(box.dims), param.dtype.itemsize
    extents = (c_uint64 * rank)(*[dim.extent for dim in box.dims])
    strides = (c_uint64 * rank)(*[dim.stride * size for dim in box.dims[1:]])
    held = (c_uint32 * rank)(box.span, *[dim.held for dim in box.dims[1:]])
    every = (c_uint32 * rank)(*[1] * rank)
    return (_TYPES[size], rank, address + box.offset * size, extents, strides, held, every,
            libcuda.NO_INTERLEAVE, libcuda.SWIZZLE_128B, libcuda.PROMOTED_TO_256B, libcuda.FILLED_WITH_ZEROS)


class TensorMaps:
    """The maps of a kernel's boxes, for the addresses that they were encoded for last."""

    def __init__(self, boxes: Sequence[Box], buffers: Sequence[BufferParam]) -> None:
        self._boxes, self._buffers = boxes, buffers
        self._memory = ctypes.create_string_buffer(_BYTES * (len(boxes) + 1))
        start = ctypes.addressof(self._memory)
        start += -start % _BYTES
        self.places = [start + _BYTES * i for i in range(len(boxes))]
        self._bound = [0] * len(boxes)

    def bind(self, addresses: Sequence[int]) -> None:
        """Encode those whose buffer is at another address than before."""
        for i, (box, place) in enumerate(zip(self._boxes, self.places, strict=True)):
            address = addresses[box.source]
            if address != self._bound[i]:
                told = arguments(box, self._buffers[box.source], address)
                libcuda.call(libcuda.ENCODE_MAP, place, *told)
                self._bound[i] = address
