"""What no kernel computes: copies between devices, and functions of whole arrays that the host computes."""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pluggrad.errors import InternalError
from pluggrad.graph import build, ops
from pluggrad.graph.types import TensorType
from pluggrad.ir.node import Node
from pluggrad.runtime import copies, lapack
from pluggrad.runtime.counters import GlobalCounters
from pluggrad.runtime.interrupts import at_once
from pluggrad.runtime.sessions import session
from pluggrad.runtime.storage import BufferVersion, Storage


class Apart(NamedTuple):
    """A copy, where `call` is None, or the call of a host function: what it takes and gives."""

    call: ops.HostCall | None
    sources: tuple[TensorType, ...]
    results: tuple[TensorType, ...]

    def do(self, versions: Sequence[BufferVersion]) -> list[BufferVersion]:
        """Do it now; LinearAlgebraError from a host function leaves everything as it was."""
        if self.call is None:
            return [_transferred(versions[0], self.results[0])]
        arrays = [_on_host(version, kind) for version, kind in zip(versions, self.sources, strict=True)]
        with at_once:
            found = lapack.call(self.call, arrays)
        return [_uploaded(array, kind) for array, kind in zip(found, self.results, strict=True)]


def apart_of(n: Node) -> tuple[Apart, tuple[Node, ...]]:
    """What has to be done for a node, and all nodes whose values that gives."""
    nodes = (n,) if n.op is ops.COPY else build.results_of(n)
    call = None if n.op is ops.COPY else n.arg._replace(result=0)
    return Apart(call, tuple([s.type for s in n.src]), tuple([made.type for made in nodes])), nodes


def _nbytes(kind: TensorType) -> int:
    return kind.size * kind.dtype.itemsize


def _transferred(version: BufferVersion, kind: TensorType) -> BufferVersion:
    """A copy on the device of `kind`."""
    place = session(kind.device)
    place.require(kind.dtype)
    storage = Storage(place.id, place.pool, _nbytes(kind))
    if kind.size:
        copies.transfer(place, storage, session(version.storage.device), version.storage, _nbytes(kind))
    GlobalCounters.uploads += 1
    return BufferVersion(storage)


def _on_host(version: BufferVersion, kind: TensorType) -> lapack.Array:
    data = copies.on_host(session(version.storage.device), version.storage, _nbytes(kind))
    return np.frombuffer(data, kind.dtype.numpy).reshape(kind.shape)


def _uploaded(array: lapack.Array, kind: TensorType) -> BufferVersion:
    if array.shape != kind.shape:
        raise InternalError(f"a host function gave shape {array.shape} for {kind}")
    place = session(kind.device)
    data = np.ascontiguousarray(array, kind.dtype.numpy)
    storage = Storage(place.id, place.pool, data.nbytes)
    if data.nbytes:
        copies.upload(place, storage, data.data.cast("B"))
    GlobalCounters.uploads += 1
    return BufferVersion(storage)
