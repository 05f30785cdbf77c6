"""Tests are chosen by capability and by nothing else."""

from __future__ import annotations

import ast
import importlib.metadata
import re

import pytest

from pluggrad import dtypes
from pluggrad.errors import DTypeError
from pluggrad.graph import build, ops
from pluggrad.target import Capabilities, DeviceId
from pluggrad.testing.conformance.collect import collect
from pluggrad.testing.conformance.coverage import covered_ops, dtypes_of, universe
from pluggrad.testing.conformance.registry import Point
from tests.architecture.source import core_sources, parse, text_constants

SUITE = [source for source in core_sources() if source.path.startswith("testing/conformance/")]
INSTALLED = {entry.name for entry in importlib.metadata.entry_points(group="pluggrad.devices.v1")}
# `ref` is what results are compared with
KNOWN = "|".join(sorted(INSTALLED - {"ref"} | {"cpu", "cuda", "metal", "opencl", "pocl"}))
NAMES = re.compile(rf"(?<![\w-])({KNOWN})(?![\w-])")
# what a module could tell one device from another by
IDENTITY = {"type", "distribution", "provider", "arch"}


def named(sources):
    return [f"{source.path}:{line} {text!r}" for source in sources for text, line in text_constants(source)
            if NAMES.search(text)]


def compared(sources):
    """Comparisons of what names a device with a text."""
    found = []
    for source in sources:
        for n in ast.walk(source.tree):
            if not isinstance(n, ast.Compare):
                continue
            parts = [n.left, *n.comparators]
            identity = any(isinstance(p, ast.Attribute) and p.attr in IDENTITY for p in parts)
            text = any(isinstance(p, ast.Constant) and isinstance(p.value, str) and p.value for p in parts)
            if identity and text:
                found.append(f"{source.path}:{n.lineno}")
    return found


def test_no_device_is_named_in_the_suite():
    assert len(SUITE) > 20
    assert named(SUITE) == []
    assert compared(SUITE) == []


@pytest.mark.parametrize("text", ["x = 'cpu'", "skip(f'not on {name} or pocl')", "run('cpu:1@c')"])
def test_a_name_is_found(text):
    assert len(named([parse("a.py", text)])) == 1


def test_a_comparison_is_found():
    assert len(compared([parse("a.py", "if subject.id.type == 'acme':\n    pass")])) == 1


# ---- what a complete run covers ----------------------------------------------------------------------------
def _built(op, dtype):
    x = build.const(1, dtype, DeviceId("acme"), (4,))
    if op.kind == "unary":
        return build.unary(op, x)
    if op.kind in ("binary", "compare"):
        return build.binary(op, x, x)
    if op is ops.BITCAST:
        other = next(d for d in dtypes.ALL if d.itemsize == dtype.itemsize and d not in (dtype, dtypes.bool_))
        return build.bitcast(x, other)
    if op is ops.IOTA:
        return build.iota(4, dtype, DeviceId("acme"))
    return None


@pytest.mark.parametrize("op", covered_ops(), ids=lambda op: op.name)
def test_the_universe_has_the_dtypes_that_the_graph_takes(op):
    for dtype in dtypes.ALL:
        try:
            built = _built(op, dtype)
        except (DTypeError, StopIteration):
            assert dtype not in dtypes_of(op)
        else:
            assert built is None or dtype in dtypes_of(op)


def test_only_declared_dtypes_have_to_be_covered():
    points = set(universe(Capabilities(dtypes=frozenset({"int8"}), arithmetic=frozenset({"int8"}))))
    assert {point.dtype for point in points} == {"int8"}
    assert Point("ADD", "int8", "odd") in points
    assert not any(point.op == "EXP" for point in points)


def test_the_suite_covers_every_point_whatever_a_device_declares():
    """A point's tests need nothing but its dtype."""
    everything = frozenset(dtype.name for dtype in dtypes.ALL)
    suite = collect().values()
    for only in everything:
        declared = Capabilities(dtypes=frozenset({only, "int32", "float32"}), arithmetic=everything)
        covered = {point for test in suite if not test.requires.missing(declared) for point in test.covers}
        assert [point for point in universe(declared) if point.dtype == only and point not in covered] == []
