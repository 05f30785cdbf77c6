"""The body of a kernel: every instruction as statements, at each of its positions in registers.

An instruction over a TILE axis is a variable for each position, over a VECTOR axis one for each piece that
the language has a type for. A result with one user is written into the user's expression, so that a product
and the sum that takes it up are one expression, which a compiler may contract.
"""
from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.lower.program import Instr, Program
from pluggrad.render import elementwise
from pluggrad.render.arithmetic import Arithmetic
from pluggrad.render.dialect import Dialect, Piece
from pluggrad.render.groups import reduce_group
from pluggrad.render.memory import Access, copy, load, store
from pluggrad.render.multiples import common_multiple, integer_multiples
from pluggrad.render.ranges import integer_ranges, overflows
from pluggrad.render.source import Source, Value

Position = dict[int, int]  # along each TILE axis, and the number of the piece along a VECTOR axis

_DEPTH: Final = 4  # operators within operators that a reader, and any compiler, follows easily


class Body:
    """One kernel while it is being written. `registers[i]` maps the positions of instruction i to its values.

    task: the expression of the task's index. Buffers are called b0, b1, ...; run-time values s0, s1, ...
    """

    def __init__(self, program: Program, dialect: Dialect, out: Source, task: str) -> None:
        self.program, self.body, self.dialect, self.out = program, program.body, dialect, out
        self.arithmetic = Arithmetic(dialect, out)
        self.task = task
        self.pieces = {axis.id: dialect.pieces(axis.extent) for axis in program.axes if axis.vector}
        self.counts = {axis.id: len(self.pieces[axis.id]) if axis.vector else axis.extent
                       for axis in program.axes}
        self.extents = {axis.id: axis.extent for axis in program.axes}
        self.ranges = integer_ranges(program)
        self.multiples = integer_multiples(program)
        self.registers: list[dict[tuple[int, ...], Value]] = [{} for _ in program.body]
        self.inlined = _single_uses(self.body)

    def write(self) -> None:
        """Append the statements."""
        for by_position, group in itertools.groupby(range(len(self.body)), self._is_by_position):
            if by_position:
                self._spread(list(group))
                continue
            for i in group:
                _WRITE.get(self.body[i].op, Body._alone)(self, i, self.body[i])

    # -------------------------------------------------------------------------------------------- registers

    def _positions(self, axes: Sequence[int]) -> Iterator[Position]:
        for at in itertools.product(*(range(self.counts[axis]) for axis in axes)):
            yield dict(zip(axes, at))

    def _piece(self, axes: Sequence[int], at: Position) -> Piece:
        """The lanes of an instruction over `axes` at a position."""
        return next((self.pieces[axis][at[axis]] for axis in axes if axis in self.pieces), Piece(0, 1))

    def _dtype(self, i: int) -> DType:
        dtype = dtypes.int64 if self.body[i].op == "LOOP" else self.body[i].dtype
        assert dtype is not None, f"instruction {i} ({self.body[i].op}) has no value"
        return dtype

    def _key(self, i: int, at: Position) -> tuple[int, ...]:
        return tuple([at[axis] for axis in self.body[i].axes])

    def _variable(self, hint: str, i: int, at: Position) -> str:
        """A name that says which instruction and where: v12, v12_0, v12_0_3."""
        numbers = [at[axis] for axis in self.body[i].axes if self.counts[axis] > 1]
        return "_".join([f"{hint}{i}", *map(str, numbers)])

    def _declare(self, name: str, value: Value, qualifier: str = "const ") -> Value:
        kind = self.dialect.type(value.dtype, value.lanes, self.out)
        self.out.do(f"{qualifier}{kind} {name} = {value.text};")
        return value.named(name)

    def _define(self, i: int, at: Position, value: Value) -> None:
        """Keep the value of instruction i: as an expression where it has one user, else as a variable."""
        if value.form != "name" and i not in self.inlined:
            value = self._declare(self._variable("v", i, at), value)
        self.registers[i][self._key(i, at)] = value

    def _use(self, i: int, at: Position, lanes: int) -> Value:
        """Instruction i's value at a position, in this many lanes."""
        value = self.registers[i][self._key(i, at)]
        return value if value.lanes == lanes else self.arithmetic.spread(value, lanes)

    def _used(self, i: int, at: Position) -> Value:
        """The same, in the lanes that it has."""
        return self.registers[i][self._key(i, at)]

    # --------------------------------------------------------------------------------- leaves, elementwise

    def _const(self, i: int, instr: Instr) -> None:
        dtype = self._dtype(i)
        self._define(i, {}, Value(self.dialect.literal(instr.arg, dtype), self.dialect.held(dtype)))

    def _value(self, i: int, instr: Instr) -> None:
        self._define(i, {}, Value(f"s{instr.arg}", self.dialect.held(self._dtype(i))))

    def _task(self, i: int, instr: Instr) -> None:
        form: Literal["name", "call"] = "name" if self.task.isidentifier() else "call"
        self._define(i, {}, Value(self.task, dtypes.int64, form=form))

    def _item(self, i: int, instr: Instr) -> None:
        self._define(i, {}, Value(self.dialect.item, dtypes.int64))

    def _lane(self, i: int, instr: Instr) -> None:
        for at in self._positions(instr.axes):
            piece = self._piece(instr.axes, at)
            if instr.arg not in self.pieces:
                self._define(i, at, Value(str(at[instr.arg]), dtypes.int64))
            elif piece.lanes == 1:
                self._define(i, at, Value(str(piece.start), dtypes.int64))
            else:
                numbers = [str(piece.start + lane) for lane in range(piece.lanes)]
                vector = self.dialect.join(numbers, dtypes.int64, self.out)
                self._define(i, at, self._declare(self._variable("v", i, at), vector))

    # ------------------------------------------------------------------- instructions position by position

    def _written(self, i: int) -> tuple[int, ...]:
        """The axes of the registers that instruction i gives a value to."""
        return self.body[self.body[i].src[0] if self.body[i].op == "SET" else i].axes

    def _is_by_position(self, i: int) -> bool:
        """Whether each position of instruction i needs nothing but the same position of its operands."""
        instr = self.body[i]
        if any(self.body[s].op == "ACC" and self.body[s].axes != self._written(i) for s in instr.src):
            return False
        return instr.op not in _WRITE

    def _spread(self, group: list[int]) -> None:
        """All of a group at one position, then at the next: few registers are alive at a time."""
        axes = [self._written(i) for i in group]
        done: list[set[tuple[int, ...]]] = [set() for _ in group]
        for at in self._positions(sorted(set().union(*axes))):
            for i, own, written in zip(group, axes, done, strict=True):
                position = tuple(at[axis] for axis in own)
                if position not in written:
                    written.add(position)
                    _BY_POSITION.get(self.body[i].op, Body._elementwise)(self, i, dict(zip(own, position)))

    def _alone(self, i: int, instr: Instr) -> None:
        self._spread([i])

    def _elementwise(self, i: int, at: Position) -> None:
        instr = self.body[i]
        lanes = self._piece(instr.axes, at).lanes
        source, target = self._dtype(instr.src[-1]), self._dtype(i)
        values = [self._use(s, at, lanes) for s in instr.src]
        wraps = overflows(self.ranges[i], target)
        self._define(i, at, elementwise.apply(self.arithmetic, instr.op, source, target, values, wraps))

    # ---------------------------------------------------------------------------------------------- memory

    def _access(self, i: int, at: Position, gate: int) -> Access:
        """gate: where in the sources of the instruction it is, if it has one."""
        instr = self.body[i]
        guard = instr.src[gate] if len(instr.src) > gate else None
        return self._access_at(instr, instr.src[0], instr.arg, at, guard)

    def _access_at(self, instr: Instr, index: int, place: tuple[int, tuple[tuple[int, int], ...] | None],
                   at: Position, gate: int | None) -> Access:
        """Of a buffer at the value of instruction `index`, where that of `gate` is true."""
        buffer, strides = place
        steps = dict(strides or ())
        piece = self._piece(instr.axes, at)
        stride: int | None = next((steps.get(axis, 0) for axis in instr.axes if axis in self.pieces), 0)
        if strides is None and any(axis in self.pieces for axis in self.body[index].axes):
            stride = None
        offset = sum(step * at[axis] for axis, step in steps.items() if axis not in self.pieces)
        offset += piece.start * (stride or 0)
        start = self._used(index, at)
        return Access(
            f"b{buffer}", self.program.buffers[buffer].dtype,
            self.arithmetic.let(start) if piece.lanes > 1 else start, offset, stride, piece.lanes,
            None if gate is None else self._used(gate, at), common_multiple(self.multiples[index], offset))

    def _load(self, i: int, at: Position) -> None:
        value = load(self.arithmetic, self._access(i, at, gate=1))
        self._define(i, at, self._declare(self._variable("v", i, at), value))

    def _store(self, i: int, instr: Instr) -> None:
        for at in self._positions(instr.axes):
            access = self._access(i, at, gate=2)
            store(self.arithmetic, access, self._use(instr.src[1], at, access.lanes))

    def _copy(self, i: int, instr: Instr) -> None:
        index, there, *gates = instr.src
        slow: list[tuple[Access, Value]] = []
        for at in self._positions(instr.axes):
            to = self._access_at(instr, index, instr.arg[:2], at, None)
            source = self._access_at(instr, there, instr.arg[2:], at, gates[0] if gates else None)
            if not copy(self.arithmetic, to, source):
                slow.append((to, self.arithmetic.let(load(self.arithmetic, source))))
        for to, value in slow:
            store(self.arithmetic, to, value)

    def _commit(self, i: int, instr: Instr) -> None:
        if self.dialect.copied_bytes:
            self.out.do(self.dialect.commit(self.out))

    def _wait(self, i: int, instr: Instr) -> None:
        if self.dialect.copied_bytes:
            self.out.do(self.dialect.wait(instr.arg, self.out))

    def _arrivals(self, i: int, instr: Instr) -> None:
        stages, copies = instr.arg
        self.out.do(self.dialect.arrivals(stages, copies, self.out))

    def _copy_box(self, i: int, instr: Instr) -> None:
        buffer, number, stages = instr.arg
        step, index, *starts = [self._used(source, {}) for source in instr.src]
        self.out.do(self.dialect.copy_box(f"b{buffer} + {index}", number, [start.text for start in starts],
                                          step.text, stages, self.program, self.out))

    def _wait_box(self, i: int, instr: Instr) -> None:
        self.out.do(self.dialect.wait_box(self._used(instr.src[0], {}).text, instr.arg, self.out))

    # ---------------------------------------------------------------------------------------- matrix units

    def _matrix_sums(self, i: int, instr: Instr) -> None:
        self.registers[i][()] = Value(f"sums{i}", self._dtype(i))
        self.out.do(self.dialect.matrix_sums(f"sums{i}", instr.arg, self.program, self.out))

    def _matrix_multiply(self, i: int, instr: Instr) -> None:
        sums, *indices = [self._used(source, {}) for source in instr.src]
        tile = instr.arg
        left, right = [f"b{panel.buffer} + {index}"
                       for panel, index in zip((tile.left, tile.right), indices, strict=True)]
        self.out.do(self.dialect.matrix_multiply(sums.text, tile, left, right, self.program, self.out))

    def _matrix_store(self, i: int, instr: Instr) -> None:
        sums, index = [self._used(source, {}) for source in instr.src]
        (buffer, stride), tile = instr.arg, self.body[instr.src[0]].arg
        to = f"b{buffer} + {index}"
        self.out.do(self.dialect.matrix_store(sums.text, tile, to, stride, self.program, self.out))

    # ---------------------------------------------------------------------------------------- accumulators

    def _acc(self, i: int, instr: Instr) -> None:
        dtype = self._dtype(i)
        for at in self._positions(instr.axes):
            lanes = self._piece(instr.axes, at).lanes
            initial = self._use(instr.src[0], at, lanes)
            if dtype.kind == "b" and lanes > 1:  # a mask that is assigned to keeps one width
                initial = self.arithmetic.convert(initial, dtypes.int8)
            name = self._variable("acc", i, at)
            self.registers[i][self._key(i, at)] = self._declare(name, initial, qualifier="")

    def _set(self, i: int, at: Position) -> None:
        acc, value = self.body[i].src
        register = self.registers[acc][self._key(acc, at)]
        new = self._use(value, at, register.lanes)
        if register.lanes > 1 and register.dtype is not new.dtype:
            new = self.arithmetic.convert(new, register.dtype)
        self.out.do(f"{register.text} = {new.text};")

    def _reduce(self, i: int, instr: Instr) -> None:
        op, removed = instr.arg
        source, dtype = instr.src[0], self._dtype(i)
        inner = [axis for axis in self.body[source].axes if axis in removed]
        for at in self._positions(instr.axes):
            parts = [self._used(source, at | more) for more in self._positions(inner)]
            if any(axis in self.pieces for axis in inner):
                total = self._across(op, dtype, parts)
            else:
                total = self._chain(op, dtype, parts)
            self._define(i, at, self._declare(self._variable("v", i, at), total))

    def _chain(self, op: str, dtype: DType, parts: Sequence[Value]) -> Value:
        """One after another."""
        total, *rest = parts
        for part in rest:
            total = self.arithmetic.let(elementwise.binary(self.arithmetic, op, dtype, total, part))
        return total

    def _across(self, op: str, dtype: DType, parts: Sequence[Value]) -> Value:
        """All vectors of one width onto each other, then halves onto halves, then one width after another."""
        totals = []
        for lanes in dict.fromkeys(part.lanes for part in parts):
            total = self.arithmetic.let(self._chain(op, dtype, [p for p in parts if p.lanes == lanes]))
            while total.lanes > 1:
                low, high = self._halves(total, dtype)
                total = self.arithmetic.let(elementwise.binary(self.arithmetic, op, dtype, low, high))
            totals.append(total)
        return self._chain(op, dtype, totals)

    def _halves(self, value: Value, dtype: DType) -> list[Value]:
        half = value.lanes // 2
        elements = [self.dialect.element(value, lane) for lane in range(value.lanes)]
        if half == 1 and dtype.kind == "b":  # from masks to bools
            return [Value(f"{element} != 0", dtypes.bool_, form="operation") for element in elements]
        if half == 1:
            return [Value(element, value.dtype) for element in elements]
        return [self.dialect.join(part, value.dtype, self.out) for part in (elements[:half], elements[half:])]

    def _reduce_group(self, i: int, instr: Instr) -> None:
        positions = list(self._positions(instr.axes))
        values = [self._use(instr.src[0], at, self._piece(instr.axes, at).lanes) for at in positions]
        totals = reduce_group(self.arithmetic, instr.arg, self._dtype(i), self.program.group, values)
        for at, total in zip(positions, totals, strict=True):
            self._define(i, at, self._declare(self._variable("v", i, at), total))
        self.out.do(self.dialect.barrier)  # before the memory is written again

    def _barrier(self, i: int, instr: Instr) -> None:
        self.out.do(self.dialect.barrier)

    # ---------------------------------------------------------------------------------------------- blocks

    def _loop(self, i: int, instr: Instr) -> None:
        start, stop = instr.arg
        counter = self.dialect.type(dtypes.int64, 1, self.out)
        if self.dialect.rolled and _multiplies(self.body, i):
            self.out.do(self.dialect.rolled)
        self.out.open(f"for ({counter} i{i} = {start}; i{i} < {stop}; i{i}++)")
        self.registers[i][()] = Value(f"i{i}", dtypes.int64)

    def _if(self, i: int, instr: Instr) -> None:
        self.out.open(f"if ({self._used(instr.src[0], {}).text})")

    def _else(self, i: int, instr: Instr) -> None:
        self.out.turn("else")

    def _end(self, i: int, instr: Instr) -> None:
        self.out.close()


