"""What a kernel may not be, and that the error says where."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from pluggrad import dtypes
from pluggrad.errors import VerifyError
from pluggrad.graph import ops as graph_ops
from pluggrad.ir.node import Node, node
from pluggrad.kernel import ops
from pluggrad.kernel.grammar import GRAMMAR, verify_kernel
from pluggrad.kernel.kernel import Axis, BufferParam, Kernel, axis, const
from tests.unit.kernel.kernels import (
    F32,
    counting,
    kernel,
    load,
    matmul,
    op,
    read,
    reduce,
    running,
    scatter,
    softmax,
    store,
    strided,
    write,
)

BOOL, I32 = dtypes.bool_, dtypes.int32


def holding(value: Node, index: Node | None = None) -> Kernel:
    stored = store(1, (0,), index or axis(0), value)
    return kernel([4, 4], [read(16), write(16, value.type)], stored, values=(F32,))


def test_good_kernels_pass() -> None:
    for built in (matmul(2, 3, 4), softmax(2, 3), holding(load(0, axis(0))), running(1)):
        verify_kernel(built, "building")


BAD: dict[str, tuple[Callable[[], Kernel], str]] = {
    "mixed dtypes": (lambda: holding(op("ADD", load(0, axis(0)), const(1, I32))), "one dtype"),
    "float bits": (lambda: holding(op("XOR", load(0, axis(0)), load(0, axis(0)))), "of kind"),
    "comparison": (lambda: holding(op("LT", load(0, axis(0)), load(0, axis(0)))), "result of bool"),
    "condition": (lambda: holding(op("WHERE", *[load(0, axis(0))] * 3)), "bool condition"),
    "bitcast": (lambda: holding(op("BITCAST", load(0, axis(0)), dtype=dtypes.int64)), "equal size"),
    "arity": (lambda: holding(node(ops.KERNEL_OPS["NEG"], (load(0, axis(0)),) * 2, None, F32)), "1 sources"),
    "graph op": (lambda: holding(node(graph_ops.SUM, (load(0, axis(0)),), (0,), F32)), "kernel stage"),
    "index dtype": (lambda: holding(load(0, op("CAST", axis(0), dtype=I32))), "int64 index"),
    "gate dtype": (lambda: holding(load(0, axis(0), gate=axis(0))), "bool gate"),
    "tail": (lambda: holding(node(ops.TAIL, (load(0, axis(0)),), (0, 2, 7), BOOL)), "an int64 position"),
    "head": (lambda: holding(node(ops.HEAD, (load(0, axis(0)),), 0, BOOL)), "an int64 position"),
    "load dtype": (lambda: holding(load(0, axis(0), I32)), "type float32"),
    "no such buffer": (lambda: holding(load(7, axis(0))), "a slot below 2"),
    "reading the output": (lambda: holding(load(1, axis(0))), "role in"),
    "no such value": (lambda: holding(node(ops.VALUE, (), 3, F32)), "one of the values"),
    "value dtype": (lambda: holding(node(ops.VALUE, (), 0, I32)), "one of the values"),
    "unknown axis": (lambda: holding(load(0, axis(9))), "axes"),
    "free axis": (lambda: holding(load(0, strided(a0=4, a1=1))), "axes that hold"),
    "combining name": (lambda: scatter("SUB", 4, 4), "to combine by"),
    "combining over nothing": (lambda: replace(scatter("ADD", 4, 4), buffers=(write(4), *scatter(
        "ADD", 4, 4).buffers[1:])), "role inout"),
    "reading the status": (lambda: replace(holding(load(0, axis(0))), buffers=(
        BufferParam(F32, 16, "status"), write(16))), "role in"),
    "streaming what is read": (lambda: replace(holding(load(0, axis(0))), buffers=(
        replace(read(16), streamed=True), write(16))), "streamed in role out"),
    "running name": (lambda: holding(node(ops.SCAN, (load(0, axis(0)),), ("SUB", 0), F32)), "one of ADD"),
    "running along no loop": (lambda: replace(running(0), axes=(Axis(0, 4, "PARALLEL"), Axis(1, 4, "LOOP"))),
                              "a LOOP axis"),
    "running around a loop": (lambda: running(0), "none within it"),
    "counting floats": (lambda: counting(F32), "an integer"),
    "counting what is only written": (lambda: counting(I32), "role inout"),
    "reduction name": (lambda: holding(reduce("SUB", load(0, axis(1)), 1)), "one of ADD"),
    "reduction of nothing": (lambda: holding(reduce("ADD", load(0, axis(0)))), "at least one axis"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_kernel(case: str) -> None:
    make, text = BAD[case]
    with pytest.raises(VerifyError, match=text) as caught:
        verify_kernel(make(), "a pass of mine")
    assert "after a pass of mine" in str(caught.value)
    assert "%" in caught.value.got  # the neighborhood


def test_every_op_has_a_rule() -> None:
    assert set(GRAMMAR.rules) == set(ops.KERNEL_OPS.values())
