"""Kernels as text and back, exactly; digests that hold across processes."""
from __future__ import annotations

import math
import struct
import subprocess
import sys
from dataclasses import replace

import pytest

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.errors import FileFormatError
from pluggrad.graph.ops import ELEMENTWISE
from pluggrad.ir.node import node
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.kernel import Axis, BufferParam, ConstBits, Kernel, axis, const
from pluggrad.kernel.text import digest, kernel_text, parse_kernel
from tests.unit.kernel.kernels import (
    counting,
    kernel,
    load,
    matmul,
    op,
    running,
    scatter,
    softmax,
    store,
    strided,
    write,
)


def test_golden_text() -> None:
    assert kernel_text(matmul(2, 3, 4)) == """\
kernel test
buffer 0: in float32[8]
buffer 1: in float32[12]
buffer 2: out float32[6]
axis 0: LOOP 2
axis 1: LOOP 3
axis 2: LOOP 4
%0 = const[0]: int64
%1 = axis[0]: int64
%2 = const[3]: int64
%3 = mul(%1, %2): int64
%4 = add(%0, %3): int64
%5 = axis[1]: int64
%6 = const[1]: int64
%7 = mul(%5, %6): int64
%8 = add(%4, %7): int64
%9 = const[4]: int64
%10 = mul(%1, %9): int64
%11 = add(%0, %10): int64
%12 = axis[2]: int64
%13 = mul(%12, %6): int64
%14 = add(%11, %13): int64
%15 = load[0](%14): float32
%16 = mul(%12, %2): int64
%17 = add(%0, %16): int64
%18 = add(%17, %7): int64
%19 = load[1](%18): float32
%20 = mul(%15, %19): float32
%21 = reduce[ADD, (2,)](%20): float32
%22 = store[2, (0, 1)](%8, %21): float32
"""


def every_form() -> Kernel:
    """Gates, tails, values, all axis kinds, a store without axes."""
    kinds = ("PARALLEL", "LOOP", "REDUCE", "TILE", "VECTOR")
    position = strided(-2, a0=8, a4=1)
    tail = node(ops.TAIL, (position,), (0, 8, 30), dtypes.bool_)
    tail = op("AND", node(ops.HEAD, (position,), 0, dtypes.bool_), tail)
    gated = load(0, position, dtypes.int8, tail)
    value = op("WHERE", tail, gated, node(ops.VALUE, (), 0, dtypes.int8))
    value = node(ops.PREFETCH, (value, strided(40, a0=8)), 1, dtypes.int8)
    single = op("CAST", const(True, dtypes.bool_), dtype=dtypes.int8)
    stores = store(0, (0, 4), position, value, tail), store(0, (), const(0), single)
    built = kernel([], [write(40, dtypes.int8)], *stores, values=(dtypes.int8,))
    axes = tuple(Axis(i, 4, kind) for i, kind in enumerate(kinds))
    streamed = replace(built.buffers[0], streamed=True)
    ahead = BufferParam(dtypes.int8, 64, "in", ahead=32)
    return replace(built, name="all forms", axes=axes, buffers=(streamed, ahead))


def pairs() -> Kernel:
    """Products of pairs, at an address that is divided."""
    position = axis(0)
    by_two = [node(divided, (position, const(2)), None, dtypes.int64) for divided in (ops.CDIV, ops.CMOD)]
    loads = [load(slot, index, dtypes.uint32) for slot, index in enumerate(by_two)]
    total = node(ops.DOT2, (const(0.0, dtypes.float32), *loads), None, dtypes.float32)
    params = [BufferParam(dtypes.uint32, 2, "in")] * 2
    return replace(kernel([4], [], store(2, (0,), position, total)),
                   buffers=(*params, BufferParam(dtypes.float32, 4, "out")))


KERNELS = (matmul(3, 4, 5), softmax(2, 3), scatter("ADD", 5, 3), running(1), counting(dtypes.int32),
           every_form(), pairs())


