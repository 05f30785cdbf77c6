"""Loads and stores: their stride decides between vector, broadcast, reversed and lane-by-lane code.

No alignment beyond the element's is assumed. Where a gate is false no byte outside the buffer is touched:
contiguous accesses are masked, others read element 0 instead and drop it.
"""
from __future__ import annotations

from dataclasses import dataclass

from pluggrad.plugin_api import BufferParam
from pluggrad_cpu.emit import REGISTER, Emitter, mangled, splat, vector


@dataclass(frozen=True, slots=True)
class Access:
    """One register's worth of memory: element `index + offset + lane * stride` of a buffer for each lane.

    pointer: where the buffer starts. stride: None where `index` itself is a vector. lanes: 0 for a single
    element. gate: an i1 (gate_lanes 0) or one for each lane; None: always.
    """

    buffer: BufferParam
    pointer: str
    index: str
    offset: int
    stride: int | None
    lanes: int
    gate: str | None = None
    gate_lanes: int = 0

    @property
    def element(self) -> str:
        """The element type in memory."""
        return "i8" if self.buffer.dtype.kind == "b" else REGISTER[self.buffer.dtype.name]

    @property
    def kind(self) -> str:
        return vector(self.element, self.lanes)


def load(out: Emitter, access: Access) -> str:
    """The value in its register type; 0 where the gate is false."""
    value = _load_memory(out, access)
    if access.buffer.dtype.kind != "b":
        return value
    return out.op(f"icmp ne {access.kind} {value}, {splat('0', 'i8', access.lanes)}")


def _load_memory(out: Emitter, a: Access) -> str:
    zero = _zero(a.element, a.lanes)
    if a.gate is not None and a.buffer.size == 0:
        return zero
    if a.stride == 0 or not a.lanes:
        return _load_one(out, a)
    if a.stride in (1, -1):
        return _load_row(out, a)
    if out.machine.wide_vectors and a.buffer.dtype.itemsize >= 4:
        return _gather(out, a)
    value = _load_lanes(out, a)
    if a.gate is None:
        return value
    return out.select(out.splat(a.gate, "i1", 0 if a.gate_lanes else a.lanes), a.lanes, a.kind, value, zero)


def _load_one(out: Emitter, a: Access) -> str:
    if a.gate is None:
        return out.splat(_load(out, a.element, _element(out, a, a.index, a.offset), a), a.element, a.lanes)
    reads = a.gate
    if a.gate_lanes:
        any_lane = f"llvm.vector.reduce.or.v{a.gate_lanes}i1"
        reads = out.call("i1", any_lane, [(vector("i1", a.gate_lanes), a.gate)])
    value = _load(out, a.element, _element(out, a, _safe(out, a, reads), 0), a)
    if a.gate_lanes:
        spread = out.splat(value, a.element, a.lanes)
        return out.select(a.gate, a.lanes, a.kind, spread, _zero(a.element, a.lanes))
    return out.splat(out.select(a.gate, 0, a.element, value, _zero(a.element, 0)), a.element, a.lanes)


def _load_row(out: Emitter, a: Access) -> str:
    if a.gate is None:
        value = _load(out, a.kind, _element(out, a, a.index, a.offset + _first(a)), a)
    elif not a.gate_lanes and a.stride == 1 and a.buffer.size >= a.lanes:
        row = _load(out, a.kind, _element(out, a, _safe(out, a, a.gate), 0), a)
        return out.select(a.gate, 0, a.kind, row, "zeroinitializer")
    else:
        mask, pointer = _mask(out, a), _element(out, a, a.index, a.offset + _first(a))
        value = out.call(a.kind, f"llvm.masked.load.{mangled(a.element, a.lanes)}.p0",
                         [("ptr", pointer), ("i32", str(_align(a))), (vector("i1", a.lanes), mask),
                          (a.kind, "zeroinitializer")])
    return value if a.stride == 1 else reverse(out, value, a.element, a.lanes)


def _gather(out: Emitter, a: Access) -> str:
    """AVX-512's gather, which skips lanes by itself."""
    mask = "splat (i1 true)" if a.gate is None else out.splat(a.gate, "i1", 0 if a.gate_lanes else a.lanes)
    name = f"llvm.masked.gather.{mangled(a.element, a.lanes)}.v{a.lanes}p0"
    return out.call(a.kind, name, [(vector("ptr", a.lanes), _pointers(out, a)), ("i32", str(_align(a))),
                                   (vector("i1", a.lanes), mask), (a.kind, "zeroinitializer")])


def _load_lanes(out: Emitter, a: Access) -> str:
    value = "poison"
    for lane, pointer in enumerate(_lane_pointers(out, a)):
        one = _load(out, a.element, pointer, a)
        value = out.op(f"insertelement {a.kind} {value}, {a.element} {one}, i64 {lane}")
    return value


def store(out: Emitter, access: Access, value: str) -> None:
    """Write a value of the register type; nothing where the gate is false."""
    a = access
    if a.buffer.dtype.kind == "b":
        value = out.op(f"zext {vector('i1', a.lanes)} {value} to {a.kind}")
    if a.gate is not None and not a.gate_lanes:
        _store_if(out, a, value)
    elif a.stride == 0 or a.lanes == 0 or a.stride not in (1, -1):
        _store_lanes(out, a, value)
    else:
        _store_row(out, a, value)


