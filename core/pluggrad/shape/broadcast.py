"""Shape arithmetic of the door: broadcasting, axes, reshapes. Errors name the op and both shapes."""
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import index
from typing import Any

from pluggrad.errors import AxisError, DTypeError, ShapeError
from pluggrad.shape.dims import Shape


@lru_cache(maxsize=4096)  # a loop meets the same few shapes at every step
def broadcast_shapes(op: str, *shapes: Shape) -> Shape:
    """The common shape by NumPy's rule; ShapeError naming `op` and every shape."""
    first = shapes[0]
    if all(shape == first for shape in shapes):
        return first
    rank = max(map(len, shapes))
    result = []
    for position in range(rank):
        dims = {shape[position - rank] for shape in shapes if rank - position <= len(shape)} - {1}
        if len(dims) > 1:
            sizes = " and ".join(map(str, sorted(dims)))
            raise ShapeError(op=op, expected="shapes that broadcast (equal dims, or 1)",
                             got=" and ".join(str(s) for s in shapes),
                             hint=f"Axis {position - rank} has sizes {sizes}: reshape or transpose one")
        result.append(dims.pop() if dims else 1)
    return tuple(result)


def check_shape(op: str, shape: Iterable[Any]) -> Shape:
    """A tuple of non-negative ints; ShapeError or DTypeError otherwise."""
    try:
        checked = tuple([index(dim) for dim in shape])
    except TypeError as error:
        raise DTypeError(op=op, expected="a shape of integers", got=repr(shape)) from error
    if any(dim < 0 for dim in checked):
        raise ShapeError(op=op, expected="sizes of at least 0", got=str(checked),
                         hint="Only reshape works out a size, and takes -1 for it")
    return checked


def check_axis(op: str, axis: Any, rank: int) -> int:
    """`axis` counted from the front; AxisError if there is no such axis. A rank of 0 takes 0 and -1."""
    try:
        position = index(axis)
    except TypeError as error:
        raise DTypeError(op=op, expected="an integer axis", got=repr(axis)) from error
    bound = max(rank, 1)
    if not -bound <= position < bound:
        raise AxisError(op=op, expected=f"an axis in [{-bound}, {bound - 1}] for {rank} dimensions",
                        got=str(position), hint="Axes count from 0, or back from -1, the last")
    return position % bound


def check_axes(op: str, axes: object, rank: int) -> tuple[int, ...]:
    """None (all), an int or a sequence of ints, as sorted axes; AxisError for a repeated or missing one."""
    if axes is None:
        return tuple(range(rank))
    given: Sequence[object] = tuple(axes) if isinstance(axes, (tuple, list)) else (axes,)
    checked = [check_axis(op, axis, rank) for axis in given]
    if len(set(checked)) != len(checked):
        repeated = next(axis for axis in checked if checked.count(axis) > 1)
        raise AxisError(op=op, expected="each axis once", got=str(tuple(given)),
                        hint=f"Name axis {repeated} once; -1 is the last axis")
    return tuple(sorted(checked)) if rank else ()


def resolve_reshape(op: str, shape: Shape, new: Sequence[Any]) -> Shape:
    """`new` with its one -1, if any, worked out; ShapeError where the sizes differ."""
    try:
        dims = [index(dim) for dim in new]
    except TypeError as error:
        raise DTypeError(op=op, expected="a shape of integers", got=repr(tuple(new))) from error
    size = math.prod(shape)
    unknown = dims.count(-1)
    if unknown > 1 or any(dim < -1 for dim in dims):
        raise ShapeError(op=op, expected="sizes of at least 0 and at most one -1", got=str(tuple(dims)),
                         hint="Write out every other size")
    known = math.prod([dim for dim in dims if dim != -1])
    fits = known > 0 and size % known == 0 if unknown else known == size
    if not fits:
        raise ShapeError(op=op, expected=f"a shape of {size} elements, as {shape} has", got=str(tuple(dims)),
                         hint="Change a size, or write -1 for one to have it worked out")
    return tuple([size // known if dim == -1 else dim for dim in dims])
