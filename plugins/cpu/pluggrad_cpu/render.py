"""Program -> LLVM IR. VECTOR axes become vector types, positions of TILE axes registers of their own.

A kernel is `void name(ptr args, ptr values, i64 lo, i64 hi)`: buffer pointers, 8-byte slots of run-time
values, and the tasks to run. Accumulators are allocas, which `sroa` turns into registers; the rest is SSA.
"""
from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Final

from pluggrad.plugin_api import DType, Instr, Program, dtypes
from pluggrad_cpu import elementwise, shuffle
from pluggrad_cpu.access import STREAMED, Access, memory_type, prefetch
from pluggrad_cpu.emit import REGISTER, Branch, Emitter, Machine, literal, vector
from pluggrad_cpu.load_store import load, store


def render(program: Program, machine: Machine) -> str:
    """The text of a module with this kernel: its functions and tables, separated by empty lines."""
    pieces: dict[str, str] = {}
    body = _Kernel(program, pieces, machine).lines()
    attributes = 'nounwind "prefer-vector-width"="512"' if machine.wide_vectors else "nounwind"
    head = f"define void @{program.name}(ptr %args, ptr %values, i64 %lo, i64 %hi) {attributes} {{"
    return "\n\n".join([*pieces.values(), "\n".join([head, *body, "}"])]) + "\n"


Position = dict[int, int]  # index along each TILE axis, by id


class _Loop:
    """A counted loop, open from its making to `close`. Only where it may be `empty` is that tested first: a
    way around the loop would keep its accumulators from staying in their registers."""

    def __init__(self, out: Emitter, start: str, stop: str, empty: bool = False) -> None:
        self.out, self.stop = out, stop
        self.head, self.latch, self.done = out.name("loop"), out.name("latch"), out.name("done")
        self.counter, self.advanced = f"%{out.name('i')}", f"%{out.name('i')}"
        before = out.label
        if empty:
            some = out.op(f"icmp slt i64 {start}, {stop}")
            out.do(f"br i1 {some}, label %{self.head}, label %{self.done}")
        else:
            out.do(f"br label %{self.head}")
        out.block(self.head)
        out.do(f"{self.counter} = phi i64 [ {start}, %{before} ], [ {self.advanced}, %{self.latch} ]")

    def close(self) -> None:
        out = self.out
        out.do(f"br label %{self.latch}")
        out.block(self.latch)
        out.do(f"{self.advanced} = add nsw i64 {self.counter}, 1")
        again = out.op(f"icmp slt i64 {self.advanced}, {self.stop}")
        out.do(f"br i1 {again}, label %{self.head}, label %{self.done}")
        out.block(self.done)


