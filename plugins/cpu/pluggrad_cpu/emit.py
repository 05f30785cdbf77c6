"""Text of LLVM IR: types, literals, and the function under construction."""
from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from pluggrad.plugin_api import DType, Scalar

# What an element is in a register. Both half formats travel as their bits, which only casts look at.
REGISTER: Final = {
    "bool": "i1", "uint8": "i8", "uint16": "i16", "uint32": "i32", "uint64": "i64",
    "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64",
    "float16": "i16", "bfloat16": "i16", "float32": "float", "float64": "double",
}
BITS: Final = {"i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64, "float": 32, "double": 64}


def vector(element: str, lanes: int) -> str:
    """The type of `lanes` elements side by side; the element itself for 0 lanes."""
    return f"<{lanes} x {element}>" if lanes else element


def mangled(element: str, lanes: int) -> str:
    """A type as LLVM writes it in the names of overloaded intrinsics."""
    short = {"float": "f32", "double": "f64"}.get(element, element)
    return f"v{lanes}{short}" if lanes else short


def intrinsic(name: str, element: str, lanes: int) -> str:
    """The name of an intrinsic that is overloaded for this type."""
    return f"llvm.{name}.{mangled(element, lanes)}"


def splat(literal: str, element: str, lanes: int) -> str:
    """A literal in every lane."""
    return f"splat ({element} {literal})" if lanes else literal


def float_literal(value: float, element: str) -> str:
    """A float as the bits of a double, the one form that LLVM takes for every value of both widths."""
    if element == "float":
        value = _round_to_float32(value)
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


def _round_to_float32(value: float) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def half_bits(value: float) -> int:
    """The bits of a float16, rounded to nearest even."""
    try:
        return int(struct.unpack("<H", struct.pack("<e", value))[0])
    except OverflowError:
        return 0x7C00 if value > 0 else 0xFC00


def bfloat16_bits(value: float) -> int:
    """The bits of a bfloat16, rounded to nearest even."""
    bits: int = struct.unpack("<I", struct.pack("<f", _round_to_float32(value)))[0]
    if value != value:
        return bits >> 16 | 0x40
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def literal(value: Scalar, dtype: DType) -> str:
    """A Python value as a literal of the dtype's register type."""
    if dtype.kind == "b":
        return "true" if value else "false"
    if dtype.name == "float16":
        return str(half_bits(float(value)))
    if dtype.name == "bfloat16":
        return str(bfloat16_bits(float(value)))
    if dtype.kind == "f":
        return float_literal(float(value), REGISTER[dtype.name])
    return str(int(value))


@dataclass(frozen=True, slots=True)
class Machine:
    """What the code generator has instructions for, where the IR depends on it.

    half: float16 conversions. rounding: floor and its kin. wide_vectors: 512-bit registers, worth asking for.
    """

    half: bool
    rounding: bool
    wide_vectors: bool


class Emitter:
    """The body of one function. `pieces` holds the other functions of the module that it calls, by name."""

    def __init__(self, pieces: dict[str, str], machine: Machine) -> None:
        self.machine = machine
        self.lines: list[str] = []
        self.entry: list[str] = []  # allocas, which must stand in the entry block to become registers
        self.pieces = pieces
        self.label = "entry"
        self._names = 0

    def name(self, hint: str = "r") -> str:
        """A name not used before in this function, without its sigil."""
        self._names += 1
        return f"{hint}{self._names}"

    def do(self, text: str) -> None:
        """An instruction without a result."""
        self.lines.append(f"  {text}")

    def op(self, text: str) -> str:
        """An instruction; the name of its result."""
        result = f"%{self.name()}"
        self.lines.append(f"  {result} = {text}")
        return result

    def call(self, returns: str, function: str, arguments: Sequence[tuple[str, str]]) -> str:
        """A call with (type, value) arguments. LLVM declares intrinsics by itself."""
        listed = ", ".join(f"{kind} {value}" for kind, value in arguments)
        return self.op(f"call {returns} @{function}({listed})")

    def block(self, label: str) -> None:
        """Start a basic block."""
        self.lines.append(f"{label}:")
        self.label = label

    @contextmanager
    def only_if(self, condition: str) -> Iterator[None]:
        """A block that is skipped where an i1 is false."""
        then, after = self.name("then"), self.name("after")
        self.do(f"br i1 {condition}, label %{then}, label %{after}")
        self.block(then)
        yield
        self.do(f"br label %{after}")
        self.block(after)

    def alloca(self, kind: str) -> str:
        """A stack slot, which `sroa` turns into a register."""
        result = f"%{self.name('acc')}"
        self.entry.append(f"  {result} = alloca {kind}")
        return result

    def local(self, name: str, element: str, size: int) -> None:
        """Memory on the stack, from a cache line on."""
        self.entry.append(f"  {name} = alloca [{size} x {element}], align 64")

    def splat(self, value: str, element: str, lanes: int) -> str:
        """A scalar in every lane."""
        if not lanes:
            return value
        if not value.startswith("%"):
            return splat(value, element, lanes)
        kind = vector(element, lanes)
        first = self.op(f"insertelement {kind} poison, {element} {value}, i64 0")
        return self.op(f"shufflevector {kind} {first}, {kind} poison, <{lanes} x i32> zeroinitializer")

    def select(self, condition: str, lanes: int, kind: str, yes: str, no: str) -> str:
        """`condition ? yes : no`; with 0 lanes one condition for the whole of `kind`."""
        return self.op(f"select {vector('i1', lanes)} {condition}, {kind} {yes}, {kind} {no}")


class Branch:
    """A conditional block, open from its making to `close`; `turn` starts the other side."""

    def __init__(self, out: Emitter, condition: str) -> None:
        self.out = out
        self.other, self.after = out.name("else"), out.name("after")
        then = out.name("then")
        out.do(f"br i1 {condition}, label %{then}, label %{self.other}")
        out.block(then)
        self.turned = False

    def turn(self) -> None:
        self.out.do(f"br label %{self.after}")
        self.out.block(self.other)
        self.turned = True

    def close(self) -> None:
        if not self.turned:
            self.turn()
        self.out.do(f"br label %{self.after}")
        self.out.block(self.after)
