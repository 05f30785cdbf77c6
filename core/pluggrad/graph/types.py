"""The type of a graph node: shape, dtype and placement, interned so that comparing is `is`."""
from __future__ import annotations

import math
from typing import Final

from pluggrad.dtypes import DType
from pluggrad.target import DeviceId

# a dim is an int today; symbolic dims will join here (docs/architecture.md, "Shapes")
Shape = tuple[int, ...]


class TensorType:
    """`dtype[shape] on device`. Make one with `tensor_type`; identity is equality."""

    __slots__ = ("shape", "dtype", "device", "size")

    def __init__(self, shape: Shape, dtype: DType, device: DeviceId) -> None:
        self.shape, self.dtype, self.device = shape, dtype, device
        self.size = math.prod(shape)

    def __repr__(self) -> str:
        return f"{self.dtype.name}[{','.join(map(str, self.shape))}]"


_types: Final[dict[tuple[Shape, DType, DeviceId], TensorType]] = {}


def tensor_type(shape: Shape, dtype: DType, device: DeviceId) -> TensorType:
    """The interned type."""
    key = (shape, dtype, device)
    found = _types.get(key)
    return found if found is not None else _types.setdefault(key, TensorType(shape, dtype, device))
