"""Element types and the promotion lattice. Imports no NumPy until a NumPy dtype is asked for.

Promotion follows JAX's lattice: bool < integers < floats; a signed and an unsigned integer meet in the next
wider signed integer, float16 and bfloat16 meet in float32. A Python scalar is weak: it takes the tensor's
dtype where its kind allows (`uint8 + 5` is uint8) and the default float where it does not (`int32 + 0.5` is
float32).

`default_float` and `default_int` are the dtypes of Python numbers. Assigned to, they change everywhere;
`with Context(DEFAULT_FLOAT="float64"):` changes them for a block of this thread; the environment variables
PLUGGRAD_DEFAULT_FLOAT and PLUGGRAD_DEFAULT_INT say what they are at first.
"""
from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from pluggrad.config import DEFAULT_FLOAT, DEFAULT_INT
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
floats, ints = FLOATS, INTS
uints: Final = tuple(d for d in INTS if d.kind == "u")
sints: Final = tuple(d for d in INTS if d.kind == "i")
half, float_, double, short, int_, long = float16, float32, float64, int16, int32, int64

_BY_NAME: Final = {d.name: d for d in ALL} | {
    "half": float16, "float": float32, "double": float64, "short": int16, "int": int32, "long": int64,
    "uchar": uint8, "char": int8, "ushort": uint16, "uint": uint32, "ulong": uint64, "bool_": bool_,
}
uchar, char, ushort, uint, ulong = uint8, int8, uint16, uint32, uint64
_SIGNED: Final = {1: int8, 2: int16, 4: int32, 8: int64}
_UNSIGNED: Final = {1: uint8, 2: uint16, 4: uint32, 8: uint64}

# properties of this module, see `_Defaults`
default_float: DType
default_int: DType


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
        return _default_int()
    if value is float:
        return _default_float()
    import numpy as np

    try:
        return by_name(np.dtype(value).name)  # type: ignore[call-overload]
    except TypeError as error:
        raise DTypeError(op="dtype", expected="a pluggrad, Python or NumPy dtype", got=repr(value)) from error


def _default_float() -> DType:
    return _BY_NAME[DEFAULT_FLOAT.value]


def _default_int() -> DType:
    return _BY_NAME[DEFAULT_INT.value]


def promote(a: DType, b: DType) -> DType:
    """The dtype in which `a` and `b` meet (symmetric, associative save for int/float of equal width)."""
    # uint64 meets a signed integer in the default float, as in JAX's lattice
    return _meeting(a, b) or _default_float()


@cache
def _meeting(a: DType, b: DType) -> DType | None:
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
    return _SIGNED.get(2 * unsigned.itemsize)


def of_scalar(value: Scalar) -> DType:
    """The dtype of a Python scalar on its own: bool, the default int, the default float."""
    if isinstance(value, bool):
        return bool_
    return _default_int() if isinstance(value, int) else _default_float()


def weak_result(tensor: DType, value: Scalar, op: str = "scalar") -> DType:
    """The dtype of `tensor <op> Python scalar`; DTypeError where an integer dtype cannot hold the integer."""
    if isinstance(value, bool):
        return tensor
    if not isinstance(value, int):
        return tensor if tensor.kind == "f" else _default_float()
    if tensor.kind == "b":
        return _default_int()
    if tensor.kind != "f" and not tensor.min <= value <= tensor.max:
        expected = f"an integer that {tensor.name} holds ({tensor.min} to {tensor.max})"
        raise DTypeError(op=op, expected=expected, got=str(value), hint="Take a wider dtype")
    return tensor


def least_upper_float(dtype: DType) -> DType:
    """The float in which a function such as `exp` or a true division of this dtype is computed."""
    return dtype if dtype.is_float else _default_float()


def sum_dtype(dtype: DType) -> DType:
    """The dtype of a sum: floats stay; bool and narrower integers widen to the width of the default int."""
    if dtype.is_float:
        return dtype
    default = _default_int()
    if dtype.is_int and dtype.itemsize >= default.itemsize:
        return dtype
    return _UNSIGNED[default.itemsize] if dtype.kind == "u" else default


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


