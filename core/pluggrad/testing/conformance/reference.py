"""What every op means, in NumPy and Python's own integers: independent of the kernel interpreter.

Values are held as NumPy has them, bfloat16 as the float32 values that it can represent. Floats are computed
with more digits than the dtype has and rounded once.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.kernel.tolerance import Kind

Array = np.ndarray[Any, np.dtype[Any]]
Function = Callable[..., Any]


# ---- how values are held -----------------------------------------------------------------------------------
def held(dtype: DType) -> np.dtype[Any]:
    """The NumPy dtype in which values of `dtype` are given and compared."""
    return np.dtype(np.float32) if dtype is dtypes.bfloat16 else dtype.numpy


def rounded(values: Any, dtype: DType) -> Array:
    """Floats of any precision as the nearest values of a float dtype."""
    with np.errstate(all="ignore"):
        array = np.asarray(values).astype(held(dtype))
    return _upper_half(array) if dtype is dtypes.bfloat16 else array


def _upper_half(array: Array) -> Array:
    """float32 to the nearest value that fits in its upper 16 bits, ties to even."""
    flat = np.ascontiguousarray(array).reshape(-1)
    bits = flat.view(np.uint32).astype(np.uint64)
    kept = ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    return np.where(np.isnan(flat), flat, kept).reshape(array.shape)


def _wide(array: Array) -> Array:
    return array.astype(np.longdouble if array.dtype == np.float64 else np.float64)


def wrapped(numbers: Sequence[int], dtype: DType) -> Array:
    """Python integers modulo the width of an integer dtype."""
    mask, half = (1 << dtype.bits) - 1, 1 << (dtype.bits - 1)
    low = [number & mask for number in numbers]
    signed = [n - (mask + 1) if dtype.kind == "i" and n >= half else n for n in low]
    return np.array(signed, dtype.numpy)


# ---- elementwise: floats -----------------------------------------------------------------------------------
def _erf(x: Array) -> Array:
    return np.array([math.erf(v) for v in x.reshape(-1).tolist()]).reshape(x.shape)


_FLOAT: Final[Mapping[str, Function]] = {
    "NEG": np.negative, "ABS": np.fabs, "RECIP": lambda x: 1 / x, "SQRT": np.sqrt, "EXP": np.exp,
    "EXP2": np.exp2, "LOG": np.log, "LOG2": np.log2, "SIN": np.sin, "COS": np.cos, "TANH": np.tanh,
    "ERF": _erf, "FLOOR": np.floor, "CEIL": np.ceil, "TRUNC": np.trunc, "ROUND": np.rint,
    "ADD": np.add, "SUB": np.subtract, "MUL": np.multiply, "DIV": np.divide, "MOD": np.mod, "POW": np.power,
    "MAX": lambda x, y: np.where(np.isnan(x) | (x > y), x, y),
    "MIN": lambda x, y: np.where(np.isnan(x) | (x < y), x, y),
}

_ROUNDED: Final = frozenset({"ADD", "SUB", "MUL", "DIV", "MOD", "RECIP", "SQRT"})
_FUNCTIONS: Final = frozenset({"EXP", "EXP2", "LOG", "LOG2", "SIN", "COS", "TANH", "ERF", "POW"})


def kind_of(op: str) -> Kind:
    """How far a device's result may lie from the right one (integers are exact whatever this says)."""
    return "function" if op in _FUNCTIONS else "rounded" if op in _ROUNDED else "exact"


# ---- elementwise: integers ---------------------------------------------------------------------------------
def _python(function: Callable[[int, int, DType], int]) -> Function:
    """A function of two Python integers and the dtype as one of arrays; results wrap."""
    def apply(x: Array, y: Array, dtype: DType) -> Array:
        x, y = np.broadcast_arrays(x, y)
        pairs = zip(x.reshape(-1).tolist(), y.reshape(-1).tolist(), strict=True)
        return wrapped([function(a, b, dtype) for a, b in pairs], dtype).reshape(x.shape)
    return apply


def _power(x: int, y: int, dtype: DType) -> int:
    if y >= 0:
        return pow(x, y, 1 << dtype.bits)
    return {1: 1, -1: -1 if y % 2 else 1}.get(x, 0)


def _shift_right(x: int, y: int, dtype: DType) -> int:
    return x >> y if 0 <= y < dtype.bits else (-1 if x < 0 else 0)


