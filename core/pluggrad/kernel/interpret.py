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

from pluggrad.dtypes import Scalar
from pluggrad.errors import InternalError
from pluggrad.ir.node import Node
from pluggrad.ir.walk import toposort
from pluggrad.kernel import ops
from pluggrad.kernel.kernel import BufferParam, Kernel
from pluggrad.kernel.numpy_layout import Frame, Layout, Range
from pluggrad.kernel.numpy_nodes import Compute, Write, compute_of, write_of
from pluggrad.kernel.numpy_ops import Array
from pluggrad.kernel.order import Group, Step, is_independent, store_order, stores_of

BLOCK_ELEMENTS: Final = 1 << 24  # the largest array made where an axis can be cut into blocks

Run = Callable[[Sequence[Array], Sequence[Scalar]], None]


@dataclass(frozen=True, slots=True)
class _Instruction:
    """Put what is computed of the registers `sources` into `target`, then forget the registers `dead`."""

    compute: Compute
    target: int
    sources: tuple[int, ...]
    dead: tuple[int, ...]


# the writing of one store, and the registers that it is given
_Store = tuple[Write, list[int]]


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
    layout = Layout(kernel)
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
    writes = _writes(layout, kernel.stores, register)
    everything: list[Range] = [(0, extent) for extent in layout.extents]

    def run(buffers: Sequence[Array], values: Sequence[Scalar]) -> None:
        _check_arguments(kernel, buffers, values)
        frame = Frame(buffers, values, everything)
        registers: list[Array | None] = [None] * len(register)
        with np.errstate(all="ignore"):
            _execute(prologue, frame, registers)
            for ranges in _blocks(everything, cuts):
                frame.ranges = ranges
                _execute(body, frame, registers)
                _store(writes, frame, registers)

    return run


def _compile_ordered(kernel: Kernel) -> Run:
    """A kernel with local memory: step after step, on copies of it for the tasks of a block."""
    layout = Layout(kernel)
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
                    step(Frame([*buffers, *local], values, ranges))

    return run


def _unset(param: BufferParam, copies: int) -> Array:
    """Local memory before anything is stored there: NaN, to be seen where it is read."""
    return np.full(copies * param.size * param.dtype.itemsize, 0xFF, np.uint8).view(param.dtype.numpy)


def _ordered_step(layout: Layout, step: Step) -> Callable[[Frame], None]:
    if isinstance(step, Group) or is_independent(layout.kernel, step):
        return _group_step(layout, stores_of(step))
    dimension = layout.dimension[step.axis]
    inner = [_ordered_step(layout, each) for each in step.steps]

    def run(frame: Frame) -> None:
        for position in range(*frame.ranges[dimension]):
            for each in inner:
                each(frame.at(dimension, position))

    return run


def _group_step(layout: Layout, numbers: Sequence[int]) -> Callable[[Frame], None]:
    stores = [layout.kernel.stores[number] for number in numbers]
    order = toposort(stores, layout.operands)
    register = {node: i for i, node in enumerate(order)}
    kept = {source for store in stores for source in layout.operands(store)}
    body = _instructions(layout, [n for n in order if n.op is not ops.STORE], register, kept)
    writes = _writes(layout, stores, register)

    def run(frame: Frame) -> None:
        registers: list[Array | None] = [None] * len(register)
        _execute(body, frame, registers)
        _store(writes, frame, registers)

    return run


def _execute(instructions: Iterable[_Instruction], frame: Frame, registers: list[Array | None]) -> None:
    for instruction in instructions:
        sources = [registers[i] for i in instruction.sources]
        registers[instruction.target] = instruction.compute(frame, sources)  # type: ignore[arg-type]  # set before
        for i in instruction.dead:
            registers[i] = None


def _store(writes: Iterable[_Store], frame: Frame, registers: list[Array | None]) -> None:
    for write, sources in writes:
        write(frame, [registers[i] for i in sources])  # type: ignore[misc]  # set by an instruction


def _check_arguments(kernel: Kernel, buffers: Sequence[Array], values: Sequence[Scalar]) -> None:
    if len(buffers) != len(kernel.arguments) or len(values) != len(kernel.values):
        raise InternalError(op=kernel.name, got=f"{len(buffers)} and {len(values)}",
                            expected=f"{len(kernel.arguments)} buffers and {len(kernel.values)} values")
    for slot, (buffer, param) in enumerate(zip(buffers, kernel.arguments)):
        if buffer.ndim != 1 or buffer.dtype != param.dtype.numpy or buffer.size < param.size:
            raise InternalError(op=f"{kernel.name}, buffer {slot}", got=f"{buffer.dtype}{list(buffer.shape)}",
                                expected=f"{param.dtype.storage}[{param.size}]")


def _block_cuts(layout: Layout) -> list[tuple[int, int]]:
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


def _instructions(layout: Layout, nodes: Sequence[Node], register: Mapping[Node, int],
                  kept: AbstractSet[Node]) -> list[_Instruction]:
    """One instruction a node; an array is forgotten after its last use unless it is `kept`."""
    last = {source: node for node in nodes for source in layout.operands(node)}
    made: list[_Instruction] = []
    for node in nodes:
        sources = layout.operands(node)
        dead = tuple({register[s] for s in sources if last[s] is node and s not in kept})
        registers = tuple([register[s] for s in sources])
        made.append(_Instruction(compute_of(layout, node), register[node], registers, dead))
    return made


def _writes(layout: Layout, stores: Sequence[Node], register: Mapping[Node, int]) -> list[_Store]:
    return [(write_of(layout, store), [register[s] for s in layout.operands(store)]) for store in stores]
