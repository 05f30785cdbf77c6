"""Kernels made by hand, for tests of the contract that look below tensors."""
from __future__ import annotations

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.graph import ops as g
from pluggrad.ir.node import node
from pluggrad.kernel import ops
from pluggrad.kernel.kernel import Axis, BufferParam, Kernel, axis, cast


def affine(size: int, dtype: DType = dtypes.int32) -> Kernel:
    """out[i] = in[i] * values[0] + values[1], `size` elements; buffers (out, in)."""
    position = axis(0)
    loaded = node(ops.LOAD, (position,), 1, dtype)
    scale, shift = (node(ops.VALUE, (), slot, dtype) for slot in (0, 1))
    result = node(g.ADD, (node(g.MUL, (loaded, scale), None, dtype), shift), None, dtype)
    store = node(ops.STORE, (position, result), (0, (0,)), dtype)
    return Kernel(f"affine_{size}", (BufferParam(dtype, size, "out"), BufferParam(dtype, size, "in")),
                  (dtype, dtype), (Axis(0, size, "PARALLEL"),), (store,))


def sums_of_larger(rows: int, columns: int) -> Kernel:
    """out[i] = sum of max(in[k], i) over k, int32; buffers (out, in). Work that no compiler can shorten."""
    row, column = axis(0), axis(1)
    loaded = node(ops.LOAD, (column,), 1, dtypes.int32)
    larger = node(g.MAX, (loaded, cast(row, dtypes.int32)), None, dtypes.int32)
    total = node(ops.REDUCE, (larger,), ("ADD", (1,)), dtypes.int32)
    store = node(ops.STORE, (row, total), (0, (0,)), dtypes.int32)
    return Kernel(f"sums_of_larger_{rows}_{columns}",
                  (BufferParam(dtypes.int32, rows, "out"), BufferParam(dtypes.int32, columns, "in")), (),
                  (Axis(0, rows, "PARALLEL"), Axis(1, columns, "REDUCE")), (store,))
