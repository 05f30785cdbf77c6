"""What a graph may not be."""
from __future__ import annotations

import pytest

from pluggrad import dtypes
from pluggrad.errors import VerifyError
from pluggrad.graph import build, ops
from pluggrad.graph.grammar import GRAMMAR, OPERAND_KINDS
from pluggrad.graph.types import tensor_type
from pluggrad.ir.node import Node, Op, node
from pluggrad.ir.verify import verify
from pluggrad.target import DeviceId

HERE, THERE = DeviceId("here"), DeviceId("there")
F32, BOOL, INT, HALF = dtypes.float32, dtypes.bool_, dtypes.int32, dtypes.float16


def slot(shape: tuple[int, ...] = (2, 3), dtype: dtypes.DType = F32, device: DeviceId = HERE) -> Node:
    return node(ops.INPUT, (), 0, tensor_type(shape, dtype, device))


def made(op: Op, *sources: Node, arg: object = None, shape: tuple[int, ...] = (2, 3),
         dtype: dtypes.DType = F32, device: DeviceId = HERE) -> Node:
    return node(op, sources, arg, tensor_type(shape, dtype, device))


def scatter(value: Node, base: Node | None = None, view: tuple[object, ...] = (),
            dtype: dtypes.DType = F32) -> Node:
    arg = ops.Scatter(0, "ADD", view, None)  # type: ignore[arg-type]  # some of them are not well formed
    return made(ops.SCATTER, base or slot(), slot(dtype=INT), value, arg=arg, dtype=dtype)


def test_what_the_door_makes_passes() -> None:
    x = slot()
    y = build.reduce(ops.SUM, build.binary(ops.ADD, x, build.const(1.0, F32, HERE)), 1)
    z = build.where(build.binary(ops.LT, x, x), build.permute(build.reshape(x, (3, 2)), (1, 0)), x)
    index = slot((5, 3), INT)
    rows = build.gather(x, index, 0)
    summed = build.scatter(build.cast(x, HALF), index, rows, 0, "ADD", (("flip", (1,)),))
    verify([y, z, build.copy(z, THERE), build.iota(3, INT, HERE), rows, summed], GRAMMAR, "building")


BAD: dict[str, tuple[Node, str]] = {
    "shape": (made(ops.ADD, slot(), slot((3,))), "sources of shape"),
    "device": (made(ops.ADD, slot(), slot(device=THERE)), "sources on here"),
    "dtype": (made(ops.ADD, slot(), slot(dtype=BOOL)), "one dtype"),
    "kind": (made(ops.EXP, slot(dtype=dtypes.int32), dtype=dtypes.int32), "of kind f"),
    "comparison": (made(ops.LT, slot(), slot()), "result of bool"),
    "bitcast": (made(ops.BITCAST, slot(), dtype=dtypes.int8), "equal size"),
    "reshape": (made(ops.RESHAPE, slot(), arg=(5,), shape=(5,)), "shape"),
    "expand": (made(ops.EXPAND, slot(), arg=(4, 3), shape=(4, 3)), "shape"),
    "permute": (made(ops.PERMUTE, slot(), arg=(1, 0)), r"shape \(3, 2\)"),
    "slice": (made(ops.SLICE, slot(), arg=((0, 2, 1), (1, 3, 1))), "a range inside"),
    "pad": (made(ops.PAD, slot(), arg=((1, 0), (0, 0))), r"shape \(3, 3\)"),
    "reduce": (made(ops.SUM, slot(), arg=(1,)), r"shape \(2,\)"),
    "reduce dtype": (made(ops.SUM, slot(), arg=(1,), shape=(2,), dtype=dtypes.float64), "result of float32"),
    "scan axis": (made(ops.SCAN, slot(), arg=ops.Scan("ADD", 2)), "one of their axes"),
    "scan halves": (made(ops.SCAN, slot(dtype=HALF), arg=ops.Scan("MUL", 0), dtype=HALF), "in float32"),
    "tally": (made(ops.TALLY, slot(dtype=INT), arg=4, shape=(2, 5), dtype=INT), r"shape \(2, 7\)"),
    "tally of floats": (made(ops.TALLY, slot(), arg=4, shape=(2, 7), dtype=INT), "rows of integers"),
    "identity": (made(ops.DETACH, slot((3, 2))), "sources of shape"),
    "copy": (made(ops.COPY, slot(), dtype=dtypes.float64, device=THERE), "result of float32"),
    "iota": (made(ops.IOTA), "integer dtype"),
    "random": (made(ops.RANDOM_BITS, *[slot((), dtypes.uint32)] * 3), "uint32 result"),
    "gather rank": (made(ops.GATHER, slot(), slot((2,), INT), arg=ops.Gather(0, None)), "integers of"),
    "gather shape": (made(ops.GATHER, slot(), slot((5, 3), INT), arg=ops.Gather(0, None)), "index's shape"),
    "gather index": (made(ops.GATHER, slot(), slot(), arg=ops.Gather(0, None)), "integers of shape"),
    "scatter value": (scatter(slot((2, 1))), "a value for each index"),
    "scatter halves": (scatter(slot(dtype=HALF), slot(dtype=HALF), dtype=HALF), "combined in float32"),
    "scatter view": (scatter(slot(), view=(("reshape", (6,)),)), r"integers of shape \(6,\)"),
    "update": (made(ops.UPDATE, slot(), slot((3,)), shape=(3,)), "base's shape"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_graph(case: str) -> None:
    bad, text = BAD[case]
    with pytest.raises(VerifyError, match=text):
        verify([bad], GRAMMAR, "folding")


def test_every_primitive_has_a_rule() -> None:
    assert set(GRAMMAR.rules) == set(ops.GRAPH_OPS.values())
    assert set(OPERAND_KINDS) == ops.ELEMENTWISE - {ops.CAST, ops.BITCAST}
