"""Loads and stores: each takes the first of a table's forms that fits it.

What is strided along lanes but runs through memory along registers is moved in whole blocks (blocks.py); all
else register by register: as one element, a row (stride 1 or -1), a gather, or lane by lane.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from pluggrad_cpu import blocks, shuffle
from pluggrad_cpu.access import (
    Access,
    element_at,
    lane_addresses,
    lane_pointers,
    read,
    row_mask,
    safe_index,
    write,
    zero,
)
from pluggrad_cpu.emit import Emitter, mangled, splat, vector

Fits = Callable[[Emitter, Access], bool]

_LOADS: Final[tuple[tuple[Fits, Callable[[Emitter, Access], list[str]]], ...]] = (
    (blocks.is_window, blocks.load_window),
    (blocks.is_readable_in_rows, blocks.load_rows),
)
_STORES: Final[tuple[tuple[Fits, Callable[[Emitter, Access, Sequence[str]], None]], ...]] = (
    (blocks.is_run, blocks.store_run),
    (blocks.is_writable_in_rows, blocks.store_rows),
)


def load(out: Emitter, access: Access) -> list[str]:
    """The registers in their register type; 0 where the gate is false."""
    values = _load_memory(out, access)
    if access.buffer.dtype.kind != "b":
        return values
    return [out.op(f"icmp ne {access.kind} {value}, {splat('0', 'i8', access.lanes)}") for value in values]


def _load_memory(out: Emitter, a: Access) -> list[str]:
    block = next((form for fits, form in _LOADS if fits(out, a)), None)
    if block is not None:
        return _load_if(out, a, block) if a.guard == "whole" else block(out, a)
    if a.extent > 1:
        return [value for one in a.registers() for value in _load_memory(out, one)]
    return [_load_register(out, a)]


def _load_if(out: Emitter, a: Access, form: Callable[[Emitter, Access], list[str]]) -> list[str]:
    then, after, before = out.name("then"), out.name("after"), out.label
    out.do(f"br i1 {a.gate}, label %{then}, label %{after}")
    out.block(then)
    values = form(out, a.ungated())
    then = out.label
    out.do(f"br label %{after}")
    out.block(after)
    return [out.op(f"phi {a.kind} [ {value}, %{then} ], [ zeroinitializer, %{before} ]") for value in values]


def _load_register(out: Emitter, a: Access) -> str:
    nothing = zero(a.element, a.lanes)
    if a.gate is not None and a.buffer.size == 0:
        return nothing
    if a.stride == 0 or not a.lanes:
        return _load_one(out, a)
    if a.stride in (1, -1):
        return _load_row(out, a)
    if out.machine.wide_vectors and a.buffer.dtype.itemsize >= 4:
        return _gather(out, a)
    value = _load_lanes(out, a)
    if a.gate is None:
        return value
    gate = out.splat(a.gate, "i1", 0 if a.gate_lanes else a.lanes)
    return out.select(gate, a.lanes, a.kind, value, nothing)


def _load_one(out: Emitter, a: Access) -> str:
    if a.gate is None:
        return out.splat(read(out, a, 0, element_at(out, a, a.index, a.offset)), a.element, a.lanes)
    reads = a.gate
    if a.gate_lanes:
        any_lane = f"llvm.vector.reduce.or.v{a.gate_lanes}i1"
        reads = out.call("i1", any_lane, [(vector("i1", a.gate_lanes), a.gate)])
    value = read(out, a, 0, element_at(out, a, safe_index(out, a, reads), 0))
    if a.gate_lanes:
        spread = out.splat(value, a.element, a.lanes)
        return out.select(a.gate, a.lanes, a.kind, spread, zero(a.element, a.lanes))
    return out.splat(out.select(a.gate, 0, a.element, value, zero(a.element, 0)), a.element, a.lanes)


def _load_row(out: Emitter, a: Access) -> str:
    if a.guard == "whole" and a.stride == 1 and a.buffer.size >= a.lanes:
        assert a.gate is not None
        row = read(out, a, a.lanes, element_at(out, a, safe_index(out, a, a.gate), 0))
        return out.select(a.gate, 0, a.kind, row, "zeroinitializer")
    mask = None if a.gate is None else row_mask(out, a)
    value = read(out, a, a.lanes, element_at(out, a, a.index, a.offset + _first(a)), mask)
    return value if a.stride == 1 else shuffle.reverse(out, a.element, a.lanes, value)


def _gather(out: Emitter, a: Access) -> str:
    """AVX-512's gather, which skips lanes by itself."""
    mask = "splat (i1 true)" if a.gate is None else out.splat(a.gate, "i1", 0 if a.gate_lanes else a.lanes)
    name = f"llvm.masked.gather.{mangled(a.element, a.lanes)}.v{a.lanes}p0"
    return out.call(a.kind, name, [(vector("ptr", a.lanes), lane_addresses(out, a)), ("i32", str(a.align)),
                                   (vector("i1", a.lanes), mask), (a.kind, "zeroinitializer")])


