"""What the interpreter does for one node of a kernel: the array of a value, and the writing of a store."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

import numpy as np

from pluggrad import dtypes
from pluggrad.dtypes import Scalar
from pluggrad.errors import InternalError
from pluggrad.ir.node import Node, Op
from pluggrad.kernel import numpy_ops, ops
from pluggrad.kernel.index_nodes import Linear
from pluggrad.kernel.numpy_layout import Frame, Layout
from pluggrad.kernel.numpy_ops import Array

# from the arrays of the sources: the array of a node, and the writing of a store
Compute = Callable[[Frame, Sequence[Array]], Array]
Write = Callable[[Frame, Sequence[Array]], None]


def compute_of(layout: Layout, node: Node) -> Compute:
    """How the array of a node that is no STORE is computed."""
    compute = _contraction if layout.contracts(node) else _COMPUTE.get(node.op, _elementwise)
    return compute(layout, node)


def _elementwise(layout: Layout, node: Node) -> Compute:
    function = numpy_ops.elementwise(node.op.name, node.type)
    return lambda frame, sources: function(*sources)


def _conversion(layout: Layout, node: Node) -> Compute:
    convert = numpy_ops.cast if node.op.name == "CAST" else numpy_ops.bitcast
    function = convert(node.src[0].type, node.type)
    return lambda frame, sources: function(sources[0])


def _axis(layout: Layout, node: Node) -> Compute:
    dimension = layout.dimension[node.arg]
    shape = tuple([-1 if i == dimension else 1 for i in range(len(layout.ones))])
    return lambda frame, sources: np.arange(*frame.ranges[dimension], dtype=np.int64).reshape(shape)


def _tail(layout: Layout, node: Node) -> Compute:
    extent = node.arg[2]
    return lambda frame, sources: sources[0] < extent


def _head(layout: Layout, node: Node) -> Compute:
    return lambda frame, sources: sources[0] >= 0


def _const(layout: Layout, node: Node) -> Compute:
    constant = _full(layout, node.arg.of(node.type), node.type)
    return lambda frame, sources: constant


def _value(layout: Layout, node: Node) -> Compute:
    slot, dtype = node.arg, node.type
    return lambda frame, sources: _full(layout, dtypes.cast_scalar(frame.values[slot], dtype), dtype)


def _full(layout: Layout, value: Scalar, dtype: dtypes.DType) -> Array:
    filled = np.full(layout.ones, value, numpy_ops.value_dtype(dtype))
    return numpy_ops.round_bfloat16(filled) if dtype is dtypes.bfloat16 else filled


def _reduce(layout: Layout, node: Node) -> Compute:
    name, axes = node.arg
    combine = numpy_ops.reduction(name, node.type)
    dimensions = tuple([layout.dimension[axis] for axis in axes])
    repeated = frozenset(axes) - layout.free[node.src[0]]

    def compute(frame: Frame, sources: Sequence[Array]) -> Array:
        source = sources[0]
        if repeated:  # the same value at every position still counts once for each
            shape = np.broadcast_shapes(source.shape, layout.shape(repeated, frame.ranges))
            source = np.broadcast_to(source, shape)
        return combine(source, dimensions)

    return compute


def _scan(layout: Layout, node: Node) -> Compute:
    name, axis = node.arg
    combine, dimension = numpy_ops.running(name, node.type), layout.dimension[axis]
    axes = layout.free[node]

    def compute(frame: Frame, sources: Sequence[Array]) -> Array:
        return combine(np.broadcast_to(sources[0], layout.shape(axes, frame.ranges)), dimension)

    return compute


def _tally(layout: Layout, node: Node) -> Compute:
    dimension, dtype = layout.dimension[node.arg[1]], numpy_ops.value_dtype(node.type)
    axes = layout.free[node]

    def compute(frame: Frame, sources: Sequence[Array]) -> Array:
        index = np.moveaxis(np.broadcast_to(sources[0], layout.shape(axes, frame.ranges)), dimension, -1)
        order = np.argsort(index, axis=-1, kind="stable")
        ordered = np.take_along_axis(index, order, -1)
        place = np.broadcast_to(np.arange(index.shape[-1]), index.shape)
        new = np.diff(ordered, axis=-1, prepend=ordered[..., :1] - 1) != 0
        since = place - np.maximum.accumulate(np.where(new, place, 0), axis=-1)
        counts = np.empty(index.shape, dtype)
        np.put_along_axis(counts, order, since.astype(dtype), -1)
        return np.moveaxis(counts, -1, dimension)

    return compute


def _contraction(layout: Layout, node: Node) -> Compute:
    """Sum of products as a batched matrix product, never made element by element."""
    left, right = [layout.free[factor] for factor in node.src[0].src]
    bound = frozenset(node.arg[1])
    batch, rows, inner, columns, none = [
        [layout.dimension[axis] for axis in layout.ids if axis in axes]
        for axes in (left & right - bound, left - right, bound, right - left, set(layout.ids) - left - right)]
    result_order = batch + rows + columns + inner + none
    back = [result_order.index(dimension) for dimension in range(len(result_order))]

    def compute(frame: Frame, sources: Sequence[Array]) -> Array:
        x = sources[0].transpose(batch + rows + inner + columns + none)
        y = sources[1].transpose(batch + inner + columns + rows + none)
        outer, kept = x.shape[:len(batch) + len(rows)], y.shape[len(batch) + len(inner):][:len(columns)]
        b, m = math.prod(outer[:len(batch)]), math.prod(outer[len(batch):])
        k, n = math.prod(y.shape[len(batch):][:len(inner)]), math.prod(kept)
        result: Array = np.matmul(x.reshape(b, m, k), y.reshape(b, k, n))
        return result.reshape(outer + kept + (1,) * len(inner + none)).transpose(back)

    return compute


# --------------------------------------------------------------------------------------------------- memory


def _view(layout: Layout, position: Linear, axes: AbstractSet[int], slot: int) -> Callable[[Frame], Array]:
    """A buffer's elements at a linear index, in place, over the dimensions of `axes`."""
    strides = [(layout.dimension[axis], position.strides.get(axis, 0)) for axis in axes]

    def view(frame: Frame) -> Array:
        buffer = frame.buffers[slot]
        shape, steps, offset = list(layout.ones), [0] * len(layout.ones), position.offset
        for dimension, stride in strides:
            start, stop = frame.ranges[dimension]
            shape[dimension] = stop - start
            steps[dimension] = stride * buffer.itemsize
            offset += stride * start
        return np.ndarray(shape, buffer.dtype, buffer, offset * buffer.itemsize, steps)

    return view


