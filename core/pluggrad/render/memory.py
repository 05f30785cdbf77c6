"""Loads and stores: rows as vectors where lanes are neighbors, everything else element by element.

Where a gate is false nothing is read or written.
"""
from __future__ import annotations

from dataclasses import dataclass

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.render.arithmetic import Arithmetic
from pluggrad.render.source import Value


@dataclass(frozen=True, slots=True)
class Access:
    """Lane l of `lanes` is element `index + offset + l * stride` of the buffer called `buffer`.

    stride: None where `index` has a lane for each. gate: None, a bool for all lanes, or a mask. multiple: a
    power of two that divides `index + offset`.
    """

    buffer: str
    dtype: DType
    index: Value
    offset: int
    stride: int | None
    lanes: int
    gate: Value | None = None
    multiple: int = 1

    def pointer(self, offset: int) -> str:
        """The address `offset` elements beyond the index."""
        return f"{self.buffer} + {_plus(str(self.index), offset)}"


def _plus(index: str, offset: int) -> str:
    if index.isdecimal():
        return str(int(index) + offset)
    return index if not offset else f"{index} {'+' if offset > 0 else '-'} {abs(offset)}"


def load(a: Arithmetic, at: Access) -> Value:
    """What is in memory, 0 where the gate is false."""
    value = _load_memory(a, at)
    return a.compare("!=", value, 0) if at.dtype.kind == "b" else value


def _load_memory(a: Arithmetic, at: Access) -> Value:
    """A bool as its byte."""
    dtype = dtypes.uint8 if at.dtype.kind == "b" else a.dialect.held(at.dtype)
    gate = at.gate
    if at.lanes == 1:
        element = Value(_element(a, at, 0), dtype, form="call")
    elif gate is not None and gate.lanes > 1:
        zero = a.dialect.literal(0, dtype)
        gates = a.let(gate)
        each = [f"{a.dialect.element(gates, lane)} ? {_element(a, at, lane)} : {zero}"
                for lane in range(at.lanes)]
        return a.dialect.join(each, dtype, a.out)
    elif at.stride == 0:
        element = a.spread(Value(_element(a, at, 0), dtype, form="call"), at.lanes)
    elif at.stride == 1:
        element = a.dialect.load_aligned_row(at.pointer(at.offset), dtype, at.lanes, at.multiple, a.out)
    else:
        each = [_element(a, at, lane) for lane in range(at.lanes)]
        element = a.dialect.join(each, dtype, a.out)
    if gate is None:
        return element
    return Value(f"{gate} ? {element} : {a.constant(0, dtype, at.lanes)}", dtype, at.lanes, "operation")


def copy(a: Arithmetic, to: Access, source: Access) -> bool:
    """Copy a row ahead of time; False where the language cannot, or the row is none that lies as it
    should."""
    nbytes, lanes = to.lanes * to.dtype.itemsize, to.lanes
    row = lanes == 1 or to.stride == source.stride == 1
    gate = source.gate
    if not row or nbytes not in a.dialect.copied_bytes or to.multiple % lanes or source.multiple % lanes \
            or (gate is not None and gate.lanes > 1):
        return False
    a.out.do(a.dialect.copy_ahead(to.pointer(to.offset), source.pointer(source.offset), nbytes,
                                  "true" if gate is None else gate.text, a.out))
    return True


def store(a: Arithmetic, at: Access, value: Value) -> None:
    """Write what the gate lets through."""
    if at.dtype.kind == "b" and at.lanes > 1:  # memory has 1 for true, not a mask
        value = a.reinterpret(a.infix("&", a.convert(value, dtypes.int8), 1), dtypes.uint8)
    gate = at.gate
    if at.lanes == 1:
        _guarded(a, gate, f"{_element(a, at, 0)} = {value.text};")
    elif at.stride == 1 and (gate is None or gate.lanes == 1):
        _guarded(a, gate, a.dialect.store_aligned_row(at.pointer(at.offset), value, at.multiple, a.out))
    else:
        value = a.let(value)
        lanes = None if gate is None else a.let(gate)
        for lane in range(at.lanes):
            one = lanes if lanes is None or lanes.lanes == 1 else Value(
                a.dialect.element(lanes, lane), dtypes.bool_)
            _guarded(a, one, f"{_element(a, at, lane)} = {a.dialect.element(value, lane)};")


def _guarded(a: Arithmetic, gate: Value | None, statement: str) -> None:
    a.out.do(statement if gate is None else f"if ({gate.text}) {statement}")


def _element(a: Arithmetic, at: Access, lane: int) -> str:
    """One element, by its name in memory."""
    if at.stride is None:
        index = a.dialect.element(at.index, lane) if at.index.lanes > 1 else str(at.index)
        return f"{at.buffer}[{_plus(index, at.offset)}]"
    return f"{at.buffer}[{_plus(str(at.index), at.offset + lane * at.stride)}]"
