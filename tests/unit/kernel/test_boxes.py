"""Boxes: what a store over BOX axes copies, and from where."""

from __future__ import annotations

import re

import pytest

from pluggrad.errors import InternalError
from pluggrad.kernel.boxes import boxes_of
from pluggrad.kernel.index_nodes import weighted_sum
from pluggrad.kernel.kernel import Box, Dim, axis
from pluggrad.kernel.text import parse_kernel

# rows of 8 of a stack of 5 x 24 matrices, from element 48 on, to spans of 4 elements
TEXT = """
kernel boxed
buffer 0: in float16[1024]
buffer 1: local float16[64]
axis 0: PARALLEL 5
axis 1: REDUCE 4
axis 2: BOX 2
axis 3: BOX 8
axis 4: BOX 4
%0 = axis[0]: int64
%1 = axis[1]: int64
%2 = axis[2]: int64
%3 = axis[3]: int64
%4 = axis[4]: int64
%5 = const[4]: int64
%6 = mul(%2, %5): int64
%7 = add(%6, %4): int64
%8 = const[8]: int64
%9 = mul(%1, %8): int64
%10 = add(%9, %3): int64
%11 = const[24]: int64
%12 = mul(%10, %8): int64
%13 = const[192]: int64
%14 = mul(%0, %13): int64
%15 = add(%14, %12): int64
%16 = add(%15, %7): int64
%17 = const[48]: int64
%18 = add(%16, %17): int64
%19 = const[5]: int64
%20 = lt(%0, %19): bool
%21 = lt(%10, %11): bool
%22 = const[7]: int64
%23 = lt(%7, %22): bool
%24 = and(%20, %21): bool
%25 = and(%24, %23): bool
%26 = load[0](%18, %25): float16
%27 = const[32]: int64
%28 = mul(%2, %27): int64
%29 = mul(%3, %5): int64
%30 = add(%28, %29): int64
%31 = add(%30, %4): int64
%32 = store[1, (0, 1, 2, 3, 4)](%31, %26): float16
"""


def test_a_box_is_read_from_its_bounds_and_its_address():
    ((number, found),) = boxes_of(parse_kernel(TEXT)).items()
    assert (number, found.target) == (0, 1)
    assert found.box == Box(0, 48, (Dim(7, 1, 8), Dim(24, 8, 8), Dim(5, 192, 1)), 4)
    assert (found.box.spans, found.box.size) == (2, 64)
    assert found.starts == (weighted_sum([]), weighted_sum([(axis(1), 8)]), axis(0))
    assert found.place == weighted_sum([])


@pytest.mark.parametrize(("old", "new", "says"), [
    (r"load\[0\]\(%18, %25\)", "load[0](%18)", "within its bounds"),
    (r"lt\(%7, %22\)", "le(%7, %22)", "says position < extent"),
    (r"and\(%24, %23\)", "and(%24, %20)", "do not make up its address")], ids=["none", "other", "too few"])
def test_what_is_no_box_is_an_error(old, new, says):
    broken = re.sub(old, new, TEXT)
    assert broken != TEXT
    with pytest.raises(InternalError, match=says):
        boxes_of(parse_kernel(broken))


def test_a_kernel_without_such_axes_has_none():
    assert boxes_of(parse_kernel(re.sub(": BOX", ": LOOP", TEXT))) == {}
