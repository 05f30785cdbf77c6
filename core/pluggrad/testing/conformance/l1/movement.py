"""Movement ops and writes, which move bits and change none, and FOLD, which adds windows up."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.graph import build
from pluggrad.graph.ops import FOLD, GRAPH_OPS, MOVEMENT, UPDATE
from pluggrad.ir.node import Node
from pluggrad.testing.conformance import batch, coverage, layouts, reference, samples
from pluggrad.testing.conformance.reference import Array
from pluggrad.testing.conformance.registry import conformance
from pluggrad.testing.conformance.requirement import requires
from pluggrad.testing.conformance.subject import Subject

FOLD_ROW: Final = (0, 5, 2, 1)  # axis, size, stride, dilation
OPS: Final = tuple(op for op in GRAPH_OPS.values() if op in MOVEMENT | {FOLD, UPDATE})
CASES: Final = [{"op": op.name, "dtype": dtype.name, "layout": layout}
                for op in OPS for dtype in coverage.dtypes_of(op) for layout in coverage.LAYOUTS]


def _argument(op: str, rows: int, cols: int) -> Any:
    """What a movement op is asked to do to a source of rows and columns."""
    return {"RESHAPE": (cols, rows), "PERMUTE": (1, 0), "FLIP": (0, 1), "PAD": ((1, 2), (3, 0)),
            "SLICE": ((2, (rows - 1) // 3, 3), (1, (cols - 1) // 2, 2)), "EXPAND": (4, rows, cols),
            "WINDOW": ((1, 3, 2, 2),), "SKEW": ((1, 0, 1, 2, cols + 3),)}[op]


def _source(subject: Subject, op: str, dtype: DType, layout: str) -> layouts.Source:
    if op == "FOLD":
        shape = (layouts.TABLES[layout][0], FOLD_ROW[1])
        values = samples.summable(dtype, shape, samples.seeded("fold", dtype.name, layout))
    else:
        values = samples.plain(dtype, layouts.TABLES[layout], samples.seeded("movement", dtype.name, layout))
    source = layouts.ARRANGE[layout](subject, values, dtype)
    if op == "EXPAND":
        return layouts.Source(build.reshape(source.node, (1, *values.shape)), source.values[None])
    return source


def _written(dtype: DType, layout: str) -> tuple[tuple[tuple[str, Any], ...], Array]:
    """A view to write to, and what is written."""
    part = _argument("SLICE", *layouts.TABLES[layout])
    shape = tuple([size for _, size, _ in part])
    view = (("slice", part), ("flip", (1,)))
    return view, samples.plain(dtype, shape, samples.seeded("written", dtype.name, layout))


def _node(subject: Subject, op: str, dtype: DType, layout: str) -> Node:
    x = _source(subject, op, dtype, layout).node
    if op == "UPDATE":
        view, values = _written(dtype, layout)
        return build.update(x, layouts.buffer(subject, values, dtype), view)
    if op == "FOLD":
        return build.fold(x, (FOLD_ROW,), (_fold_size(x.shape[0]),))
    return build.contiguous(build.move(x, ((op.lower(), _argument(op, *layouts.TABLES[layout])),)))


def _fold_size(windows: int) -> int:
    return (windows - 1) * FOLD_ROW[2] + (FOLD_ROW[1] - 1) * FOLD_ROW[3] + 1


def _reference(op: str, x: Array, dtype: DType, layout: str) -> Array:
    if op == "UPDATE":
        ((_, part), _), values = _written(dtype, layout)
        result = x.copy()
        result[tuple([slice(s, s + n * step, step) for s, n, step in part])] = values[:, ::-1]
        return result
    if op == "FOLD":
        return reference.fold(x, FOLD_ROW, _fold_size(x.shape[0]), dtype)
    return reference.MOVES[op](x, _argument(op, *layouts.TABLES[layout]))  # type: ignore[no-any-return]


@conformance("L1", cases=CASES, requires=lambda op, dtype, layout: requires(dtype=dtype),
             batch=lambda op, dtype, layout: f"{dtype}/{layout}",
             suggests="{op} of {dtype} reads or writes the wrong elements (layout {layout})")
def movement(subject: Subject, op: str, dtype: str, layout: str) -> None:
    """Every element where NumPy puts it, bit by bit; zeros around; a FOLD within the tolerance of a sum."""
    of = dtypes.by_name(dtype)

    def nodes() -> Mapping[str, Node]:
        return {other.name: _node(subject, other.name, of, layout) for other in OPS}

    have = batch.value(subject, ("movement", dtype, layout), op, nodes)
    want = _reference(op, _source(subject, op, of, layout).values, of, layout)
    subject.expect(have, want, of, "sum" if op == "FOLD" else "exact", op=f"{op} of {dtype}, {layout}")
