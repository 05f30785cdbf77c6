"""Where a load or a store goes: the elements it names, their addresses, and what guards them.

No alignment beyond the element's is assumed.
"""
from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Final, Literal

from pluggrad.plugin_api import BufferParam
from pluggrad_cpu import shuffle
from pluggrad_cpu.emit import REGISTER, Branch, Emitter, mangled, splat, vector

STREAMED: Final = "!0"  # the metadata of stores that pass the caches by
_LINE: Final = 64
_SECOND_LEVEL: Final = 2  # where what is asked for waits: LLVM's 3 is the first level, 0 none
_NARROWEST: Final = 16  # bytes that are worth an instruction of their own


def memory_type(buffer: BufferParam) -> str:
    """What an element is in memory."""
    return "i8" if buffer.dtype.kind == "b" else REGISTER[buffer.dtype.name]


@dataclass(frozen=True, slots=True)
class Access:
    """`extent` registers' worth of memory: lane l of register t is element `index + offset + t + l * stride`.

    pointer: where the buffer starts. stride: None where `index` itself is a vector. lanes: 0 for a single
    element. gates: none, one for all registers, or one for each; each an i1 (gate_lanes 0) or one for each
    lane. Where a gate is false no byte outside the buffer is touched, and nothing is written.
    """

    buffer: BufferParam
    pointer: str
    index: str
    offset: int
    stride: int | None
    lanes: int
    extent: int = 1
    gates: tuple[str, ...] = ()
    gate_lanes: int = 0

    @property
    def element(self) -> str:
        """The element type in memory."""
        return memory_type(self.buffer)

    @property
    def kind(self) -> str:
        """The type of one register."""
        return vector(self.element, self.lanes)

    @property
    def align(self) -> int:
        return self.buffer.dtype.itemsize

    @property
    def gate(self) -> str | None:
        """The gate of an access that has one at most."""
        return self.gates[0] if self.gates else None

    @property
    def guard(self) -> Literal["open", "whole", "lanes", "registers"]:
        """What the gates guard: nothing, all at once, each lane of all registers, each register by itself."""
        if len(self.gates) > 1:
            return "registers"
        return "open" if not self.gates else "lanes" if self.gate_lanes else "whole"

    def ungated(self) -> Access:
        return replace(self, gates=(), gate_lanes=0)

    def registers(self) -> list[Access]:
        """An access for each register."""
        if self.extent == 1:
            return [self]
        gates = [self.gates[t:t + 1] if len(self.gates) > 1 else self.gates for t in range(self.extent)]
        return [replace(self, offset=self.offset + t, extent=1, gates=gates[t]) for t in range(self.extent)]


def element_at(out: Emitter, a: Access, index: str, offset: int) -> str:
    """The address of element `index + offset`."""
    # the pointer to a gated element may lie outside of the buffer, which `inbounds` would make undefined
    inbounds = "inbounds " if a.gate is None else ""
    first = out.op(f"getelementptr {inbounds}{a.element}, ptr {a.pointer}, i64 {index}")
    return further(out, a, first, offset)


def further(out: Emitter, a: Access, pointer: str, offset: int) -> str:
    """The address `offset` elements beyond another."""
    if not offset:
        return pointer
    inbounds = "inbounds " if a.gate is None else ""
    return out.op(f"getelementptr {inbounds}{a.element}, ptr {pointer}, i64 {offset}")


def lane_pointers(out: Emitter, a: Access) -> list[str]:
    """The address of each lane of the first register; of element 0 where a gate of all registers is false."""
    if a.stride is not None and a.guard in ("open", "registers"):
        first = element_at(out, a, a.index, a.offset)
        return [further(out, a, first, lane * a.stride) for lane in range(a.lanes)]
    indices = _indices(out, a)
    if a.gate is not None:
        gate = out.splat(a.gate, "i1", 0 if a.gate_lanes else a.lanes)
        indices = out.select(gate, a.lanes, vector("i64", a.lanes), indices, "zeroinitializer")
    kind = vector("i64", a.lanes)
    lanes = [out.op(f"extractelement {kind} {indices}, i64 {lane}") for lane in range(a.lanes)]
    return [out.op(f"getelementptr inbounds {a.element}, ptr {a.pointer}, i64 {index}") for index in lanes]


def lane_addresses(out: Emitter, a: Access) -> str:
    """The address of each lane of the first register, as a vector."""
    return out.op(f"getelementptr {a.element}, ptr {a.pointer}, {vector('i64', a.lanes)} {_indices(out, a)}")


def _indices(out: Emitter, a: Access) -> str:
    """The index of every lane."""
    kind = vector("i64", a.lanes)
    if a.stride is None:
        if not a.offset:
            return a.index
        return out.op(f"add {kind} {a.index}, {splat(str(a.offset), 'i64', a.lanes)}")
    steps = ", ".join(f"i64 {a.offset + lane * a.stride}" for lane in range(a.lanes))
    return out.op(f"add {kind} {out.splat(a.index, 'i64', a.lanes)}, <{steps}>")