def _load(layout: Layout, node: Node) -> Compute:
    if node in layout.strided:
        return _load_view(layout, node)

    def compute(frame: Frame, sources: Sequence[Array]) -> Array:
        buffer = frame.buffers[node.arg]
        if len(sources) == 1:
            return numpy_ops.decode(buffer[layout.places(frame, sources[0], node, node.arg)], node.type)
        gate = sources[1]
        if not gate.any():  # whatever the indices are, and however small the buffer
            shape = layout.shape(layout.free[node], frame.ranges)
            return numpy_ops.decode(np.zeros(shape, buffer.dtype), node.type)
        index = layout.places(frame, np.where(gate, sources[0], 0), node, node.arg)
        loaded = np.where(gate, buffer[index], np.zeros((), buffer.dtype))
        return numpy_ops.decode(loaded, node.type)

    return compute


def _prefetch(layout: Layout, node: Node) -> Compute:
    return lambda frame, sources: sources[0]


def _load_view(layout: Layout, node: Node) -> Compute:
    view = _view(layout, layout.strided[node], layout.free[node], node.arg)
    # a view must not change under later stores; NumPy itself checks a single assignment for overlap
    copy = len(layout.kernel.stores) > 1

    def compute(frame: Frame, sources: Sequence[Array]) -> Array:
        seen = view(frame)
        return numpy_ops.decode(seen.copy() if copy else seen, node.type)

    return compute


def write_of(layout: Layout, node: Node) -> Write:
    """How a STORE writes its buffer."""
    slot, axes, *combine = node.arg
    index_axes = frozenset(axes)
    if not layout.free[node] <= index_axes:
        raise InternalError(op=f"store to buffer {slot}", expected=f"values over axes {sorted(axes)}",
                            got=f"axes {sorted(layout.free[node])}")
    dtype = layout.kernel.buffers[slot].dtype
    if node in layout.strided:
        view = _view(layout, layout.strided[node], index_axes, slot)

        def write_view(frame: Frame, sources: Sequence[Array]) -> None:
            view(frame)[...] = numpy_ops.encode(sources[0], dtype)

        return write_view

    def write(frame: Frame, sources: Sequence[Array]) -> None:
        buffer, shape = frame.buffers[slot], layout.shape(index_axes, frame.ranges)
        index, value, *gates = [np.broadcast_to(source, shape) for source in sources]
        if gates and not gates[0].any():
            return
        index = layout.places(frame, np.where(gates[0], index, 0) if gates else index, node, slot)
        if gates:
            index, value = np.broadcast_to(index, shape)[gates[0]], value[gates[0]]
        if combine:
            numpy_ops.combine_at(combine[0])(buffer, index, value)
        else:
            buffer[index] = numpy_ops.encode(value, dtype)

    return write


_COMPUTE: Final[dict[Op, Callable[[Layout, Node], Compute]]] = {
    ops.AXIS: _axis, ops.TAIL: _tail, ops.HEAD: _head, ops.CONST: _const, ops.VALUE: _value, ops.LOAD: _load,
    ops.REDUCE: _reduce, ops.SCAN: _scan, ops.TALLY: _tally, ops.PREFETCH: _prefetch,
    ops.KERNEL_OPS["CAST"]: _conversion, ops.KERNEL_OPS["BITCAST"]: _conversion,
}
