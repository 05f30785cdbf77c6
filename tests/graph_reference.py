"""What a graph means, in NumPy: evaluates nodes one by one, slowly, by the words of graph/ops.py.

Independent of every stage below the graph, so it is the oracle for them and lets Tensor be tested without
any.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import special

from pluggrad import dtypes
from pluggrad.graph import ops
from pluggrad.ir.walk import toposort

# bfloat16 is held as the float32 values that it can represent
WORKING = {dtypes.bfloat16: np.dtype("float32")}


def evaluate(node, buffers: Callable | None = None) -> np.ndarray:
    """The value of a graph node. `buffers(node)` gives the values of BUFFER nodes."""
    values = {}
    with np.errstate(all="ignore"):
        for n in toposort([node]):
            sources = [values[s] for s in n.src]
            value = buffers(n) if n.op is ops.BUFFER else _value(n, sources)
            value = np.asarray(value)
            assert value.shape == n.shape, (n, value.shape)
            values[n] = rounded(value, n.dtype)
    return values[node]


def working_dtype(dtype) -> np.dtype:
    return WORKING.get(dtype) or dtype.numpy


def rounded(value: np.ndarray, dtype) -> np.ndarray:
    if dtype is dtypes.bfloat16:
        bits = np.ascontiguousarray(value, np.float32).reshape(value.shape).view(np.uint32)
        even = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        return np.where(np.isnan(value), value, even.view(np.float32)).astype(np.float32)
    return value.astype(dtype.numpy)


def _value(n, s):
    if n.op in UNARY:
        return UNARY[n.op](s[0])
    if n.op in BINARY:
        return BINARY[n.op](s[0], s[1])
    return OTHER[n.op](n, s)


# ---- elementwise ---------------------------------------------------------------------------------------


def _floor_divide(x, y):
    safe = np.where(y == 0, 1, y)
    return np.where(y == 0, 0, x // safe).astype(x.dtype)


def _modulo(x, y):
    if x.dtype.kind == "f":
        return x - np.floor(x / y) * y
    safe = np.where(y == 0, 1, y)
    return np.where(y == 0, 0, x % safe).astype(x.dtype)


def _power(x, y):
    if x.dtype.kind == "f":
        return np.power(x, y)
    negative = (
        np.where(x == 1, 1, np.where(x == -1, np.where(y % 2 == 0, 1, -1), 0)) if x.dtype.kind == "i" else 0
    )
    return np.where(y < 0, negative, np.power(x, np.where(y < 0, 0, y))).astype(x.dtype)


def _shift(left):
    def apply(x, y):
        width = 8 * x.dtype.itemsize
        outside = (y < 0) | (y >= width)
        inside = np.where(outside, 0, y).astype(x.dtype)
        beyond = np.zeros_like(x) if left or x.dtype.kind == "u" else np.where(x < 0, -1, 0)
        return np.where(outside, beyond, x << inside if left else x >> inside).astype(x.dtype)

    return apply


UNARY = {
    ops.NEG: np.negative,
    ops.ABS: np.abs,
    ops.RECIP: np.reciprocal,
    ops.SQRT: np.sqrt,
    ops.EXP: np.exp,
    ops.EXP2: np.exp2,
    ops.LOG: np.log,
    ops.LOG2: np.log2,
    ops.SIN: np.sin,
    ops.COS: np.cos,
    ops.TANH: np.tanh,
    ops.ERF: special.erf,
    ops.FLOOR: np.floor,
    ops.CEIL: np.ceil,
    ops.TRUNC: np.trunc,
    ops.ROUND: np.rint,
    ops.NOT: np.invert,
}
BINARY = {
    ops.ADD: np.add, ops.SUB: np.subtract, ops.MUL: np.multiply, ops.DIV: np.divide, ops.IDIV: _floor_divide,
    ops.MOD: _modulo, ops.POW: _power, ops.MAX: np.maximum, ops.MIN: np.minimum, ops.AND: np.bitwise_and,
    ops.OR: np.bitwise_or, ops.XOR: np.bitwise_xor, ops.SHL: _shift(True), ops.SHR: _shift(False),
    ops.LT: np.less, ops.LE: np.less_equal, ops.EQ: np.equal, ops.NE: np.not_equal,
}


def _cast(n, s):
    source, target = s[0], n.dtype
    if source.dtype.kind == "f" and target.is_int:
        low, high = int(target.min), int(target.max)
        inside = np.trunc(np.where(np.isnan(source), 0, source))
        whole = np.where((inside > float(low)) & (inside < float(high)), inside, 0).astype(target.numpy)
        return np.where(inside >= float(high), high, np.where(inside <= float(low), low, whole)).astype(
            target.numpy
        )
    if target is dtypes.bool_:
        return source != 0
    return source.astype(working_dtype(target))


def _bitcast(n, s):
    value = s[0]
    if n.src[0].dtype is dtypes.bfloat16:
        value = (np.ascontiguousarray(value).view(np.uint32) >> 16).astype(np.uint16)
    if n.dtype is dtypes.bfloat16:
        return (value.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return np.ascontiguousarray(value).reshape(value.shape).view(n.dtype.numpy)


# ---- reductions, movement, writing ---------------------------------------------------------------------


def _reduced(function, n, s):
    wide = np.float32 if n.dtype in (dtypes.float16, dtypes.bfloat16) else s[0].dtype
    if n.dtype is dtypes.bool_ and n.op in (ops.SUM, ops.PROD):
        return (np.any if n.op is ops.SUM else np.all)(s[0], axis=n.arg)
    return function(s[0].astype(wide), axis=n.arg)


def moved(value, steps):
    """A NumPy view of `value` through movement steps, none of which copies (reshapes of views may not)."""
    for name, arg in steps:
        if name == "slice":
            value = value[tuple(slice(start, start + (size - 1) * step + 1 if size else start, step)
                                for start, size, step in arg)]
        elif name == "flip":
            value = np.flip(value, arg)
        elif name == "permute":
            value = np.transpose(value, arg)
        elif name == "reshape":
            value = value.reshape(arg)
        elif name == "expand":
            value = np.broadcast_to(value, arg)
        elif name == "pad":
            value = np.pad(value, arg)
        elif name == "window":
            value = _windows(value, arg)
        elif name == "skew":
            value = _skewed(value, arg)
    return value


def _windows(value, rows):
    for axis, size, stride, dilation in rows:
        view = np.lib.stride_tricks.sliding_window_view(value, (size - 1) * dilation + 1, axis)
        value = np.moveaxis(np.moveaxis(view, axis, 0)[::stride], 0, axis)[..., ::dilation]
    return value


def _skewed(value, rows):
    for axis, by, step, offset, size in rows:
        shape = tuple(size if a == axis else dim for a, dim in enumerate(value.shape))
        at = list(np.indices(shape))
        at[axis] = at[axis] - at[by] * step + offset
        inside = (at[axis] >= 0) & (at[axis] < value.shape[axis])
        at[axis] = np.where(inside, at[axis], 0)
        value = np.where(inside, value[tuple(at)], 0) if value.size else np.zeros(shape, value.dtype)
    return value


def _fold(n, s):
    rows, shape = n.arg
    result, rank = np.zeros(shape, s[0].dtype), len(shape)
    for place in np.ndindex(*[size for _, size, _, _ in rows]):
        at = [slice(None)] * rank
        for (axis, _, stride, dilation), k in zip(rows, place):
            start = k * dilation
            at[axis] = slice(start, start + (s[0].shape[axis] - 1) * stride + 1, stride)
        result[tuple(at)] += s[0][(..., *place)]
    return result


def _update(n, s):
    # positions instead of views: a reshape of a flipped slice would copy
    base = s[0].copy().reshape(-1)
    base[moved(np.arange(base.size).reshape(n.shape), n.arg).reshape(-1)] = s[1].reshape(-1)
    return base.reshape(n.shape)


def _placed(index, axis, extent):
    """The coordinates that an index selects, and where they are in range."""
    places = list(np.indices(index.shape))
    number = index.astype(object)  # uint64 as well
    number = np.where(number < 0, number + extent, number)
    inside = np.array((number >= 0) & (number < extent), bool)
    places[axis] = np.clip(number, 0, extent - 1).astype(np.int64)
    return tuple(places), inside


def _gather(n, s):
    return s[0][_placed(s[1], n.arg.axis, s[0].shape[n.arg.axis])[0]]


_COMBINE = {"ADD": np.add, "MUL": np.multiply, "MAX": np.maximum, "MIN": np.minimum}


def _scan(n, s):
    return _COMBINE[n.arg.name].accumulate(s[0], axis=n.arg.axis, dtype=s[0].dtype)


def _tally(n, s):
    earlier, counts = np.zeros(s[0].shape, np.int32), np.zeros((*s[0].shape[:-1], n.arg), np.int32)
    for place in np.ndindex(s[0].shape):
        count = (*place[:-1], s[0][place])
        earlier[place] = counts[count]
        counts[count] += 1
    return np.concatenate([earlier, counts], -1)


def _scatter(n, s):
    result = s[0].copy().reshape(-1)
    view = moved(np.arange(result.size).reshape(n.shape), n.arg.view)
    places, inside = _placed(s[1], n.arg.axis, view.shape[n.arg.axis])
    for place in np.ndindex(s[1].shape):
        if not inside[place]:
            continue
        at = view[tuple([p[place] for p in places])]
        combine = _COMBINE.get(n.arg.mode)
        result[at] = s[2][place] if combine is None else combine(result[at], s[2][place])
    return result.reshape(n.shape)


# ---- random --------------------------------------------------------------------------------------------

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry2x32(
    key: tuple[int, int], first: np.ndarray, second: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Salmon et al. 2011, 20 rounds, of a counter of two words."""
    keys = [np.uint32(key[0]), np.uint32(key[1]), np.uint32(key[0] ^ key[1] ^ 0x1BD11BDA)]
    a, b = (first + keys[0]).astype(np.uint32), (second + keys[1]).astype(np.uint32)
    for block in range(5):
        for rotation in _ROTATIONS[block % 2]:
            a = (a + b).astype(np.uint32)
            b = ((b << np.uint32(rotation)) | (b >> np.uint32(32 - rotation))) ^ a
        a = (a + keys[(block + 1) % 3]).astype(np.uint32)
        b = (b + keys[(block + 2) % 3] + np.uint32(block + 1)).astype(np.uint32)
    return a, b


