"""What goes along an axis element after element: SCAN in every mode along both axes, TALLY of rows."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.graph import build, ops
from pluggrad.graph.ops import Running
from pluggrad.ir.node import Node
from pluggrad.kernel.tolerance import Kind
from pluggrad.testing.conformance import batch, layouts, reference, samples
from pluggrad.testing.conformance.coverage import LAYOUTS, dtypes_of
from pluggrad.testing.conformance.reference import Array
from pluggrad.testing.conformance.registry import conformance
from pluggrad.testing.conformance.requirement import Requirement, requires
from pluggrad.testing.conformance.subject import Subject

NAMES: Final[tuple[Running, ...]] = ("ADD", "MUL", "MAX", "MIN")
CASES: Final = [{"op": op.name, "dtype": dtype.name, "layout": layout}
                for op in (ops.SCAN, ops.TALLY) for dtype in dtypes_of(op) for layout in LAYOUTS]
_DIFFERENT: Final = 5  # integers that a TALLY counts


def _needs(op: str, dtype: str, layout: str) -> Requirement:
    # halves are combined as float32; counts are int32
    wide = "int32" if op == "TALLY" else dtypes.accumulator_dtype(dtypes.by_name(dtype)).name
    return requires(dtype=(dtype, wide))


def _values(op: str, dtype: DType, layout: str) -> Array:
    shape, rng = layouts.TABLES[layout], samples.seeded("running", op, dtype.name, layout)
    if op == "TALLY":
        return rng.integers(0, _DIFFERENT, shape).astype(dtype.numpy)
    return samples.near_one(dtype, shape, rng)


@conformance("L1", cases=CASES, requires=_needs,
             suggests="a loop's register does not keep its value from step to step, or what a step stores is "
                      "not there for the next ({op} of {dtype}, layout {layout})")
def running(subject: Subject, op: str, dtype: str, layout: str) -> None:
    """Each element of a SCAN within the tolerance of a sum, extremes and integers exactly; counts exactly."""
    of = dtypes.by_name(dtype)
    x = layouts.ARRANGE[layout](subject, _values(op, of, layout), of)
    if op == "TALLY":
        have = batch.realized({0: build.tally(x.node, _DIFFERENT)})[0]
        subject.expect(have, reference.tally(x.values, _DIFFERENT), "int32", op=f"TALLY of {dtype}, {layout}")
        return
    for name in NAMES:
        for axis in (0, 1):
            have = batch.value(subject, ("scan", dtype, layout), (name, axis), lambda: _scans(x.node))
            kind: Kind = "sum" if name in ("ADD", "MUL") else "exact"
            subject.expect(have, reference.scan(name, x.values, axis, of), of, kind,
                           op=f"SCAN {name} of {dtype} along {axis}, {layout}")


def _scans(x: Node) -> Mapping[tuple[Running, int], Node]:
    return {(name, axis): build.scan(name, x, axis) for name in NAMES for axis in (0, 1)}