def _store_if(out: Emitter, a: Access, value: str) -> None:
    then, after = out.name("then"), out.name("after")
    out.do(f"br i1 {a.gate}, label %{then}, label %{after}")
    out.block(then)
    open_gate = Access(a.buffer, a.pointer, a.index, a.offset, a.stride, a.lanes)
    (_store_row if a.lanes and a.stride in (1, -1) else _store_lanes)(out, open_gate, value)
    out.do(f"br label %{after}")
    out.block(after)


def _store_row(out: Emitter, a: Access, value: str) -> None:
    pointer = _element(out, a, a.index, a.offset + _first(a))
    if a.stride == -1:
        value = reverse(out, value, a.element, a.lanes)
    if a.gate is None:
        out.do(f"store {a.kind} {value}, ptr {pointer}, align {_align(a)}")
        return
    out.do(f"call void @llvm.masked.store.{mangled(a.element, a.lanes)}.p0({a.kind} {value}, ptr {pointer}, "
           f"i32 {_align(a)}, {vector('i1', a.lanes)} {_mask(out, a)})")


def _store_lanes(out: Emitter, a: Access, value: str) -> None:
    if not a.lanes:
        pointer = _element(out, a, a.index, a.offset)
        out.do(f"store {a.element} {value}, ptr {pointer}, align {_align(a)}")
        return
    if a.gate is not None:
        pointers = f"{vector('ptr', a.lanes)} {_pointers(out, a)}"
        out.do(f"call void @llvm.masked.scatter.{mangled(a.element, a.lanes)}.v{a.lanes}p0({a.kind} {value}, "
               f"{pointers}, i32 {_align(a)}, {vector('i1', a.lanes)} {a.gate})")
        return
    for lane, pointer in enumerate(_lane_pointers(out, a)):
        one = out.op(f"extractelement {a.kind} {value}, i64 {lane}")
        out.do(f"store {a.element} {one}, ptr {pointer}, align {_align(a)}")


def reverse(out: Emitter, value: str, element: str, lanes: int) -> str:
    """The lanes in reverse order."""
    order = ", ".join(f"i32 {lane}" for lane in reversed(range(lanes)))
    kind = vector(element, lanes)
    return out.op(f"shufflevector {kind} {value}, {kind} poison, <{lanes} x i32> <{order}>")


def _lane_pointers(out: Emitter, a: Access) -> list[str]:
    if a.stride is not None and a.gate is None:
        first = _element(out, a, a.index, a.offset)
        return [_at(out, a, first, lane * a.stride) for lane in range(a.lanes)]
    indices = _indices(out, a)
    if a.gate is not None:
        gate = out.splat(a.gate, "i1", 0 if a.gate_lanes else a.lanes)
        indices = out.select(gate, a.lanes, vector("i64", a.lanes), indices, "zeroinitializer")
    kind = vector("i64", a.lanes)
    lanes = [out.op(f"extractelement {kind} {indices}, i64 {lane}") for lane in range(a.lanes)]
    return [out.op(f"getelementptr inbounds {a.element}, ptr {a.pointer}, i64 {index}") for index in lanes]


def _pointers(out: Emitter, a: Access) -> str:
    """A vector of addresses."""
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


def _element(out: Emitter, a: Access, index: str, offset: int) -> str:
    # the pointer to a gated element may lie outside of the buffer, which `inbounds` would make undefined
    inbounds = "inbounds " if a.gate is None else ""
    first = out.op(f"getelementptr {inbounds}{a.element}, ptr {a.pointer}, i64 {index}")
    return _at(out, a, first, offset)


def _at(out: Emitter, a: Access, pointer: str, offset: int) -> str:
    if not offset:
        return pointer
    inbounds = "inbounds " if a.gate is None else ""
    return out.op(f"getelementptr {inbounds}{a.element}, ptr {pointer}, i64 {offset}")


def _safe(out: Emitter, a: Access, gate: str) -> str:
    """The index of the first lane where it is read, else 0."""
    index = out.op(f"add i64 {a.index}, {a.offset}") if a.offset else a.index
    return out.select(gate, 0, "i64", index, "0")


def _mask(out: Emitter, a: Access) -> str:
    assert a.gate is not None
    if not a.gate_lanes:
        return out.splat(a.gate, "i1", a.lanes)
    return a.gate if a.stride == 1 else reverse(out, a.gate, "i1", a.lanes)


def _load(out: Emitter, kind: str, pointer: str, a: Access) -> str:
    return out.op(f"load {kind}, ptr {pointer}, align {_align(a)}")


def _first(a: Access) -> int:
    """Where the lowest address of a row lies, seen from its first lane."""
    return 0 if a.stride == 1 else 1 - a.lanes


def _align(a: Access) -> int:
    return a.buffer.dtype.itemsize


def _zero(element: str, lanes: int) -> str:
    if lanes:
        return "zeroinitializer"
    return "0.0" if element in ("float", "double") else "0"
