"""Leaves without data: the identity of tensors that the user made, and stand-ins."""
from __future__ import annotations

from typing import Any
from weakref import ref

from pluggrad.graph import ops
from pluggrad.graph.types import TensorType
from pluggrad.ir.node import Node, node


class Identity:
    """One leaf for gradients. `handle` is a weak reference to the Tensor that stands for it now, or None.

    A LEAF node carries it as argument; when the runtime realizes the leaf, the buffer's version carries it
    on. `marked` says that the Tensor was `requires_grad=True`.
    """

    __slots__ = ("handle", "marked")

    def __init__(self, handle: ref[Any] | None = None, marked: bool = False) -> None:
        self.handle, self.marked = handle, marked

    def live(self) -> Any:
        """The Tensor whose gradient this leaf collects, or None."""
        return None if self.handle is None else self.handle()


class StandIn:
    """What a stand-in is for: the name of the transformation."""

    __slots__ = ("op",)

    def __init__(self, op: str) -> None:
        self.op = op


def stand_in(kind: TensorType, op: str) -> Node:
    """A node like no other, without a value, that the transformation `op` puts something in the place of."""
    return node(ops.STAND_IN, (), StandIn(op), kind)
