"""Sums over what repeats: a product takes their place."""
from __future__ import annotations

import math

from pluggrad.graph import build, ops
from pluggrad.graph.types import tensor_type
from pluggrad.ir.node import Node, node


def sum_of_repeated(x: Node, axes: tuple[int, ...]) -> Node | None:
    """The sum of `x` over `axes` without adding up equals, or None where it repeats along none of them.

    A product rounds once where a sum rounds at each step. Dtypes that hold no large count are left alone.
    """
    if x.op not in (ops.CONST, ops.EXPAND) or x.dtype.itemsize < 4:
        return None
    single = _single(x)
    count = math.prod([x.shape[axis] for axis in axes if single.shape[axis] == 1])
    if count == 1:
        return None
    kept = tuple([dim for axis, dim in enumerate(x.shape) if axis not in axes])
    total = build.reduce(ops.SUM, single, [axis for axis in axes if single.shape[axis] > 1])
    total = build.reshape(total, [dim for axis, dim in enumerate(single.shape) if axis not in axes])
    return build.broadcast_to(build.binary(ops.MUL, total, build.const(count, x.dtype, x.device)), kept)


def _single(x: Node) -> Node:
    """`x` with one position along each axis that it repeats along."""
    if x.op is ops.EXPAND:
        return x.src[0]
    return node(ops.CONST, (), x.arg, tensor_type((1,) * len(x.shape), x.dtype, x.device))
