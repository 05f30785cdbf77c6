"""The smallest kernel there is: out = in * value + value, launched and read back."""
from __future__ import annotations

import numpy as np

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.graph import ops as g
from pluggrad.ir.node import node
from pluggrad.kernel import ops
from pluggrad.kernel.kernel import Axis, BufferParam, Kernel, axis
from pluggrad.testing.conformance.registry import conformance, product
from pluggrad.testing.conformance.requirement import requires
from pluggrad.testing.conformance.subject import Subject


def affine(size: int, dtype: DType = dtypes.float32) -> Kernel:
    """out[i] = in[i] * values[0] + values[1], `size` elements; buffers (out, in)."""
    position = axis(0)
    loaded = node(ops.LOAD, (position,), 1, dtype)
    scale, shift = (node(ops.VALUE, (), slot, dtype) for slot in (0, 1))
    result = node(g.ADD, (node(g.MUL, (loaded, scale), None, dtype), shift), None, dtype)
    store = node(ops.STORE, (position, result), (0, (0,)), dtype)
    return Kernel(f"affine_{size}", (BufferParam(dtype, size, "out"), BufferParam(dtype, size, "in")),
                  (dtype, dtype), (Axis(0, size, "PARALLEL"),), (store,))


@conformance("L0", "launch", cases=product(size=(1, 7, 64, 1025)), requires=requires(dtype="int32"),
             suggests="a compiled kernel does not run as launched: buffers, run-time values, or tasks")
def launch(subject: Subject, size: int) -> None:
    data = np.arange(size, dtype=np.int32)
    out, _ = subject.run(affine(size, dtypes.int32), [np.zeros(size, np.int32), data], (3, -5))
    subject.expect(out, data * 3 - 5, "int32", op="launch")
