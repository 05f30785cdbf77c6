"""Runs a Program instruction by instruction: what lower/program.py says, and nothing that a renderer adds.

A value is an array with one dimension for the work items of a task's group, which go in step, and one for
each register axis of the program: its extent where the value varies over the axis, else 1. Tasks, loops and
branches are Python's. Items in step need no barrier, so that one is missing is told by who touched what.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pluggrad import dtypes
from pluggrad.kernel import numpy_ops
from pluggrad.lower.program import Instr, Program


def run_program(program: Program, buffers: Sequence[np.ndarray], values: Sequence[object] = ()) -> None:
    """Run every task; `buffers` are 1-D arrays of storage dtype, which is changed in place."""
    with np.errstate(all="ignore"):
        for task in range(program.tasks):
            _Task(program, buffers, values, task).block(0)


class _Task:
    def __init__(self, program: Program, buffers: Sequence[np.ndarray], values: Sequence[object],
                 task: int) -> None:
        self.program, self.slots, self.task = program, values, task
        local = program.buffers[len(buffers):]  # of any content: NaN is seen where it is read
        self.buffers = [*buffers, *[np.full(b.size * b.dtype.itemsize, 0xFF, np.uint8).view(b.dtype.numpy)
                                    for b in local]]
        self.dimension = {axis.id: i for i, axis in enumerate(program.axes, 1)}
        self.watched = {slot: _Watched(b.size) for slot, b in enumerate(program.buffers)
                        if b.role == "local" and program.group > 1}
        self.values: dict[int, np.ndarray] = {}
        self.ends = _matching(program.body)

    def block(self, position: int) -> int:
        """Run from `position` to the END or ELSE that closes the block; returns the position of that."""
        body = self.program.body
        while position < len(body) and body[position].op not in ("END", "ELSE"):
            instr = body[position]
            if instr.op == "LOOP":
                for counter in range(*instr.arg):
                    self.values[position] = self.full(counter, dtypes.int64)
                    self.block(position + 1)
                position = self.ends[position][-1]
            elif instr.op == "IF":
                otherwise, end = self.ends[position]
                (taken,) = np.unique(self.values[instr.src[0]])  # all items go the same way
                if taken:
                    self.block(position + 1)
                elif otherwise is not None:
                    self.block(otherwise + 1)
                position = end
            else:
                self.instruction(position, instr)
            position += 1
        return position

    def shape(self, axes: Sequence[int]) -> tuple[int, ...]:
        extents = [axis.extent if axis.id in axes else 1 for axis in self.program.axes]
        return (self.program.group, *extents)

    def along(self, axis: int) -> np.ndarray:
        """The positions along a register axis, for broadcasting."""
        shape = [1] * (1 + len(self.program.axes))
        shape[self.dimension[axis]] = -1
        return np.arange(self.program.axes[self.dimension[axis] - 1].extent).reshape(shape)

    def full(self, value: object, dtype: dtypes.DType) -> np.ndarray:
        array = np.full(self.shape(()), dtypes.cast_scalar(value, dtype), numpy_ops.value_dtype(dtype))
        return numpy_ops.round_bfloat16(array) if dtype is dtypes.bfloat16 else array

    def instruction(self, position: int, instr: Instr) -> None:
        sources = [self.values[s] for s in instr.src]
        if instr.op in ("BARRIER", "GREDUCE"):
            self.watched = {slot: _Watched(watched.reader.size) for slot, watched in self.watched.items()}
        if instr.op == "BARRIER":
            return
        if instr.op == "STORE":
            self.store(instr, sources)
            return
        if instr.op == "SET":
            register = instr.src[0]
            axes = self.program.body[register].axes
            self.values[register] = np.broadcast_to(sources[1], self.shape(axes)).copy()
            return
        value = self.value(instr, sources)
        expected = self.shape(instr.axes)
        # refuses what varies over more axes than declared
        self.values[position] = np.broadcast_to(value, expected)
        assert self.values[position].dtype == numpy_ops.value_dtype(instr.dtype), instr

    def value(self, instr: Instr, sources: list[np.ndarray]) -> np.ndarray:
        if instr.op == "CONST":
            return self.full(instr.arg, instr.dtype)
        if instr.op == "VALUE":
            return self.full(self.slots[instr.arg], instr.dtype)
        if instr.op == "TASK":
            return self.full(self.task, dtypes.int64)
        if instr.op == "ITEM":
            return np.arange(self.program.group).reshape([-1] + [1] * len(self.program.axes))
        if instr.op == "LANE":
            return self.along(instr.arg)
        if instr.op == "LOAD":
            return self.load(instr, sources)
        if instr.op == "ACC":
            return sources[0]
        if instr.op == "HREDUCE":
            name, axes = instr.arg
            reduce = numpy_ops.reduction(name, instr.dtype)
            return reduce(sources[0], tuple(self.dimension[axis] for axis in axes))
        if instr.op == "GREDUCE":
            return numpy_ops.reduction(instr.arg, instr.dtype)(sources[0], (0,))
        if instr.op in ("CAST", "BITCAST"):
            convert = numpy_ops.cast if instr.op == "CAST" else numpy_ops.bitcast
            return convert(self.program.body[instr.src[0]].dtype or dtypes.int64, instr.dtype)(sources[0])
        return numpy_ops.elementwise(instr.op, instr.dtype)(*sources)

    def index(self, instr: Instr, base: np.ndarray) -> np.ndarray:
        """The elements that a LOAD or STORE names, over its axes."""
        index, strides = base, instr.arg[1]
        for axis, stride in strides or ():
            index = index + stride * self.along(axis)
        return np.broadcast_to(index, self.shape(instr.axes))

    def load(self, instr: Instr, sources: list[np.ndarray]) -> np.ndarray:
        buffer, index = self.buffers[instr.arg[0]], self.index(instr, sources[0])
        gate = np.broadcast_to(sources[1] if len(sources) > 1 else True, index.shape)
        if instr.arg[0] in self.watched:
            self.watched[instr.arg[0]].load(*self.by_item(index, gate), instr)
        loaded = np.zeros(index.shape, buffer.dtype)
        loaded[gate] = buffer[self.inside(index[gate], instr)]
        return numpy_ops.decode(loaded, instr.dtype)

    def store(self, instr: Instr, sources: list[np.ndarray]) -> None:
        dtype = self.program.buffers[instr.arg[0]].dtype
        index = self.index(instr, sources[0])
        value = np.broadcast_to(sources[1], index.shape)
        gate = np.broadcast_to(sources[2] if len(sources) > 2 else True, index.shape)
        if instr.arg[0] in self.watched:
            self.watched[instr.arg[0]].store(*self.by_item(index, gate), instr)
        self.buffers[instr.arg[0]][self.inside(index[gate], instr)] = numpy_ops.encode(value[gate], dtype)

    def by_item(self, index: np.ndarray, gate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The elements that are touched, and by whom."""
        items = np.arange(self.program.group).reshape([-1] + [1] * len(self.program.axes))
        return index[gate], np.broadcast_to(items, index.shape)[gate]

    def inside(self, index: np.ndarray, instr: Instr) -> np.ndarray:
        size = self.program.buffers[instr.arg[0]].size
        reached = (index.min(), index.max()) if index.size else (0, 0)
        assert not index.size or 0 <= reached[0] <= reached[1] < size, f"{instr} at {reached} of {size}"
        return index