def safe_index(out: Emitter, a: Access, gate: str) -> str:
    """The index of the first lane where it is read, else 0."""
    index = out.op(f"add i64 {a.index}, {a.offset}") if a.offset else a.index
    return out.select(gate, 0, "i64", index, "0")


def row_mask(out: Emitter, a: Access) -> str:
    """The gate of a row of stride 1 or -1, in the order of memory."""
    assert a.gate is not None
    if not a.gate_lanes:
        return out.splat(a.gate, "i1", a.lanes)
    return a.gate if a.stride == 1 else shuffle.reverse(out, "i1", a.lanes, a.gate)


def read(out: Emitter, a: Access, lanes: int, pointer: str, mask: str | None = None) -> str:
    """`lanes` contiguous elements; 0 where the mask is false."""
    kind = vector(a.element, lanes)
    if mask is None:
        return out.op(f"load {kind}, ptr {pointer}, align {a.align}")
    if _is_half_register(out, a, lanes):
        both = read(out, a, 2 * lanes, pointer, _mask_of_half(out, lanes, mask))
        return shuffle.part(out, a.element, 2 * lanes, both, 0, lanes)
    return out.call(kind, f"llvm.masked.load.{mangled(a.element, lanes)}.p0",
                    [("ptr", pointer), ("i32", str(a.align)), (vector("i1", lanes), mask),
                     (kind, "zeroinitializer")])


def prefetch(out: Emitter, a: Access) -> None:
    """Have whole lines of a row fetched, or of each lane's row of a block, wherever they are: asking faults
    nowhere."""
    nbytes = a.align * (a.lanes if a.stride == 1 else a.extent)
    if a.stride is None or nbytes < _LINE:
        return
    first = out.op(f"getelementptr {a.element}, ptr {a.pointer}, i64 {a.index}")
    rows = [a.offset * a.align] if a.stride == 1 else [
        (a.offset + lane * a.stride) * a.align for lane in range(a.lanes)]
    for row, line in itertools.product(rows, range(0, nbytes - _LINE + 1, _LINE)):
        there = out.op(f"getelementptr i8, ptr {first}, i64 {row + line}")
        out.do(f"call void @llvm.prefetch.p0(ptr {there}, i32 0, i32 {_SECOND_LEVEL}, i32 1)")


def write(out: Emitter, a: Access, lanes: int, value: str, pointer: str, mask: str | None = None) -> None:
    """`lanes` contiguous elements, where the mask is true."""
    kind = vector(a.element, lanes)
    if mask is None:
        ordinary = f"store {kind} {value}, ptr {pointer}, align {a.align}"
        if a.buffer.streamed and lanes * a.align >= _NARROWEST:
            _stream(out, kind, value, pointer, min(lanes * a.align, _LINE), ordinary)
        else:
            out.do(ordinary)
        return
    if _is_half_register(out, a, lanes):
        both = shuffle.shuffle(out, a.element, lanes, value, "poison", [*range(lanes), *[None] * lanes])
        write(out, a, 2 * lanes, both, pointer, _mask_of_half(out, lanes, mask))
        return
    out.do(f"call void @llvm.masked.store.{mangled(a.element, lanes)}.p0({kind} {value}, ptr {pointer}, "
           f"i32 {a.align}, {vector('i1', lanes)} {mask})")


def _stream(out: Emitter, kind: str, value: str, pointer: str, alignment: int, ordinary: str) -> None:
    """A store past the caches, which has to be aligned; an ordinary one where the address is not."""
    address = out.op(f"ptrtoint ptr {pointer} to i64")
    beyond = out.op(f"and i64 {address}, {alignment - 1}")
    aligned = out.op(f"icmp eq i64 {beyond}, 0")
    branch = Branch(out, aligned)
    out.do(f"store {kind} {value}, ptr {pointer}, align {alignment}, !nontemporal {STREAMED}")
    branch.turn()
    out.do(ordinary)
    branch.close()


def _is_half_register(out: Emitter, a: Access, lanes: int) -> bool:
    """Whether LLVM would widen the mask of these elements with `kmovb`, which clears the upper half.

    LLVM 22 spills the source of such a move in place of its result, so that bytes beyond are written.
    """
    return lanes == 8 and a.element == "i8" and out.machine.wide_vectors


def _mask_of_half(out: Emitter, lanes: int, mask: str) -> str:
    """The mask of twice the lanes whose upper half is false, widened as bytes instead."""
    half = out.op(f"sext {vector('i1', lanes)} {mask} to {vector('i8', lanes)}")
    both = shuffle.shuffle(out, "i8", lanes, half, "zeroinitializer", range(2 * lanes))
    return out.op(f"trunc {vector('i8', 2 * lanes)} {both} to {vector('i1', 2 * lanes)}")


def zero(element: str, lanes: int) -> str:
    """The literal 0 of a register."""
    if lanes:
        return "zeroinitializer"
    return "0.0" if element in ("float", "double") else "0"
