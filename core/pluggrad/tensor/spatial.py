"""Windows over the last axes, as convolution and pooling have them: arguments read, errors and sizes."""
from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import NamedTuple

from pluggrad.errors import DTypeError, ShapeError, ValueRangeError
from pluggrad.shape.dims import Shape

Pads = tuple[tuple[int, int], ...]


class Windows(NamedTuple):
    """Windows of `sizes` elements, `dilations` apart, placed every `strides` over axes padded by `pads`.

    One entry for each spatial axis; a pad is (before, after).
    """

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: Pads

    @property
    def reaches(self) -> tuple[int, ...]:
        """How many elements a window spans."""
        return tuple([(size - 1) * step + 1 for size, step in zip(self.sizes, self.dilations, strict=True)])

    @property
    def rows(self) -> tuple[tuple[int, int, int, int], ...]:
        """The rows of a WINDOW over the axes behind batch and channels."""
        axes = range(2, 2 + len(self.sizes))
        return tuple(zip(axes, self.sizes, self.strides, self.dilations, strict=True))

    def widths(self, rank: int) -> Pads:
        """The pads of all axes of a tensor with `rank` axes, of which the last are spatial."""
        return ((0, 0),) * (rank - len(self.pads)) + self.pads


def too_small(op: str, shape: Shape, axis: int, frame: Windows) -> ShapeError:
    """The error for windows that reach beyond spatial axis `axis` of an input of `shape`."""
    place = len(shape) - len(frame.sizes) + axis
    reach, found = frame.reaches[axis], shape[place] + sum(frame.pads[axis])
    return ShapeError(op=op, expected=f"at least {reach} elements along axis {place}, which a kernel of "
                                      f"{frame.sizes[axis]} with dilation {frame.dilations[axis]} spans",
                      got=f"{found} with padding in shape {shape}",
                      hint="Use a smaller kernel, or pad the input")


def windows(op: str, sizes: Shape, stride: object, dilation: object, padding: object) -> Windows:
    """The windows that an operation was asked for; what each argument may be is said where it is read."""
    rank = len(sizes)
    strides = per_axis(op, "stride", stride, rank, least=1)
    dilations = per_axis(op, "dilation", dilation, rank, least=1)
    return Windows(sizes, strides, dilations, _pads(op, padding, sizes, strides, dilations))


def per_axis(op: str, name: str, value: object, rank: int, *, least: int) -> tuple[int, ...]:
    """An integer of at least `least` for each spatial axis: one for all, or a sequence."""
    entries = integers(op, name, value, rank)
    if len(entries) != rank:
        raise ShapeError(op=op, expected=f"{name}: an integer, or one for each of {rank} spatial axes",
                         got=str(value))
    if any(entry < least for entry in entries):
        raise ValueRangeError(op=op, expected=f"{name} of at least {least}", got=str(value))
    return entries


def integers(op: str, name: str, value: object, rank: int) -> tuple[int, ...]:
    """A sequence of integers as it is; a single one `rank` times."""
    given: Sequence[object] = tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank
    try:
        return tuple([index(entry) for entry in given])  # type: ignore[arg-type]
    except TypeError as error:
        raise DTypeError(op=op, expected=f"{name} in integers", got=repr(value)) from error


def _pads(op: str, padding: object, sizes: Shape, strides: Shape, dilations: Shape) -> Pads:
    """(before, after) per axis from a number, one per axis, or two per axis from the last axis backward; and
    "valid" (none) or "same" (as many windows as elements, the odd one after)."""
    rank = len(sizes)
    if padding == "valid":
        return ((0, 0),) * rank
    if padding == "same":
        if any(stride != 1 for stride in strides):
            raise ValueRangeError(op=op, expected="stride 1 with padding 'same'", got=f"stride {strides}",
                                  hint="Give the padding in numbers")
        total = [(size - 1) * dilation for size, dilation in zip(sizes, dilations, strict=True)]
        return tuple([(each // 2, each - each // 2) for each in total])
    if isinstance(padding, str):
        raise ValueRangeError(op=op, expected="padding in numbers, 'same' or 'valid'", got=repr(padding))
    entries = integers(op, "padding", padding, rank)
    if any(entry < 0 for entry in entries):
        raise ValueRangeError(op=op, expected="padding of at least 0", got=str(padding),
                              hint="Take elements away with shrink or a slice")
    if len(entries) == rank:
        return tuple([(entry, entry) for entry in entries])
    if len(entries) != 2 * rank:
        pairs = f"{2 * rank}, before and after from the last axis backward"
        raise ShapeError(op=op, expected=f"padding: an integer, {rank} of them, or {pairs}", got=str(padding))
    return tuple([(entries[i], entries[i + 1]) for i in range(2 * rank - 2, -1, -2)])
