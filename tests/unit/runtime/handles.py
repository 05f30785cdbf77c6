"""What the tests of this folder hold values with: a handle and nothing else."""
from __future__ import annotations

import numpy as np

from pluggrad import dtypes, runtime
from pluggrad.dtypes import DType
from pluggrad.ir.node import Node
from pluggrad.runtime import Handle
from pluggrad.target import DeviceId

REF = DeviceId("ref")


class Kept(Handle):
    """A handle and nothing else."""

    __slots__ = ("held",)

    def __init__(self, node: Node) -> None:
        self.held = node

    @property
    def node(self) -> Node:
        return self.held

    def rebind(self, leaf: Node) -> None:
        self.held = leaf


def stored(data: object, device: DeviceId, dtype: DType = dtypes.float32) -> Node:
    """A leaf with these values."""
    return runtime.upload(np.asarray(data), dtype, device)


def counting(n: int, device: DeviceId, dtype: DType = dtypes.float32) -> Node:
    """0, 1, 2, ... in memory."""
    return stored(np.arange(n), device, dtype)
