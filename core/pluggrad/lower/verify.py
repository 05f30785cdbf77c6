"""Structural check of a Program: blocks, operands, axes, dtypes, slots. Runs in tests and in `explain`."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from pluggrad import dtypes
from pluggrad.errors import VerifyError
from pluggrad.ir.node import Node
from pluggrad.ir.verify import verify
from pluggrad.kernel.grammar import GRAMMAR
from pluggrad.kernel.ops import KERNEL_OPS
from pluggrad.lower.barriers import of_items
from pluggrad.lower.instructions import INSTRUCTIONS
from pluggrad.lower.program import Instr, Program

_WITHOUT_DTYPE: Final = frozenset({row.name for row in INSTRUCTIONS.values() if not row.result} | {"LOOP"})


def verify_program(program: Program, pass_name: str) -> None:
    """VerifyError for the first instruction that breaks the rules of program.py and instructions.py."""
    checker = _Checker(program)
    for position, instr in enumerate(program.body):
        complaint = checker.complaint(position, instr)
        if complaint:
            shown = program.body[max(0, position - 3):position + 1]
            lines = [f"  {position - len(shown) + 1 + i}: {each}" for i, each in enumerate(shown)]
            raise VerifyError(op=f"{instr.op} in {program.name} after {pass_name}", expected=complaint,
                              got="\n" + "\n".join(lines))
    if checker.blocks:
        raise VerifyError(op=f"{program.name} after {pass_name}", expected=f"{len(checker.blocks)} more END",
                          got="the end of the program")


def verify_lowered(value: Program | Sequence[Node], pass_name: str) -> None:
    """The check of a `Trace` over `lower`: stores between its passes, the Program after the last."""
    if isinstance(value, Program):
        verify_program(value, pass_name)
    else:
        verify(value, GRAMMAR, pass_name)


class _Checker:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.register_axes = {axis.id: axis for axis in program.axes}
        self.scopes: list[set[int]] = [set()]  # the ids that each open block defines, innermost last
        self.blocks: list[str] = []
        self.of_items = of_items(program.body) if program.group > 1 else set[int]()
        self.branches: list[bool] = []  # of each open IF or ELSE: whether items may part there

    def complaint(self, position: int, instr: Instr) -> str:
        text = self._operands(instr) or self._types(instr) or self._axes(instr) or self._own(instr)
        return text or self._enter(position, instr)

    def _enter(self, position: int, instr: Instr) -> str:
        """Open and close blocks, and make the id visible."""
        if instr.op in ("ELSE", "END"):
            if not self.blocks or (instr.op == "ELSE" and self.blocks[-1] != "IF"):
                return "an open IF before it" if instr.op == "ELSE" else "an open block before it"
            self.scopes.pop()
            if self.blocks.pop() != "LOOP" and instr.op == "END":
                self.branches.pop()
        if instr.op == "IF":
            self.branches.append(instr.src[0] in self.of_items)
        if instr.op in ("LOOP", "IF", "ELSE"):
            self.scopes.append(set())
            self.blocks.append(instr.op)
        self.scopes[-1].add(position)  # a LOOP's counter belongs to its own block
        return ""

    def _operands(self, instr: Instr) -> str:
        row = INSTRUCTIONS.get(instr.op)
        if row is None:
            return "an instruction of the program stage"
        if len(instr.src) not in row.sources:
            return f"{' or '.join(map(str, row.sources))} sources"
        for source in instr.src:
            if not any(source in scope for scope in self.scopes):
                return f"source {source} to be defined before, in an enclosing block"
            if self.program.body[source].op in _WITHOUT_DTYPE - {"LOOP"}:
                return f"source {source} to have a value"
        return ""

    def _dtype(self, source: int) -> dtypes.DType:
        return self.program.body[source].dtype or dtypes.int64  # a LOOP's counter

    def _types(self, instr: Instr) -> str:
        if (instr.dtype is None) != (instr.op in _WITHOUT_DTYPE):
            return "a dtype" if instr.dtype is None else "no dtype"
        row = KERNEL_OPS.get(instr.op)
        if row is None or row.kind not in ("binary", "compare", "ternary"):
            return ""
        operands = [self._dtype(s) for s in instr.src[row.kind == "ternary":]]
        if any(operand is not operands[0] for operand in operands):
            return "operands of one dtype"
        result = dtypes.bool_ if row.kind == "compare" else operands[0]
        return "" if instr.dtype is result else f"a result of {result.name}"

    def _axes(self, instr: Instr) -> str:
        if list(instr.axes) != sorted(set(instr.axes)) or not set(instr.axes) <= self.register_axes.keys():
            return f"sorted axes among {sorted(self.register_axes)}"
        if sum(self.register_axes[axis].vector for axis in instr.axes) > 1:
            return "at most one vector axis"
        if instr.op == "HREDUCE":
            kept = set(self.program.body[instr.src[0]].axes) - set(instr.arg[1])
            return "" if set(instr.axes) == kept else f"axes {sorted(kept)}"
        held = self.program.body[instr.src[0]].axes if instr.op == "SET" else instr.axes
        wider = [source for source in instr.src if not set(self.program.body[source].axes) <= set(held)]
        return f"source {wider[0]} to vary over no more than axes {held}" if wider else ""

    def _own(self, instr: Instr) -> str:
        check = _RULES.get(instr.op)
        return check(self, instr) if check else ""

    def _loop(self, instr: Instr) -> str:
        start, stop = instr.arg
        return "" if 0 <= start <= stop else "0 <= start <= stop"

    def _condition(self, instr: Instr) -> str:
        condition = self.program.body[instr.src[0]]
        fits = condition.dtype is dtypes.bool_ and not condition.axes
        return "" if fits else "a bool that varies over no axis"

    def _together(self, instr: Instr) -> str:
        return "to be reached by all work items of a group or none" if any(self.branches) else ""

    def _value(self, instr: Instr) -> str:
        fits = instr.arg < len(self.program.values) and self.program.values[instr.arg] is instr.dtype
        return "" if fits else f"a slot of {[dtype.name for dtype in self.program.values]}"

    def _lane(self, instr: Instr) -> str:
        return "" if instr.axes == (instr.arg,) else f"axes ({instr.arg},)"

    def _set(self, instr: Instr) -> str:
        register = self.program.body[instr.src[0]]
        fits = register.op == "ACC" and register.dtype is self._dtype(instr.src[1])
        return "" if fits else "an ACC of the value's dtype"

    def _memory(self, instr: Instr) -> str:
        slot, strides = instr.arg
        if slot >= len(self.program.buffers):
            return f"a buffer below {len(self.program.buffers)}"
        element = instr.dtype if instr.op == "LOAD" else self._dtype(instr.src[1])
        if element is not self.program.buffers[slot].dtype:
            return f"elements of {self.program.buffers[slot].dtype.name}"
        if not self._dtype(instr.src[0]).is_int:
            return "an integer index"
        gates = instr.src[1 if instr.op == "LOAD" else 2:]
        if any(self._dtype(gate) is not dtypes.bool_ for gate in gates):
            return "a bool gate"
        if strides is None:
            return ""
        if self.program.body[instr.src[0]].axes:
            return "an index that varies over no axis, as there are strides"
        return "" if {axis for axis, _ in strides} <= set(instr.axes) else f"strides along {instr.axes}"

    def _prefetched(self, instr: Instr) -> str:
        known = instr.arg[0] < len(self.program.arguments)
        return "" if known and self._dtype(instr.src[0]).is_int else "an argument, and an integer index"

    def _local(self, slot: int) -> str:
        known = slot < len(self.program.buffers) and self.program.buffers[slot].role == "local"
        return "" if known else "a local buffer"

    def _copy(self, instr: Instr) -> str:
        slot, source = instr.arg[0], instr.arg[2]
        if source >= len(self.program.buffers) or self._local(slot):
            return "a local buffer, and one to copy from"
        if self.program.buffers[slot].dtype is not self.program.buffers[source].dtype:
            return f"elements of {self.program.buffers[slot].dtype.name}"
        return "" if all(self._dtype(s).is_int for s in instr.src[:2]) else "integer indices"

    def _copy_box(self, instr: Instr) -> str:
        slot, number, stages = instr.arg
        boxes = self.program.boxes
        if self._local(slot) or number >= len(boxes) or self.program.buffers[slot].stages != stages:
            return f"a local buffer of {stages} stages, and one of {len(boxes)} boxes"
        if len(instr.src) != 2 + len(boxes[number].dims):
            return "a position along each dimension of the box"
        if self.program.buffers[slot].dtype is not self.program.buffers[boxes[number].source].dtype:
            return f"elements of {self.program.buffers[slot].dtype.name}"
        return self._together(instr) or self._integers(instr)

    def _wait_box(self, instr: Instr) -> str:
        return self._together(instr) or self._integers(instr)

    def _integers(self, instr: Instr) -> str:
        return "" if all(self._dtype(s).is_int for s in instr.src) else "integer sources"

    def _sums(self, instr: Instr) -> str:
        if self.program.body[instr.src[0]].op != "MMA_ACC":
            return "the sums of an MMA_ACC"
        tile = instr.arg
        slots = tile[:1] if instr.op == "MMA_STORE" else (tile.left.buffer, tile.right.buffer)
        return self._together(instr) or next(filter(None, map(self._local, slots)), "")


_RULES: Final[dict[str, Callable[[_Checker, Instr], str]]] = {
    "LOOP": _Checker._loop, "IF": _Checker._condition, "VALUE": _Checker._value, "LANE": _Checker._lane,
    "SET": _Checker._set, "LOAD": _Checker._memory, "STORE": _Checker._memory,
    "PREFETCH": _Checker._prefetched,
    "COPY": _Checker._copy, "MMA": _Checker._sums, "MMA_STORE": _Checker._sums,
    "ARRIVALS": _Checker._together, "COPY_BOX": _Checker._copy_box, "WAIT_BOX": _Checker._wait_box,
    "BARRIER": _Checker._together, "GREDUCE": _Checker._together,
}
