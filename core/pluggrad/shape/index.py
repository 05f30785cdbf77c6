"""Symbolic index arithmetic and movement ops as index functions.

An `Affine` is a sum of atoms with integer coefficients. An atom is an axis (which ranges over 0..extent-1),
the quotient or remainder of an Affine by a positive constant, or a number looked up in data. Movement ops
turn the index of a result element into the index of the source element; schedule uses them to decide cuts,
kernel to build loops.
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pluggrad.errors import InternalError
from pluggrad.ir.node import Node
from pluggrad.shape.dims import Shape


class AxisAtom(NamedTuple):
    """Axis `id` of `extent` positions."""

    id: int
    extent: int


class Quotient(NamedTuple):
    """value // divisor, rounded down; value is never negative."""

    value: Affine
    divisor: int


class Remainder(NamedTuple):
    """value % divisor; value is never negative."""

    value: Affine
    divisor: int
    mark: str = "%"  # named tuples compare as tuples: tells it from the quotient of the same numbers


class Lookup(NamedTuple):
    """A position in 0..extent-1 that data decide: element `at` of the graph node `numbers`.

    gate: under which conditions it is looked up at all. check: (op, axis) as an error names them, None where
    the number is known to be in range.
    """

    numbers: Node
    at: Index
    gate: tuple[Condition, ...]
    extent: int
    check: tuple[str, int] | None

    def __repr__(self) -> str:  # sorts the terms of a sum: the same in every process
        return f"Lookup({self.at}, {self.extent})"


Atom = AxisAtom | Quotient | Remainder | Lookup


class Affine(NamedTuple):
    """sum(coefficient * atom) + offset, terms in a canonical order."""

    terms: tuple[tuple[Atom, int], ...]
    offset: int


class Condition(NamedTuple):
    """low <= value < high."""

    value: Affine
    low: int
    high: int


Index = tuple[Affine, ...]
ZERO = Affine((), 0)


def axis_index(id: int, extent: int) -> Affine:
    """The position along an axis; 0 where there is only one."""
    return Affine(((AxisAtom(id, extent), 1),), 0) if extent > 1 else ZERO


def _order(term: tuple[Atom, int]) -> tuple[int, Any]:
    atom = term[0]
    return (0, atom.id) if isinstance(atom, AxisAtom) else (1, repr(atom))


def affine(terms: Iterable[tuple[Atom, int]], offset: int) -> Affine:
    """The canonical sum: equal atoms merged, zero coefficients dropped."""
    merged: dict[Atom, int] = {}
    for atom, factor in terms:
        merged[atom] = merged.get(atom, 0) + factor
    return Affine(tuple(sorted([(a, c) for a, c in merged.items() if c], key=_order)), offset)


def add(x: Affine, y: Affine) -> Affine:
    """x + y."""
    if not y.terms:
        return Affine(x.terms, x.offset + y.offset)
    if not x.terms:
        return Affine(y.terms, x.offset + y.offset)
    return affine(x.terms + y.terms, x.offset + y.offset)


def scale(x: Affine, factor: int, offset: int = 0) -> Affine:
    """x * factor + offset."""
    if factor == 0:
        return Affine((), offset)
    return Affine(tuple([(a, c * factor) for a, c in x.terms]), x.offset * factor + offset)


def _atom_max(atom: Atom) -> int:
    if isinstance(atom, (AxisAtom, Lookup)):
        return atom.extent - 1
    top = bounds(atom.value)[1]
    return top // atom.divisor if isinstance(atom, Quotient) else min(atom.divisor - 1, top)


def bounds(x: Affine) -> tuple[int, int]:
    """Smallest and largest value (both included)."""
    low = high = x.offset
    for atom, factor in x.terms:
        if factor > 0:
            high += factor * _atom_max(atom)
        else:
            low += factor * _atom_max(atom)
    return low, high


