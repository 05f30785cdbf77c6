"""Stable sorting in linear time: keys as unsigned integers, then one digit after another, the lowest first.

A digit is counted in blocks (TALLY), the counts add up to where a block's elements of each digit go (SCAN),
and there they are brought (SCATTER): a key beside the number of its element, in one integer. Short rows count
for each element what goes before it.
"""
from __future__ import annotations

import math
from typing import Final

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.graph import build, ops
from pluggrad.ir.node import Node

_DIGIT: Final = 8  # bits: its counts and the places that it is written to stay in the first cache
_SHORT: Final = 256  # elements of a row that are compared with each other
_FEW: Final = 1 << 20  # comparisons that take no longer than many kernels
_SKIPPED: Final = 8  # elements of a block that may be left out as a whole
_BLOCKS: Final = 32  # at least, over all rows; fixed numbers, so that plans do not depend on cores
_SMALLEST_BLOCK: Final = 2048  # beside the counts of its digits
_UNSIGNED: Final = {1: dtypes.uint8, 2: dtypes.uint16, 4: dtypes.uint32, 8: dtypes.uint64}


def ordered_key(x: Node, descending: bool = False) -> Node:
    """Unsigned integers in the order of `x`: both zeros equal, NaN above all; reversed for `descending`."""
    bits = x.dtype.itemsize * 8
    kind = _UNSIGNED[x.dtype.itemsize]
    sign, ones = [build.const(value, kind, x.device) for value in (1 << bits - 1, (1 << bits) - 1)]
    if x.dtype.is_float:
        raw = build.bitcast(x, kind)
        negative = build.binary(ops.LE, sign, raw)
        key = build.where(negative, build.unary(ops.NOT, raw), build.binary(ops.OR, raw, sign))
        key = build.where(build.binary(ops.EQ, x, build.const(0, x.dtype, x.device)), sign, key)
        key = build.where(build.binary(ops.NE, x, x), ones, key)
    elif x.dtype.kind == "i":
        key = build.binary(ops.XOR, build.bitcast(x, kind), sign)
    else:
        key = build.cast(x, kind)
    if not descending:
        return key
    top = build.const(1, kind, x.device) if x.dtype.kind == "b" else ones
    return build.binary(ops.XOR, key, top)


def sorting_order(x: Node, descending: bool = False) -> Node:
    """int32: the places of the elements of each row, the last axis, in order; equals as they stand."""
    key = ordered_key(x, descending)
    rows = build.reshape(key, (-1, x.shape[-1])) if x.type.size else key
    if x.type.size == 0 or x.shape[-1] == 1:
        return build.const(0, dtypes.int32, x.device, x.shape)
    bits = 1 if x.dtype.kind == "b" else x.dtype.itemsize * 8
    length = x.shape[-1]
    short = length <= _SHORT or x.type.size * length <= _FEW
    found = _by_comparing(build.contiguous(rows)) if short else _by_digits(rows, bits)
    return build.reshape(found, x.shape)


