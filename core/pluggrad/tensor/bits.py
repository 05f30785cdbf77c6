"""Values as bits: read as another dtype, which may be of another size."""
from __future__ import annotations

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.errors import ShapeError
from pluggrad.graph import build, ops
from pluggrad.ir.node import Node

_UNSIGNED = {1: dtypes.uint8, 2: dtypes.uint16, 4: dtypes.uint32, 8: dtypes.uint64}


def bitcast_node(x: Node, dtype: DType) -> Node:
    """The bytes of `x` read as `dtype`, the lowest byte first; the last axis takes up a change of size.

    A bool is a byte of 0 or 1; a byte read as bool is True unless it is 0.
    """
    if x.dtype is dtype:
        return x
    if x.dtype is dtypes.bool_:
        return bitcast_node(build.cast(x, dtypes.uint8), dtype)
    if dtype is dtypes.bool_:
        return build.cast(bitcast_node(x, dtypes.uint8), dtype)
    if x.dtype.itemsize != dtype.itemsize:
        x = _narrowed(x, dtype) if x.dtype.itemsize > dtype.itemsize else _joined(x, dtype)
    return build.bitcast(x, dtype)


def _narrowed(x: Node, dtype: DType) -> Node:
    """(..., n) as unsigned integers (..., n * k) of the size of `dtype`, of which k make an element."""
    if not x.shape:
        raise _unfit(x, dtype, "at least one dimension")
    whole, part = _UNSIGNED[x.dtype.itemsize], _UNSIGNED[dtype.itemsize]
    count = whole.itemsize // part.itemsize
    bits = build.reshape(build.bitcast(x, whole), (*x.shape, 1))
    parts = build.cast(build.binary(ops.SHR, bits, _shifts(count, part.bits, bits)), part)
    return build.reshape(parts, (*x.shape[:-1], x.shape[-1] * count))


def _joined(x: Node, dtype: DType) -> Node:
    """(..., n) as unsigned integers (..., n / k) of the size of `dtype`, each of k elements."""
    whole, part = _UNSIGNED[dtype.itemsize], _UNSIGNED[x.dtype.itemsize]
    count = whole.itemsize // part.itemsize
    if not x.shape or x.shape[-1] % count:
        raise _unfit(x, dtype, f"a last axis that {count} divides")
    shape = (*x.shape[:-1], x.shape[-1] // count, count)
    bits = build.cast(build.reshape(build.bitcast(x, part), shape), whole)
    # no two have a bit in common: their sum is their union
    return build.reduce(ops.SUM, build.binary(ops.SHL, bits, _shifts(count, part.bits, bits)), len(shape) - 1)


def _shifts(count: int, bits: int, like: Node) -> Node:
    """0, bits, 2 * bits, ..."""
    numbers = build.cast(build.iota(count, dtypes.int32, like.device), like.dtype)
    return build.binary(ops.MUL, numbers, build.const(bits, like.dtype, like.device, numbers.shape))


def _unfit(x: Node, dtype: DType, expected: str) -> ShapeError:
    return ShapeError(op="bitcast", expected=f"{expected}, to read {x.dtype.name} as {dtype.name}",
                      got=f"shape {x.shape}")