def _multiplies(body: Sequence[Instr], loop: int) -> bool:
    """Whether a matrix unit multiplies in a loop: a step of it is long code."""
    depth = 0
    for instr in body[loop:]:
        depth += (instr.op in ("LOOP", "IF")) - (instr.op == "END")
        if instr.op == "MMA" or depth == 0:
            return instr.op == "MMA"
    return False


def _single_uses(body: Sequence[Instr]) -> frozenset[int]:
    """Elementwise instructions that are written into their one user: of the same axes, in the same block, and
    without anything in between that changes what they read."""
    users: list[list[int]] = [[] for _ in body]
    block, blocks, opened = [0] * len(body), itertools.count(1), [0]
    sets: list[int] = []  # how many SET stand before each instruction
    for i, instr in enumerate(body):
        sets.append((sets[-1] if sets else 0) + (i > 0 and body[i - 1].op == "SET"))
        if instr.op in ("ELSE", "END"):
            opened.pop()
        block[i] = opened[-1]
        if instr.op in ("LOOP", "IF", "ELSE"):
            opened.append(next(blocks))
        for source in instr.src:
            users[source].append(i)
    inlined: set[int] = set()
    depth, reads_acc = [0] * len(body), [False] * len(body)
    for i, instr in enumerate(body):
        inner = [s for s in instr.src if s in inlined]
        depth[i] = 1 + max([depth[s] for s in inner], default=0)
        reads_acc[i] = any(body[s].op == "ACC" or (s in inlined and reads_acc[s]) for s in instr.src)
        if instr.op in _WRITE or instr.op in _BY_POSITION or len(users[i]) != 1 or depth[i] > _DEPTH:
            continue
        user = users[i][0]
        written = body[body[user].src[0]].axes if body[user].op == "SET" else body[user].axes
        if block[user] != block[i] or written != instr.axes or body[user].op in ("ACC", "HREDUCE"):
            continue
        if not reads_acc[i] or sets[user] == sets[i]:
            inlined.add(i)
    return frozenset(inlined)


# what is in neither table is elementwise
_WRITE: Final[dict[str, Callable[[Body, int, Instr], None]]] = {
    "CONST": Body._const, "VALUE": Body._value, "TASK": Body._task, "ITEM": Body._item,
    "LANE": Body._lane, "GREDUCE": Body._reduce_group, "BARRIER": Body._barrier,
    "STORE": Body._store, "ACC": Body._acc, "HREDUCE": Body._reduce,
    "COPY": Body._copy, "COMMIT": Body._commit, "WAIT": Body._wait,
    "ARRIVALS": Body._arrivals, "COPY_BOX": Body._copy_box, "WAIT_BOX": Body._wait_box,
    "MMA_ACC": Body._matrix_sums, "MMA": Body._matrix_multiply, "MMA_STORE": Body._matrix_store,
    "LOOP": Body._loop, "IF": Body._if, "ELSE": Body._else, "END": Body._end,
}
_BY_POSITION: Final[dict[str, Callable[[Body, int, Position], None]]] = {
    "LOAD": Body._load, "SET": Body._set}