def _random_bits(n, s):
    size = math.prod(n.shape)
    index = np.arange(size, dtype=np.uint32)
    counter = np.full(size, s[2], np.uint32)
    a, b = threefry2x32((int(s[0]), int(s[1])), counter, index)
    return (a ^ b).reshape(n.shape)


OTHER = {
    ops.CONST: lambda n, s: np.full(n.shape, n.arg.python, working_dtype(n.dtype)),
    ops.IOTA: lambda n, s: np.arange(n.shape[0], dtype=n.dtype.numpy),
    ops.WHERE: lambda n, s: np.where(*s),
    ops.CAST: _cast,
    ops.BITCAST: _bitcast,
    **dict.fromkeys((ops.LEAF, ops.DETACH, ops.CONTIGUOUS, ops.BARRIER, ops.COPY), lambda n, s: s[0]),
    ops.CUSTOM_VJP: lambda n, s: s[0],
    ops.VJP_CALL: lambda n, s: np.zeros(n.shape),  # no value
    ops.SUM: lambda n, s: _reduced(np.sum, n, s),
    ops.PROD: lambda n, s: _reduced(np.prod, n, s),
    ops.RMAX: lambda n, s: _reduced(np.max, n, s),
    ops.RMIN: lambda n, s: _reduced(np.min, n, s),
    **{op: (lambda n, s: moved(s[0], [(n.op.name.lower(), n.arg)])) for op in ops.MOVEMENT},
    ops.SCAN: _scan,
    ops.TALLY: _tally,
    ops.FOLD: _fold,
    ops.UPDATE: _update,
    ops.GATHER: _gather,
    ops.SCATTER: _scatter,
    ops.RANDOM_BITS: _random_bits,
}
