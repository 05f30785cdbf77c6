"""Methods that rearrange elements.

Those that are pure index functions give views: they share the elements of their base, and writing through
them writes the base.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self, TypeVar

from pluggrad import dtypes
from pluggrad.errors import DTypeError, ShapeError, ValueRangeError
from pluggrad.graph import build
from pluggrad.shape.broadcast import check_axes, check_axis, resolve_reshape
from pluggrad.tensor.activation import Activation
from pluggrad.tensor.convert import flatten_shape

T = TypeVar("T", bound="Movement")


class Movement(Activation):
    """Views of one tensor."""

    __slots__ = ()

    def reshape(self, shape: Any = (), *args: Any) -> Self:
        """A view with the same elements in row-major order; one size may be -1, None keeps the old one.

        ShapeError if the number of elements differs.
        """
        x = self.node
        wanted = flatten_shape((shape, *args))
        if None in wanted:
            wanted = tuple(
                [x.shape[i] if dim is None and i < len(x.shape) else dim for i, dim in enumerate(wanted)]
            )
        new = resolve_reshape("reshape", x.shape, wanted)
        return self._view(build.reshape(x, new), ("reshape", new))

    def view(self, shape: Any = (), *args: Any) -> Self:
        """Another name for `reshape`."""
        return self.reshape(shape, *args)

    def expand(self, shape: Any = (), *args: Any) -> Self:
        """A view broadcast to `shape` by NumPy's rule; -1 or None keeps a size. It cannot be written."""
        x = self.node
        wanted = flatten_shape((shape, *args))
        aligned = (1,) * (len(wanted) - len(x.shape)) + x.shape
        if len(aligned) != len(wanted):
            raise ShapeError(op="expand", expected=f"at least {len(x.shape)} dimensions, as {x.shape} has",
                             got=str(wanted))
        new = tuple([old if dim in (-1, None) else dim for old, dim in zip(aligned, wanted, strict=True)])
        steps = (("reshape", aligned), ("expand", new)) if aligned != new else (("reshape", aligned),)
        return self._view(build.move(x, steps), *steps)

    def broadcast_to(self, shape: Sequence[int]) -> Self:
        """NumPy's name for `expand`."""
        return self.expand(tuple(shape))

    def permute(self, order: Any = (), *args: Any) -> Self:
        """A view whose axis i is axis order[i] of this tensor; ShapeError unless each axis is named once."""
        x = self.node
        axes = flatten_shape((order, *args))
        if len(axes) != len(x.shape):
            raise ShapeError(op="permute", expected=f"each of {len(x.shape)} axes once", got=str(axes))
        checked = tuple([check_axis("permute", axis, len(x.shape)) for axis in axes])
        return self._view(build.permute(x, checked), ("permute", checked))

    def transpose(self, dim0: int = 1, dim1: int = 0) -> Self:
        """A view with two axes swapped."""
        x = self.node
        rank = len(x.type.shape)
        axes = list(range(rank))
        a, b = check_axis("transpose", dim0, rank), check_axis("transpose", dim1, rank)
        if rank:
            axes[a], axes[b] = b, a
        order = tuple(axes)
        return self._view(build.permuted(x, order), ("permute", order))

    def swapaxes(self, axis1: int, axis2: int) -> Self:
        """NumPy's name for `transpose`."""
        return self.transpose(axis1, axis2)

    @property
    def T(self) -> Self:
        """A view with all axes in reverse order."""
        return self.permute(tuple(reversed(range(self.ndim))))

    @property
    def mT(self) -> Self:
        """A view with the last two axes swapped."""
        if self.ndim < 2:
            raise ShapeError(op="mT", expected="at least 2 dimensions", got=str(self.shape))
        return self.transpose(-2, -1)

    def movedim(self, source: int | Sequence[int], destination: int | Sequence[int]) -> Self:
        """A view with axes moved to new places, the others in order."""
        rank = self.ndim
        froms = [source] if isinstance(source, int) else list(source)
        tos = [destination] if isinstance(destination, int) else list(destination)
        if len(froms) != len(tos):
            raise ShapeError(
                op="movedim", expected="as many destinations as sources", got=f"{len(froms)} and {len(tos)}"
            )
        check_axes("movedim", froms, rank)
        check_axes("movedim", tos, rank)
        froms, tos = [axis % max(rank, 1) for axis in froms], [axis % max(rank, 1) for axis in tos]
        order = [axis for axis in range(rank) if axis not in froms]
        for to, axis in sorted(zip(tos, froms, strict=True)):
            order.insert(to, axis)
        return self.permute(order)

    def flip(self, axis: int | Sequence[int], *args: int) -> Self:
        """A view with the elements along the given axes in reverse order."""
        x = self.node
        axes = check_axes("flip", (axis, *args) if isinstance(axis, int) else tuple(axis), len(x.shape))
        return self._view(build.flip(x, axes), ("flip", axes))

    def shrink(self, arg: Sequence[tuple[int, int] | None]) -> Self:
        """A view of the elements from start to end on each axis: (start, end), or None to keep all."""
        x = self.node
        if len(arg) != len(x.shape):
            raise ShapeError(op="shrink", expected=f"{len(x.shape)} ranges", got=str(tuple(arg)))
        ranges = [(0, dim) if part is None else part for dim, part in zip(x.shape, arg, strict=True)]
        if any(not 0 <= start <= end <= dim for dim, (start, end) in zip(x.shape, ranges, strict=True)):
            raise ShapeError(
                op="shrink", expected=f"ranges (start, end) within {x.shape}", got=str(tuple(arg))
            )
        parts = tuple([(start, end - start, 1) for start, end in ranges])
        return self._view(build.slice(x, parts), ("slice", parts))

    def shrink_to(self, shape: Any = (), *args: Any) -> Self:
        """A view of the first elements on each axis, as many as `shape` says; None keeps an axis."""
        return self.shrink([None if dim is None else (0, dim)
                            for dim in flatten_shape((shape, *args))])

    def narrow(self, dim: int, start: int, length: int) -> Self:
        """A view of `length` elements from `start` along an axis."""
        axis = check_axis("narrow", dim, self.ndim)
        return self.shrink([(start, start + length) if i == axis else None for i in range(self.ndim)])

    def select(self, dim: int, index: int) -> Self:
        """A view at one position of an axis, which disappears."""
        axis, size = check_axis("select", dim, self.ndim), self.shape[dim]
        start = index + size if index < 0 else index
        return self.narrow(axis, start, 1).squeeze(axis)

    def squeeze(self, dim: int | Sequence[int] | None = None) -> Self:
        """A view without axes of size 1: all of them, or those of `dim` that have it."""
        shape = self.shape
        axes = check_axes("squeeze", dim, len(shape))
        return self.reshape([size for axis, size in enumerate(shape) if size != 1 or axis not in axes])

    def unsqueeze(self, dim: int) -> Self:
        """A view with a new axis of size 1 at `dim`."""
        shape = self.shape
        axis = check_axis("unsqueeze", dim, len(shape) + 1)
        return self.reshape([*shape[:axis], 1, *shape[axis:]])

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Self:
        """A view with the axes from start_dim to end_dim, inclusive, as one."""
        shape = self.shape
        first, last = (check_axis("flatten", axis, len(shape)) for axis in (start_dim, end_dim))
        if first > last:
            raise ShapeError(
                op="flatten", expected="start_dim not after end_dim", got=f"{start_dim} and {end_dim}"
            )
        return self.reshape([*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]])

    def ravel(self) -> Self:
        """A view with one axis."""
        return self.flatten()

    def unflatten(self, dim: int, sizes: Sequence[int]) -> Self:
        """A view with one axis split into `sizes`, of which one may be -1."""
        shape = self.shape
        axis = check_axis("unflatten", dim, len(shape))
        inner = resolve_reshape("unflatten", shape[axis : axis + 1], sizes)
        return self.reshape([*shape[:axis], *inner, *shape[axis + 1 :]])

    def diagonal(self, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Self:
        """A view of a diagonal of two axes, as a new last axis; `offset` > 0 is above the main one."""
        first, second = (check_axis("diagonal", dim, self.ndim) for dim in (dim1, dim2))
        if self.ndim < 2 or first == second:
            raise ShapeError(
                op="diagonal", expected="two different axes", got=f"{dim1} and {dim2} of {self.shape}"
            )
        moved = self.movedim((first, second), (-2, -1))
        *outer, rows, columns = moved.shape
        size = max(min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns), 0)
        start = offset if offset >= 0 else -offset * columns
        flat = moved.reshape(*outer, rows * columns)
        parts = (*[(0, dim, 1) for dim in outer], (start if size else 0, size, columns + 1))
        return flat._view(build.slice(flat.node, parts), ("slice", parts))

    # ---- splitting -----------------------------------------------------------------------------------------
    def split(self, sizes: int | Sequence[int], dim: int = 0) -> tuple[Self, ...]:
        """Views of consecutive parts: all `sizes` long but perhaps the last, or as long as the list says."""
        axis = check_axis("split", dim, self.ndim)
        total = self.shape[axis]
        if isinstance(sizes, int):
            if sizes < 1:
                raise ShapeError(op="split", expected="a size of at least 1", got=str(sizes))
            sizes = [min(sizes, total - start) for start in range(0, max(total, 1), sizes)]
        if sum(sizes) != total:
            raise ShapeError(op="split", expected=f"sizes that add up to {total}", got=str(tuple(sizes)))
        ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
        return tuple([self.narrow(axis, end - size, size) for end, size in zip(ends, sizes, strict=True)])

    def chunk(self, chunks: int, dim: int = 0) -> tuple[Self, ...]:
        """At most `chunks` views of consecutive parts of equal size, the last may be shorter."""
        if chunks < 1:
            raise ShapeError(op="chunk", expected="at least 1 chunk", got=str(chunks))
        total = self.shape[check_axis("chunk", dim, self.ndim)]
        return self.split(max(-(-total // chunks), 1), dim)

    def unbind(self, dim: int = 0) -> tuple[Self, ...]:
        """A view for each position of an axis, without that axis."""
        axis = check_axis("unbind", dim, self.ndim)
        return tuple([self.select(axis, i) for i in range(self.shape[axis])])

    # ---- repeating: `repeat` and friends are expansions, read in row-major order ---------------------------
    def repeat(self, repeats: Any = (), *args: Any) -> Self:
        """The tensor repeated whole along each axis; more numbers than axes add axes in front."""
        counts = flatten_shape((repeats, *args))
        if len(counts) < self.ndim or any(count < 0 for count in counts):
            raise ShapeError(
                op="repeat", expected=f"at least {self.ndim} counts of at least 0", got=str(counts)
            )
        shape = (1,) * (len(counts) - self.ndim) + self.shape
        paired = [size for dim in shape for size in (1, dim)]
        spread = [size for count, dim in zip(counts, shape, strict=True) for size in (count, dim)]
        result = [count * dim for count, dim in zip(counts, shape, strict=True)]
        return self._new(self.reshape(paired).expand(spread).reshape(result).node)

    def tile(self, repeats: Any = (), *args: Any) -> Self:
        """NumPy's `tile`: like `repeat`, with missing counts taken as 1."""
        counts = flatten_shape((repeats, *args))
        return self.repeat((1,) * (self.ndim - len(counts)) + counts)

    def repeat_interleave(self, repeats: int, dim: int | None = None) -> Self:
        """Each element repeated `repeats` times in place along an axis; None: of the flattened tensor."""
        x = self.flatten() if dim is None else self
        axis = check_axis("repeat_interleave", dim or 0, x.ndim)
        shape = x.shape
        if repeats < 0:
            raise ShapeError(op="repeat_interleave", expected="a count of at least 0", got=str(repeats))
        spread = x.unsqueeze(axis + 1).expand(*shape[: axis + 1], repeats, *shape[axis + 1 :])
        return self._new(spread.reshape(*shape[:axis], shape[axis] * repeats, *shape[axis + 1 :]).node)

    # ---- padding -------------------------------------------------------------------------------------------
    def pad(self, padding: Sequence[Any], mode: str = "constant", value: float = 0.0) -> Self:
        """Elements added around (or, where negative, taken away).

        padding: (before, after) or None per axis; or PyTorch's flat form, from the last axis backward.
        mode: "constant" (`value`), "reflect", "replicate" or "circular".
        """
        widths = self._pad_widths(padding)
        if mode not in ("constant", "reflect", "replicate", "circular"):
            raise ShapeError(
                op="pad", expected="mode constant, reflect, replicate or circular", got=repr(mode)
            )
        shape = self.shape
        if any(before < 0 or after < 0 for before, after in widths):
            kept = [
                (max(-before, 0), dim - max(-after, 0))
                for dim, (before, after) in zip(shape, widths, strict=True)
            ]
            x, widths = (
                self.shrink(kept),
                tuple([(max(before, 0), max(after, 0)) for before, after in widths]),
            )
        else:
            x = self
        if mode != "constant":
            for axis, (before, after) in enumerate(widths):
                x = x._extended(axis, before, after, mode)
            return x
        node = x.node
        padded = build.pad(node, widths)
        if value == 0 or padded is node:
            return self._new(padded)
        inside = build.pad(build.const(True, dtypes.bool_, node.device, node.shape), widths)
        dtype = dtypes.weak_result(node.dtype, value, "pad")
        return self._new(build.where(inside, padded, build.const(value, dtype, node.device, padded.shape)))

    def _pad_widths(self, padding: Sequence[Any]) -> tuple[tuple[int, int], ...]:
        rank = self.ndim
        if all(isinstance(width, int) for width in padding):
            if len(padding) % 2 or len(padding) > 2 * rank:
                raise ShapeError(op="pad", expected=f"pairs for at most {rank} axes", got=str(tuple(padding)))
            pairs = [(padding[i], padding[i + 1]) for i in range(0, len(padding), 2)]
            return ((0, 0),) * (rank - len(pairs)) + tuple(reversed(pairs))
        if len(padding) != rank:
            raise ShapeError(
                op="pad", expected=f"(before, after) for each of {rank} axes", got=str(tuple(padding))
            )
        return tuple([(0, 0) if pair is None else (pair[0], pair[1]) for pair in padding])

    def _extended(self, axis: int, before: int, after: int, mode: str) -> Self:
        """Reflected, replicated or wrapped around on both ends of one axis."""
        if not before and not after:
            return self
        size = self.shape[axis]
        limit = {"reflect": size - 1, "circular": size, "replicate": max(before, after) if size else 0}[mode]
        if max(before, after) > limit:
            raise ShapeError(op=f"pad ({mode})", expected=f"at most {limit} on an axis of size {size}",
                             got=f"({before}, {after})")
        if mode == "replicate":
            first, last = self.narrow(axis, 0, 1), self.narrow(axis, size - 1, 1)
            parts = (first.repeat_interleave(before, axis), last.repeat_interleave(after, axis))
        elif mode == "circular":
            parts = (self.narrow(axis, size - before, before), self.narrow(axis, 0, after))
        else:
            parts = (
                self.narrow(axis, 1, before).flip(axis),
                self.narrow(axis, size - 1 - after, after).flip(axis),
            )
        return parts[0].cat(self, parts[1], dim=axis)

    def pad_to(self, shape: Any = (), *args: Any, value: float = 0) -> Self:
        """`value` added at the end of each axis up to `shape`; None keeps an axis."""
        sizes = flatten_shape((shape, *args))
        if len(sizes) != self.ndim:
            raise ShapeError(op="pad_to", expected=f"{self.ndim} sizes", got=str(sizes))
        return self.pad(
            [(0, 0 if dim is None else dim - old) for old, dim in zip(self.shape, sizes, strict=True)],
            value=value,
        )

    # ---- joining -------------------------------------------------------------------------------------------
    def cat(self, *args: Self, dim: int = 0) -> Self:
        """Tensors, or one list of them, joined along an axis; dtypes promote, other sizes must agree."""
        tensors = _tensors("cat", (self, *args))
        nodes = [t.node for t in tensors]
        axis = check_axis("cat", dim, len(nodes[0].shape))
        kept = [n.shape[:axis] + n.shape[axis + 1 :] for n in nodes]
        if not nodes[0].shape or any(rest != kept[0] or len(n.shape) != len(nodes[0].shape)
                                     for rest, n in zip(kept, nodes, strict=True)):
            raise ShapeError(op="cat", expected=f"shapes that agree except on axis {axis}",
                             got=" and ".join(str(n.shape) for n in nodes))
        dtype = nodes[0].dtype
        for n in nodes[1:]:
            dtype = dtypes.promote(dtype, n.dtype)
        sizes = [n.shape[axis] for n in nodes]
        shape = (*nodes[0].shape[:axis], sum(sizes), *nodes[0].shape[axis + 1 :])
        whole = build.const(0, dtype, nodes[0].device, shape)
        start = 0
        for n, size in zip(nodes, sizes, strict=True):
            parts = tuple([(start, size, 1) if i == axis else (0, dim, 1) for i, dim in enumerate(shape)])
            if size:
                whole = (
                    build.update(whole, n, (("slice", parts),))
                    if size < shape[axis]
                    else build.cast(n, dtype)
                )
            start += size
        return tensors[0]._new(whole)

    def stack(self, *args: Self, dim: int = 0) -> Self:
        """Tensors of one shape along a new axis."""
        tensors = _tensors("stack", (self, *args))
        if any(t.shape != tensors[0].shape for t in tensors):
            raise ShapeError(
                op="stack", expected="tensors of one shape", got=" and ".join(str(t.shape) for t in tensors)
            )
        first, *rest = [t.unsqueeze(dim) for t in tensors]
        return first.cat(*rest, dim=check_axis("stack", dim, tensors[0].ndim + 1))

    def hstack(self, *args: Self) -> Self:
        """Tensors side by side: along axis 1, or axis 0 for one dimension."""
        first, *rest = [t.reshape(1) if t.ndim == 0 else t for t in _tensors("hstack", (self, *args))]
        return first.cat(*rest, dim=0 if first.ndim == 1 else 1)

    def vstack(self, *args: Self) -> Self:
        """Tensors on top of one another: along axis 0, one dimension taken as a row."""
        first, *rest = [t.reshape(1, -1) if t.ndim < 2 else t for t in _tensors("vstack", (self, *args))]
        return first.cat(*rest)

    def roll(self, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Self:
        """Elements shifted along axes, coming back in at the other end; `dims` None: of the flattened tensor.
        """
        if dims is None:
            return self.flatten().roll(shifts, 0).reshape(self.shape)
        amounts = [shifts] if isinstance(shifts, int) else list(shifts)
        axes = [dims] if isinstance(dims, int) else list(dims)
        if len(amounts) != len(axes):
            raise ShapeError(op="roll", expected="a shift for each axis", got=f"{shifts} and {dims}")
        x = self
        for amount, dim in zip(amounts, axes, strict=True):
            axis = check_axis("roll", dim, self.ndim)
            size = x.shape[axis]
            start = -amount % size if size else 0
            if start:
                x = x.narrow(axis, start, size - start).cat(x.narrow(axis, 0, start), dim=axis)
        return x

    def meshgrid(self, *args: Any, indexing: str = "ij") -> tuple[Self, ...]:
        """Coordinates of a grid: for each of these vectors, its elements repeated along all other axes.

        Vectors of sizes n0, n1, ... give tensors of shape (n0, n1, ...); a tensor without axes counts as one
        element. indexing: "xy" exchanges the first two axes.
        """
        if indexing not in ("ij", "xy"):
            raise ValueRangeError(op="meshgrid", expected="indexing 'ij' or 'xy'", got=repr(indexing))
        vectors = _tensors("meshgrid", (self, *args))
        if any(x.ndim > 1 for x in vectors):
            raise ShapeError(op="meshgrid", expected="vectors", got=str([x.shape for x in vectors]))
        flat = [x.reshape(x.shape[0] if x.ndim else 1) for x in vectors]
        order = [1, 0, *range(2, len(flat))] if indexing == "xy" and len(flat) > 1 else [*range(len(flat))]
        sizes = [flat[i].shape[0] for i in order]
        grids = []
        for number, x in enumerate(flat):
            axis = order.index(number)
            grids.append(x.reshape([x.shape[0] if i == axis else 1 for i in range(len(flat))]).expand(sizes))
        return tuple(grids)

    # ---- triangles and diagonals ---------------------------------------------------------------------------
    def _band(self, op: str, diagonal: int) -> Self:
        """bool: true where column - row <= diagonal."""
        x = self.node
        if len(x.shape) < 2:
            raise ShapeError(op=op, expected="at least 2 dimensions", got=str(x.shape))
        rows, columns = (build.iota(size, dtypes.int32, x.device) for size in x.shape[-2:])
        below = self._new(build.reshape(rows, (-1, 1))) + diagonal
        return below >= self._new(columns)

    def tril(self, diagonal: int = 0) -> Self:
        """Zeros above a diagonal of the last two axes."""
        return self._band("tril", diagonal).where(self, False)

    def triu(self, diagonal: int = 0) -> Self:
        """Zeros below a diagonal of the last two axes."""
        return self._band("triu", diagonal - 1).where(False, self)

    def diag(self) -> Self:
        """A square matrix with this vector as its diagonal."""
        if self.ndim != 1:
            raise ShapeError(
                op="diag", expected="1 dimension", got=str(self.shape), hint="diagonal() reads one"
            )
        size = self.shape[0]
        square = self.unsqueeze(-1).expand(size, size)
        return square.tril().triu()


def _tensors(op: str, args: Sequence[T | Sequence[T]]) -> list[T]:
    """Tensors given one by one, or as one list."""
    given = args[0] if len(args) == 1 and isinstance(args[0], (list, tuple)) else args
    if not given:
        raise ShapeError(op=op, expected="at least one tensor", got="none")
    tensors = list(given)
    for tensor in tensors:
        if not isinstance(tensor, Movement):
            raise DTypeError(op=op, expected="tensors", got=type(tensor).__name__)
    build.same_device(op, *[tensor.node for tensor in tensors])
    return tensors
