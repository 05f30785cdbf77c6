"""Dtypes by the names of the standard, and functions of them. There are no complex dtypes."""
from __future__ import annotations

import builtins
from functools import reduce
from typing import Any, Final

from pluggrad import dtypes
from pluggrad.array_api.arguments import array
from pluggrad.dtypes import DType, FloatInfo, IntInfo, Scalar
from pluggrad.errors import DTypeError, ValueRangeError
from pluggrad.shape.broadcast import broadcast_shapes as _broadcast
from pluggrad.tensor import Tensor

bool = dtypes.bool_
int8, int16, int32, int64 = dtypes.int8, dtypes.int16, dtypes.int32, dtypes.int64
uint8, uint16, uint32, uint64 = dtypes.uint8, dtypes.uint16, dtypes.uint32, dtypes.uint64
float32, float64 = dtypes.float32, dtypes.float64

_KINDS: Final = {"bool": "b", "signed integer": "i", "unsigned integer": "u", "integral": "iu",
                 "real floating": "f", "complex floating": "", "numeric": "iuf"}
# what the standard knows; float16 and bfloat16 are there besides
STANDARD: Final = (bool, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float32, float64)


def astype(x: Tensor, dtype: DType, /, *, copy: builtins.bool = True, device: Any = None) -> Tensor:
    """`x` in another dtype and perhaps on another device; `x` itself only where `copy` is False and neither
    changes. Casts are those of `Tensor.cast`."""
    moved = array("astype", x) if device is None else x.to(device)
    return x if not copy and moved is x and dtype is x.dtype else moved.cast(dtype)


def isdtype(dtype: DType, kind: Any) -> builtins.bool:
    """Whether a dtype is one of `kind`: a dtype, a name of kinds ("integral", "real floating", ...), or a
    tuple of these. ValueRangeError for another name."""
    if isinstance(kind, tuple):
        return any(isdtype(dtype, one) for one in kind)
    if isinstance(kind, DType):
        return dtype is kind
    if kind not in _KINDS:
        raise ValueRangeError(op="isdtype", expected=f"one of {', '.join(_KINDS)}", got=repr(kind))
    return dtype.kind in _KINDS[kind]


def result_type(*arrays_and_dtypes: Tensor | DType | Scalar) -> DType:
    """The dtype that arrays, dtypes and Python scalars promote to; DTypeError unless one is not a scalar."""
    strong = [x.dtype if isinstance(x, Tensor) else x for x in arrays_and_dtypes
              if isinstance(x, (Tensor, DType))]
    if not strong:
        raise DTypeError(op="result_type", expected="an array or a dtype among the arguments",
                         got=f"{len(arrays_and_dtypes)} scalars")
    found = reduce(dtypes.promote, strong)
    for x in arrays_and_dtypes:
        if not isinstance(x, (Tensor, DType)):
            found = dtypes.weak_result(found, x, "result_type")
    return found


def can_cast(from_: DType | Tensor, to: DType, /) -> builtins.bool:
    """Whether promotion takes `from_` (a dtype, or an array's) to `to`."""
    found = from_.dtype if isinstance(from_, Tensor) else from_
    return dtypes.promote(found, to) is to


def finfo(type: DType | Tensor, /) -> FloatInfo:
    """Limits of a float dtype, or of an array's; DTypeError for another."""
    return dtypes.finfo(type.dtype if isinstance(type, Tensor) else type)


def iinfo(type: DType | Tensor, /) -> IntInfo:
    """Limits of an integer dtype, or of an array's; DTypeError for another."""
    return dtypes.iinfo(type.dtype if isinstance(type, Tensor) else type)


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that shapes broadcast to; ShapeError if they do not."""
    return reduce(lambda a, b: _broadcast("broadcast_shapes", a, b), shapes, ())


def broadcast_to(x: Tensor, /, shape: tuple[int, ...]) -> Tensor:
    """`x` repeated to `shape`; ShapeError if it does not broadcast to that."""
    return array("broadcast_to", x).broadcast_to(shape)


def broadcast_arrays(*arrays: Tensor) -> list[Tensor]:
    """Each array broadcast to the shape that all broadcast to."""
    shape = broadcast_shapes(*[array("broadcast_arrays", x).shape for x in arrays])
    return [x.broadcast_to(shape) for x in arrays]
