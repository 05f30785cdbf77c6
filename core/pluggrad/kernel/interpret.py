"""The oracle: runs a Kernel with vectorized NumPy, tuned or not. What it computes is what the kernel means.

Each axis of the kernel is one array dimension; a node is an array with the axis's extent along the dimensions
that it depends on and 1 along the others, so that NumPy's broadcasting is the loop nest. All values of an
evaluation are computed before anything is stored. An element of an inout buffer may be read only where it is
also written. What meets in one element is stored in the order of the axes, and the last stays.

With local memory stores run in the order of order.py, loop by loop; each task's copy is a part of one array,
and so is that of each position of a REDUCE axis that is stored over.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np

from pluggrad import dtypes
from pluggrad.dtypes import Scalar
from pluggrad.errors import InternalError
from pluggrad.ir.node import Node, Op
from pluggrad.ir.walk import toposort
from pluggrad.kernel import numpy_ops, ops
from pluggrad.kernel.free import free_axes
from pluggrad.kernel.index_nodes import Linear, linear
from pluggrad.kernel.kernel import BufferParam, Kernel
from pluggrad.kernel.numpy_ops import Array
from pluggrad.kernel.order import Group, Step, is_independent, store_order, stores_of

BLOCK_ELEMENTS: Final = 1 << 24  # the largest array made where an axis can be cut into blocks

Range = tuple[int, int]
Run = Callable[[Sequence[Array], Sequence[Scalar]], None]


@dataclass(slots=True)
class _Frame:
    """The buffers and values of one run, and the range of positions along each dimension at present."""

    buffers: Sequence[Array]
    values: Sequence[Scalar]
    ranges: Sequence[Range]

    def at(self, dimension: int, position: int) -> _Frame:
        """The same, at one position along a dimension."""
        ranges = list(self.ranges)
        ranges[dimension] = position, position + 1
        return _Frame(self.buffers, self.values, ranges)


# the array of one node, and the writing of one store, from the arrays of the sources
_Step = Callable[[_Frame, Sequence[Array]], Array]
_Write = Callable[[_Frame, Sequence[Array]], None]


@dataclass(frozen=True, slots=True)
class _Instruction:
    """Put `step` of the registers `sources` into register `target`, then forget the registers `dead`."""

    step: _Step
    target: int
    sources: tuple[int, ...]
    dead: tuple[int, ...]


def interpret(kernel: Kernel, buffers: Sequence[Array], values: Sequence[Scalar]) -> None:
    """Run `kernel` once.

    `buffers`: one contiguous 1-D array of storage dtype (bfloat16: uint16) per slot, of at least the declared
    size; `values`: the run-time values. InternalError for arguments that do not fit, or an access outside a
    buffer.
    """
    compile_kernel(kernel)(buffers, values)


def compile_kernel(kernel: Kernel) -> Run:
    """What `interpret` does, with everything that depends on the kernel alone done once."""
    if kernel.local:
        return _compile_ordered(kernel)
    layout = _Layout(kernel)
    cuts = _block_cuts(layout)
    varying = frozenset(layout.ids[dimension] for dimension, _ in cuts)
    register = {node: i for i, node in enumerate(layout.order)}
    computed = [node for node in layout.order if node.op is not ops.STORE]
    once = [node for node in computed if not layout.free[node] & varying]
    again = [node for node in computed if layout.free[node] & varying]
    kept_again = {source for store in kernel.stores for source in layout.operands(store)}
    kept_once = kept_again.union(*(layout.operands(node) for node in again))
    prologue = _instructions(layout, once, register, kept_once)
    body = _instructions(layout, again, register, kept_again | set(once))
    writes = [(_store(layout, store), [register[s] for s in layout.operands(store)])
              for store in kernel.stores]
    everything: list[Range] = [(0, extent) for extent in layout.extents]

    def run(buffers: Sequence[Array], values: Sequence[Scalar]) -> None:
        _check_arguments(kernel, buffers, values)
        frame = _Frame(buffers, values, everything)
        registers: list[Array | None] = [None] * len(register)
        with np.errstate(all="ignore"):
            _execute(prologue, frame, registers)
            for ranges in _blocks(everything, cuts):
                frame.ranges = ranges
                _execute(body, frame, registers)
                for write, sources in writes:
                    write(frame, [registers[i] for i in sources])  # type: ignore[misc]  # set by a step

    return run


def _compile_ordered(kernel: Kernel) -> Run:
    """A kernel with local memory: step after step, on copies of it for the tasks of a block."""
    layout = _Layout(kernel)
    cuts = _block_cuts(layout)
    steps = [_ordered_step(layout, step) for step in store_order(kernel)]
    everything: list[Range] = [(0, extent) for extent in layout.extents]

    def run(buffers: Sequence[Array], values: Sequence[Scalar]) -> None:
        _check_arguments(kernel, buffers, values)
        with np.errstate(all="ignore"):
            for ranges in _blocks(everything, cuts):
                local = [_unset(kernel.buffers[slot], math.prod(layout.shape(axes, ranges)))
                         for slot, axes in layout.local.items()]
                for step in steps:
                    step(_Frame([*buffers, *local], values, ranges))

    return run


def _unset(param: BufferParam, copies: int) -> Array:
    """Local memory before anything is stored there: NaN, to be seen where it is read."""
    return np.full(copies * param.size * param.dtype.itemsize, 0xFF, np.uint8).view(param.dtype.numpy)


def _ordered_step(layout: _Layout, step: Step) -> Callable[[_Frame], None]:
    if isinstance(step, Group) or is_independent(layout.kernel, step):
        return _group_step(layout, stores_of(step))
    dimension = layout.dimension[step.axis]
    inner = [_ordered_step(layout, each) for each in step.steps]

    def run(frame: _Frame) -> None:
        for position in range(*frame.ranges[dimension]):
            for each in inner:
                each(frame.at(dimension, position))

    return run


def _group_step(layout: _Layout, numbers: Sequence[int]) -> Callable[[_Frame], None]:
    stores = [layout.kernel.stores[number] for number in numbers]
    order = toposort(stores, layout.operands)
    register = {node: i for i, node in enumerate(order)}
    kept = {source for store in stores for source in layout.operands(store)}
    body = _instructions(layout, [n for n in order if n.op is not ops.STORE], register, kept)
    writes = [(_store(layout, store), [register[s] for s in layout.operands(store)]) for store in stores]

    def run(frame: _Frame) -> None:
        registers: list[Array | None] = [None] * len(register)
        _execute(body, frame, registers)
        for write, sources in writes:
            write(frame, [registers[i] for i in sources])  # type: ignore[misc]  # set by a step

    return run


def _execute(instructions: Iterable[_Instruction], frame: _Frame, registers: list[Array | None]) -> None:
    for instruction in instructions:
        sources = [registers[i] for i in instruction.sources]
        registers[instruction.target] = instruction.step(frame, sources)  # type: ignore[arg-type]  # set before
        for i in instruction.dead:
            registers[i] = None


def _check_arguments(kernel: Kernel, buffers: Sequence[Array], values: Sequence[Scalar]) -> None:
    if len(buffers) != len(kernel.arguments) or len(values) != len(kernel.values):
        raise InternalError(op=kernel.name, got=f"{len(buffers)} and {len(values)}",
                            expected=f"{len(kernel.arguments)} buffers and {len(kernel.values)} values")
    for slot, (buffer, param) in enumerate(zip(buffers, kernel.arguments)):
        if buffer.ndim != 1 or buffer.dtype != param.dtype.numpy or buffer.size < param.size:
            raise InternalError(op=f"{kernel.name}, buffer {slot}", got=f"{buffer.dtype}{list(buffer.shape)}",
                                expected=f"{param.dtype.storage}[{param.size}]")


# ------------------------------------------------------------------------------------------------- analysis


class _Layout:
    """Which dimension an axis is, which axes each node depends on, and which nodes become arrays at all."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.ids = [axis.id for axis in kernel.axes]
        self.extents = [axis.extent for axis in kernel.axes]
        self.dimension = {axis.id: i for i, axis in enumerate(kernel.axes)}
        self.ones = (1,) * max(1, len(self.ids))  # a kernel without axes computes in arrays too
        self.parallel = frozenset([a.id for a in kernel.axes if a.kind == "PARALLEL"])
        self.local = kernel.local
        order = toposort(kernel.stores)
        self.free = free_axes(order, self.local)
        self.strided = _strided(kernel, order, self.free)
        self.order = toposort(kernel.stores, self.operands)

    def operands(self, node: Node) -> tuple[Node, ...]:
        """The sources that are needed as arrays: not an index that is a stride along each axis, nor a product
        that a contraction sums up."""
        if node in self.strided:
            return node.src[1:]
        return node.src[0].src if self.contracts(node) else node.src

    def contracts(self, node: Node) -> bool:
        """A sum of products whose factors range over different axes: matmul, convolution."""
        if node.op is not ops.REDUCE or node.arg[0] != "ADD" or node.src[0].op.name != "MUL":
            return False
        if node.type.kind == "b" or (node.type.is_float and node.type.itemsize < 4):
            return False  # narrow products are rounded one by one
        left, right = [self.free[factor] for factor in node.src[0].src]
        return left != right and left & right >= set(node.arg[1])

    def shape(self, axes: AbstractSet[int], ranges: Sequence[Range]) -> tuple[int, ...]:
        """The shape of a node that depends on `axes`."""
        shape = list(self.ones)
        for axis in axes:
            start, stop = ranges[self.dimension[axis]]
            shape[self.dimension[axis]] = stop - start
        return tuple(shape)

    def places(self, frame: _Frame, index: Array, node: Node, slot: int) -> Array:
        """Where elements lie: in local memory, in the copy of each task, and of each step of a reduction that
        stores there anew."""
        if slot not in self.local:
            return _inside(index, frame.buffers[slot].size, node)
        size = self.kernel.buffers[slot].size
        offset, step = np.zeros(self.ones, np.int64), size
        for dimension in sorted([self.dimension[id] for id in self.local[slot]]):
            start, stop = frame.ranges[dimension]
            shape = [-1 if i == dimension else 1 for i in range(len(self.ones))]
            offset = offset + step * np.arange(stop - start).reshape(shape)
            step *= stop - start
        return _inside(index, size, node) + offset