def _split(x: Affine, divisor: int) -> tuple[Affine, Affine]:
    """x as whole * divisor + rest, the terms that divide going to `whole`."""
    whole = Affine(tuple([(a, c // divisor) for a, c in x.terms if c % divisor == 0]), x.offset // divisor)
    rest = Affine(tuple([(a, c) for a, c in x.terms if c % divisor]), x.offset % divisor)
    return whole, rest


def _high_part(x: Affine, divisor: int) -> tuple[Affine, Affine, int]:
    """x as high * unit + low: the largest `unit` that divides `divisor` and that `low` stays below."""
    terms = sorted(x.terms, key=lambda term: -term[1])
    for count in range(1, len(terms)):
        unit = math.gcd(divisor, *[factor for _, factor in terms[:count]])
        low = affine(terms[count:], x.offset % unit)
        if holds(Condition(low, 0, unit)):
            high = affine([(atom, factor // unit) for atom, factor in terms[:count]], x.offset // unit)
            return high, low, unit
    return x, ZERO, 1


def divide(x: Affine, divisor: int) -> Affine:
    """x // divisor for x >= 0."""
    if divisor == 1:
        return x
    whole, rest = _split(x, divisor)
    low, high = bounds(rest)
    if low >= 0 and high < divisor:
        return whole
    if low >= 0 and rest.offset == 0 and len(rest.terms) == 1:
        inner, factor = rest.terms[0]
        if isinstance(inner, Quotient) and factor == 1:
            return add(whole, divide(inner.value, inner.divisor * divisor))
    if low < 0:
        return affine([(Quotient(x, divisor), 1)], 0)
    high_part, _, unit = _high_part(rest, divisor)
    return add(whole, Affine(((Quotient(high_part, divisor // unit), 1),), 0))


def remainder(x: Affine, divisor: int) -> Affine:
    """x % divisor for x >= 0."""
    if divisor == 1:
        return ZERO
    _, rest = _split(x, divisor)
    low, high = bounds(rest)
    if low >= 0 and high < divisor:
        return rest
    if low < 0:
        return Affine(((Remainder(x, divisor), 1),), 0)
    high_part, low_part, unit = _high_part(rest, divisor)
    return add(Affine(((Remainder(high_part, divisor // unit), unit),), 0), low_part)


def axes_of(x: Affine) -> set[int]:
    """Ids of the axes that an index depends on."""
    found: set[int] = set()
    stack = [x]
    while stack:
        for atom, _ in stack.pop().terms:
            if isinstance(atom, AxisAtom):
                found.add(atom.id)
            elif isinstance(atom, Lookup):
                stack.extend(atom.at)
            else:
                stack.append(atom.value)
    return found


def looks_up(x: Affine) -> bool:
    """Whether data decide an index, or a part of it."""
    stack = [x]
    while stack:
        for atom, _ in stack.pop().terms:
            if isinstance(atom, Lookup):
                return True
            if not isinstance(atom, AxisAtom):
                stack.append(atom.value)
    return False


def row_major(shape: Shape) -> tuple[int, ...]:
    """Strides in elements."""
    strides, step = [], 1
    for dim in reversed(shape):
        strides.append(step)
        step *= dim
    return tuple(reversed(strides))


def flatten(index: Index, shape: Shape) -> Affine:
    """The row-major position of an element."""
    position = ZERO
    for part, stride in zip(index, row_major(shape), strict=True):
        position = add(position, scale(part, stride))
    return _joined(position)


def _joined(x: Affine) -> Affine:
    """A quotient times its divisor, and the remainder beside it, are what was divided."""
    factors = dict(x.terms)
    for atom, factor in x.terms:
        if not isinstance(atom, Remainder):
            continue
        quotient = divide(atom.value, atom.divisor)
        if len(quotient.terms) == 1 and quotient.offset == 0 and quotient.terms[0][1] == 1 \
                and factors.get(quotient.terms[0][0]) == factor * atom.divisor:
            others = [term for term in x.terms if term[0] not in (atom, quotient.terms[0][0])]
            return _joined(add(affine(others, x.offset), scale(atom.value, factor)))
    return x


# ---- movement ops: index of a result element -> index of the source element --------------------------------
def _reshape(index: Index, new: Shape, old: Shape) -> Index:
    """Dims are matched in groups of equal size, so that untouched dims keep their index undivided."""
    result: list[Affine] = []
    i = j = 0
    while i < len(old) or j < len(new):
        start_i, start_j = i, j
        size_old = size_new = 1
        if i < len(old):
            size_old, i = old[i], i + 1
        if j < len(new):
            size_new, j = new[j], j + 1
        while size_old != size_new:
            if size_old < size_new:
                size_old, i = size_old * old[i], i + 1
            else:
                size_new, j = size_new * new[j], j + 1
        position = flatten(index[start_j:j], new[start_j:j])
        group = old[start_i:i]
        for dim, stride in zip(group, row_major(group), strict=True):
            if dim == 1:
                result.append(ZERO)
                continue
            quotient = divide(position, stride)
            result.append(remainder(quotient, dim) if stride * dim < size_old else quotient)
    return tuple(result)


def result_shape(name: str, arg: Any, source: Shape) -> Shape:
    """The shape of the movement op `name` (in lower case) of something of shape `source`."""
    if name in ("reshape", "expand"):
        return tuple(arg)
    if name == "permute":
        return tuple([source[axis] for axis in arg])
    if name == "slice":
        return tuple([size for _, size, _ in arg])
    if name == "flip":
        return source
    if name == "pad":
        return tuple([before + dim + after for dim, (before, after) in zip(source, arg, strict=False)])
    if name == "window":
        taken = list(source)
        for axis, size, stride, dilation in arg:
            taken[axis] = (source[axis] - (size - 1) * dilation - 1) // stride + 1
        return (*taken, *[size for _, size, _, _ in arg])
    if name == "skew":
        sizes = {axis: size for axis, _, _, _, size in arg}
        return tuple([sizes.get(axis, dim) for axis, dim in enumerate(source)])
    raise InternalError(f"{name} is no movement op")


def view_shape(steps: Sequence[tuple[str, Any]], shape: Shape) -> Shape:
    """The shape of a view of something of shape `shape`."""
    for name, arg in steps:
        shape = result_shape(name, arg, shape)
    return shape


def source_index(name: str, arg: Any, index: Index, shape: Shape,
                 source: Shape) -> tuple[Index, tuple[Condition, ...]]:
    """Where the movement op `name` (in lower case) reads element `index` of its result.

    `shape` and `source` are the shapes of the result and of the source. The conditions say when the element
    lies inside the source; they are empty but for `pad` and `skew`.
    """
    if name == "reshape":
        return _reshape(index, shape, source), ()
    if name == "permute":
        order: list[Affine] = [ZERO] * len(source)
        for position, axis in enumerate(arg):
            order[axis] = index[position]
        return tuple(order), ()
    if name == "expand":
        return tuple([ZERO if dim == 1 else part for part, dim in zip(index, source, strict=True)]), ()
    if name == "slice":
        return tuple([scale(part, step, start) if dim > 1 or start == 0 else Affine((), start)
                      for part, dim, (start, _, step) in zip(index, shape, arg, strict=True)]), ()
    if name == "flip":
        return tuple([scale(part, -1, dim - 1) if axis in arg else part
                      for axis, (part, dim) in enumerate(zip(index, source, strict=True))]), ()
    if name == "pad":
        moved = tuple([scale(part, 1, -before) for part, (before, _) in zip(index, arg, strict=True)])
        return moved, _inside(moved, source)
    if name == "window":
        placed = list(index[:len(source)])
        for (axis, _, stride, dilation), k in zip(arg, index[len(source):], strict=True):
            placed[axis] = add(scale(placed[axis], stride), scale(k, dilation))
        return tuple(placed), ()
    if name == "skew":
        placed = list(index)
        for axis, by, step, offset, _ in arg:
            placed[axis] = add(index[axis], scale(index[by], -step, offset))
        return tuple(placed), _inside(tuple(placed), source)
    raise InternalError(f"{name} is no movement op")


def _inside(index: Index, shape: Shape) -> tuple[Condition, ...]:
    """What must hold for `index` to lie within `shape`, as far as that is not known."""
    checks = [Condition(part, 0, dim) for part, dim in zip(index, shape, strict=True)]
    return tuple([check for check in checks if not holds(check)])


def holds(check: Condition) -> bool:
    """True where a condition is known to hold everywhere."""
    low, high = bounds(check.value)
    return check.low <= low and high < check.high


def view_index(steps: Sequence[tuple[str, Any]], index: Index, base: Shape) -> Index:
    """The element of a base of shape `base` that element `index` of a view stands for."""
    shapes = [base]
    for name, arg in steps:
        shapes.append(result_shape(name, arg, shapes[-1]))
    for (name, arg), source, shape in reversed(list(zip(steps, shapes, shapes[1:], strict=False))):
        index, _ = source_index(name, arg, index, shape, source)
    return index