class _Watched:
    """Which item wrote and which read each element of local memory since a barrier: -1 none, -2 several."""

    def __init__(self, size: int) -> None:
        self.writer, self.reader = np.full(size, -1), np.full(size, -1)

    def load(self, index: np.ndarray, item: np.ndarray, instr: Instr) -> None:
        seen = self.writer[index]
        assert ((seen == -1) | (seen == item)).all(), f"no barrier before {instr}"
        self._by(self.reader, index, item)

    def store(self, index: np.ndarray, item: np.ndarray, instr: Instr) -> None:
        for before in (self.writer, self.reader):
            seen = before[index]
            assert ((seen == -1) | (seen == item)).all(), f"no barrier before {instr}"
        self._by(self.writer, index, item)
        assert (self.writer[index] >= 0).all(), f"items meet in {instr}"

    def _by(self, who: np.ndarray, index: np.ndarray, item: np.ndarray) -> None:
        other = (who[index] != -1) & (who[index] != item)
        who[index] = item
        who[index[other | (who[index] != item)]] = -2


def _matching(body: Sequence[Instr]) -> dict[int, tuple[int | None, int]]:
    """For each LOOP and IF: where its ELSE is, if it has one, and its END."""
    found: dict[int, tuple[int | None, int]] = {}
    opened: list[tuple[int, int | None]] = []
    for position, instr in enumerate(body):
        if instr.op in ("LOOP", "IF"):
            opened.append((position, None))
        elif instr.op == "ELSE":
            opened.append((opened.pop()[0], position))
        elif instr.op == "END":
            start, otherwise = opened.pop()
            found[start] = otherwise, position
    return found
