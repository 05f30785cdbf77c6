"""What a complete run covers, and that a primitive which nobody tests is named."""

from __future__ import annotations

import pytest

from pluggrad import dtypes
from pluggrad.graph.ops import GRAPH_OPS
from pluggrad.ir.node import Op
from pluggrad.target import Capabilities
from pluggrad.testing.conformance.collect import collect
from pluggrad.testing.conformance.coverage import uncovered
from pluggrad.testing.conformance.registry import Point

NAMES = frozenset(dtype.name for dtype in dtypes.ALL)
EVERYTHING = Capabilities(dtypes=NAMES, arithmetic=NAMES)


def covered() -> list[Point]:
    tests = [test for test in collect().values() if not test.requires.missing(EVERYTHING)]
    return [point for test in tests for point in test.covers]


def test_nothing_is_left_uncovered() -> None:
    assert uncovered(EVERYTHING, covered()) == []


def test_a_new_primitive_without_a_test_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    done = covered()
    monkeypatch.setitem(GRAPH_OPS, "CBRT", Op("CBRT", "unary", 1, "cube root"))
    left = uncovered(EVERYTHING, done)
    assert {point.op for point in left} == {"CBRT"}
    assert {point.layout for point in left} == {"dense", "odd", "strided", "transposed", "broadcast"}

