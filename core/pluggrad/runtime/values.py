"""Values on their way between the host and a device: uploads, reads, copies; and waiting for a device."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pluggrad.device.registry import REGISTRY
from pluggrad.dtypes import DType
from pluggrad.errors import JitError, caller_line
from pluggrad.graph.leaf import Identity
from pluggrad.graph.types import TensorType
from pluggrad.ir.node import Node
from pluggrad.runtime import copies, realization
from pluggrad.runtime.counters import GlobalCounters
from pluggrad.runtime.queue import queue_of
from pluggrad.runtime.realization import lock, realize, stored_version
from pluggrad.runtime.sessions import opened, session
from pluggrad.runtime.storage import BufferVersion, Handle, Storage, buffer
from pluggrad.target import DeviceId

if TYPE_CHECKING:
    from pluggrad.runtime.session import Session


def upload(array: Any, dtype: DType, device: DeviceId, identity: Identity | None = None) -> Node:
    """A BUFFER leaf with a copy of host data (a NumPy array in the dtype's storage type)."""
    with lock:
        return _upload(array, dtype, device, identity)


def _upload(array: Any, dtype: DType, device: DeviceId, identity: Identity | None) -> Node:
    place = session(device)
    place.require(dtype)
    data = np.ascontiguousarray(array, dtype=dtype.numpy)
    storage = Storage(device, place.pool, data.nbytes)
    if data.nbytes:
        copies.upload(place, storage, data.data.cast("B"))
    GlobalCounters.uploads += 1
    return buffer(BufferVersion(storage, identity), np.shape(array), dtype)


def _downloaded(version: BufferVersion, kind: TensorType) -> Any:
    data = np.empty(kind.shape, kind.dtype.numpy)
    if data.nbytes:
        copies.download(session(version.storage.device), data.data.cast("B"), version.storage)
    return data


def read(n: Node) -> Any:
    """The value as a fresh row-major NumPy array in the dtype's storage type, computed if not stored."""
    with lock:
        return _downloaded(stored_version(n), n.type)


def fetch(handle: Handle) -> Any:
    """The value of a handle as `read` gives it; the handle is realized, so that asking again is cheap."""
    with lock:
        return _downloaded(version_of(handle), handle.node.type)


def fetch_part(handle: Handle, start: int, count: int) -> Any:
    """`count` elements of what `fetch` would give, in row-major order from `start` on."""
    with lock:
        version, dtype = version_of(handle), handle.node.dtype
        data = np.empty(count, dtype.numpy)
        if count:
            copies.download(session(version.storage.device), data.data.cast("B"), version.storage,
                            start * dtype.itemsize)
        return data


def version_of(handle: Handle) -> BufferVersion:
    """The version that holds the value of a handle, which is realized; JitError during a capture."""
    with lock:
        if realization.recorder is not None:
            raise JitError(op="jit", expected="no value to be read while a function is captured",
                           got=f"a read at {caller_line()}", hint="Return the tensor and read it outside")
        realize([handle], keep_history=True)
        return stored_version(handle.node)


def duplicate(place: Session, version: BufferVersion) -> BufferVersion:
    """A copy in memory of its own."""
    nbytes = version.storage.block.nbytes
    storage = Storage(place.id, place.pool, nbytes)
    copies.duplicate(place, storage, version.storage, nbytes)
    return BufferVersion(storage, version.identity)


def synchronize(device: DeviceId) -> None:
    """Wait for everything submitted to a device; KernelFault names the first list that failed."""
    with lock:
        known = opened(device)
        queue = queue_of(REGISTRY.open_device(device), device) if known is None else known.queue
        queue.synchronize()
