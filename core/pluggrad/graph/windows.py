"""FOLD as it is computed: every element takes the sum over the windows that it lies in.

Along an axis where windows overlap, elements of one residue modulo the stride lie at the same places of
their windows: each residue is a sum of its own, so that nothing is multiplied or added in vain, and the
residues are interleaved at the end. Where windows do not overlap, they are laid side by side.
"""
from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from pluggrad import dtypes
from pluggrad.graph import build, ops
from pluggrad.ir.node import Node
from pluggrad.shape.dims import Shape


class _Row(NamedTuple):
    """A row of a WINDOW: windows of `size` along `axis` of `dim` elements, their places along axis `by`."""

    axis: int
    size: int
    stride: int
    dilation: int
    by: int
    dim: int

    @property
    def overlapping(self) -> bool:
        """Whether an element may lie in several windows, or windows in one another's gaps."""
        return self.size > 1 and (self.size > self.stride or self.dilation > 1)

    @property
    def steps(self) -> int:
        """Elements of one residue, at most."""
        return -(-self.dim // self.stride)


def folded(g: Node, windows: Sequence[tuple[int, int, int, int]], shape: Shape) -> Node:
    """What `build.fold(g, windows, shape)` means, in sums and movement."""
    rank = len(shape)
    rows = [_Row(axis, size, stride, dilation, by, shape[axis])
            for by, (axis, size, stride, dilation) in enumerate(windows, rank)]
    overlapping = [row for row in rows if row.overlapping]
    if overlapping:
        g = _overlapped(g, overlapping)
    apart = [row for row in rows if not row.overlapping]
    for number, row in reversed(list(enumerate(apart))):
        g = _side_by_side(g, row._replace(by=rank + number))
    return g


def _side_by_side(g: Node, row: _Row) -> Node:
    """Windows that share nothing, with zeros between them."""
    axis, by = row.axis, row.by
    g = build.pad(g, [(0, row.stride - row.size if i == by else 0) for i in range(len(g.shape))])
    order = [i for i in range(len(g.shape)) if i != by]
    g = build.permute(g, [*order[:axis + 1], by, *order[axis + 1:]])
    g = build.reshape(g, (*g.shape[:axis], g.shape[axis] * row.stride, *g.shape[axis + 2:]))
    missing = max(row.dim - g.shape[axis], 0)
    g = build.pad(g, [(0, missing if i == axis else 0) for i in range(len(g.shape))])
    return _cut(g, {axis: row.dim})


def _cut(x: Node, dims: dict[int, int]) -> Node:
    """The first elements along some axes."""
    return build.slice(x, [(0, dims.get(i, dim), 1) for i, dim in enumerate(x.shape)])


class _Residue(NamedTuple):
    """Elements `number + q * stride` along an axis meet windows o = q - j * step + offset at their places
    k = first + j * every, j < places."""

    number: int
    first: int
    every: int
    places: int
    step: int
    offset: int


def _residue(row: _Row, number: int) -> _Residue | None:
    """What meets the elements of one residue; None where nothing does."""
    first = next((k for k in range(row.size) if (k * row.dilation - number) % row.stride == 0), None)
    if first is None:
        return None
    common = math.gcd(row.stride, row.dilation)
    every = row.stride // common
    return _Residue(number, first, every, -(-(row.size - first) // every), row.dilation // common,
                    (number - first * row.dilation) // row.stride)


def _overlapped(g: Node, rows: Sequence[_Row]) -> Node:
    """The sum over the places of the windows of `rows`, whose axes `by` disappear."""
    pieces: list[tuple[tuple[_Residue, ...], Node]] = []
    for choice in itertools.product(*[[_residue(row, r) for r in range(row.stride)] for row in rows]):
        residues = tuple([residue for residue in choice if residue is not None])
        if len(residues) == len(rows):
            pieces.append((residues, _summed(g, rows, residues)))
    if all(row.stride == 1 for row in rows):
        return pieces[0][1]
    return _interleaved(pieces, rows)


def _summed(g: Node, rows: Sequence[_Row], residues: Sequence[_Residue]) -> Node:
    """The sum over the windows' places for the elements of one residue along each axis."""
    places = {row.by: (r.first, r.places, r.every) for row, r in zip(rows, residues, strict=True)}
    skews = [(row.axis, row.by, r.step, r.offset, row.steps) for row, r in zip(rows, residues, strict=True)]
    taken = build.slice(g, [places.get(i, (0, dim, 1)) for i, dim in enumerate(g.shape)])
    return build.reduce(ops.SUM, build.skew(taken, skews), [row.by for row in rows])


def _interleaved(pieces: Sequence[tuple[tuple[_Residue, ...], Node]], rows: Sequence[_Row]) -> Node:
    """Element q of each piece at `number + q * stride`; zeros where no piece has one."""
    shape: Shape = pieces[0][1].shape
    wide: list[int] = []  # each axis of `rows` followed by one along the residues
    place: dict[int, int] = {}
    for axis, dim in enumerate(shape):
        wide.append(dim)
        for row in [row for row in rows if row.axis == axis]:
            place[axis] = len(wide)
            wide.append(row.stride)
    total = build.const(0.0, pieces[0][1].dtype, pieces[0][1].device, tuple(wide))
    for residues, piece in pieces:
        apart = build.reshape(piece, [1 if i in place.values() else dim for i, dim in enumerate(wide)])
        here: Node | None = None
        for row, residue in zip(rows, residues, strict=True):
            test = _is(residue.number, place[row.axis], wide, piece)
            here = test if here is None else build.binary(ops.AND, here, test)
        assert here is not None
        total = build.where(here, apart, total)
    merged = build.reshape(total, [dim * next((r.stride for r in rows if r.axis == i), 1)
                                   for i, dim in enumerate(shape)])
    # stored whole: indices that are shifted as well as divided would be slow
    return _cut(build.contiguous(merged), {row.axis: row.dim for row in rows})


def _is(number: int, axis: int, shape: Sequence[int], like: Node) -> Node:
    """Whether the position along `axis` is `number`, to be broadcast to `shape`."""
    positions = build.iota(shape[axis], dtypes.int32, like.device)
    there = build.const(number, dtypes.int32, like.device, positions.shape, fixed=True)
    test = build.binary(ops.EQ, positions, there)
    return build.reshape(test, [dim if i == axis else 1 for i, dim in enumerate(shape)])