@pytest.mark.parametrize("built", KERNELS)
def test_round_trip(built: Kernel) -> None:
    assert parse_kernel(kernel_text(built)) == built  # nodes are interned: equal means the same


def test_every_op_of_kernels_makes_the_round_trip() -> None:
    met = {n.op for built in KERNELS for n in toposort(built.stores)}
    assert set(ops.KERNEL_OPS.values()) - ELEMENTWISE <= met


FLOATS = [0.0, -0.0, 0.1, 1 / 3, -2.5e-7, 6.1e-5, math.inf, -math.inf, math.nan, 1e30, 5e-324]
BITS = [(dtype, const(value, dtype).arg) for dtype in dtypes.FLOATS for value in FLOATS] + [
    (dtypes.float32, ConstBits(0xFFC12345, True)), (dtypes.float64, ConstBits(0x7FF8000000000001, True)),
    (dtypes.uint64, ConstBits(dtypes.uint64.max, False)), (dtypes.int64, ConstBits(dtypes.int64.min, False)),
    (dtypes.bool_, ConstBits(1, False)), (dtypes.bool_, ConstBits(0, False)),
]


@pytest.mark.parametrize(("dtype", "bits"), BITS)
def test_constants_keep_their_bits(dtype: DType, bits: ConstBits) -> None:
    constant = node(ops.CONST, (), bits, dtype)
    built = kernel([], [write(1, dtype)], store(0, (), const(0), constant))
    assert parse_kernel(kernel_text(built)).stores[0].src[1] is constant


def test_bfloat16_constants_are_rounded() -> None:
    nearest = struct.unpack(">f", b"\x3e\xab\0\0")[0]
    assert const(1 / 3, dtypes.bfloat16).arg.of(dtypes.bfloat16) == nearest


def test_digest_leaves_out_the_name_and_nothing_else() -> None:
    built = matmul(2, 3, 4)
    assert digest(replace(built, name="other")) == digest(built)
    retagged = replace(built, axes=(*built.axes[:2], Axis(2, 4, "REDUCE")))
    streamed = replace(built, buffers=(*built.buffers[:2], replace(built.buffers[2], streamed=True)))
    ahead = replace(built, buffers=(replace(built.buffers[0], ahead=4), *built.buffers[1:]))
    different = [built, retagged, streamed, ahead, matmul(2, 3, 4, dtypes.float64), softmax(2, 3)]
    assert len({digest(each) for each in different}) == len(different)


def test_digest_is_the_same_in_another_process() -> None:
    code = ("from pluggrad.kernel.text import digest, parse_kernel; import sys;"
            "print(digest(parse_kernel(sys.stdin.read())))")
    built = softmax(3, 4)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input=kernel_text(built), text=True, capture_output=True, check=True)
    assert done.stdout.strip() == digest(built)


GOOD = kernel_text(matmul(2, 3, 4))


@pytest.mark.parametrize("bad", [
    "", "graph x", GOOD.replace("= mul", "= mull"), GOOD.replace("%22 = ", ""),
    GOOD.replace("(%20)", "(%77)"), GOOD.replace("mul(%1, %2)", "mul(%1)"),
    GOOD.replace("buffer 0: in", "buffer 0: into"), GOOD.replace("axis 1: LOOP", "axis 1: ROUND"),
    GOOD.replace("const[3]", "const[three]"), GOOD.replace(": float32\n", ": float33\n"), GOOD[:-30],
    GOOD.replace("reduce[ADD, (2,)]", "reduce[ADD]"), GOOD.replace("[2, (0, 1)]", "[__import__('os')]"),
], ids=range(13))
def test_damaged_text_is_refused(bad: str) -> None:
    with pytest.raises(FileFormatError):
        parse_kernel(bad)


def test_names_stay_on_one_line() -> None:
    built = kernel([2], [write(2)], store(0, (0,), axis(0), const(1.0, dtypes.float32)))
    odd = replace(built, name="two\nlines")
    assert parse_kernel(kernel_text(odd)).name == "two lines"