def _strided(kernel: Kernel, order: Sequence[Node], free: Mapping[Node, frozenset[int]],
             ) -> dict[Node, Linear]:
    """The loads and stores that are views of their buffer: no gate, a stride along each axis, all inside."""
    extents = {axis.id: axis.extent for axis in kernel.axes}
    found: dict[Node, Linear] = {}
    for node in order:
        if node.op not in (ops.LOAD, ops.STORE):
            continue
        slot, gate = (node.arg, node.src[1:]) if node.op is ops.LOAD else (node.arg[0], node.src[2:])
        if slot in kernel.local:
            continue
        axes = free[node.src[0]] if node.op is ops.LOAD else node.arg[1]
        position = linear(node.src[0])
        combines = node.op is ops.STORE and len(node.arg) > 2
        if gate or combines or position.rest or any(extents[axis] == 0 for axis in axes):
            continue
        reach = [stride * (extents[axis] - 1) for axis, stride in position.strides.items()]
        low = position.offset + sum(r for r in reach if r < 0)
        high = position.offset + sum(r for r in reach if r > 0)
        if low >= 0 and high < kernel.buffers[slot].size:
            found[node] = position
    return found


def _block_cuts(layout: _Layout) -> list[tuple[int, int]]:
    """(dimension, block size) of the axes that have to be cut to keep every array within BLOCK_ELEMENTS."""
    bound = {axis for node in layout.order if node.op is ops.REDUCE for axis in node.arg[1]}
    bound |= {node.arg[1] for node in layout.order if node.op in (ops.SCAN, ops.TALLY)}
    common = set(layout.ids).intersection(*(store.arg[1] for store in layout.kernel.stores)) - bound
    if layout.local:
        common &= layout.parallel
    sizes = dict(zip(layout.ids, layout.extents))
    cuts: list[tuple[int, int]] = []
    for dimension, axis in enumerate(layout.ids):
        needed, largest = max(((math.prod(sizes[a] for a in layout.free[n]), n) for n in layout.order),
                              key=lambda pair: pair[0], default=(0, None))
        if largest is None or needed <= BLOCK_ELEMENTS:
            break
        if axis in common and axis in layout.free[largest]:
            sizes[axis] = max(1, sizes[axis] * BLOCK_ELEMENTS // needed)
            cuts.append((dimension, sizes[axis]))
    return cuts


def _blocks(everything: Sequence[Range], cuts: Sequence[tuple[int, int]]) -> Iterator[Sequence[Range]]:
    starts = [range(0, everything[dimension][1], size) for dimension, size in cuts]
    for corner in product(*starts):
        ranges = list(everything)
        for start, (dimension, size) in zip(corner, cuts):
            ranges[dimension] = (start, min(start + size, everything[dimension][1]))
        yield ranges


def _instructions(layout: _Layout, nodes: Sequence[Node], register: Mapping[Node, int],
                  kept: AbstractSet[Node]) -> list[_Instruction]:
    """One instruction a node; an array is forgotten after its last use unless it is `kept`."""
    last = {source: node for node in nodes for source in layout.operands(node)}
    made: list[_Instruction] = []
    for node in nodes:
        sources = layout.operands(node)
        dead = tuple({register[s] for s in sources if last[s] is node and s not in kept})
        step = _contraction if layout.contracts(node) else _STEPS.get(node.op, _elementwise)
        registers = tuple([register[s] for s in sources])
        made.append(_Instruction(step(layout, node), register[node], registers, dead))
    return made


# ---------------------------------------------------------------------------------------------------- steps


def _elementwise(layout: _Layout, node: Node) -> _Step:
    function = numpy_ops.elementwise(node.op.name, node.type)
    return lambda frame, sources: function(*sources)


def _conversion(layout: _Layout, node: Node) -> _Step:
    convert = numpy_ops.cast if node.op.name == "CAST" else numpy_ops.bitcast
    function = convert(node.src[0].type, node.type)
    return lambda frame, sources: function(sources[0])


def _axis(layout: _Layout, node: Node) -> _Step:
    dimension = layout.dimension[node.arg]
    shape = tuple([-1 if i == dimension else 1 for i in range(len(layout.ones))])
    return lambda frame, sources: np.arange(*frame.ranges[dimension], dtype=np.int64).reshape(shape)


def _tail(layout: _Layout, node: Node) -> _Step:
    extent = node.arg[2]
    return lambda frame, sources: sources[0] < extent


def _head(layout: _Layout, node: Node) -> _Step:
    return lambda frame, sources: sources[0] >= 0


def _const(layout: _Layout, node: Node) -> _Step:
    constant = _full(layout, node.arg.of(node.type), node.type)
    return lambda frame, sources: constant


def _value(layout: _Layout, node: Node) -> _Step:
    slot, dtype = node.arg, node.type
    return lambda frame, sources: _full(layout, dtypes.cast_scalar(frame.values[slot], dtype), dtype)


def _full(layout: _Layout, value: Scalar, dtype: dtypes.DType) -> Array:
    filled = np.full(layout.ones, value, numpy_ops.value_dtype(dtype))
    return numpy_ops.round_bfloat16(filled) if dtype is dtypes.bfloat16 else filled


def _reduce(layout: _Layout, node: Node) -> _Step:
    name, axes = node.arg
    combine = numpy_ops.reduction(name, node.type)
    dimensions = tuple([layout.dimension[axis] for axis in axes])
    repeated = frozenset(axes) - layout.free[node.src[0]]

    def step(frame: _Frame, sources: Sequence[Array]) -> Array:
        source = sources[0]
        if repeated:  # the same value at every position still counts once for each
            shape = np.broadcast_shapes(source.shape, layout.shape(repeated, frame.ranges))
            source = np.broadcast_to(source, shape)
        return combine(source, dimensions)

    return step


def _scan(layout: _Layout, node: Node) -> _Step:
    name, axis = node.arg
    combine, dimension = numpy_ops.running(name, node.type), layout.dimension[axis]
    axes = layout.free[node]

    def step(frame: _Frame, sources: Sequence[Array]) -> Array:
        return combine(np.broadcast_to(sources[0], layout.shape(axes, frame.ranges)), dimension)

    return step


def _tally(layout: _Layout, node: Node) -> _Step:
    dimension, dtype = layout.dimension[node.arg[1]], numpy_ops.value_dtype(node.type)
    axes = layout.free[node]

    def step(frame: _Frame, sources: Sequence[Array]) -> Array:
        index = np.moveaxis(np.broadcast_to(sources[0], layout.shape(axes, frame.ranges)), dimension, -1)
        order = np.argsort(index, axis=-1, kind="stable")
        ordered = np.take_along_axis(index, order, -1)
        place = np.broadcast_to(np.arange(index.shape[-1]), index.shape)
        new = np.diff(ordered, axis=-1, prepend=ordered[..., :1] - 1) != 0
        since = place - np.maximum.accumulate(np.where(new, place, 0), axis=-1)
        counts = np.empty(index.shape, dtype)
        np.put_along_axis(counts, order, since.astype(dtype), -1)
        return np.moveaxis(counts, -1, dimension)

    return step


def _contraction(layout: _Layout, node: Node) -> _Step:
    """Sum of products as a batched matrix product, never made element by element."""
    left, right = [layout.free[factor] for factor in node.src[0].src]
    bound = frozenset(node.arg[1])
    batch, rows, inner, columns, none = [
        [layout.dimension[axis] for axis in layout.ids if axis in axes]
        for axes in (left & right - bound, left - right, bound, right - left, set(layout.ids) - left - right)]
    result_order = batch + rows + columns + inner + none
    back = [result_order.index(dimension) for dimension in range(len(result_order))]

    def step(frame: _Frame, sources: Sequence[Array]) -> Array:
        x = sources[0].transpose(batch + rows + inner + columns + none)
        y = sources[1].transpose(batch + inner + columns + rows + none)
        outer, kept = x.shape[:len(batch) + len(rows)], y.shape[len(batch) + len(inner):][:len(columns)]
        b, m = math.prod(outer[:len(batch)]), math.prod(outer[len(batch):])
        k, n = math.prod(y.shape[len(batch):][:len(inner)]), math.prod(kept)
        result: Array = np.matmul(x.reshape(b, m, k), y.reshape(b, k, n))
        return result.reshape(outer + kept + (1,) * len(inner + none)).transpose(back)

    return step


# --------------------------------------------------------------------------------------------------- memory


def _view(layout: _Layout, position: Linear, axes: AbstractSet[int], slot: int) -> Callable[[_Frame], Array]:
    """A buffer's elements at a linear index, in place, over the dimensions of `axes`."""
    strides = [(layout.dimension[axis], position.strides.get(axis, 0)) for axis in axes]

    def view(frame: _Frame) -> Array:
        buffer = frame.buffers[slot]
        shape, steps, offset = list(layout.ones), [0] * len(layout.ones), position.offset
        for dimension, stride in strides:
            start, stop = frame.ranges[dimension]
            shape[dimension] = stop - start
            steps[dimension] = stride * buffer.itemsize
            offset += stride * start
        return np.ndarray(shape, buffer.dtype, buffer, offset * buffer.itemsize, steps)

    return view


def _load(layout: _Layout, node: Node) -> _Step:
    if node in layout.strided:
        return _load_view(layout, node)

    def step(frame: _Frame, sources: Sequence[Array]) -> Array:
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

    return step


def _load_view(layout: _Layout, node: Node) -> _Step:
    view = _view(layout, layout.strided[node], layout.free[node], node.arg)
    # a view must not change under later stores; NumPy itself checks a single assignment for overlap
    copy = len(layout.kernel.stores) > 1

    def step(frame: _Frame, sources: Sequence[Array]) -> Array:
        seen = view(frame)
        return numpy_ops.decode(seen.copy() if copy else seen, node.type)

    return step


def _store(layout: _Layout, node: Node) -> _Write:
    slot, axes, *combine = node.arg
    index_axes = frozenset(axes)
    if not layout.free[node] <= index_axes:
        raise InternalError(op=f"store to buffer {slot}", expected=f"values over axes {sorted(axes)}",
                            got=f"axes {sorted(layout.free[node])}")
    dtype = layout.kernel.buffers[slot].dtype
    if node in layout.strided:
        view = _view(layout, layout.strided[node], index_axes, slot)

        def write_view(frame: _Frame, sources: Sequence[Array]) -> None:
            view(frame)[...] = numpy_ops.encode(sources[0], dtype)

        return write_view

    def write(frame: _Frame, sources: Sequence[Array]) -> None:
        buffer, shape = frame.buffers[slot], layout.shape(index_axes, frame.ranges)
        index, value, *gates = [np.broadcast_to(source, shape) for source in sources]
        if gates and not gates[0].any():
            return
        index = layout.places(frame, np.where(gates[0], index, 0) if gates else index, node, slot)
        if gates:
            index, value = np.broadcast_to(index, shape)[gates[0]], value[gates[0]]
        if combine:
            numpy_ops.combine_at(combine[0], dtype)(buffer, index, value)
        else:
            buffer[index] = numpy_ops.encode(value, dtype)

    return write


def _inside(index: Array, size: int, node: Node) -> Array:
    """`index` itself; NumPy would count a negative one from the end."""
    if index.size and (index.min() < 0 or index.max() >= size):
        raise InternalError(op=f"{node.op.name.lower()} of buffer {node.arg}",
                            expected=f"0 <= index < {size}", got=f"{index.min()} to {index.max()}")
    return index


_STEPS: Final[dict[Op, Callable[[_Layout, Node], _Step]]] = {
    ops.AXIS: _axis, ops.TAIL: _tail, ops.HEAD: _head, ops.CONST: _const, ops.VALUE: _value, ops.LOAD: _load,
    ops.REDUCE: _reduce, ops.SCAN: _scan, ops.TALLY: _tally,
    ops.KERNEL_OPS["CAST"]: _conversion, ops.KERNEL_OPS["BITCAST"]: _conversion,
}
