"""Elements that data select: GATHER along both axes, SCATTER in every mode, by indices of every dtype."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.graph import build
from pluggrad.graph.ops import Mode
from pluggrad.ir.node import Node
from pluggrad.testing.conformance import batch, layouts, reference, samples
from pluggrad.testing.conformance.coverage import LAYOUTS
from pluggrad.testing.conformance.reference import Array
from pluggrad.testing.conformance.registry import conformance
from pluggrad.testing.conformance.requirement import Requirement, requires
from pluggrad.testing.conformance.subject import Subject

MODES: Final[tuple[Mode, ...]] = ("SET", "ADD", "MUL", "MAX", "MIN")
CASES: Final = [{"op": op, "dtype": dtype.name, "layout": layout}
                for op in ("GATHER", "SCATTER") for dtype in dtypes.ALL for layout in LAYOUTS]
_CHOSEN: Final = 23  # indices along an axis


def _source(subject: Subject, dtype: DType, layout: str) -> layouts.Source:
    values = samples.near_one(dtype, layouts.TABLES[layout], samples.seeded("selection", dtype.name, layout))
    return layouts.ARRANGE[layout](subject, values, dtype)


def _indices(layout: str, axis: int, dtype: DType = dtypes.int32) -> Array:
    """Every index along the axis may come several times, some counted from the end."""
    shape = list(layouts.TABLES[layout])
    extent, shape[axis] = shape[axis], _CHOSEN
    low = -extent if dtype.kind == "i" else 0
    return samples.seeded("indices", layout, str(axis)).integers(low, extent, shape).astype(dtype.numpy)


def _combined(dtype: DType, layout: str) -> Array:
    shape = _indices(layout, 0).shape
    return samples.near_one(dtype, shape, samples.seeded("combined", dtype.name, layout))


def _needs(op: str, dtype: str, layout: str) -> Requirement:
    # a SCATTER combines halves as float32
    wide = dtypes.accumulator_dtype(dtypes.by_name(dtype)).name
    return requires(dtype=(dtype, "int32", wide))


@conformance("L1", cases=CASES, requires=_needs,
             suggests="{op} of {dtype} finds the wrong elements (layout {layout})")
def selection(subject: Subject, op: str, dtype: str, layout: str) -> None:
    """GATHER bit by bit; SCATTER in row-major order, one after another where indices meet."""
    of = dtypes.by_name(dtype)
    x = _source(subject, of, layout)
    if op == "GATHER":
        for axis in (0, 1):
            have = batch.value(subject, ("gather", dtype, layout), axis, lambda: _gathers(subject, x, layout))
            want = reference.gather(x.values, _indices(layout, axis), axis)
            subject.expect(have, want, of, op=f"GATHER of {dtype} along {axis}, {layout}")
        return
    for mode in MODES:
        have = batch.value(subject, ("scatter", dtype, layout), mode,
                           lambda: _scatters(subject, x, of, layout))
        want = reference.scatter(x.values, _indices(layout, 0), _combined(of, layout), 0, mode, of)
        subject.expect(have, want, of, "sum" if mode in ("ADD", "MUL") else "exact",
                       op=f"SCATTER {mode} of {dtype}, {layout}")


def _gathers(subject: Subject, x: layouts.Source, layout: str) -> Mapping[int, Node]:
    return {axis: build.gather(x.node, layouts.buffer(subject, _indices(layout, axis), dtypes.int32), axis)
            for axis in (0, 1)}


def _scatters(subject: Subject, x: layouts.Source, dtype: DType, layout: str) -> Mapping[Mode, Node]:
    index = layouts.buffer(subject, _indices(layout, 0), dtypes.int32)
    value = layouts.buffer(subject, _combined(dtype, layout), dtype)
    return {mode: build.scatter(x.node, index, value, 0, mode) for mode in MODES}


@conformance("L1", cases=[{"index": dtype.name} for dtype in dtypes.INTS],
             requires=lambda index: requires(dtype=(index, "int32")),
             suggests="an index of dtype {index} is read wrong")
def index_dtypes(subject: Subject, index: str) -> None:
    """Indices of every integer dtype select the same elements."""
    of = dtypes.by_name(index)
    x = _source(subject, dtypes.int32, "odd")
    chosen = _indices("odd", 1, of)
    node = build.gather(x.node, layouts.buffer(subject, chosen, of), 1)
    subject.expect(batch.realized({0: node})[0], reference.gather(x.values, chosen, 1), "int32",
                   op=f"GATHER by {index}")


@conformance("L1", requires=requires(dtype="int32"),
             suggests="an index out of range is not reported through the status words")
def index_out_of_range(subject: Subject) -> None:
    """An index that data put out of range is an IndexError that names it, and harms nobody."""
    x = layouts.dense(subject, np.arange(100, dtype=np.int32), dtypes.int32)
    index = layouts.buffer(subject, np.array([3, 100], np.int32), dtypes.int32)
    try:
        batch.realized({0: build.gather(x.node, index, 0)})
    except IndexError as error:
        if "100" in str(error):
            return
        raise AssertionError(f"expected an IndexError that names the index 100, got: {error}") from error
    raise AssertionError("expected an IndexError for index 100 of 100 elements, got a result")
