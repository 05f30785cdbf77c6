"""Element types and the promotion lattice. Imports no NumPy until a NumPy dtype is asked for.

Promotion follows JAX's lattice: bool < integers < floats; a signed and an unsigned integer meet in the next
wider signed integer, float16 and bfloat16 meet in float32. A Python scalar is weak: it takes the tensor's
dtype where its kind allows (`uint8 + 5` is uint8) and the default float where it does not (`int32 + 0.5` is
float32).
"""
from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from pluggrad.errors import DTypeError

if TYPE_CHECKING:
    import numpy as np

Scalar = bool | int | float


class DType:
    """One element type: `name`, `kind` ('b' bool, 'i' signed, 'u' unsigned, 'f' float), `itemsize` in bytes.

    A singleton per name: compare with `is` or `==`, hash by identity, pickle by name.
    """

    __slots__ = ("kind", "itemsize", "name", "storage", "rank")

    def __init__(self, name: str, kind: str, itemsize: int, storage: str, rank: int) -> None:
        self.name, self.kind, self.itemsize, self.storage, self.rank = name, kind, itemsize, storage, rank

    def __repr__(self) -> str:
        return f"dtypes.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return by_name, (self.name,)

    @property
    def is_float(self) -> bool:
        """True for every float, bfloat16 included."""
        return self.kind == "f"

    @property
    def is_int(self) -> bool:
        """True for signed and unsigned integers, not for bool."""
        return self.kind in "iu"

    @property
    def bits(self) -> int:
        """How many bits carry the value: 1 for bool, which is stored in a byte."""
        return 1 if self.kind == "b" else 8 * self.itemsize

    @property
    def min(self) -> Scalar:
        """The smallest value (-inf for floats)."""
        if self.kind == "f":
            return -math.inf
        if self.kind == "b":
            return False
        return -(1 << (self.bits - 1)) if self.kind == "i" else 0

    @property
    def max(self) -> Scalar:
        """The largest value (inf for floats)."""
        if self.kind == "f":
            return math.inf
        if self.kind == "b":
            return True
        return (1 << (self.bits - 1)) - 1 if self.kind == "i" else (1 << self.bits) - 1

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype of the storage; bfloat16, which NumPy lacks, is stored as uint16."""
        import numpy as np

        return np.dtype(self.storage)


bool_: Final = DType("bool", "b", 1, "bool", 0)
uint8: Final = DType("uint8", "u", 1, "uint8", 1)
uint16: Final = DType("uint16", "u", 2, "uint16", 2)
uint32: Final = DType("uint32", "u", 4, "uint32", 3)
uint64: Final = DType("uint64", "u", 8, "uint64", 4)
int8: Final = DType("int8", "i", 1, "int8", 1)
int16: Final = DType("int16", "i", 2, "int16", 2)
int32: Final = DType("int32", "i", 4, "int32", 3)
int64: Final = DType("int64", "i", 8, "int64", 4)
float16: Final = DType("float16", "f", 2, "float16", 1)
bfloat16: Final = DType("bfloat16", "f", 2, "uint16", 1)
float32: Final = DType("float32", "f", 4, "float32", 2)
float64: Final = DType("float64", "f", 8, "float64", 3)

ALL: Final = (bool_, uint8, uint16, uint32, uint64, int8, int16, int32, int64,
              float16, bfloat16, float32, float64)
FLOATS: Final = tuple(d for d in ALL if d.is_float)
INTS: Final = tuple(d for d in ALL if d.is_int)
half, float_, double, short, int_, long = float16, float32, float64, int16, int32, int64

_BY_NAME: Final = {d.name: d for d in ALL} | {
    "half": float16, "float": float32, "double": float64, "short": int16, "int": int32, "long": int64,
    "uchar": uint8, "char": int8, "ushort": uint16, "uint": uint32, "ulong": uint64, "bool_": bool_,
}
uchar, char, ushort, uint, ulong = uint8, int8, uint16, uint32, uint64
_SIGNED: Final = {1: int8, 2: int16, 4: int32, 8: int64}

default_float: DType = float32
default_int: DType = int32


def __getattr__(name: str) -> DType:
    # `dtypes.bool`, `dtypes.float` and `dtypes.int` are spelled like built-ins, which this module still needs
    if name in _BY_NAME:
        return _BY_NAME[name]
    raise AttributeError(f"module 'pluggrad.dtypes' has no attribute {name!r}")


def by_name(name: str) -> DType:
    """The dtype called `name` (`"float32"`, `"half"`); DTypeError otherwise."""
    found = _BY_NAME.get(name)
    if found is None:
        raise DTypeError(op="dtype", expected=f"one of {', '.join(d.name for d in ALL)}", got=repr(name))
    return found


def to_dtype(value: object) -> DType:
    """A DType from a DType, a name, a Python type (bool, int, float) or anything NumPy takes as a dtype."""
    if isinstance(value, DType):
        return value
    if isinstance(value, str):
        return by_name(value)
    if value is bool:
        return bool_
    if value is int:
        return default_int
    if value is float:
        return default_float
    import numpy as np

    try:
        return by_name(np.dtype(value).name)  # type: ignore[call-overload]
    except TypeError as error:
        raise DTypeError(op="dtype", expected="a pluggrad, Python or NumPy dtype", got=repr(value)) from error


@cache
def promote(a: DType, b: DType) -> DType:
    """The dtype in which `a` and `b` meet (symmetric, associative save for int/float of equal width)."""
    if a is b:
        return a
    if a.kind == "b" or b.kind == "b":
        return b if a.kind == "b" else a
    if a.kind == "f" and b.kind == "f":
        return a if a.rank > b.rank else b if b.rank > a.rank else float32
    if a.kind == "f" or b.kind == "f":
        return a if a.kind == "f" else b
    if a.kind == b.kind:
        return a if a.itemsize > b.itemsize else b
    signed, unsigned = (a, b) if a.kind == "i" else (b, a)
    if signed.itemsize > unsigned.itemsize:
        return signed
    # uint64 meets a signed integer in the default float, as in JAX's lattice
    return _SIGNED[2 * unsigned.itemsize] if unsigned.itemsize < 8 else default_float


def of_scalar(value: Scalar) -> DType:
    """The dtype of a Python scalar on its own: bool, the default int, the default float."""
    if isinstance(value, bool):
        return bool_
    return default_int if isinstance(value, int) else default_float


def weak_result(tensor: DType, value: Scalar, op: str = "scalar") -> DType:
    """The dtype of `tensor <op> Python scalar`; DTypeError where an integer dtype cannot hold the integer."""
    scalar = of_scalar(value)
    if scalar.kind == "f":
        return tensor if tensor.is_float else default_float
    if scalar.kind == "i":
        if tensor.kind == "b":
            return default_int
        if tensor.is_int and not tensor.min <= value <= tensor.max:
            expected = f"an integer that {tensor.name} holds ({tensor.min} to {tensor.max})"
            raise DTypeError(op=op, expected=expected, got=str(value),
                             hint="Take a wider dtype")
        return tensor
    return tensor


def least_upper_float(dtype: DType) -> DType:
    """The float in which a function such as `exp` or a true division of this dtype is computed."""
    return dtype if dtype.is_float else default_float


def sum_dtype(dtype: DType) -> DType:
    """The dtype of a sum: floats stay; bool and narrower integers widen to the width of the default int."""
    if dtype.is_float:
        return dtype
    if dtype.is_int and dtype.itemsize >= default_int.itemsize:
        return dtype
    if dtype.kind == "u":
        return uint32 if default_int is int32 else uint64
    return default_int


def accumulator_dtype(dtype: DType) -> DType:
    """The dtype that a reduction adds up in: half and bfloat16 sum in float32."""
    return float32 if dtype.is_float and dtype.itemsize < 4 else dtype


def cast_scalar(value: Scalar, dtype: DType) -> Scalar:
    """A Python scalar as the Python value that `dtype` represents: integers wrap, floats saturate."""
    if dtype.kind == "b":
        return bool(value)
    if dtype.kind == "f":
        return float(value)
    if isinstance(value, float):
        if math.isnan(value):
            return 0
        bound = dtype.max if value >= dtype.max else dtype.min if value <= dtype.min else value
        return int(bound)
    number = int(value) & ((1 << dtype.bits) - 1)
    return number - (1 << dtype.bits) if dtype.kind == "i" and number >> (dtype.bits - 1) else number