# ---- facts about dtypes, by the names of tinygrad, NumPy and PyTorch ---------------------------------------
@dataclass(frozen=True, slots=True)
class FloatInfo:
    """Limits of a float dtype, as Python floats: what `finfo` returns.

    eps: from 1 to the next larger value. smallest_normal (`tiny`): the smallest positive value of full
    precision; smallest_subnormal: of any. resolution: 10 to the power of minus the decimal digits that hold.
    """

    dtype: DType
    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    smallest_subnormal: float
    resolution: float

    @property
    def tiny(self) -> float:
        """Another name for `smallest_normal`."""
        return self.smallest_normal


@dataclass(frozen=True, slots=True)
class IntInfo:
    """Limits of an integer dtype: what `iinfo` returns."""

    dtype: DType
    bits: int
    max: int
    min: int


_FRACTION_BITS: Final = {float16: 10, bfloat16: 7, float32: 23, float64: 52}


def finfo(dtype: object) -> FloatInfo:
    """The limits of a float dtype, as `numpy.finfo` has them; DTypeError for another."""
    found = to_dtype(dtype)
    fraction = _FRACTION_BITS.get(found)
    if fraction is None:
        raise DTypeError(op="finfo", expected="a float dtype", got=found.name, hint="iinfo is for integers")
    bias = (1 << (found.bits - fraction - 2)) - 1
    largest, eps, normal = (2.0 - 2.0**-fraction) * 2.0**bias, 2.0**-fraction, 2.0 ** (1 - bias)
    digits = math.floor(fraction * math.log10(2))
    return FloatInfo(found, found.bits, eps, largest, -largest, normal, normal * eps, 10.0**-digits)


def iinfo(dtype: object) -> IntInfo:
    """The limits of an integer dtype, as `numpy.iinfo` has them; DTypeError for another."""
    found = to_dtype(dtype)
    if not found.is_int:
        raise DTypeError(op="iinfo", expected="an integer dtype", got=found.name, hint="finfo is for floats")
    return IntInfo(found, found.bits, int(found.max), int(found.min))


def is_float(dtype: DType) -> bool:
    """True for float16, bfloat16, float32 and float64."""
    return dtype.is_float


def is_int(dtype: DType) -> bool:
    """True for signed and unsigned integers, not for bool."""
    return dtype.is_int


def is_unsigned(dtype: DType) -> bool:
    """True for unsigned integers."""
    return dtype.kind == "u"


def is_bool(dtype: DType) -> bool:
    """True for bool."""
    return dtype.kind == "b"


def from_py(value: object) -> DType:
    """The dtype that a tensor of this Python number, or of nested lists of them, has."""
    if isinstance(value, list | tuple):
        inner = [from_py(part) for part in value]
        return max(inner, key=lambda dtype: "biuf".index(dtype.kind)) if inner else _default_float()
    if not isinstance(value, bool | int | float):
        raise DTypeError(op="from_py", expected="Python numbers", got=type(value).__name__)
    return of_scalar(value)


def fields() -> dict[str, DType]:
    """Every dtype by each of its names: `{"bool": dtypes.bool, ..., "half": dtypes.float16, ...}`."""
    return dict(_BY_NAME)


def _smallest(dtype: DType) -> Scalar:
    return dtype.min


def _largest(dtype: DType) -> Scalar:
    return dtype.max


# `dtypes.bool`, `dtypes.int` or `dtypes.max` are spelled like built-ins, which this module still needs
_SPELLED_LIKE_BUILT_INS: Final[dict[str, Any]] = {
    **_BY_NAME, "min": _smallest, "max": _largest, "all": ALL,
}


def __getattr__(name: str) -> Any:
    if name in _SPELLED_LIKE_BUILT_INS:
        return _SPELLED_LIKE_BUILT_INS[name]
    raise AttributeError(f"module 'pluggrad.dtypes' has no attribute {name!r}")


class _Defaults(ModuleType):
    """What makes the defaults attributes that can be assigned and that a `Context` changes."""

    @property
    def default_float(self) -> DType:
        return _default_float()

    @default_float.setter
    def default_float(self, dtype: object) -> None:
        DEFAULT_FLOAT.assign(to_dtype(dtype))

    @property
    def default_int(self) -> DType:
        return _default_int()

    @default_int.setter
    def default_int(self, dtype: object) -> None:
        DEFAULT_INT.assign(to_dtype(dtype))


sys.modules[__name__].__class__ = _Defaults
