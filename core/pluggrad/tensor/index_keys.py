"""Keys of `x[key]` taken apart, by NumPy's rules: integers, slices, None and Ellipsis are a view; integer
tensors, lists and arrays are numbers that select along axes of that view, and masks are where they are true.

Numbers broadcast together. Their axes come where the axes were that they select from, or first where
something stands between them in the key.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import Any, Final, NamedTuple

import numpy as np

from pluggrad import dtypes, runtime
from pluggrad.errors import TensorIndexError
from pluggrad.graph import build, ops
from pluggrad.ir.node import Node
from pluggrad.shape.broadcast import broadcast_shapes
from pluggrad.shape.dims import Shape
from pluggrad.shape.index import row_major, view_shape
from pluggrad.target import DeviceId
from pluggrad.tensor.base import TensorBase

OP: Final = "index"  # what errors call it
_WHOLE: Final = slice(None)


class Numbers(NamedTuple):
    """Positions along an axis of the tensor: a node of integers, or an array that is known to be in range."""

    node: Node | None
    known: Any = None
    axis: int = 0

    @property
    def shape(self) -> Shape:
        """The shape of the numbers."""
        return tuple(self.known.shape if self.node is None else self.node.shape)

    def on(self, device: DeviceId) -> Node:
        """The numbers as a node."""
        return runtime.upload(self.known, dtypes.int64, device) if self.node is None else self.node


class Mask(NamedTuple):
    """Truth for each position of the axes that it stands for: a tensor, or an array."""

    tensor: TensorBase | None
    known: Any = None

    @property
    def shape(self) -> Shape:
        """The shape of the mask."""
        return tuple(self.known.shape if self.tensor is None else self.tensor.shape)

    def on(self, device: DeviceId) -> Node:
        """The mask as a node."""
        return runtime.upload(self.known, dtypes.bool_, device) if self.tensor is None else self.tensor.node

    def numbers(self) -> Numbers:
        """Where it is true, as positions along its axes merged to one; a tensor is computed for that."""
        truth = self.known if self.tensor is None else runtime.fetch(self.tensor)
        return Numbers(None, np.flatnonzero(truth))


class Key(NamedTuple):
    """entries: integers, slices, None, `Numbers` and `Mask`, every axis named.

    apart: whether something stands between those that select (integers count as such).
    """

    entries: tuple[Any, ...]
    apart: bool

    @property
    def basic(self) -> tuple[Any, ...]:
        """The view to select from: axes that are selected from stay whole."""
        parts: list[Any] = []
        for entry in self.entries:
            if isinstance(entry, Mask):
                parts += [_WHOLE] * len(entry.shape) or [None]
            else:
                parts.append(_WHOLE if isinstance(entry, Numbers) else entry)
        return tuple(parts)

    @property
    def selects(self) -> bool:
        """Whether it is more than a view."""
        return any(isinstance(entry, (Numbers, Mask)) for entry in self.entries)

    def selected(self) -> list[tuple[int, int, Any]]:
        """Each `Numbers` and `Mask`, with the axes of the view and of the tensor where it starts."""
        found, axis, original = [], 0, 0
        for entry in self.entries:
            if isinstance(entry, (Numbers, Mask)):
                found.append((axis, original, entry))
            original += _axes(entry)
            if isinstance(entry, Mask):
                axis += max(1, len(entry.shape))
            else:
                axis += entry is None or isinstance(entry, (slice, Numbers))
        return found


# ---- reading keys ------------------------------------------------------------------------------------------
def parse_key(key: Any, x: Node) -> Key:
    """The entries of a key into `x`.

    TensorIndexError for a number known here that is out of range, too many indices, a mask of another shape,
    or an entry of another kind. MixedDevices for a tensor that lives elsewhere.
    """
    shape = x.shape
    entries = [_read(entry) for entry in (key if isinstance(key, tuple) else (key,))]
    build.same_device(OP, x, *[node for entry in entries for node in _nodes(entry)])
    taken = sum(map(_axes, entries))
    if taken > len(shape):
        raise TensorIndexError(op=OP, expected=f"at most {len(shape)} indices", got=str(taken))
    dots = [i for i, entry in enumerate(entries) if entry is Ellipsis]
    if len(dots) > 1:
        raise TensorIndexError(op=OP, expected="at most one ...", got=str(len(dots)))
    apart = _apart(entries)
    place = dots[0] if dots else len(entries)
    entries = [*entries[:place], *[_WHOLE] * (len(shape) - taken), *entries[place + 1:]]
    axis, checked = 0, []
    for entry in entries:
        checked.append(_checked(entry, axis, shape))
        axis += _axes(entry)
    return Key(tuple(checked), apart)


def _read(entry: Any) -> Any:
    """An entry as a slice, None, Ellipsis, an integer, `Numbers` or `Mask`."""
    if entry is None or entry is Ellipsis or isinstance(entry, slice):
        return entry
    if isinstance(entry, TensorBase):
        if entry.dtype is dtypes.bool_:
            return Mask(entry)
        if entry.dtype.is_int:
            return Numbers(entry.node)
        raise TensorIndexError(op=OP, expected="a tensor of integers or bool", got=entry.dtype.name)
    if isinstance(entry, (bool, list, tuple, range, np.ndarray, np.bool_)):
        return _from_data(entry)
    if hasattr(entry, "__index__"):
        return index(entry)
    raise TensorIndexError(op=OP, expected="integers, slices, None, ..., tensors, lists or arrays",
                           got=type(entry).__name__)


def _from_data(entry: Any) -> Any:
    try:
        array = np.asarray(entry)
    except ValueError as error:
        raise TensorIndexError(op=OP, expected="lists of equal lengths", got="ragged lists") from error
    if array.dtype.kind == "b":
        return Mask(None, array)
    if array.size == 0 and not isinstance(entry, np.ndarray):
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TensorIndexError(op=OP, expected="integers or booleans", got=f"data of dtype {array.dtype}")
    return Numbers(None, array)


def _nodes(entry: Any) -> list[Node]:
    """The node of a tensor among the entries."""
    if isinstance(entry, Mask):
        return [] if entry.tensor is None else [entry.tensor.node]
    return [entry.node] if isinstance(entry, Numbers) and entry.node is not None else []


def _axes(entry: Any) -> int:
    """How many axes of the tensor an entry stands for."""
    if isinstance(entry, Mask):
        return len(entry.shape)
    return int(entry is not None and entry is not Ellipsis)


def _apart(entries: Sequence[Any]) -> bool:
    places = [i for i, entry in enumerate(entries) if isinstance(entry, (int, Numbers, Mask))]
    return bool(places) and places != list(range(places[0], places[-1] + 1))


def _checked(entry: Any, axis: int, shape: Shape) -> Any:
    """The entry, numbers that are known counted from the start. They have to be in range, a mask to fit."""
    if isinstance(entry, int):
        dim = shape[axis]
        if not -dim <= entry < dim:
            raise out_of_range(OP, axis, dim, entry)
        return entry + dim if entry < 0 else entry
    if isinstance(entry, Numbers) and entry.node is None:
        return Numbers(None, known_positions(entry.known, shape[axis], axis, OP))
    if isinstance(entry, Mask) and entry.shape != shape[axis:axis + len(entry.shape)]:
        raise TensorIndexError(op=OP, expected=f"a mask of shape {shape[axis:axis + len(entry.shape)]}",
                               got=str(entry.shape))
    return entry


def known_positions(numbers: Any, dim: int, axis: int, op: str) -> Any:
    """An array of integers, counted from the end where negative, as positions (int64), all in range."""
    wrong = (numbers < -dim) | (numbers >= dim)
    if wrong.any():
        raise out_of_range(op, axis, dim, numbers[wrong].flat[0])
    positions = numbers.astype(np.int64)
    return np.where(positions < 0, positions + dim, positions)


def out_of_range(op: str, axis: int, dim: int, got: object) -> TensorIndexError:
    """The error for a number that is known here."""
    return TensorIndexError(op=op, expected=f"an index in [{-dim}, {dim - 1}] on axis {axis} of size {dim}",
                            got=str(got))


# ---- views -------------------------------------------------------------------------------------------------
def view_steps(entries: Sequence[Any], shape: Shape) -> tuple[build.Step, ...]:
    """The movement steps of integers (from the start), slices and None: a slice, a flip for negative steps, a
    reshape for integers and None."""
    parts: list[tuple[int, int, int]] = []
    flips: list[int] = []
    result: list[int] = []
    for part in entries:
        if part is None:
            result.append(1)
            continue
        if not isinstance(part, slice):
            parts.append((part, 1, 1))
            continue
        axis = len(parts)
        start, size, step = _slice_range(part, shape[axis])
        if step < 0:
            flips.append(axis)
            start, step = start + (size - 1) * step if size else 0, -step
        parts.append((start, size, step))
        result.append(size)
    steps: list[build.Step] = []
    if parts != [(0, dim, 1) for dim in shape]:
        steps.append(("slice", tuple(parts)))
    if flips:
        steps.append(("flip", tuple(flips)))
    if tuple(result) != tuple([size for _, size, _ in parts]):
        steps.append(("reshape", tuple(result)))
    return tuple(steps)


def _slice_range(part: slice, dim: int) -> tuple[int, int, int]:
    try:
        start, stop, step = part.indices(dim)
    except TypeError as error:
        raise TensorIndexError(op=OP, expected="integers in a slice", got=str(part)) from error
    except ValueError as error:
        raise TensorIndexError(op=OP, expected="a slice step other than 0", got=str(part)) from error
    return start, len(range(start, stop, step)), step


# ---- selections --------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Selection:
    """Positions along one axis of a view, in which all axes that a key selects from are one.

    steps: to that view. index: a node of one axis. check: as of GATHER. flat: the shape of what is selected
    there, which is of shape `shape` to the user.
    """

    steps: tuple[build.Step, ...]
    axis: int
    index: Node
    check: ops.Check | None
    flat: Shape
    shape: Shape

    @property
    def spread(self) -> Node:
        """The index for each element that is selected."""
        around = tuple([dim if axis == self.axis else 1 for axis, dim in enumerate(self.flat)])
        return build.expand(build.reshape(self.index, around), self.flat)

    def read(self, x: Node) -> Node:
        """What is selected of `x`."""
        found = build.gather(build.move(x, self.steps), self.spread, self.axis, self.check)
        return build.reshape(found, self.shape)

    def write(self, base: Node, value: Node, view: tuple[build.Step, ...], mode: ops.Mode = "SET") -> Node:
        """`base` with `value` (broadcast) written to what is selected of its view."""
        value = build.reshape(build.broadcast_to(value, self.shape, OP), self.flat)
        return build.scatter(base, self.spread, value, self.axis, mode, (*view, *self.steps), self.check)


def selection(key: Key, shape: Shape, device: DeviceId, *, writes: bool = False) -> Selection:
    """What `x[key]` selects of an `x` of this shape; masks that are tensors are computed.

    writes: a position that is out of range must not be moved to another.
    """
    steps = view_steps(key.basic, shape)
    view = view_shape(steps, shape)
    axes: list[int] = []
    sizes: list[int] = []
    numbers: list[Numbers] = []
    for axis, original, entry in key.selected():
        covered = range(axis, axis + (max(1, len(entry.shape)) if isinstance(entry, Mask) else 1))
        axes += covered
        sizes.append(math.prod([view[i] for i in covered]))
        numbers.append(entry.numbers() if isinstance(entry, Mask) else entry._replace(axis=original))
    common = broadcast_shapes(OP, *[each.shape for each in numbers])
    first = 0 if key.apart else axes[0]
    rest = tuple([axis for axis in range(len(view)) if axis not in axes])
    order = (*rest[:first], *axes, *rest[first:])
    if order != tuple(range(len(view))):
        steps = (*steps, ("permute", order))
    before, after = [tuple([view[axis] for axis in part]) for part in (rest[:first], rest[first:])]
    if len(axes) > 1:
        steps = (*steps, ("reshape", (*before, math.prod(sizes), *after)))
    found, check = _merged(numbers, tuple(sizes), common, device, writes)
    flat, whole = (*before, math.prod(common), *after), (*before, *common, *after)
    return Selection(steps, first, build.reshape(found, (math.prod(common),)), check, flat, whole)


def _merged(numbers: list[Numbers], dims: Shape, common: Shape, device: DeviceId,
            writes: bool) -> tuple[Node, ops.Check | None]:
    """One position for those along several axes, which are merged to one; and its check."""
    if all(each.node is None for each in numbers):
        spread = [np.broadcast_to(each.known, common) for each in numbers]
        known = sum(each * stride for each, stride in zip(spread, row_major(dims), strict=True))
        return Numbers(None, np.asarray(known)).on(device), None
    if len(numbers) == 1:
        return numbers[0].on(device), ops.Check(OP, numbers[0].axis)

    def constant(value: int) -> Node:
        return build.const(value, dtypes.int64, device, common)

    position, inside = constant(0), build.const(True, dtypes.bool_, device, common)
    for each, dim, stride in zip(numbers, dims, row_major(dims), strict=True):
        part = build.broadcast_to(each.on(device), common, OP)
        weighted = build.binary(ops.MUL, _normalized(part, dim, each.axis), constant(stride))
        position = build.binary(ops.ADD, position, weighted)
        inside = build.binary(ops.AND, inside, _fits(part, dim))
    if not writes:
        return position, None
    # what is out of range is reported by its own axis first; here it makes nothing be written
    return build.where(inside, position, constant(math.prod(dims))), ops.Check(OP, numbers[0].axis)


def _normalized(numbers: Node, dim: int, axis: int) -> Node:
    """Numbers along an axis of size `dim`, checked, as positions in range: what they select of 0, 1, 2."""
    flat = build.reshape(numbers, (numbers.type.size,))
    positions = build.gather(build.iota(dim, dtypes.int64, numbers.device), flat, 0, ops.Check(OP, axis))
    return build.reshape(positions, numbers.shape)


def _fits(numbers: Node, dim: int) -> Node:
    wide = build.cast(numbers, dtypes.int64)
    low, high = [build.const(n, dtypes.int64, wide.device, wide.shape) for n in (-dim, dim)]
    return build.binary(ops.AND, build.binary(ops.LE, low, wide), build.binary(ops.LT, wide, high))