def _load_lanes(out: Emitter, a: Access) -> str:
    value = "poison"
    for lane, pointer in enumerate(lane_pointers(out, a)):
        one = read(out, a, 0, pointer)
        value = out.op(f"insertelement {a.kind} {value}, {a.element} {one}, i64 {lane}")
    return value


def store(out: Emitter, access: Access, values: Sequence[str]) -> None:
    """Write registers of the register type; nothing where the gate is false."""
    a = access
    if a.buffer.dtype.kind == "b":
        values = [out.op(f"zext {vector('i1', a.lanes)} {value} to {a.kind}") for value in values]
    _store_memory(out, a, values)


def _store_memory(out: Emitter, a: Access, values: Sequence[str]) -> None:
    if a.guard == "whole":
        _store_if(out, a, values)
        return
    block = next((form for fits, form in _STORES if fits(out, a)), None)
    if block is not None:
        block(out, a, values)
        return
    if a.extent > 1:
        for one, value in zip(a.registers(), values, strict=True):
            _store_memory(out, one, [value])
    elif a.lanes and a.stride in (1, -1):
        _store_row(out, a, values[0])
    else:
        _store_lanes(out, a, values[0])


def _store_if(out: Emitter, a: Access, values: Sequence[str]) -> None:
    with out.only_if(str(a.gate)):
        _store_memory(out, a.ungated(), values)


def _store_row(out: Emitter, a: Access, value: str) -> None:
    pointer = element_at(out, a, a.index, a.offset + _first(a))
    if a.stride == -1:
        value = shuffle.reverse(out, a.element, a.lanes, value)
    write(out, a, a.lanes, value, pointer, None if a.gate is None else row_mask(out, a))


def _store_lanes(out: Emitter, a: Access, value: str) -> None:
    if not a.lanes:
        write(out, a, 0, value, element_at(out, a, a.index, a.offset))
        return
    if a.gate is not None:
        if a.stride == 0:  # a report of what hardly ever happens: scattering nothing still takes its time
            some = out.call("i1", f"llvm.vector.reduce.or.v{a.lanes}i1", [(vector("i1", a.lanes), a.gate)])
            with out.only_if(some):
                _scatter(out, a, value)
        else:
            _scatter(out, a, value)
        return
    for lane, pointer in enumerate(lane_pointers(out, a)):
        write(out, a, 0, out.op(f"extractelement {a.kind} {value}, i64 {lane}"), pointer)


def _scatter(out: Emitter, a: Access, value: str) -> None:
    pointers = f"{vector('ptr', a.lanes)} {lane_addresses(out, a)}"
    out.do(f"call void @llvm.masked.scatter.{mangled(a.element, a.lanes)}.v{a.lanes}p0({a.kind} {value}, "
           f"{pointers}, i32 {a.align}, {vector('i1', a.lanes)} {a.gate})")


def _first(a: Access) -> int:
    """Where the lowest address of a row lies, seen from its first lane."""
    return 0 if a.stride == 1 else 1 - a.lanes
