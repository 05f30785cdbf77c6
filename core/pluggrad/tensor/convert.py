"""Python and NumPy data to arrays in storage dtype, and back."""
from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.errors import DTypeError, ShapeError
from pluggrad.kernel import numpy_ops
from pluggrad.tensor import dlpack

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
    array, own = _read(data)
    python = type(data) in _PYTHON
    found = dtypes.to_dtype(dtype) if dtype is not None else own or _natural(array, python)
    if python and found.is_int and array.dtype.kind in "iu" and array.size:
        for number in (int(array.min()), int(array.max())):
            dtypes.weak_result(found, number, "Tensor")  # an integer of Python's has to fit
    return storage_array(array, found), found


def _read(data: Any) -> tuple[Array, DType | None]:
    """The values, and their dtype where tensors or arrays of other libraries have one."""
    if isinstance(data, (list, tuple)):
        held: list[DType] = []
        if any(map(_is_opaque, _types(data))):
            data = _opened(data, held)
        array = _as_array(data)
        return array, _common(array, held)
    if not _is_opaque(type(data)):
        return _as_array(data), None
    return _opaque(data)


def _types(rows: Sequence[Any]) -> set[type]:
    """The types of all elements of nested lists."""
    found = set(map(type, rows))
    if found & {list, tuple}:
        found.update(*[_types(row) for row in rows if isinstance(row, (list, tuple))])
    return found


def _is_opaque(kind: type) -> bool:
    """What NumPy does not read as we do: text of bytes, and the arrays of other libraries."""
    return issubclass(kind, (bytes, bytearray)) or (
        hasattr(kind, "__dlpack__") and not issubclass(kind, np.ndarray))


def _opaque(data: Any) -> tuple[Array, DType | None]:
    if isinstance(data, (bytes, bytearray)):
        return np.frombuffer(data, np.uint8), None
    array, dtype = dlpack.imported(data)
    return from_storage(array, dtype), dtype


def _opened(data: Any, held: list[DType]) -> Any:
    """Nested lists with arrays of NumPy's for those of others, whose dtypes are added to `held`."""
    if isinstance(data, (list, tuple)):
        return [_opened(row, held) for row in data]
    if not _is_opaque(type(data)):
        return data
    array, dtype = _opaque(data)
    held.extend([dtype] if dtype else [])
    return array


def _common(array: Array, held: list[DType]) -> DType | None:
    """Where the dtypes that elements brought meet; numbers beside them are weak."""
    if not held:
        return None
    found = reduce(dtypes.promote, held)
    return dtypes.default_float if array.dtype.kind == "f" and not found.is_float else found


def _as_array(data: Any) -> Array:
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
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(array).reshape(array.shape)
        values = values.astype(numpy_ops.value_dtype(dtype), copy=False)
    if dtype is not dtypes.bfloat16:
        return values
    return numpy_ops.encode(numpy_ops.round_bfloat16(values), dtype)


def from_storage(array: Array, dtype: DType) -> Array:
    """The values of an array in storage dtype; bfloat16, which NumPy lacks, as float32."""
    if dtype is not dtypes.bfloat16:
        return array
    wide = np.empty(array.shape, np.uint32)  # an array where there are no axes, too
    return np.left_shift(array, np.uint32(16), out=wide, dtype=np.uint32).view(np.float32)


def flatten_shape(shape: Sequence[Any]) -> tuple[Any, ...]:
    """`f(2, 3)` and `f((2, 3))` alike."""
    if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
        return tuple(shape[0])
    return tuple(shape)
