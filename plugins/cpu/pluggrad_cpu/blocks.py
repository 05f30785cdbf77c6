"""Whole blocks of memory: strided along the lanes, contiguous from register to register.

    window  strides of 2 to 4: the vectors that cover the block are read, and lanes picked out of them
    run     a window without gaps: lanes are picked for each vector of it, which is then written
    rows    any stride: each lane has a row of contiguous elements, and a network of shuffles transposes

A row is cut into pieces of powers of two, the last of which overlaps the one before where they do not add up:
what is read or written twice is the same. Short rows are written in one piece where there are masks.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from pluggrad_cpu import shuffle
from pluggrad_cpu.access import Access, element_at, further, lane_addresses, lane_pointers, read, write
from pluggrad_cpu.emit import Emitter, vector

_WINDOW_STRIDES: Final = (2, 3, 4)  # beyond, a covering vector has too little that is wanted
_SHORT: Final = 8  # elements of a row that one masked store writes faster than two overlapping ones
_BLOCK_BYTES: Final = 1024  # of the registers that one network transposes: half of AVX-512's


def is_window(out: Emitter, a: Access) -> bool:
    """Whether a load may read all between its first and its last element."""
    if a.stride is None or a.lanes < 2 or abs(a.stride) not in _WINDOW_STRIDES:
        return False
    if a.guard == "lanes":  # the elements of a lane are then told apart by a mask
        return out.machine.wide_vectors and a.extent <= abs(a.stride)
    return a.guard != "registers"


def load_window(out: Emitter, a: Access) -> list[str]:
    """Registers picked out of the vectors that cover them."""
    assert a.stride is not None
    step = abs(a.stride)
    low = min(0, (a.lanes - 1) * a.stride)
    span = (a.lanes - 1) * step + a.extent
    # the last vector ends where the window does
    starts = [*range(0, span - a.lanes, a.lanes), span - a.lanes]
    first = element_at(out, a, a.index, a.offset + low)
    covering = [read(out, a, a.lanes, further(out, a, first, start), _window_mask(out, a, start))
                for start in starts]

    def place(element: int) -> tuple[int, int]:
        number = min(element // a.lanes, len(starts) - 1)
        return number, element - starts[number]

    return [shuffle.pick(out, a.element, a.lanes, covering,
                         [place(lane * a.stride - low + t) for lane in range(a.lanes)])
            for t in range(a.extent)]


def _window_mask(out: Emitter, a: Access, start: int) -> str | None:
    """Which elements of the vector at `start` belong to a lane whose gate is true."""
    if a.gate is None:
        return None
    assert a.stride is not None
    order = []
    for element in range(start, start + a.lanes):
        lane, t = divmod(element, abs(a.stride))
        lane = lane if a.stride > 0 else a.lanes - 1 - lane
        order.append(lane if t < a.extent else a.lanes)
    return shuffle.shuffle(out, "i1", a.lanes, a.gate, "zeroinitializer", order)


def is_run(out: Emitter, a: Access) -> bool:
    """Whether a store fills all between its first and its last element."""
    if a.stride is None or a.lanes < 2 or a.extent not in _WINDOW_STRIDES or abs(a.stride) != a.extent:
        return False
    return a.guard == "open" or (a.guard == "lanes" and out.machine.wide_vectors)


def store_run(out: Emitter, a: Access, values: Sequence[str]) -> None:
    """Vectors of neighbors, picked from all registers."""
    assert a.stride is not None
    first = element_at(out, a, a.index, a.offset + min(0, (a.lanes - 1) * a.stride))
    for start in range(0, a.lanes * a.extent, a.lanes):
        picks = []
        for element in range(start, start + a.lanes):
            lane, t = divmod(element, a.extent)
            picks.append((t, lane if a.stride > 0 else a.lanes - 1 - lane))
        row = shuffle.pick(out, a.element, a.lanes, values, picks)
        write(out, a, a.lanes, row, further(out, a, first, start), _window_mask(out, a, start))


def is_readable_in_rows(out: Emitter, a: Access) -> bool:
    """Whether a load may take the rows of its lanes one by one."""
    if a.guard == "lanes" and a.buffer.size < a.extent:  # where its gate is false a lane reads the first row
        return False
    if a.guard == "registers" and a.stride is not None and abs(a.stride) in _WINDOW_STRIDES:
        return False  # a window for each register needs fewer loads than a row for each lane
    return is_writable_in_rows(out, a)


def is_writable_in_rows(out: Emitter, a: Access) -> bool:
    """Whether a store may give the rows of its lanes one by one."""
    if a.stride in (None, 0, 1, -1) or a.extent < 2 or a.lanes < 2 or a.lanes & (a.lanes - 1):
        return False
    return a.guard != "registers" or out.machine.wide_vectors  # masks within rows


def load_rows(out: Emitter, a: Access) -> list[str]:
    """The transpose of one row for each lane."""
    values = [""] * a.extent
    pointers = lane_pointers(out, a)
    for start, width in _pieces(a):
        rows = [read(out, a, width, further(out, a, pointer, start), mask)
                for pointer, mask in zip(pointers, _row_masks(out, a, start, width), strict=True)]
        per_register = a.lanes // width
        joined = [shuffle.join(out, a.element, width, rows[first:first + per_register])
                  for first in range(0, a.lanes, per_register)]
        values[start:start + width] = shuffle.deinterleave(out, a.element, a.lanes, joined)
    if a.guard != "lanes":
        return values
    return [out.select(a.gates[0], a.lanes, a.kind, value, "zeroinitializer") for value in values]


def store_rows(out: Emitter, a: Access, values: Sequence[str]) -> None:
    """One row for each lane of the transpose."""
    padded = 1 << (a.extent - 1).bit_length()
    if a.guard == "open" and a.extent < padded <= min(a.lanes, _SHORT) and out.machine.wide_vectors:
        more = padded - a.extent
        a = replace(a, extent=padded, gates=("true",) * a.extent + ("false",) * more)
        values = [*values, *["poison"] * more]
    pointers = _pointers_or_scratch(out, a) if a.guard == "lanes" else lane_pointers(out, a)
    for start, width in _pieces(a):
        rows = _rows(out, a.element, a.lanes, values[start:start + width])
        for row, pointer, mask in zip(rows, pointers, _row_masks(out, a, start, width), strict=True):
            write(out, a, width, row, further(out, a, pointer, start), mask)


def _pointers_or_scratch(out: Emitter, a: Access) -> list[str]:
    """The address of each lane; of memory that nobody reads where its gate is false, to spare branches."""
    kind = vector("ptr", a.lanes)
    scratch = out.splat(out.alloca(vector(a.element, a.extent)), "ptr", a.lanes)
    chosen = out.select(a.gates[0], a.lanes, kind, lane_addresses(out, a), scratch)
    return [out.op(f"extractelement {kind} {chosen}, i64 {lane}") for lane in range(a.lanes)]


def _row_masks(out: Emitter, a: Access, start: int, width: int) -> list[str] | list[None]:
    """The gates of registers start..start+width, as a mask for each lane's piece of a row."""
    if a.guard != "registers":
        return [None] * a.lanes
    gates = a.gates[start:start + width]
    if not a.gate_lanes:
        mask = "poison"
        for t, gate in enumerate(gates):
            mask = out.op(f"insertelement {vector('i1', width)} {mask}, i1 {gate}, i64 {t}")
        return [mask] * a.lanes
    # bytes, as machines do not shuffle masks
    bits, byte = vector("i1", a.lanes), vector("i8", a.lanes)
    rows = _rows(out, "i8", a.lanes, [out.op(f"zext {bits} {gate} to {byte}") for gate in gates])
    return [out.op(f"trunc {vector('i8', width)} {row} to {vector('i1', width)}") for row in rows]


def _rows(out: Emitter, element: str, lanes: int, registers: Sequence[str]) -> list[str]:
    """For each lane its elements in all registers."""
    width = len(registers)
    return [shuffle.part(out, element, lanes, register, first, width)
            for register in shuffle.interleave(out, element, lanes, registers)
            for first in range(0, lanes, width)]


def _pieces(a: Access) -> Iterator[tuple[int, int]]:
    """(start, width) of the pieces of a row, which cover it; widths are powers of two."""
    width = max(2, min(a.lanes, _BLOCK_BYTES // (a.lanes * a.align), 1 << a.extent.bit_length() - 1))
    start = 0
    while start < a.extent:
        while width // 2 >= max(2, a.extent - start):
            width //= 2
        start = min(start, a.extent - width)
        yield start, width
        start += width
