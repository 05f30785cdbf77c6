"""Hand-built kernels for the tests of this folder."""
from __future__ import annotations

from collections.abc import Sequence

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.ir.node import Node, node
from pluggrad.kernel import ops
from pluggrad.kernel.kernel import Axis, BufferParam, Kernel, axis, const

F32, I64 = dtypes.float32, dtypes.int64


def op(name: str, *sources: Node, dtype: DType | None = None) -> Node:
    """An elementwise node; its dtype is the last source's unless given."""
    return node(ops.KERNEL_OPS[name], sources, None, dtype or sources[-1].type)


def strided(offset: int = 0, **strides: int) -> Node:
    """offset + sum of axis * stride: strided(1, a0=3, a2=1)."""
    result = const(offset)
    for name, stride in strides.items():
        result = op("ADD", result, op("MUL", axis(int(name[1:])), const(stride)))
    return result


def load(buffer: int, index: Node, dtype: DType = F32, gate: Node | None = None) -> Node:
    return node(ops.LOAD, (index, gate) if gate is not None else (index,), buffer, dtype)


def reduce(name: str, source: Node, *axes: int) -> Node:
    return node(ops.REDUCE, (source,), (name, axes), source.type)


def store(buffer: int, axes: tuple[int, ...], index: Node, value: Node, gate: Node | None = None,
          combine: str | None = None) -> Node:
    sources = (index, value) if gate is None else (index, value, gate)
    arg = (buffer, axes) if combine is None else (buffer, axes, combine)
    return node(ops.STORE, sources, arg, value.type)


def kernel(extents: Sequence[int], buffers: Sequence[BufferParam], *stores: Node,
           values: tuple[DType, ...] = ()) -> Kernel:
    """Axes 0, 1, ... of these extents; those that a REDUCE binds are not told apart by kind."""
    axes = tuple(Axis(i, extent, "LOOP") for i, extent in enumerate(extents))
    return Kernel("test", tuple(buffers), values, axes, stores)


def read(size: int, dtype: DType = F32) -> BufferParam:
    return BufferParam(dtype, size, "in")


def write(size: int, dtype: DType = F32) -> BufferParam:
    return BufferParam(dtype, size, "out")


def elementwise(name: str, n: int, sources: Sequence[DType], result: DType) -> Kernel:
    """result[i] = op(source[i], ...)."""
    loads = [load(slot, axis(0), dtype) for slot, dtype in enumerate(sources)]
    value = op(name, *loads, dtype=result)
    buffers = [read(n, dtype) for dtype in sources] + [write(n, result)]
    return kernel([n], buffers, store(len(sources), (0,), axis(0), value))


def matmul(m: int, n: int, k: int, dtype: DType = F32) -> Kernel:
    """out[m, n] = sum over k of a[m, k] * b[k, n]; axes 0, 1, 2 are m, n, k."""
    product = op("MUL", load(0, strided(a0=k, a2=1), dtype), load(1, strided(a2=n, a1=1), dtype))
    buffers = [read(m * k, dtype), read(k * n, dtype), write(m * n, dtype)]
    return kernel([m, n, k], buffers, store(2, (0, 1), strided(a0=n, a1=1), reduce("ADD", product, 2)))


def scatter(name: str | None, count: int, size: int, dtype: DType = F32) -> Kernel:
    """out[index[i]] = value[i], or combined with it; indices are in buffer 1, values in buffer 2."""
    value = load(2, axis(0), dtype)
    buffers = [BufferParam(dtype, size, "inout"), read(count, I64), read(count, dtype)]
    return kernel([count], buffers, store(0, (0,), load(1, axis(0), I64), value, combine=name))


def softmax(rows: int, columns: int) -> Kernel:
    """Two reductions and a store over a third axis of the same extent."""
    def x(at: int) -> Node:
        return load(0, strided(a0=columns, **{f"a{at}": 1}))
    largest = reduce("MAX", x(1), 1)
    total = reduce("ADD", op("EXP", op("SUB", x(2), largest)), 2)
    value = op("DIV", op("EXP", op("SUB", x(3), largest)), total)
    size = rows * columns
    return kernel([rows, columns, columns, columns], [read(size), write(size)],
                  store(1, (0, 3), strided(a0=columns, a3=1), value))


def running(along: int) -> Kernel:
    """Running sums of a table along one of two loops."""
    total = node(ops.SCAN, (load(0, strided(a0=4, a1=1)),), ("ADD", along), F32)
    return kernel([4, 4], [read(16), write(16)], store(1, (0, 1), strided(a0=4, a1=1), total))


def counting(dtype: DType) -> Kernel:
    """How many equal integers come before each of four."""
    index = op("CAST", load(0, axis(0), dtypes.int32), dtype=I64)
    earlier = node(ops.TALLY, (index,), (1, 0), dtype)
    return kernel([4], [read(4, dtypes.int32), write(8, dtype)], store(1, (0,), axis(0), earlier))
