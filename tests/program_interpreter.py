"""Runs a Program instruction by instruction: what lower/program.py says, and nothing that a renderer adds.

A value is an array with one dimension for the work items of a task's group, which go in step, and one for
each register axis of the program: its extent where the value varies over the axis, else 1. Tasks, loops and
branches are Python's. Items in step need no barrier, so that one is missing is told by who touched what. What
is copied ahead of time arrives as late as it may: at the WAIT for its batch, or the WAIT_BOX for its step.
Products, too, read their panels as late as they may, and nobody may touch those until then.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pluggrad import dtypes
from pluggrad.kernel import numpy_ops
from pluggrad.lower.matrices import Panel
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
        self.buffers = [*buffers, *[np.full(b.nbytes, 0xFF, np.uint8).view(b.dtype.numpy) for b in local]]
        self.batches: list[list[Callable[[], None]]] = [[]]  # of copies under way; the last is not committed
        self.copies = 0  # of boxes, that a step has
        self.boxes: dict[int, list[Callable[[], None]]] = {}  # of steps under way
        self.products: list[tuple[list[tuple[int, np.ndarray]], Callable[[], None]]] = []  # under way
        self.dimension = {axis.id: i for i, axis in enumerate(program.axes, 1)}
        self.watched = {slot: _Watched(b.size * b.stages) for slot, b in enumerate(program.buffers)
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
        if instr.op in _EFFECTS:
            _EFFECTS[instr.op](self, instr, sources)
            return
        if instr.op == "MMA_ACC":
            self.values[position] = np.zeros((instr.arg.rows, instr.arg.columns), np.float32)
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
        self.left_alone(instr.arg[0], index, instr)
        if instr.arg[0] in self.watched:
            self.watched[instr.arg[0]].store(*self.by_item(index, gate), instr)
        self.buffers[instr.arg[0]][self.inside(index[gate], instr)] = numpy_ops.encode(value[gate], dtype)

    def barrier(self, instr: Instr, sources: list[np.ndarray]) -> None:
        """What it does is done for GREDUCE as well, in `instruction`."""

    def prefetch(self, instr: Instr, sources: list[np.ndarray]) -> None:
        """A hint; that its elements can be named is all there is to see."""
        self.index(instr, sources[0])

    def set(self, instr: Instr, sources: list[np.ndarray]) -> None:
        register = instr.src[0]
        axes = self.program.body[register].axes
        self.values[register] = np.broadcast_to(sources[1], self.shape(axes)).copy()

    def copy(self, instr: Instr, sources: list[np.ndarray]) -> None:
        to, strides, buffer, from_strides = instr.arg
        dtype, axes = self.program.buffers[to].dtype, instr.axes
        loaded = self.load(Instr("LOAD", dtype, (), (buffer, from_strides), axes), sources[1:])
        store = Instr("STORE", None, (), (to, strides), axes)
        self.left_alone(to, self.index(store, sources[0]), instr)
        if to in self.watched:  # from now on nobody may read there
            self.watched[to].store(*self.by_item(self.index(store, sources[0]), np.True_), instr)
        self.batches[-1].append(lambda: self.put(store, sources[0], loaded))

    def put(self, store: Instr, index: np.ndarray, value: np.ndarray) -> None:
        where = self.inside(self.index(store, index), store)
        self.buffers[store.arg[0]][where] = numpy_ops.encode(np.broadcast_to(value, where.shape),
                                                            self.program.buffers[store.arg[0]].dtype)

    def commit(self, instr: Instr, sources: list[np.ndarray]) -> None:
        self.batches.append([])

    def wait(self, instr: Instr, sources: list[np.ndarray]) -> None:
        open_batch = self.batches.pop()
        while len(self.batches) > instr.arg:
            for arrive in self.batches.pop(0):
                arrive()
        self.batches.append(open_batch)

    def arrivals(self, instr: Instr, sources: list[np.ndarray]) -> None:
        self.copies = instr.arg[1]

    def copy_box(self, instr: Instr, sources: list[np.ndarray]) -> None:
        to, number, stages = instr.arg
        box, (step, index, *starts) = self.program.boxes[number], [int(x.flat[0]) for x in sources]
        free = all(abs(step - other) < stages for other in self.boxes)
        assert free, f"{instr} to a stage that is under way"
        at = np.ix_(*[start + np.arange(dim.held) for start, dim in zip(starts, box.dims, strict=True)])
        inside = np.logical_and.reduce(np.broadcast_arrays(
            *[(x >= 0) & (x < dim.extent) for x, dim in zip(at, box.dims, strict=True)]))
        place = box.offset + sum(x * dim.stride for x, dim in zip(at, box.dims, strict=True))
        found = np.zeros(inside.shape, self.buffers[to].dtype)
        found[inside] = self.buffers[box.source][place[inside]]
        where = index + np.arange(box.size)
        self.left_alone(to, where, instr)
        self.watched[to].store(where, np.arange(where.size), instr)  # from now on nobody may read there
        self.buffers[to].view(np.uint8).reshape(-1, found.itemsize)[where] = 0xFF
        spans = found.T.reshape(-1, box.spans, box.span).swapaxes(0, 1)
        self.boxes.setdefault(step, []).append(lambda: self.arrive(to, where, spans.reshape(-1)))

    def arrive(self, to: int, where: np.ndarray, found: np.ndarray) -> None:
        self.buffers[to][where] = found
        self.watched[to].writer[where] = -1

    def wait_box(self, instr: Instr, sources: list[np.ndarray]) -> None:
        arriving = self.boxes.pop(int(sources[0].flat[0]), [])
        assert len(arriving) == self.copies > 0, f"{instr} waits for boxes that never come"
        for arrive in arriving:
            arrive()

    def multiply(self, instr: Instr, sources: list[np.ndarray]) -> None:
        tile, sums = instr.arg, sources[0]
        sides = zip((tile.left, tile.right), sources[1:], (tile.rows, tile.columns))
        places = [(panel.buffer, self.panel(panel, int(index.flat[0]), extent, tile.steps, instr))
                  for panel, index, extent in sides]

        def add() -> None:
            left, right = [numpy_ops.decode(self.buffers[buffer][where], self.program.buffers[buffer].dtype)
                           .astype(np.float32) for buffer, where in places]
            np.add(sums, left @ right.T, out=sums)

        self.products.append((places, add))
        self.finish(tile.in_flight)

    def finish(self, in_flight: int) -> None:
        while len(self.products) > in_flight:
            self.products.pop(0)[1]()

    def panel(self, panel: Panel, index: int, extent: int, steps: int, instr: Instr) -> np.ndarray:
        """Where its elements are, outputs x steps."""
        x, step = np.ix_(range(extent), range(steps))
        along, across = (step, x) if panel.along_sum else (x, step)
        where = index + along // panel.piece * panel.leading + along % panel.piece + across * panel.stride
        if panel.buffer in self.watched:
            self.watched[panel.buffer].load(where.reshape(-1), np.full(where.size, -2), instr)
        return where

    def left_alone(self, buffer: int, index: np.ndarray, instr: Instr) -> None:
        for places, _ in self.products:
            for other, where in places:
                met = other == buffer and np.isin(index, where).any()
                assert not met, f"{instr} while products read there"

    def store_sums(self, instr: Instr, sources: list[np.ndarray]) -> None:
        self.finish(0)
        (buffer, stride), (sums, index) = instr.arg, sources
        row, column = np.ix_(*map(range, sums.shape))
        where = int(index.flat[0]) + row * stride + column
        if buffer in self.watched:
            self.watched[buffer].store(where.reshape(-1), np.arange(where.size), instr)
        self.buffers[buffer][where] = sums

    def by_item(self, index: np.ndarray, gate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The elements that are touched, and by whom."""
        items = np.arange(self.program.group).reshape([-1] + [1] * len(self.program.axes))
        return index[gate], np.broadcast_to(items, index.shape)[gate]

    def inside(self, index: np.ndarray, instr: Instr) -> np.ndarray:
        size = self.buffers[instr.arg[0]].size
        reached = (index.min(), index.max()) if index.size else (0, 0)
        assert not index.size or 0 <= reached[0] <= reached[1] < size, f"{instr} at {reached} of {size}"
        return index


_EFFECTS = {"BARRIER": _Task.barrier, "STORE": _Task.store, "SET": _Task.set, "COPY": _Task.copy,
            "PREFETCH": _Task.prefetch, "ARRIVALS": _Task.arrivals, "COPY_BOX": _Task.copy_box,
            "WAIT_BOX": _Task.wait_box, "COMMIT": _Task.commit, "WAIT": _Task.wait,
            "MMA": _Task.multiply, "MMA_STORE": _Task.store_sums}


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
