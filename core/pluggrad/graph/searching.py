"""Positions in what is sorted, and what falls into bins: in steps that do not depend on the data."""
from __future__ import annotations

from typing import Final

from pluggrad import dtypes
from pluggrad.graph import build, ops
from pluggrad.graph.sorting import ordered_key
from pluggrad.ir.node import Node

_BLOCKS: Final = 32  # that are added up side by side; a fixed number, so that sums do not depend on cores
_SMALLEST_BLOCK: Final = 2048  # elements


def insertion_places(ordered: Node, x: Node, right: bool) -> Node:
    """int32: how many elements of a sorted row are less than each of `x` (`right`: or equal), by halving.

    Both are of one dtype, with rows of their own: shapes (rows, length) and (rows, any).
    """
    length = ordered.shape[1]
    place = build.const(0, dtypes.int32, x.device, x.shape)
    keys, wanted = build.contiguous(ordered_key(ordered)), build.contiguous(ordered_key(x))
    step = 1 << length.bit_length() - 1
    while step:
        last = build.binary(ops.ADD, place, build.const(step - 1, dtypes.int32, x.device))
        inside = build.binary(ops.LT, last, build.const(length, dtypes.int32, x.device))
        read = build.binary(ops.MIN, last, build.const(length - 1, dtypes.int32, x.device))
        found = build.gather(keys, read, 1, None)
        before = build.binary(ops.LE if right else ops.LT, found, wanted)
        further = build.binary(ops.ADD, last, build.const(1, dtypes.int32, x.device))
        place = build.contiguous(build.where(build.binary(ops.AND, inside, before), further, place))
        step //= 2
    return place


def added_up(index: Node, value: Node, size: int) -> Node:
    """The sum of the values at each of 0..size-1: vectors of one length. An index of `size` adds nothing."""
    length = index.shape[0]
    blocks = max(min(_BLOCKS, length // max(size, _SMALLEST_BLOCK)), 1)
    block = -(-length // blocks)
    around = ((0, blocks * block - length),)
    number = build.iota(blocks * block, dtypes.int64, index.device)
    inside = build.binary(ops.LT, number, build.const(length, dtypes.int64, index.device))
    beyond = build.const(size, index.dtype, index.device)
    places = build.where(inside, build.pad(index, around), beyond)
    rows, values = [build.reshape(x, (blocks, block)) for x in (places, build.pad(value, around))]
    empty = build.const(0, value.dtype, value.device, (blocks, size + 1))
    sums = build.reduce(ops.SUM, build.scatter(empty, rows, values, 1, "ADD", (), None), 0)
    return build.slice(sums, [(0, size, 1)])
