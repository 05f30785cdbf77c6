"""Shapes changed: views where there can be one."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pluggrad.array_api.arguments import INDEX, Axes, array, as_tuple, one_axis
from pluggrad.array_api.data_types import result_type
from pluggrad.errors import ShapeError
from pluggrad.shape.broadcast import check_axes
from pluggrad.tensor import Tensor


def concat(arrays: Sequence[Tensor], /, *, axis: int | None = 0) -> Tensor:
    """Arrays joined along an axis, or flattened and joined with None; dtypes promote."""
    dtype = result_type(*arrays)
    parts = [x.cast(dtype).flatten() if axis is None else x.cast(dtype) for x in arrays]
    return parts[0].cat(*parts[1:], dim=0 if axis is None else axis)


def stack(arrays: Sequence[Tensor], /, *, axis: int = 0) -> Tensor:
    """Arrays of one shape joined along a new axis; dtypes promote."""
    dtype = result_type(*arrays)
    return arrays[0].cast(dtype).stack(*[x.cast(dtype) for x in arrays[1:]], dim=axis)


def unstack(x: Tensor, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The arrays along an axis, which disappears."""
    return array("unstack", x).unbind(axis)


def expand_dims(x: Tensor, /, *, axis: int = 0) -> Tensor:
    """A new axis of size 1 at `axis`; AxisError where there is no such place."""
    return array("expand_dims", x).unsqueeze(axis)


def squeeze(x: Tensor, /, axis: int | tuple[int, ...]) -> Tensor:
    """Without these axes; ShapeError unless their sizes are 1."""
    axes = check_axes("squeeze", axis, array("squeeze", x).ndim)
    if any(x.shape[i] != 1 for i in axes):
        raise ShapeError(op="squeeze", expected=f"size 1 along {axes}", got=f"shape {x.shape}")
    return x.reshape([size for i, size in enumerate(x.shape) if i not in axes])


def flip(x: Tensor, /, *, axis: Axes = None) -> Tensor:
    """Reversed along axes, all with None."""
    return array("flip", x).flip(check_axes("flip", axis, x.ndim)) if x.ndim else x


def moveaxis(x: Tensor, source: int | tuple[int, ...], destination: int | tuple[int, ...], /) -> Tensor:
    """Axes moved to other places; the rest keep their order."""
    return array("moveaxis", x).movedim(source, destination)


def permute_dims(x: Tensor, /, axes: tuple[int, ...]) -> Tensor:
    """Axes in another order; AxisError unless each is named once."""
    return array("permute_dims", x).permute(tuple(axes))


def matrix_transpose(x: Tensor, /) -> Tensor:
    """The last two axes exchanged; ShapeError with fewer."""
    return array("matrix_transpose", x).mT


def reshape(x: Tensor, /, shape: tuple[int, ...], *, copy: bool | None = None) -> Tensor:
    """The same elements in another shape, of which one size may be -1; a view unless `copy` is True."""
    made = array("reshape", x).reshape(tuple(shape))
    return made.clone() if copy else made


def roll(x: Tensor, /, shift: int | tuple[int, ...], *, axis: Axes = None) -> Tensor:
    """Elements moved along axes, what leaves at one end entering at the other; None: flattened."""
    if not array("roll", x).ndim:
        return x
    shifts = as_tuple(shift)
    return x.roll(shift, axis) if axis is None else x.roll(
        shifts * len(as_tuple(axis)) if len(shifts) == 1 else shifts, as_tuple(axis))


def repeat(x: Tensor, repeats: int | Tensor, /, *, axis: int | None = None) -> Tensor:
    """Each element so many times, one after another, along an axis or flattened with None.

    repeats: a number, or an array of one for each element, which is read.
    """
    flat, position = one_axis("repeat", array("repeat", x), axis)
    if isinstance(repeats, int):
        return flat.repeat_interleave(repeats, position)
    places = np.repeat(np.arange(flat.shape[position]), np.asarray(repeats))
    return flat.index_select(position, Tensor(places, device=x.device, dtype=INDEX))


def tile(x: Tensor, repetitions: tuple[int, ...], /) -> Tensor:
    """The array so many times along each axis; missing axes are added in front."""
    return array("tile", x).tile(tuple(repetitions))