class _Kernel:
    """One kernel while it is being written. `registers[i]` maps instruction i's tile positions to names."""

    def __init__(self, program: Program, pieces: dict[str, str], machine: Machine) -> None:
        self.program, self.body = program, program.body
        self.out = Emitter(pieces, machine)
        self.extent = {axis.id: axis.extent for axis in program.axes}
        self.vectors = {axis.id for axis in program.axes if axis.vector}
        self.lanes = [self._lanes(instr) for instr in program.body]
        self.tiles = [tuple(a for a in instr.axes if a not in self.vectors) for instr in program.body]
        self.registers: list[dict[tuple[int, ...], str]] = [{} for _ in program.body]
        self.splats: dict[tuple[int, str, int], str] = {}
        self.wanted_splats = self._find_splats()
        self.blocks: list[_Loop | Branch] = []

    def lines(self) -> list[str]:
        """The function's body."""
        out = self.out
        self.buffers = [f"%buffer{i}" for i in range(len(self.program.buffers))]
        for i, (name, buffer) in enumerate(zip(self.buffers, self.program.buffers, strict=True)):
            if buffer.role == "local":
                out.local(name, memory_type(buffer), buffer.size)
                continue
            slot = out.op(f"getelementptr inbounds ptr, ptr %args, i64 {i}")
            out.do(f"{name} = load ptr, ptr {slot}, align 8")
        self.values = [self._load_value(i, dtype) for i, dtype in enumerate(self.program.values)]
        self.tasks = _Loop(out, "%lo", "%hi", empty=True)
        for by_position, group in itertools.groupby(range(len(self.body)), self._is_by_position):
            if by_position:
                self._spread(list(group))
                continue
            for i in group:
                _RENDER.get(self.body[i].op, _Kernel._alone)(self, i, self.body[i])
        self.tasks.close()
        if any(buffer.streamed for buffer in self.program.buffers):
            out.pieces["streamed"] = f"{STREAMED} = !{{i32 1}}"
            out.do("fence seq_cst")  # streaming stores are ordered by nothing less
        return ["entry:", *out.entry, *out.lines, "  ret void"]

    def _load_value(self, slot: int, dtype: DType) -> str:
        element = "i8" if dtype.kind == "b" else REGISTER[dtype.name]
        where = self.out.op(f"getelementptr inbounds i64, ptr %values, i64 {slot}")
        value = self.out.op(f"load {element}, ptr {where}, align 8")
        return self.out.op(f"icmp ne i8 {value}, 0") if dtype.kind == "b" else value

    # ------------------------------------------------------------------------------------------- registers

    def _lanes(self, instr: Instr) -> int:
        return next((self.extent[a] for a in instr.axes if a in self.vectors), 0)

    def _find_splats(self) -> dict[int, set[int]]:
        """Widths in which scalar instructions are used, so that each is spread once, where it is defined."""
        wanted: dict[int, set[int]] = {}
        for i, instr in enumerate(self.body):
            if not self.lanes[i]:
                continue
            spread = {"LOAD": (), "PREFETCH": (), "STORE": instr.src[1:2]}.get(instr.op, instr.src)
            for source in spread:
                if not self.lanes[source] and self.body[source].op not in ("CONST", "ACC"):
                    wanted.setdefault(source, set()).add(self.lanes[i])
        return wanted

    def _positions(self, axes: tuple[int, ...]) -> Iterator[Position]:
        for at in itertools.product(*(range(self.extent[a]) for a in axes)):
            yield dict(zip(axes, at))

    def _define(self, i: int, at: Position, value: str) -> None:
        self.registers[i][tuple(at[a] for a in self.tiles[i])] = value
        if not value.startswith("%"):
            return
        for lanes in sorted(self.wanted_splats.get(i, ())):
            self.splats[i, value, lanes] = self.out.splat(value, self._element(i), lanes)

    def _use(self, i: int, at: Position, lanes: int) -> str:
        """Instruction i's value at a position, in this many lanes."""
        value = self.registers[i][tuple(at[a] for a in self.tiles[i])]
        if self.body[i].op == "ACC":
            value = self.out.op(f"load {vector(self._element(i), self.lanes[i])}, ptr {value}")
        if lanes == self.lanes[i]:
            return value
        return self.splats.get((i, value, lanes)) or self.out.splat(value, self._element(i), lanes)

    def _element(self, i: int) -> str:
        return REGISTER[self._dtype(i).name]

    def _dtype(self, i: int) -> DType:
        dtype = dtypes.int64 if self.body[i].op == "LOOP" else self.body[i].dtype
        assert dtype is not None, f"instruction {i} ({self.body[i].op}) has no value"
        return dtype

    # --------------------------------------------------------------------------------- leaves, elementwise

    def _const(self, i: int, instr: Instr) -> None:
        # a literal is spread where it is used: it costs no instruction
        self._define(i, {}, literal(instr.arg, self._dtype(i)))

    def _value(self, i: int, instr: Instr) -> None:
        self._define(i, {}, self.values[instr.arg])

    def _task(self, i: int, instr: Instr) -> None:
        self._define(i, {}, self.tasks.counter)

    def _lane(self, i: int, instr: Instr) -> None:
        if instr.arg in self.vectors:
            numbers = ", ".join(f"i64 {lane}" for lane in range(self.extent[instr.arg]))
            self._define(i, {}, f"<{numbers}>")
            return
        for at in self._positions((instr.arg,)):
            self._define(i, at, str(at[instr.arg]))

    # ------------------------------------------------------------------- instructions position by position

    def _is_by_position(self, i: int) -> bool:
        """Whether each position of instruction i needs nothing but the same position of its operands."""
        instr = self.body[i]
        if any(self.body[s].op == "ACC" and self.tiles[s] != self._written(i) for s in instr.src):
            return False
        if instr.op == "LOAD":
            return not self._run(i, instr)
        return instr.op not in _RENDER

    def _written(self, i: int) -> tuple[int, ...]:
        """The TILE axes of the registers that instruction i gives a value to."""
        instr = self.body[i]
        return self.tiles[instr.src[0] if instr.op == "SET" else i]

    def _spread(self, group: list[int]) -> None:
        """All of a group at one position, then at the next: few registers are alive at a time."""
        axes = [self._written(i) for i in group]
        done: list[set[tuple[int, ...]]] = [set() for _ in group]
        for at in self._positions(tuple(sorted(set().union(*axes)))):
            for i, own, written in zip(group, axes, done, strict=True):
                position = tuple(at[a] for a in own)
                if position not in written:
                    written.add(position)
                    _BY_POSITION.get(self.body[i].op, _Kernel._elementwise)(self, i, dict(zip(own, position)))

    def _alone(self, i: int, instr: Instr) -> None:
        self._spread([i])

    def _elementwise(self, i: int, at: Position) -> None:
        instr, lanes = self.body[i], self.lanes[i]
        source, target = self._dtype(instr.src[-1]), self._dtype(i)
        values = [self._use(s, at, lanes) for s in instr.src]
        self._define(i, at, elementwise.apply(self.out, instr.op, source, target, lanes, values))

    def _load_one(self, i: int, at: Position) -> None:
        instr = self.body[i]
        gate = instr.src[1] if len(instr.src) > 1 else None
        self._define(i, at, load(self.out, self._access(i, instr, [at], gate))[0])

    def _set(self, i: int, at: Position) -> None:
        acc, value = self.body[i].src
        kind = vector(self._element(acc), self.lanes[acc])
        new = self._use(value, at, self.lanes[acc])
        self.out.do(f"store {kind} {new}, ptr {self.registers[acc][tuple(at.values())]}")

    # ---------------------------------------------------------------------------------------------- memory

    def _run(self, i: int, instr: Instr) -> tuple[int, ...]:
        """The TILE axes along which a strided access runs through memory, the fastest last."""
        steps = dict(instr.arg[1] or ())
        if all(steps.get(a, 0) in (0, 1, -1) for a in instr.axes if a in self.vectors):
            return ()
        run: tuple[int, ...] = ()
        reach = 1
        while True:
            following = next((a for a in self.tiles[i] if steps.get(a) == reach and a not in run), None)
            if following is None:
                return run
            run, reach = (following, *run), reach * self.extent[following]

    def _accesses(self, i: int, instr: Instr, gate: int | None) -> Iterator[tuple[list[Position], Access]]:
        """The accesses of a LOAD or STORE, each with the positions of its registers."""
        run = self._run(i, instr)
        for at in self._positions(tuple(a for a in self.tiles[i] if a not in run)):
            positions = [at | along for along in self._positions(run)]
            yield positions, self._access(i, instr, positions, gate)

    def _access(self, i: int, instr: Instr, positions: list[Position], gate: int | None) -> Access:
        buffer, strides = instr.arg
        index, first = instr.src[0], positions[0]
        steps = dict(strides or ())
        lane_axis = next((a for a in instr.axes if a in self.vectors), None)
        stride = None if strides is None and self.lanes[index] else steps.get(lane_axis, 0)
        gates: tuple[str, ...] = ()
        if gate is not None:
            same = len({tuple(at[a] for a in self.tiles[gate]) for at in positions}) == 1
            gates = tuple(self._use(gate, at, self.lanes[gate]) for at in positions[:1 if same else None])
        return Access(
            self.program.buffers[buffer], self.buffers[buffer], self._use(index, first, self.lanes[index]),
            sum(first[axis] * step for axis, step in steps.items() if axis in first), stride, self.lanes[i],
            len(positions), gates, self.lanes[gate] if gate is not None else 0)

    def _load(self, i: int, instr: Instr) -> None:
        gate = instr.src[1] if len(instr.src) > 1 else None
        for positions, accessed in self._accesses(i, instr, gate):
            for at, value in zip(positions, load(self.out, accessed), strict=True):
                self._define(i, at, value)

    def _store(self, i: int, instr: Instr) -> None:
        gate = instr.src[2] if len(instr.src) > 2 else None
        for positions, accessed in self._accesses(i, instr, gate):
            values = [self._use(instr.src[1], at, self.lanes[i]) for at in positions]
            store(self.out, accessed, values)

    def _prefetch(self, i: int, instr: Instr) -> None:
        for _, accessed in self._accesses(i, instr, None):
            prefetch(self.out, accessed)

    # ---------------------------------------------------------------------------------------- accumulators

    def _acc(self, i: int, instr: Instr) -> None:
        kind = vector(self._element(i), self.lanes[i])
        for at in self._positions(self.tiles[i]):
            initial = self._use(instr.src[0], at, self.lanes[i])
            slot = self.out.alloca(kind)
            self.out.do(f"store {kind} {initial}, ptr {slot}")
            self.registers[i][tuple(at.values())] = slot

    def _reduce(self, i: int, instr: Instr) -> None:
        op, removed = instr.arg
        source, dtype = instr.src[0], self._dtype(i)
        inner = tuple(a for a in removed if a in self.tiles[source])
        over_lanes = any(a in self.vectors for a in removed)
        lanes = self.lanes[source]
        for at in self._positions(self.tiles[i]):
            parts = [self._use(source, at | more, lanes) for more in self._positions(inner)]
            total = parts[0]
            for part in parts[1:]:
                total = elementwise.binary(self.out, op, dtype, lanes, total, part)
            self._define(i, at, self._across(op, dtype, lanes, total) if over_lanes else total)

    def _across(self, op: str, dtype: DType, lanes: int, value: str) -> str:
        """All lanes combined: halves onto halves while their number is even, then one after another."""
        element = REGISTER[dtype.name]
        while lanes > 1 and lanes % 2 == 0:
            whole, lanes = lanes, lanes // 2
            low, high = (shuffle.part(self.out, element, whole, value, start, lanes) for start in (0, lanes))
            value = elementwise.binary(self.out, op, dtype, lanes, low, high)
        kind = vector(element, lanes)
        singles = [self.out.op(f"extractelement {kind} {value}, i64 {lane}") for lane in range(lanes)]
        total = singles[0] if singles else value
        for single in singles[1:]:
            total = elementwise.binary(self.out, op, dtype, 0, total, single)
        return total

    # ---------------------------------------------------------------------------------------------- blocks

    def _loop(self, i: int, instr: Instr) -> None:
        start, stop = instr.arg
        loop = _Loop(self.out, str(start), str(stop), empty=start >= stop)
        self.blocks.append(loop)
        self._define(i, {}, loop.counter)

    def _if(self, i: int, instr: Instr) -> None:
        self.blocks.append(Branch(self.out, self._use(instr.src[0], {}, 0)))

    def _else(self, i: int, instr: Instr) -> None:
        branch = self.blocks[-1]
        assert isinstance(branch, Branch)
        branch.turn()

    def _end(self, i: int, instr: Instr) -> None:
        self.blocks.pop().close()


# what is not here is elementwise
_RENDER: Final[dict[str, Callable[[_Kernel, int, Instr], None]]] = {
    "CONST": _Kernel._const, "VALUE": _Kernel._value, "TASK": _Kernel._task, "LANE": _Kernel._lane,
    "LOAD": _Kernel._load, "STORE": _Kernel._store, "PREFETCH": _Kernel._prefetch,
    "ACC": _Kernel._acc, "HREDUCE": _Kernel._reduce,
    "LOOP": _Kernel._loop, "IF": _Kernel._if, "ELSE": _Kernel._else, "END": _Kernel._end,
}
_BY_POSITION: Final[dict[str, Callable[[_Kernel, int, Position], None]]] = {
    "LOAD": _Kernel._load_one, "SET": _Kernel._set}
