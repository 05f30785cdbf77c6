"""Arrays from values, from nothing, and from other libraries. Dtypes default to `dtypes.default_float` and
`dtypes.default_int`, devices to `Device.DEFAULT`."""
from __future__ import annotations

from typing import Any, Literal

from pluggrad import dtypes
from pluggrad.array_api.arguments import array, as_tuple
from pluggrad.array_api.data_types import astype
from pluggrad.dtypes import DType, Scalar
from pluggrad.errors import ValueRangeError
from pluggrad.tensor import Tensor


def asarray(obj: Any, /, *, dtype: DType | None = None, device: Any = None,
            copy: bool | None = None) -> Tensor:
    """An array from an array, a number, nested sequences, or anything that `Tensor` takes.

    Only an array of pluggrad's can do without a copy: ValueRangeError for others with `copy=False`, and for
    one that changes its dtype or device.
    """
    if not isinstance(obj, Tensor):
        if copy is False:
            raise ValueRangeError(op="asarray", expected="an array of pluggrad's with copy=False",
                                  got=type(obj).__name__, hint="from_dlpack shares memory")
        return Tensor(obj, device=device, dtype=dtype)
    made = astype(obj, obj.dtype if dtype is None else dtype, copy=bool(copy), device=device)
    if copy is False and made is not obj:
        raise ValueRangeError(op="asarray", expected=f"{obj.dtype.name} on {obj.device} with copy=False",
                              got=f"{made.dtype.name} on {made.device}")
    return made


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """An array from an object with `__dlpack__`, as `Tensor.from_dlpack`."""
    return Tensor.from_dlpack(x, device, copy)


def arange(start: float, /, stop: float | None = None, step: float = 1, *, dtype: DType | None = None,
           device: Any = None) -> Tensor:
    """start, start + step, ... before `stop`; of one argument: from 0. Integers give the default int."""
    return Tensor.arange(start, stop, step, dtype=dtype, device=device)


def linspace(start: float, stop: float, /, num: int, *, dtype: DType | None = None, device: Any = None,
             endpoint: bool = True) -> Tensor:
    """`num` evenly spaced numbers from `start` to `stop`, which is left out without `endpoint`."""
    made = Tensor.linspace(start, stop, num if endpoint else num + 1, dtype=dtype, device=device)
    return made if endpoint else made[:num]


def empty(shape: int | tuple[int, ...], *, dtype: DType | None = None, device: Any = None) -> Tensor:
    """An array to be written later; it reads as zeros."""
    return Tensor.empty(as_tuple(shape), dtype=dtype, device=device)


def zeros(shape: int | tuple[int, ...], *, dtype: DType | None = None, device: Any = None) -> Tensor:
    """Zeros, of the default float unless `dtype` says otherwise."""
    return Tensor.zeros(as_tuple(shape), dtype=dtype, device=device)


def ones(shape: int | tuple[int, ...], *, dtype: DType | None = None, device: Any = None) -> Tensor:
    """Ones, of the default float unless `dtype` says otherwise."""
    return Tensor.ones(as_tuple(shape), dtype=dtype, device=device)


def full(shape: int | tuple[int, ...], fill_value: Scalar, *, dtype: DType | None = None,
         device: Any = None) -> Tensor:
    """`fill_value` everywhere; its own kind decides the dtype unless `dtype` does."""
    return Tensor.full(as_tuple(shape), fill_value, dtype=dtype, device=device)


def empty_like(x: Tensor, /, *, dtype: DType | None = None, device: Any = None) -> Tensor:
    """`empty` in the shape of `x`, and its dtype and device unless given."""
    return full_like(x, 0, dtype=dtype, device=device)


def zeros_like(x: Tensor, /, *, dtype: DType | None = None, device: Any = None) -> Tensor:
    """Zeros in the shape of `x`, and its dtype and device unless given."""
    return full_like(x, 0, dtype=dtype, device=device)


def ones_like(x: Tensor, /, *, dtype: DType | None = None, device: Any = None) -> Tensor:
    """Ones in the shape of `x`, and its dtype and device unless given."""
    return full_like(x, 1, dtype=dtype, device=device)


def full_like(x: Tensor, /, fill_value: Scalar, *, dtype: DType | None = None, device: Any = None) -> Tensor:
    """`fill_value` in the shape of `x`, and its dtype and device unless given."""
    return array("full_like", x).full_like(fill_value, dtype=dtype, device=device)


def eye(n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: DType | None = None,
        device: Any = None) -> Tensor:
    """A matrix, square without `n_cols`, with ones on its diagonal, or on the `k`-th above it."""
    columns = Tensor.arange(n_rows if n_cols is None else n_cols, device=device)
    rows = Tensor.arange(n_rows, device=device).unsqueeze(1)
    return (columns - rows).eq(k).cast(dtypes.default_float if dtype is None else dtype)


def meshgrid(*arrays: Tensor, indexing: Literal["xy", "ij"] = "xy") -> list[Tensor]:
    """Coordinates of a grid from those of its axes; with "xy" the first two axes change places."""
    return list(Tensor.meshgrid(*arrays, indexing=indexing)) if arrays else []


def tril(x: Tensor, /, *, k: int = 0) -> Tensor:
    """Matrices with zeros above the `k`-th diagonal."""
    return array("tril", x).tril(k)


def triu(x: Tensor, /, *, k: int = 0) -> Tensor:
    """Matrices with zeros below the `k`-th diagonal."""
    return array("triu", x).triu(k)