_INTEGER: Final[Mapping[str, Function]] = {
    "IDIV": _python(lambda x, y, dtype: x // y if y else 0),
    "MOD": _python(lambda x, y, dtype: x % y if y else 0),
    "POW": _python(_power),
    "SHL": _python(lambda x, y, dtype: x << y if 0 <= y < dtype.bits else 0),
    "SHR": _python(_shift_right),
    "ADD": _python(lambda x, y, dtype: x + y),
    "SUB": _python(lambda x, y, dtype: x - y),
    "MUL": _python(lambda x, y, dtype: x * y),
    "MAX": _python(lambda x, y, dtype: max(x, y)),
    "MIN": _python(lambda x, y, dtype: min(x, y)),
}
_INTEGER_UNARY: Final[Mapping[str, Callable[[int], int]]] = {
    "NEG": lambda x: -x, "ABS": abs, "NOT": lambda x: ~x}
_BITS: Final[Mapping[str, Function]] = {"AND": np.bitwise_and, "OR": np.bitwise_or, "XOR": np.bitwise_xor}
_OF_BOOL: Final[Mapping[str, Function]] = {
    "ADD": np.logical_or, "MUL": np.logical_and, "MAX": np.logical_or, "MIN": np.logical_and,
    "NOT": np.logical_not}
_COMPARE: Final[Mapping[str, Function]] = {
    "LT": np.less, "LE": np.less_equal, "EQ": np.equal, "NE": np.not_equal}


def elementwise(op: str, dtype: DType, *sources: Array) -> Array:
    """`op` of sources in `dtype` (WHERE: a bool first)."""
    if op == "WHERE":
        return np.where(*sources)
    if op in _COMPARE:
        return np.asarray(_COMPARE[op](*sources))
    if dtype.is_float:
        with np.errstate(all="ignore"):
            return rounded(_FLOAT[op](*[_wide(source) for source in sources]), dtype)
    if dtype.kind == "b" and op in _OF_BOOL:
        return np.asarray(_OF_BOOL[op](*sources))
    if op in _BITS:
        return np.asarray(_BITS[op](*sources))
    if op in _INTEGER_UNARY:
        flat = sources[0].reshape(-1).tolist()
        return wrapped([_INTEGER_UNARY[op](x) for x in flat], dtype).reshape(sources[0].shape)
    return np.asarray(_INTEGER[op](*sources, dtype))


# ---- conversions -------------------------------------------------------------------------------------------
def cast(x: Array, source: DType, target: DType) -> Array:
    """CAST: float to int saturates and NaN gives 0, int to int wraps, bool is x != 0."""
    if target.kind == "b":
        return np.asarray(x != 0)
    if target.is_float:  # on the way to bfloat16, float32 rounds first
        return rounded(x, target)
    flat = x.reshape(-1).tolist()
    if not source.is_float:
        return wrapped([int(v) for v in flat], target).reshape(x.shape)
    low, high = int(target.min), int(target.max)
    whole = [0 if v != v else high if v >= high else low if v <= low else int(v) for v in flat]
    return np.array(whole, target.numpy).reshape(x.shape)


# ---- reductions --------------------------------------------------------------------------------------------
def reduce(op: str, x: Array, axes: tuple[int, ...], dtype: DType) -> Array:
    """SUM, PROD, RMAX or RMIN over axes; sums of bool are `any`, products `all`."""
    if dtype.kind == "b":
        return np.asarray((np.any if op in ("SUM", "RMAX") else np.all)(x, axis=axes))
    if op in ("RMAX", "RMIN"):
        return np.asarray((np.max if op == "RMAX" else np.min)(x, axis=axes))
    function = np.sum if op == "SUM" else np.prod
    if dtype.is_float:
        return rounded(function(_wide(x), axis=axes), dtype)
    return np.asarray(function(x, axis=axes, dtype=dtype.numpy))  # wraps


_UFUNCS: Final = {"ADD": np.add, "MUL": np.multiply, "MAX": np.maximum, "MIN": np.minimum}


def scan(name: str, x: Array, axis: int, dtype: DType) -> Array:
    """What the elements up to each place give, combined; integers wrap."""
    if dtype.is_float:
        return rounded(_UFUNCS[name].accumulate(_wide(x), axis), dtype)
    return np.asarray(_UFUNCS[name].accumulate(x, axis, dtype.numpy))


def tally(x: Array, size: int) -> Array:
    """Of each row: how many equal integers come before each, then how many there are of each below `size`."""
    earlier, counts = np.zeros(x.shape, np.int32), np.zeros((*x.shape[:-1], size), np.int32)
    for place in np.ndindex(*x.shape):
        counted = (*place[:-1], int(x[place]))
        earlier[place] = counts[counted]
        counts[counted] += 1
    return np.concatenate([earlier, counts], -1)


# ---- movement ----------------------------------------------------------------------------------------------
def _slice(x: Array, arg: Any) -> Array:
    return x[tuple([slice(start, start + size * step, step) for start, size, step in arg])]


def _window(x: Array, rows: Any) -> Array:
    for axis, size, stride, dilation in rows:
        view = np.lib.stride_tricks.sliding_window_view(x, (size - 1) * dilation + 1, axis)
        x = np.moveaxis(np.moveaxis(view, axis, 0)[::stride], 0, axis)[..., ::dilation]
    return x


def _skew(x: Array, rows: Any) -> Array:
    (axis, by, step, offset, size), = rows
    shape = list(x.shape)
    shape[axis] = size
    result = np.zeros(shape, x.dtype)
    for place in np.ndindex(*shape):
        source = list(place)
        source[axis] = place[axis] - place[by] * step + offset
        if 0 <= source[axis] < x.shape[axis]:
            result[place] = x[tuple(source)]
    return result


MOVES: Final[Mapping[str, Function]] = {
    "RESHAPE": np.reshape, "PERMUTE": np.transpose, "EXPAND": np.broadcast_to, "SLICE": _slice,
    "FLIP": np.flip, "PAD": np.pad, "WINDOW": _window, "SKEW": _skew}


def fold(windows: Array, row: tuple[int, int, int, int], size: int, dtype: DType) -> Array:
    """The adjoint of one WINDOW row over a 1-d array of `size`: each element sums the windows it lies in."""
    _, _, stride, dilation = row
    result = np.zeros(size, _wide(windows).dtype if dtype.is_float else windows.dtype)
    for k in range(windows.shape[1]):
        at = slice(k * dilation, k * dilation + (len(windows) - 1) * stride + 1, stride)
        result[at] = result[at] | windows[:, k] if dtype.kind == "b" else result[at] + windows[:, k]
    return rounded(result, dtype) if dtype.is_float else result


# ---- selecting and writing ---------------------------------------------------------------------------------
def gather(x: Array, index: Array, axis: int) -> Array:
    """x at index along the axis; negative indices count from the end."""
    return np.take_along_axis(x, index.astype(np.int64) % x.shape[axis], axis)


def scatter(base: Array, index: Array, value: Array, axis: int, mode: str, dtype: DType) -> Array:
    """Values written or combined at indices, one after another in row-major order."""
    result = base.copy() if not (dtype.is_float and mode != "SET") else _wide(base)
    for place in np.ndindex(*index.shape):
        at = list(place)
        at[axis] = int(index[place]) % base.shape[axis]
        there, new = result[tuple(at)], value[place]
        result[tuple(at)] = new if mode == "SET" else _combined(mode, there, new, dtype)
    return rounded(result, dtype) if dtype.is_float else result


def _combined(mode: str, x: Any, y: Any, dtype: DType) -> Any:
    if dtype.is_float:
        return _FLOAT[mode](x, y)
    if dtype.kind == "b":
        return _OF_BOOL[mode](x, y)
    return _UFUNCS[mode](x, y)


# ---- random bits -------------------------------------------------------------------------------------------
_ROTATIONS: Final = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY: Final = 0x1BD11BDA
_MASK: Final = (1 << 32) - 1


def threefry(key: tuple[int, int], high: int, low: int) -> tuple[int, int]:
    """Threefry-2x32 with 20 rounds of the counter (high, low): J. K. Salmon et al., SC 2011."""
    keys = (*key, key[0] ^ key[1] ^ _PARITY)
    a, b = (high + keys[0]) & _MASK, (low + keys[1]) & _MASK
    for block in range(5):
        for rotation in _ROTATIONS[block % 2]:
            a = (a + b) & _MASK
            b = ((b << rotation | b >> (32 - rotation)) & _MASK) ^ a
        a = (a + keys[(block + 1) % 3]) & _MASK
        b = (b + keys[(block + 2) % 3] + block + 1) & _MASK
    return a, b


def random_bits(key: tuple[int, int], counter: int, size: int) -> Array:
    """Element i is the xor of both words of the cipher at the counter (counter, i)."""
    words = [threefry(key, counter, i) for i in range(size)]
    return np.array([a ^ b for a, b in words], np.uint32)
