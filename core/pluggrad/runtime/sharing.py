"""Memory that NumPy and a device share: stored values seen in place, and arrays of others taken as they are.

What is shared is marked `exported`, so no plan writes over it: a tensor that is written to moves on to memory
of its own, and who looks at the old values keeps them.
"""
from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pluggrad.dtypes import DType
from pluggrad.graph.leaf import Identity
from pluggrad.graph.types import TensorType
from pluggrad.ir.node import Node
from pluggrad.runtime.memory import Block
from pluggrad.runtime.realization import lock
from pluggrad.runtime.sessions import session
from pluggrad.runtime.storage import BufferVersion, Handle, Storage, buffer
from pluggrad.runtime.values import version_of
from pluggrad.target import DeviceId


class _InPlace:
    """A storage as NumPy sees it. It is the base of the array, and so keeps the memory out of the pool."""

    __slots__ = ("__array_interface__", "_storage")

    def __init__(self, storage: Storage, kind: TensorType, address: int) -> None:
        self._storage = storage
        self.__array_interface__ = {
            "version": 3, "shape": kind.shape, "typestr": kind.dtype.numpy.str, "data": (address, True)}


class _Lent:
    """Memory of an array that somebody else made, in the place of a pool."""

    __slots__ = ("_allocation", "_array")

    def __init__(self, allocation: Any, array: npt.NDArray[Any]) -> None:
        self._allocation, self._array = allocation, array

    def take(self, nbytes: int) -> Block:
        """The block that was lent."""
        return Block(self._allocation, nbytes, nbytes)

    def give(self, block: Block) -> None:
        """Let go of the array, whose owner frees it."""
        self._allocation = self._array = None  # type: ignore[assignment]


def is_host_memory(device: DeviceId) -> bool:
    """Whether the host sees the memory of a device in place."""
    return "zero_copy" in session(device).target.capabilities.features


def share(handle: Handle) -> npt.NDArray[Any] | None:
    """The value of a handle, computed if need be, as a read-only array over the memory that holds it.

    None where the host cannot see that memory. JitError while a function is captured; KernelFault if what
    should have computed the value failed.
    """
    with lock:
        if not is_host_memory(handle.node.device):
            return None
        version: BufferVersion = version_of(handle)
        kind, storage = handle.node.type, version.storage
        place = session(storage.device)
        with place.queue:
            if place.queue.deferred:
                place.queue.wait()
            storage.require_usable()
        storage.exported = True
        memory = place.device.allocator.host_view(storage.block.allocation)  # type: ignore[attr-defined]
        return np.asarray(_InPlace(storage, kind, np.frombuffer(memory, np.uint8).ctypes.data))


def borrow(array: npt.NDArray[Any], dtype: DType, device: DeviceId,
           identity: Identity | None = None) -> Node | None:
    """A BUFFER leaf over the memory of a row-major array; None where the device cannot use it in place.

    The leaf holds the array. Whoever else writes to that memory changes the values of the leaf.
    """
    with lock:
        place = session(device)
        place.require(dtype)
        if not (array.flags.c_contiguous and array.flags.aligned and array.nbytes):
            return None
        allocation = place.device.allocator.borrow(array.ctypes.data, array.nbytes)
        if allocation is None:
            return None
        storage = Storage(device, _Lent(allocation, array), array.nbytes)
        storage.exported = True
        return buffer(BufferVersion(storage, identity), array.shape, dtype)
