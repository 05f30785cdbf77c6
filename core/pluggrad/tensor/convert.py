"""Python and NumPy data to arrays in storage dtype, and back."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.errors import DTypeError, ShapeError
from pluggrad.kernel import numpy_ops

Array = npt.NDArray[Any]

_PYTHON = frozenset(
    {bool, int, float, list, tuple, range}
)  # NumPy's float64 is a float, but brings its own dtype


def to_array(data: Any, dtype: DType | None = None) -> tuple[Array, DType]:
    """`data` as an array in the storage of `dtype`, and that dtype.

    Without one, NumPy data keep their dtype, Python data take bool, the default int (int64 where a number
    needs it) or the default float. With one, floats become integers as CAST has it; integers of NumPy's wrap
    and those of Python's have to fit. ShapeError for ragged lists; DTypeError for what holds no numbers.
    """
    array = _read(data)
    python = type(data) in _PYTHON
    found = dtypes.to_dtype(dtype) if dtype is not None else _natural(array, python)
    if python and found.is_int and array.dtype.kind in "iu" and array.size:
        for number in (int(array.min()), int(array.max())):
            dtypes.weak_result(found, number, "Tensor")  # an integer of Python's has to fit
    return storage_array(array, found), found


def _read(data: Any) -> Array:
    if isinstance(data, (bytes, bytearray)):
        return np.frombuffer(data, np.uint8)
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise ShapeError(op="Tensor", expected="nested lists of equal lengths", got=_ragged(data),
                         hint="Pad the rows to one length, or keep a tensor for each") from error
    if array.dtype.kind not in "biuf":
        advice = "Join tensors with Tensor.stack; integers have at most 64 bits"
        raise DTypeError(op="Tensor", expected="numbers or booleans", got=_described(data, array),
                         hint=advice if array.dtype.kind == "O" else "")
    return array


def _described(data: Any, array: Array) -> str:
    return (
        f"{type(data).__name__} of dtype {array.dtype}"
        if isinstance(data, (list, tuple, np.ndarray))
        else (type(data).__name__)
    )


def _ragged(data: Any, where: str = "") -> str:
    """The first place in nested lists where lengths differ, in words."""
    rows = [row for row in data if isinstance(row, (list, tuple))]
    lengths = {len(row) for row in rows}
    place = f" in data{where}" if where else ""
    if 0 < len(rows) < len(data):
        return f"numbers and lists side by side{place}"
    if len(lengths) > 1:
        return f"rows of lengths {' and '.join(map(str, sorted(lengths)))}{place}"
    for position, row in enumerate(rows):
        inner = _ragged(row, f"{where}[{position}]")
        if inner != "lists":
            return inner
    shapes = {np.shape(row) for row in data} if not rows else set()
    return f"parts of shapes {' and '.join(map(str, sorted(shapes)))}" if len(shapes) > 1 else "lists"


def _natural(array: Array, python: bool) -> DType:
    if not python:
        return dtypes.to_dtype(array.dtype)
    if array.dtype.kind == "f":
        return (
            dtypes.default_float
            if array.dtype == np.float64 or array.size == 0
            else dtypes.to_dtype(array.dtype)
        )
    if array.dtype == np.int64:
        default = dtypes.default_int
        fits = array.size == 0 or (default.min <= array.min() and array.max() <= default.max)
        return default if fits else dtypes.int64
    return dtypes.to_dtype(array.dtype)


def storage_array(array: Array, dtype: DType) -> Array:
    """`array` converted to `dtype` as its storage holds it: bfloat16 as uint16, rounded to nearest even."""
    if dtype.is_int and array.dtype.kind == "f":  # the array may be of a float that we lack
        return numpy_ops.cast(dtypes.float64, dtype)(np.asarray(array, np.float64))
    if dtype is not dtypes.bfloat16:
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(array).reshape(array.shape).astype(dtype.numpy, copy=False)
    bits = np.ascontiguousarray(array, dtype=np.float32).reshape(array.shape).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    is_nan = (bits & 0x7FFFFFFF) > 0x7F800000
    return np.where(is_nan, (bits >> 16) | 0x40, rounded).astype(np.uint16)


def from_storage(array: Array, dtype: DType) -> Array:
    """The values of an array in storage dtype; bfloat16, which NumPy lacks, as float32."""
    if dtype is not dtypes.bfloat16:
        return array
    return (array.astype(np.uint32) << 16).view(np.float32)


def flatten_shape(op: str, shape: Sequence[Any]) -> tuple[Any, ...]:
    """`f(2, 3)` and `f((2, 3))` alike."""
    if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
        return tuple(shape[0])
    return tuple(shape)
