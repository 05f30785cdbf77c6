"""Storage is versioned memory; a Handle is what a Tensor is to the runtime.

A BUFFER node's argument is a `BufferVersion`: this storage as it was at one version. Writing makes a new
version, in place or in new memory; nodes that hold the old version keep reading the old values.
"""
from __future__ import annotations

from typing import Any, Protocol
from weakref import ref

from pluggrad.dtypes import DType
from pluggrad.errors import KernelFault
from pluggrad.graph import ops
from pluggrad.graph.leaf import Identity
from pluggrad.graph.types import TensorType, tensor_type
from pluggrad.ir.node import Node, node
from pluggrad.runtime.memory import Block
from pluggrad.shape.dims import Shape
from pluggrad.target import DeviceId


class Memory(Protocol):
    """Where blocks come from: the pool of a device, or an array that somebody else made."""

    def take(self, nbytes: int) -> Block:
        """A block of at least `nbytes`."""

    def give(self, block: Block) -> None:
        """Return a block after its last use."""


class Storage:
    """`nbytes` of one device's memory, row-major; given back to the pool when the last version is gone.

    `fault` is the error that made the contents unusable (an interrupted write), or None.
    """

    __slots__ = ("device", "block", "version", "fault", "exported", "_pool", "__weakref__")

    def __init__(self, device: DeviceId, pool: Memory, nbytes: int) -> None:
        self.device = device
        self.block: Block = pool.take(nbytes)
        self.version = 0
        self.fault: Exception | None = None
        # seen from outside (NumPy, DLPack) or by several leaves: never overwritten in place
        self.exported = False
        self._pool = pool

    def require_usable(self) -> None:
        """KernelFault if the contents were lost."""
        if self.fault is not None:
            raise KernelFault(str(self.fault)) from self.fault

    def __del__(self) -> None:
        block = getattr(self, "block", None)  # taking it may have failed
        if block is not None:
            self._pool.give(block)


class BufferVersion:
    """One version of a storage, and where it came from.

    history: the graph that computed it, kept while it can carry a gradient to a live leaf.
    identity: the leaf that it stands for, if it is one. depth: realizations between it and its oldest leaf.
    """

    __slots__ = ("storage", "version", "history", "identity", "depth", "cut", "owner", "__weakref__")

    def __init__(self, storage: Storage, identity: Identity | None = None,
                 history: Node | None = None) -> None:
        self.storage, self.version = storage, storage.version
        self.identity, self.history = identity, history
        self.depth = 0
        self.owner: ref[Any] | None = None  # the handle bound to it, which a captured function reads again
        self.cut = False  # history was dropped for its depth (setting HISTORY_LIMIT)

    def __repr__(self) -> str:
        return f"{self.storage.device}/v{self.version}"


def buffer(version: BufferVersion, shape: Shape, dtype: DType) -> Node:
    """The leaf node of a version."""
    return stored(version, tensor_type(shape, dtype, version.storage.device))


def stored(version: BufferVersion, kind: TensorType) -> Node:
    """The leaf node of a version that holds a value of this type."""
    return node(ops.BUFFER, (), version, kind)


class Handle:
    """Holds a node and is rebound by the runtime when the node is realized. Tensor derives from it."""

    __slots__ = ("__weakref__",)

    @property
    def node(self) -> Node:
        """The graph node of the present value."""
        raise NotImplementedError

    def rebind(self, leaf: Node) -> None:
        """The runtime's way of saying: your value is stored now."""
        raise NotImplementedError
