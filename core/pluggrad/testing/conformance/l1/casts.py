"""Conversions between every two dtypes, and the same bits as another dtype."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.graph import build, ops
from pluggrad.ir.node import Node
from pluggrad.testing.conformance import batch, coverage, layouts, reference, samples
from pluggrad.testing.conformance.reference import Array
from pluggrad.testing.conformance.registry import conformance
from pluggrad.testing.conformance.requirement import requires
from pluggrad.testing.conformance.subject import Subject, decoded, stored

# what a conversion from a float may get wrong: limits of integers and of halves, ties between two halves
_EDGES: Final = (
    0.0, -0.0, np.nan, np.inf, -np.inf, 0.5, -0.5, 0.999, -0.999, 127.5, -128.5, 255.5, -129.0, 32767.5,
    65504.0, 65519.9, 65520.0, 2.0**31, -(2.0**31), 2147483583.0, 2.0**32, 2.0**63, -(2.0**63), 2.0**64,
    3e38, -3e38, 1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-11 + 2.0**-40)


def _values(dtype: DType, shape: tuple[int, ...], layout: str) -> Array:
    rng = samples.seeded("casts", dtype.name, layout)
    if not dtype.is_float:
        return samples.plain(dtype, shape, rng)
    values = rng.normal(0, 300, shape).reshape(-1)
    special = np.array(_EDGES)
    places = rng.permutation(values.size)[:special.size]
    if layout == "broadcast":  # only the first column is read
        places = np.arange(shape[0])[:special.size] * shape[1]
    values[places] = special[:places.size]
    return reference.rounded(values, dtype).reshape(shape)


def _source(subject: Subject, dtype: DType, layout: str) -> layouts.Source:
    return layouts.ARRANGE[layout](subject, _values(dtype, layouts.TABLES[layout], layout), dtype)


def _declared(subject: Subject) -> list[DType]:
    return [dtype for dtype in dtypes.ALL if dtype.name in subject.capabilities.dtypes]


CAST_CASES: Final = [{"op": "CAST", "dtype": dtype.name, "layout": layout}
                     for dtype in dtypes.ALL for layout in coverage.LAYOUTS]


@conformance("L1", cases=CAST_CASES, requires=lambda op, dtype, layout: requires(dtype=dtype),
             suggests="a conversion from {dtype} is rendered wrong (layout {layout})")
def casts(subject: Subject, op: str, dtype: str, layout: str) -> None:
    """To every dtype that the device declares: saturating, wrapping, rounding to even."""
    source = dtypes.by_name(dtype)
    x = _source(subject, source, layout)

    def nodes() -> Mapping[str, Node]:
        return {target.name: build.cast(x.node, target) for target in _declared(subject)
                if target is not source}

    for name in nodes():
        have = batch.value(subject, ("casts", dtype, layout), name, nodes)
        target = dtypes.by_name(name)
        want = reference.cast(x.values, source, target)
        subject.expect(have, want, target, op=f"CAST of {dtype} to {name}, {layout}",
                       suggests=f"the conversion of {dtype} to {name} is rendered wrong")


BITCAST_CASES: Final = [{"op": "BITCAST", "dtype": dtype.name, "layout": layout}
                        for dtype in coverage.dtypes_of(ops.BITCAST) for layout in coverage.LAYOUTS]


@conformance("L1", cases=BITCAST_CASES, requires=lambda op, dtype, layout: requires(dtype=dtype),
             suggests="bits of {dtype} change on their way (layout {layout})")
def bitcasts(subject: Subject, op: str, dtype: str, layout: str) -> None:
    """To every declared dtype of the same size, and back: every bit the same, but for those of a NaN."""
    source = dtypes.by_name(dtype)
    x = _source(subject, source, layout)
    targets = [target for target in _declared(subject)
               if target.itemsize == source.itemsize and target.kind != "b"]

    def nodes() -> Mapping[str, Node]:
        return {target.name: build.bitcast(x.node, target) for target in targets}

    for target in targets:
        have = batch.value(subject, ("bitcasts", dtype, layout), target.name, nodes)
        want = decoded(stored(x.values, source).view(target.numpy), target)
        if source.is_float and not target.is_float:  # what a NaN's bits are is left open
            have, want = np.where(np.isnan(x.values), 0, have), np.where(np.isnan(x.values), 0, want)
        subject.expect(have, want, target, op=f"BITCAST of {dtype} to {target.name}, {layout}")
