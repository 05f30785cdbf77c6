"""Index functions against brute force: every element of a moved array is where the index says."""
from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluggrad.errors import InternalError
from pluggrad.shape import index as ix
from tests.graph_reference import moved

EXTENTS = (2, 3, 5)


def value(x: ix.Affine, at: tuple[int, ...]) -> int:
    """The value of an Affine where axis i is at position at[i]."""
    total = x.offset
    for atom, factor in x.terms:
        if isinstance(atom, ix.AxisAtom):
            total += factor * at[atom.id]
        elif isinstance(atom, ix.Quotient):
            total += factor * (value(atom.value, at) // atom.divisor)
        else:
            total += factor * (value(atom.value, at) % atom.divisor)
    return total


def positions(extents: tuple[int, ...] = EXTENTS) -> itertools.product:
    return itertools.product(*map(range, extents))


@st.composite
def sums(draw: st.DrawFn) -> ix.Affine:
    """A sum that is never negative, over three axes, with quotients and remainders of such sums in it."""
    terms = [(ix.AxisAtom(i, extent), draw(st.integers(0, 7))) for i, extent in enumerate(EXTENTS)]
    x = ix.affine(terms, draw(st.integers(0, 9)))
    for _ in range(draw(st.integers(0, 2))):
        apply = draw(st.sampled_from([ix.divide, ix.remainder]))
        x = ix.add(ix.scale(apply(x, draw(st.integers(1, 9))), draw(st.integers(0, 5))), ix.axis_index(0, 2))
    return x


@given(sums(), st.integers(1, 12))
def test_quotients_and_remainders(x, divisor):
    quotient, rest = ix.divide(x, divisor), ix.remainder(x, divisor)
    for at in positions():
        assert (value(quotient, at), value(rest, at)) == divmod(value(x, at), divisor)


@given(sums())
def test_bounds_hold(x):
    low, high = ix.bounds(x)
    values = [value(x, at) for at in positions()]
    assert low <= min(values)
    assert max(values) <= high


@given(sums(), sums(), st.integers(-3, 3), st.integers(-3, 3))
def test_sums_and_products(x, y, factor, offset):
    total, scaled = ix.add(x, y), ix.scale(x, factor, offset)
    assert ix.add(y, x) == total
    for at in positions():
        assert value(total, at) == value(x, at) + value(y, at)
        assert value(scaled, at) == value(x, at) * factor + offset


@given(sums())
def test_axes_are_those_that_matter(x):
    axes = ix.axes_of(x)
    for axis in {0, 1, 2} - axes:
        for at in positions():
            assert value(x, at) == value(x, (*at[:axis], 0, *at[axis + 1:]))


def test_an_axis_of_one_position_is_no_axis():
    assert ix.axis_index(3, 1) == ix.ZERO


STEPS = [
    ("reshape", (6, 4), (2, 3, 4)), ("reshape", (2, 3, 4), (6, 4)), ("reshape", (4, 6), (6, 4)),
    ("reshape", (24,), (2, 3, 4)), ("reshape", (1, 2, 12, 1), (2, 3, 4)), ("reshape", (8, 3), (2, 3, 4)),
    ("reshape", (), (1, 1)), ("reshape", (1,), ()), ("reshape", (3, 1, 2), (3, 2)),
    ("permute", (2, 0, 1), (2, 3, 4)), ("permute", (1, 0), (3, 1)),
    ("expand", (2, 3, 4), (1, 3, 1)), ("expand", (5,), (1,)),
    ("slice", ((1, 2, 1), (0, 2, 3)), (4, 5)), ("slice", ((3, 1, 1), (1, 2, 2)), (4, 5)),
    ("flip", (0, 2), (2, 3, 4)), ("flip", (1,), (4, 1)),
    ("window", ((0, 2, 1, 1),), (4, 3)), ("window", ((1, 3, 2, 2), (0, 1, 2, 1)), (3, 9)),
]


@pytest.mark.parametrize(("name", "arg", "source"), STEPS)
def test_movement(name, arg, source):
    expected = moved(np.arange(math.prod(source)).reshape(source), [(name, arg)])
    index = tuple(ix.axis_index(i, dim) for i, dim in enumerate(expected.shape))
    found, checks = ix.source_index(name, arg, index, expected.shape, source)
    assert checks == ()
    flat = ix.flatten(found, source)
    for at in positions(expected.shape):
        assert value(flat, at) == expected[at]


@pytest.mark.parametrize("widths", [((1, 2), (0, 0)), ((0, 1), (3, 0)), ((0, 0), (2, 2))])
def test_padding_tells_inside_from_outside(widths):
    source = (3, 4)
    expected = np.pad(np.arange(12).reshape(source), widths, constant_values=-1)
    index = tuple(ix.axis_index(i, dim) for i, dim in enumerate(expected.shape))
    found, checks = ix.source_index("pad", widths, index, expected.shape, source)
    assert len(checks) == sum(1 for pair in widths if any(pair))
    flat = ix.flatten(found, source)
    for at in positions(expected.shape):
        inside = all(check.low <= value(check.value, at) < check.high for check in checks)
        assert inside == (expected[at] >= 0)
        if inside:
            assert value(flat, at) == expected[at]


@pytest.mark.parametrize("row", [(0, 1, 1, 0, 6), (0, 1, 2, 3, 4), (0, 1, -1, -2, 5)])
def test_skewing_tells_inside_from_outside(row):
    source = (4, 3)
    expected = moved(np.arange(1, 13).reshape(source), [("skew", (row,))])
    index = tuple(ix.axis_index(i, dim) for i, dim in enumerate(expected.shape))
    found, checks = ix.source_index("skew", (row,), index, expected.shape, source)
    flat = ix.flatten(found, source)
    for at in positions(expected.shape):
        inside = all(check.low <= value(check.value, at) < check.high for check in checks)
        assert (value(flat, at) + 1 if inside else 0) == expected[at]


@given(st.data())
def test_a_view_of_a_view(data):
    """Several steps from base to view give the index in the base."""
    base = (3, 4, 2)
    steps, shapes = [], [base]
    for _ in range(data.draw(st.integers(1, 4))):
        shape = shapes[-1]
        name = data.draw(st.sampled_from(["flip", "permute", "reshape", "slice"]))
        arg = {"flip": tuple(range(len(shape))), "permute": tuple(reversed(range(len(shape)))),
               "reshape": (math.prod(shape),), "slice": tuple((d // 2, d - d // 2, 1) for d in shape)}[name]
        steps.append((name, arg))
        shapes.append(moved(np.empty(shape), steps[-1:]).shape)
    expected = np.arange(24).reshape(base)
    for step in steps:
        expected = moved(expected, [step])
    index = tuple(ix.axis_index(i, dim) for i, dim in enumerate(shapes[-1]))
    flat = ix.flatten(ix.view_index(steps, index, base), base)
    for at in positions(shapes[-1]):
        assert value(flat, at) == expected[at]


def test_a_reshape_that_keeps_dims_divides_nothing():
    index = tuple(ix.axis_index(i, dim) for i, dim in enumerate((6, 4, 5)))
    found, _ = ix.source_index("reshape", (6, 4, 5), index, (6, 4, 5), (2, 3, 4, 5))
    assert found[2:] == index[1:]


def test_what_moves_nothing_is_refused():
    with pytest.raises(InternalError):
        ix.source_index("add", None, (), (), ())


def test_what_lies_below_a_unit_takes_no_part_in_a_division():
    x = ix.flatten((ix.axis_index(0, 64), ix.axis_index(1, 16), ix.axis_index(2, 16)), (64, 16, 16))
    channel = ix.axis_index(0, 64)
    assert ix.divide(x, 2048) == ix.divide(channel, 8)
    below = ix.flatten((ix.axis_index(1, 16), ix.axis_index(2, 16)), (16, 16))
    assert ix.remainder(x, 2048) == ix.add(ix.scale(ix.remainder(channel, 8), 256), below)


def test_what_was_taken_apart_is_joined_again():
    x = ix.axis_index(0, 512)
    index = (ix.divide(x, 128), ix.remainder(ix.divide(x, 16), 8), ix.remainder(x, 16))
    assert ix.flatten(index, (4, 8, 16)) == x
