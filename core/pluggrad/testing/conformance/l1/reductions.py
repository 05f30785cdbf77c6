"""Every reduction over the last axis, over the first, and over both, in every layout."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pluggrad import dtypes
from pluggrad.graph import build
from pluggrad.graph.ops import GRAPH_OPS, REDUCE
from pluggrad.ir.node import Node
from pluggrad.kernel.tolerance import Kind
from pluggrad.testing.conformance import batch, coverage, layouts, reference, samples
from pluggrad.testing.conformance.registry import conformance
from pluggrad.testing.conformance.requirement import requires
from pluggrad.testing.conformance.subject import Subject

OPS: Final = tuple(op for op in GRAPH_OPS.values() if op in REDUCE)
AXES: Final = ((1,), (0,), (0, 1))
CASES: Final = [{"op": op.name, "dtype": dtype.name, "layout": layout}
                for op in OPS for dtype in coverage.dtypes_of(op) for layout in coverage.LAYOUTS]


@conformance("L1", cases=CASES, requires=lambda op, dtype, layout: requires(dtype=dtype),
             batch=lambda op, dtype, layout: f"{dtype}/{layout}",
             suggests="{op} of {dtype} is rendered wrong, or lanes are combined wrong (layout {layout})")
def reductions(subject: Subject, op: str, dtype: str, layout: str) -> None:
    """Equal to NumPy within the tolerance of a sum; integers, bool, largest and smallest exactly."""
    of = dtypes.by_name(dtype)
    draw = samples.near_one if op == "PROD" else samples.summable
    values = draw(of, layouts.TABLES[layout], samples.seeded(draw.__name__, dtype, layout))
    x = layouts.ARRANGE[layout](subject, values, of)

    def nodes() -> Mapping[tuple[str, tuple[int, ...]], Node]:
        together = [other for other in OPS if (other.name == "PROD") == (op == "PROD")]
        return {(other.name, axes): build.reduce(other, x.node, axes) for other in together for axes in AXES}

    for axes in AXES:
        have = batch.value(subject, ("reductions", dtype, layout, draw), (op, axes), nodes)
        kind: Kind = "sum" if op in ("SUM", "PROD") else "exact"
        subject.expect(have, reference.reduce(op, x.values, axes, of), of, kind,
                       op=f"{op} of {dtype} over {axes}, {layout}")
