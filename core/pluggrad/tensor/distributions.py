"""Distributions as graphs: functions of random bits, element by element, without a loop or a rejection."""
from __future__ import annotations

import math

import numpy as np

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.graph import build, ops
from pluggrad.ir.node import Node, Op
from pluggrad.shape.dims import Shape
from pluggrad.target import DeviceId
from pluggrad.tensor.convert import from_storage, storage_array
from pluggrad.tensor.random_state import random_bits

# random bits per uniform: as many as the dtype's fraction holds, so that none is rounded up to 1
_FRACTION_BITS = {dtypes.float16: 11, dtypes.bfloat16: 8, dtypes.float32: 24}


def uniform_node(shape: Shape, dtype: DType, device: DeviceId, low: float = 0.0, high: float = 1.0) -> Node:
    """Uniform in [low, high); [0, 1) are multiples of 2**-bits, all equally likely."""
    if (low, high) == (0.0, 1.0):
        return _unit(shape, dtype, device)
    node = _affine(_unit(shape, dtypes.accumulator_dtype(dtype), device), high - low, low, dtype)
    if low == high or (low == 0.0 and dtype.itemsize >= 4):
        return node
    # rounding may reach `high`
    return build.binary(ops.MIN, node, build.const(_below(high, dtype), dtype, device, shape))


def normal_node(shape: Shape, dtype: DType, device: DeviceId, mean: float = 0.0, std: float = 1.0) -> Node:
    """Normal, by Box and Muller's transform of two uniforms."""
    both = _unit((2, *shape), dtypes.accumulator_dtype(dtype), device)
    u, v = _rows(both)
    radius = build.unary(ops.SQRT, _scaled(_log_of_rest(u), -2.0))
    angle = build.unary(ops.COS, _scaled(v, 2 * math.pi))
    return _affine(build.binary(ops.MUL, radius, angle), std, mean, dtype)


def exponential_node(shape: Shape, dtype: DType, device: DeviceId, rate: float) -> Node:
    """Exponential, by the inverse of its distribution function."""
    uniform = _unit(shape, dtypes.accumulator_dtype(dtype), device)
    return _affine(_log_of_rest(uniform), -1.0 / rate, 0.0, dtype)


def integers_node(shape: Shape, count: int, device: DeviceId) -> Node:
    """uint64 integers in [0, count), `count` at most 2**64.

    A power of two takes that many random bits. Others take the whole part of count * bits / 2**width, where
    `width` is 64, or 128 for a count above 2**32: no probability is off by more than a 2**-32th of itself.
    """
    if count & (count - 1) == 0:
        taken = count.bit_length() - 1
        if taken <= 32:
            return _shifted(ops.SHR, _wide(random_bits(shape, device)), 32 - taken)
        return _shifted(ops.SHR, _joined(*_rows(random_bits((2, *shape), device))), 64 - taken)
    if count <= 1 << 32:
        high, low = map(_wide, _rows(random_bits((2, *shape), device)))
        product = build.binary(ops.ADD, _times(high, count), _shifted(ops.SHR, _times(low, count), 32))
        return _shifted(ops.SHR, product, 32)
    rows = _rows(random_bits((4, *shape), device))
    high, low = _joined(*rows[:2]), _joined(*rows[2:])
    below = _times(high, count)
    fraction = build.binary(ops.ADD, below, _high_product(low, count))
    carry = build.cast(build.binary(ops.LT, fraction, below), dtypes.uint64)
    return build.binary(ops.ADD, _high_product(high, count), carry)


# ---- floats ------------------------------------------------------------------------------------------------
def _unit(shape: Shape, dtype: DType, device: DeviceId) -> Node:
    """Uniform in [0, 1)."""
    if dtype is dtypes.float64:
        high, low = _rows(random_bits((2, *shape), device))
        whole = build.binary(ops.ADD, _scaled(_top(high, 27, dtype), 2.0**26), _top(low, 26, dtype))
        return _scaled(whole, 2.0**-53)
    count = _FRACTION_BITS[dtype]
    return build.cast(_scaled(_top(random_bits(shape, device), count, dtypes.float32), 2.0**-count), dtype)


def _top(bits: Node, count: int, dtype: DType) -> Node:
    """The first `count` of 32 bits as a whole number."""
    return build.cast(_shifted(ops.SHR, bits, 32 - count), dtype)


def _log_of_rest(uniform: Node) -> Node:
    """log(1 - u): 1 - u is exact and lies in (0, 1], so that the logarithm is finite."""
    one = build.const(1.0, uniform.dtype, uniform.device, uniform.shape)
    return build.unary(ops.LOG, build.binary(ops.SUB, one, uniform))


def _scaled(x: Node, factor: float) -> Node:
    return build.binary(ops.MUL, x, build.const(factor, x.dtype, x.device, x.shape))


def _affine(x: Node, factor: float, offset: float, dtype: DType) -> Node:
    """x * factor + offset, rounded to `dtype` at the end."""
    if factor != 1.0:
        x = _scaled(x, factor)
    if offset != 0.0:
        x = build.binary(ops.ADD, x, build.const(offset, x.dtype, x.device, x.shape))
    return build.cast(x, dtype)


def _below(bound: float, dtype: DType) -> float:
    """The largest value of a float dtype below a number."""
    stored = storage_array(np.array([bound]), dtype)
    value = float(from_storage(stored, dtype)[0])
    if value < bound:
        return value
    if value == 0.0:
        return -dtypes.finfo(dtype).smallest_subnormal
    bits = stored.view(f"i{dtype.itemsize}")  # neighbors have neighboring bits, larger ones farther from 0
    bits += -1 if value > 0 else 1
    return float(from_storage(stored, dtype)[0])


# ---- integers of 64 bits -----------------------------------------------------------------------------------
def _rows(x: Node) -> list[Node]:
    """The entries of the first axis."""
    shape = x.shape[1:]
    return [build.reshape(build.slice(x, ((row, 1, 1), *[(0, dim, 1) for dim in shape])), shape)
            for row in range(x.shape[0])]


def _wide(x: Node) -> Node:
    return build.cast(x, dtypes.uint64)


def _joined(high: Node, low: Node) -> Node:
    return build.binary(ops.OR, _shifted(ops.SHL, _wide(high), 32), _wide(low))


def _shifted(op: Op, x: Node, by: int) -> Node:
    return build.binary(op, x, build.const(by, x.dtype, x.device, x.shape, fixed=True)) if by else x


def _times(x: Node, count: int) -> Node:
    return build.binary(ops.MUL, x, build.const(count, x.dtype, x.device, x.shape))


def _high_product(x: Node, count: int) -> Node:
    """The upper 64 of the 128 bits of x * count, by products of halves."""
    upper, lower = _shifted(ops.SHR, x, 32), _low_half(x)
    above, beside = _times(upper, count >> 32), _times(lower, count >> 32)
    middle = build.binary(ops.ADD, _times(upper, count & 0xFFFFFFFF), _low_half(beside))
    middle = build.binary(ops.ADD, middle, _shifted(ops.SHR, _times(lower, count & 0xFFFFFFFF), 32))
    carried = build.binary(ops.ADD, _shifted(ops.SHR, middle, 32), _shifted(ops.SHR, beside, 32))
    return build.binary(ops.ADD, above, carried)


def _low_half(x: Node) -> Node:
    return build.binary(ops.AND, x, build.const(0xFFFFFFFF, x.dtype, x.device, x.shape, fixed=True))
