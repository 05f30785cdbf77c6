"""The type of a graph node: shape, dtype and placement, interned so that comparing is `is`."""
from __future__ import annotations

import math
from typing import Final, TypeAlias

from pluggrad.dtypes import DType
from pluggrad.shape.dims import Shape
from pluggrad.target import DeviceId

Placement: TypeAlias = DeviceId  # one device; a mesh of them and an axis will join here


class TensorType:
    """`dtype[shape] on device`. Make one with `tensor_type`; identity is equality."""

    __slots__ = ("shape", "dtype", "device", "size")

    def __init__(self, shape: Shape, dtype: DType, device: Placement) -> None:
        self.shape, self.dtype, self.device = shape, dtype, device
        self.size = math.prod(shape)

    def __repr__(self) -> str:
        return f"{self.dtype.name}[{','.join(map(str, self.shape))}]"


_types: Final[dict[tuple[Shape, DType, Placement], TensorType]] = {}


def tensor_type(shape: Shape, dtype: DType, device: Placement) -> TensorType:
    """The interned type."""
    key = (shape, dtype, device)
    found = _types.get(key)
    return found if found is not None else _types.setdefault(key, TensorType(shape, dtype, device))