def leading_order(x: Node, count: int, descending: bool = False) -> Node:
    """int32: the first `count` of each row of `sorting_order`, without sorting all.

    They lie in the blocks with the `count` best elements, the first of equals: any other block comes after as
    many. Those blocks are found likewise, by their best.
    """
    length = x.shape[-1]
    block = math.isqrt(length // max(count, 1))
    if block < _SKIPPED or x.type.size == 0:
        return _first(sorting_order(x, descending), count)
    key = build.reshape(ordered_key(x, descending), (-1, length))
    blocks = -(-length // block)
    key = _filled_up(key, blocks * block)
    parts = build.reshape(key, (-1, blocks, block))
    best = leading_order(build.reduce(ops.RMIN, parts, 2), count)
    chosen = _taken(best, sorting_order(best))  # blocks in their order, so that equals stay in theirs
    around = (chosen.shape[0], count, block)
    across = build.broadcast_to(build.reshape(chosen, (*chosen.shape, 1)), around)
    left = build.reshape(build.gather(parts, across, 1, None), (-1, count * block))
    number = build.binary(ops.ADD, build.binary(ops.MUL, across, _number(block, x)),
                          build.iota(block, dtypes.int32, x.device))
    order = _first(sorting_order(left), count)
    return build.reshape(_taken(build.reshape(number, left.shape), order), (*x.shape[:-1], count))


def _number(value: int, x: Node) -> Node:
    return build.const(value, dtypes.int32, x.device)


def _first(order: Node, count: int) -> Node:
    return build.slice(order, [*[(0, dim, 1) for dim in order.shape[:-1]], (0, count, 1)])


def _taken(x: Node, order: Node) -> Node:
    return build.gather(x, order, len(x.shape) - 1, None, unique=True)


def _by_comparing(key: Node) -> Node:
    """Where each element goes: after all that are less, and equals before it."""
    rows, length = key.shape
    number = build.iota(length, dtypes.int32, key.device)
    mine, others = build.reshape(key, (rows, length, 1)), build.reshape(key, (rows, 1, length))
    earlier = build.binary(ops.LT, build.reshape(number, (1, length)), build.reshape(number, (length, 1)))
    before = build.binary(ops.OR, build.binary(ops.LT, others, mine),
                          build.binary(ops.AND, build.binary(ops.EQ, others, mine), earlier))
    place = build.reduce(ops.SUM, build.cast(before, dtypes.int32), 2)
    return _brought(build.broadcast_to(number, key.shape), place)


def _by_digits(key: Node, bits: int) -> Node:
    """Words of 32 bits, the lowest first: each goes with the order that those before have left."""
    rows, length = key.shape
    blocks = max(min(-(-_BLOCKS // rows), length // _SMALLEST_BLOCK), 1)
    block = -(-length // blocks)
    number_bits = (blocks * block - 1).bit_length()
    order: Node | None = None
    for low in range(0, bits, 32):
        width = min(bits - low, 32)
        word = _cut(key, low, width) if bits > 32 else key
        if order is not None:
            word = build.gather(word, order, 1, None, unique=True)
        carrier = dtypes.uint32 if width + number_bits <= 32 else dtypes.uint64
        packed = build.contiguous(_packed(word, order, carrier, number_bits, blocks * block))
        for digit in range(0, width, _DIGIT):
            shift = number_bits + digit
            packed = _by_digit(packed, shift, min(_DIGIT, width - digit), blocks)
        order = _first(build.cast(_cut(packed, 0, number_bits), dtypes.int32), length)
    assert order is not None
    return order


def _packed(word: Node, order: Node | None, dtype: DType, number_bits: int, length: int) -> Node:
    """Keys above the numbers of their elements; what fills the last block comes last and stays there."""
    size = word.shape[1]
    number = order if order is not None else build.broadcast_to(
        build.iota(size, dtypes.int32, word.device), word.shape)
    bits = build.const(number_bits, dtype, word.device, fixed=True)
    high = build.binary(ops.SHL, build.cast(word, dtype), bits)
    packed = build.binary(ops.OR, high, build.cast(number, dtype))
    return _filled_up(packed, length)


def _filled_up(key: Node, length: int) -> Node:
    """Rows with the largest key behind them, as many times as they are short of `length`."""
    size = key.shape[1]
    if size == length:
        return key
    inside = build.binary(ops.LT, build.iota(length, dtypes.int32, key.device), _number(size, key))
    return build.where(inside, build.pad(key, ((0, 0), (0, length - size))),
                       build.const(key.dtype.max, key.dtype, key.device))


def _cut(x: Node, low: int, width: int) -> Node:
    """Bits of unsigned integers."""
    shifted = x if low == 0 else build.binary(ops.SHR, x, build.const(low, x.dtype, x.device, fixed=True))
    mask = build.const((1 << width) - 1, x.dtype, x.device, fixed=True)
    return build.binary(ops.AND, shifted, mask)


def _by_digit(packed: Node, shift: int, width: int, blocks: int) -> Node:
    """The rows in order of one digit."""
    rows, length = packed.shape
    block, digits = length // blocks, 1 << width
    digit = build.reshape(build.cast(_cut(packed, shift, width), dtypes.int32), (rows, blocks, block))
    counted = build.tally(digit, digits)
    earlier, counts = [build.slice(counted, [(0, rows, 1), (0, blocks, 1), part])
                       for part in ((0, block, 1), (block, digits, 1))]
    # what goes before a block's elements of a digit: all lesser ones, and those of the blocks before
    flat = build.reshape(build.permute(counts, (0, 2, 1)), (rows, digits * blocks))
    before = build.binary(ops.SUB, build.scan("ADD", flat, 1), flat)
    start = build.contiguous(build.permute(build.reshape(before, (rows, digits, blocks)), (0, 2, 1)))
    place = build.binary(ops.ADD, build.gather(start, digit, 2, None), earlier)
    return _brought(packed, build.reshape(place, packed.shape))


def _brought(x: Node, place: Node) -> Node:
    """Each element of each row brought to a place of its own."""
    base = build.const(0, x.dtype, x.device, x.shape)
    return build.scatter(base, place, x, 1, "SET", (), None, unique=True)
