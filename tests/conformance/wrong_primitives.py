"""Toolchains that are wrong on one instruction alone: the Program is changed before it is rendered.

A change keeps the program well formed and within its buffers, so that a wrong result is all that can come of
it. It concerns the instructions of one dtype, so that addresses, which are int64, stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pluggrad import dtypes
from pluggrad.device.contract import Toolchain, Variant
from pluggrad.dtypes import DType
from pluggrad.lower.program import Instr, Program
from pluggrad.target import Target

OTHER = {
    # another instruction of the same operands and result
    "NEG": "ABS", "ABS": "NEG", "RECIP": "NEG", "SQRT": "ABS", "EXP": "EXP2", "EXP2": "EXP", "LOG": "LOG2",
    "LOG2": "LOG", "SIN": "COS", "COS": "SIN", "TANH": "ERF", "ERF": "TANH", "FLOOR": "CEIL",
    "CEIL": "FLOOR", "TRUNC": "FLOOR", "ROUND": "FLOOR", "NOT": "NEG", "ADD": "SUB", "SUB": "ADD",
    "MUL": "ADD", "DIV": "MUL", "MAX": "MIN", "MIN": "MAX", "AND": "OR", "OR": "XOR", "XOR": "OR",
    "SHL": "SHR", "SHR": "SHL", "LT": "LE", "LE": "LT", "EQ": "NE", "NE": "EQ", "CDIV": "CMOD",
    "CMOD": "CDIV", "BITCAST": "CAST",
}
COMPARE = ("LT", "LE", "EQ", "NE")


class Rewriter:
    """Writes a body anew; `sources` are ids of the new body."""

    def __init__(self) -> None:
        self.body: list[Instr] = []

    def add(self, op: str, dtype: DType | None, *sources: int, arg: object = None,
            axes: Sequence[int] = ()) -> int:
        self.body.append(Instr(op, dtype, sources, arg, tuple(axes)))
        return len(self.body) - 1

    def put(self, instr: Instr) -> int:
        self.body.append(instr)
        return len(self.body) - 1


Change = Callable[[Rewriter, Instr, Program], int]


def _another(to: Rewriter, instr: Instr, program: Program) -> int:
    return to.put(replace(instr, op=OTHER[instr.op]))


def _swapped(to: Rewriter, instr: Instr, program: Program) -> int:
    condition, x, y = instr.src
    return to.put(replace(instr, src=(condition, y, x)))


def _without_products(to: Rewriter, instr: Instr, program: Program) -> int:
    zero = to.add("CONST", dtypes.uint32, arg=0)
    return to.put(replace(instr, src=(*instr.src[:2], zero)))


def _rounded_down(to: Rewriter, instr: Instr, program: Program) -> int:
    source = instr.src[0]
    return to.put(replace(instr, src=(to.add("FLOOR", dtypes.float32, source, axes=instr.axes),)))


def _one_more(to: Rewriter, instr: Instr, program: Program) -> int:
    return to.put(replace(instr, arg=instr.arg + 1))


def _zero(to: Rewriter, instr: Instr, program: Program) -> int:
    return to.add("CONST", instr.dtype, arg=0)


def _one_less(to: Rewriter, instr: Instr, program: Program) -> int:
    start, stop = instr.arg
    return to.put(replace(instr, arg=(start, max(stop - 1, start))))


def _backward(to: Rewriter, instr: Instr, program: Program) -> int:
    extent = next(axis.extent for axis in program.axes if axis.id == instr.arg)
    last, lane = to.add("CONST", dtypes.int64, arg=extent - 1), to.put(instr)
    return to.add("SUB", dtypes.int64, last, lane, axes=instr.axes)


def _repeated(to: Rewriter, instr: Instr, program: Program) -> int:
    buffer, strides = instr.arg
    still = tuple((axis, 0) for axis, _ in strides or ())
    return to.put(replace(instr, arg=(buffer, still if strides else strides)))


def _dropped(to: Rewriter, instr: Instr, program: Program) -> int:
    return len(to.body) - 1  # nobody refers to what has no value


def _started_at_one(to: Rewriter, instr: Instr, program: Program) -> int:
    one = to.add("CONST", instr.dtype, arg=1.0)
    return to.put(replace(instr, src=(to.add("ADD", instr.dtype, instr.src[0], one),)))


def _combined_otherwise(to: Rewriter, instr: Instr, program: Program) -> int:
    name, axes = instr.arg
    return to.put(replace(instr, arg=("MAX" if name == "ADD" else "ADD", axes)))


def _group_combined_otherwise(to: Rewriter, instr: Instr, program: Program) -> int:
    return to.put(replace(instr, arg="MAX" if instr.arg == "ADD" else "ADD"))


@dataclass(frozen=True)
class Wrong:
    """A change of the instructions `op` that work on `dtype`, and the test that has to notice."""

    op: str
    change: Change
    test: str
    dtype: DType | None = None

    def concerns(self, instr: Instr, program: Program, branches: Sequence[str]) -> bool:
        if self.op in ("IF", "ELSE"):
            return instr.op == "STORE" and self.op in branches
        if instr.op != self.op:
            return False
        of_operand = instr.op in (*COMPARE, "CAST", "BITCAST", "STORE", "SET")
        worked_on = program.body[instr.src[min(1, len(instr.src) - 1)]] if of_operand else instr
        return self.dtype is None or worked_on.dtype is self.dtype

    def apply(self, program: Program) -> Program:
        to, moved, branches = Rewriter(), {}, []
        for position, instr in enumerate(program.body):
            if instr.op in ("END", "ELSE"):
                branches.pop()
            if instr.op in ("LOOP", "IF", "ELSE"):
                branches.append(instr.op)
            now = replace(instr, src=tuple([moved[source] for source in instr.src]))
            changed = self.concerns(instr, program, branches)
            moved[position] = self.change(to, now, program) if changed else to.put(now)
        return replace(program, body=tuple(to.body))


_FLOAT32 = ("NEG", "ABS", "RECIP", "SQRT", "EXP", "EXP2", "LOG", "LOG2", "SIN", "COS", "TANH", "ERF", "FLOOR",
            "CEIL", "TRUNC", "ROUND", "ADD", "SUB", "MUL", "DIV", "MAX", "MIN", *COMPARE)
_INT32 = ("NOT", "AND", "OR", "XOR", "SHL", "SHR")
WRONG = [
    *[Wrong(op, _another, f"L1/elementwise/{op}/float32/dense", dtypes.float32) for op in _FLOAT32],
    *[Wrong(op, _another, f"L1/elementwise/{op}/int32/dense", dtypes.int32) for op in _INT32],
    *[Wrong(op, _another, f"L1/toward-zero/{op}/int32", dtypes.int32) for op in ("CDIV", "CMOD")],
    Wrong("DOT2", _without_products, "L1/dots-of-pairs/4/False"),
    Wrong("WHERE", _swapped, "L1/elementwise/WHERE/float32/dense", dtypes.float32),
    Wrong("CAST", _rounded_down, "L1/casts/CAST/float32/dense", dtypes.float32),
    Wrong("BITCAST", _another, "L1/bitcasts/BITCAST/float32/dense", dtypes.float32),
    Wrong("CONST", _one_more, "L1/scalars/constant/int32", dtypes.int32),
    Wrong("VALUE", _zero, "L1/scalars/value/int32", dtypes.int32),
    Wrong("TASK", _zero, "L1/outer-product/float32"),
    Wrong("LOOP", _one_less, "L1/outer-product/float32"),
    Wrong("LANE", _backward, "L1/lanes-loaded/contiguous/by-lane/float32"),
    Wrong("LOAD", _repeated, "L1/lanes-loaded/contiguous/open/float32", dtypes.float32),
    Wrong("STORE", _dropped, "L1/lanes-stored/contiguous/open/float32", dtypes.float32),
    Wrong("ACC", _started_at_one, "L1/lanes-combined/ADD/float32", dtypes.float32),
    Wrong("SET", _dropped, "L1/lanes-combined/ADD/float32", dtypes.float32),
    Wrong("HREDUCE", _combined_otherwise, "L1/lanes-combined/ADD/float32", dtypes.float32),
    Wrong("IF", _dropped, "L1/tails/100"),
    Wrong("ELSE", _dropped, "L1/tails/100"),
]

# what comes only where a task has several work items
WRONG_IN_GROUPS = [
    Wrong("ITEM", _zero, "L2/softmax/5x4099"),
    Wrong("GREDUCE", _group_combined_otherwise, "L2/softmax/5x4099", dtypes.float32),
    Wrong("BARRIER", _dropped, "L2/matmul/96x160x224/none"),
]


class WrongToolchain(Toolchain):
    """Another toolchain, behind a change of what it renders."""

    def __init__(self, right: Toolchain, apply: Callable[[Program], Program]) -> None:
        self._right, self._apply = right, apply

    def render(self, program: Program) -> str:
        return self._right.render(self._apply(program))

    def compile(self, source: str) -> bytes:
        return self._right.compile(source)

    def compile_many(self, sources: Sequence[str]) -> list[bytes]:
        return self._right.compile_many(sources)


class WrongVariant(Variant):
    """A device as it is but for its renderer."""

    def __init__(self, right: Callable[[], Toolchain], apply: Callable[[Program], Program]) -> None:
        self._right, self._apply = right, apply

    def toolchain(self, target: Target) -> Toolchain:
        return WrongToolchain(self._right(), self._apply)


class GroupedVariant(WrongVariant):
    """The same, for groups of work items, whatever the schedule that the device itself asks for."""

    def target(self, target: Target) -> Target:
        grouped = replace(target.capabilities, max_group=64, subgroup_width=16, scratch_bytes=32 << 10,
                          vector_bytes=16)
        return replace(target, capabilities=grouped)
