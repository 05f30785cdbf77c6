"""Every elementwise op on every dtype it takes, in every layout. Ops that share operands share kernels."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.graph import build
from pluggrad.graph.ops import ELEMENTWISE, GRAPH_OPS
from pluggrad.ir.node import Node
from pluggrad.testing.conformance import batch, coverage, layouts, reference, samples
from pluggrad.testing.conformance.registry import conformance
from pluggrad.testing.conformance.requirement import Requirement, requires
from pluggrad.testing.conformance.subject import Subject

OPS: Final = tuple(op for op in GRAPH_OPS.values() if op in ELEMENTWISE and op.kind != "cast")
CASES: Final = [{"op": op.name, "dtype": dtype.name, "layout": layout}
                for op in OPS for dtype in coverage.dtypes_of(op) for layout in coverage.LAYOUTS]


def needs(op: str, dtype: str, layout: str) -> Requirement:
    """The op's dtype, and bool where a result or a condition is one."""
    of_bool = GRAPH_OPS[op].kind in ("compare", "ternary")
    return requires(dtype=(dtype, "bool") if of_bool else dtype)


@conformance("L1", cases=CASES, requires=needs,
             batch=lambda op, dtype, layout: f"{GRAPH_OPS[op].kind}/{dtype}/{layout}",
             suggests="{op} of {dtype} is rendered wrong (layout {layout})")
def elementwise(subject: Subject, op: str, dtype: str, layout: str) -> None:
    """Equal to NumPy, edge values in every pairing: NaN, infinities, both zeros, the ends of integers."""
    of = dtypes.by_name(dtype)
    family = samples.family_of(op, of)
    sources = layouts.operands(subject, layout, family, of)
    chosen = _chosen(subject, sources[0].values.shape) if op == "WHERE" else None
    kind = GRAPH_OPS[op].kind
    have = batch.value(subject, ("elementwise", dtype, layout, family, kind), op,
                       lambda: _nodes(subject, family, kind, of, sources))
    operands = [source.values for source in sources][:GRAPH_OPS[op].arity]
    want = reference.elementwise(op, of, *([chosen.values] if chosen else []), *operands)
    result = dtypes.bool_ if GRAPH_OPS[op].kind == "compare" else of
    if op in ("MAX", "MIN") and of.is_float:  # which of two zeros is larger is left open
        have, want = have + 0, want + 0
    subject.expect(have, want, result, reference.kind_of(op), op=f"{op} of {dtype}, {layout}")


def _chosen(subject: Subject, shape: tuple[int, ...]) -> layouts.Source:
    condition = samples.seeded("condition").integers(0, 2, shape).astype(bool)
    return layouts.dense(subject, condition, dtypes.bool_)


def _nodes(subject: Subject, family: str, kind: str, dtype: DType,
           sources: tuple[layouts.Source, layouts.Source]) -> Mapping[str, Node]:
    """Every op of the family and kind, of the same operands."""
    x, y = [source.node for source in sources]
    made: dict[str, Node] = {}
    for op in OPS:
        if op.kind != kind or dtype not in coverage.dtypes_of(op):
            continue
        if samples.family_of(op.name, dtype) != family:
            continue
        if op.kind == "ternary":
            made[op.name] = build.where(_chosen(subject, x.shape).node, x, y)
        else:
            made[op.name] = build.unary(op, x) if op.kind == "unary" else build.binary(op, x, y)
    return made
