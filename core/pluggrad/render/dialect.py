"""How a language of the C family spells what kernels are made of. The defaults are C11's, without vectors.

A language with vector types names their widths and overrides what is written for lanes.
"""
from __future__ import annotations

import math
import struct
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, Final, NamedTuple

from pluggrad import dtypes
from pluggrad.dtypes import DType, Scalar
from pluggrad.lower.matrices import MatrixTile
from pluggrad.lower.program import Program
from pluggrad.render.source import Source, Value

_SIGNED: Final = {d.itemsize: d for d in dtypes.INTS if d.kind == "i"}
_UNSIGNED: Final = {d.itemsize: d for d in dtypes.INTS if d.kind == "u"}

_LIBM: Final = {
    "SQRT": "sqrt", "EXP": "exp", "EXP2": "exp2", "LOG": "log", "LOG2": "log2", "SIN": "sin", "COS": "cos",
    "TANH": "tanh", "ERF": "erf", "FLOOR": "floor", "CEIL": "ceil", "TRUNC": "trunc", "ROUND": "rint",
    "ABS": "fabs",
}


class Piece(NamedTuple):
    """Lanes `start` to `start + lanes` of a VECTOR axis, which are one value of the language."""

    start: int
    lanes: int


def signed(dtype: DType) -> DType:
    """The signed integer of the same size."""
    return _SIGNED[dtype.itemsize]


def unsigned(dtype: DType) -> DType:
    """The unsigned integer of the same size."""
    return _UNSIGNED[dtype.itemsize]


class Dialect:
    """One language, for a target that computes in the floats named by `arithmetic`.

    types: the type of each dtype, in registers and in memory; bools are 0 or 1. functions: by op and dtype
    the name of a function that computes it. vector_widths: lanes that a vector type may have, widest first.
    A VECTOR axis is cut into such pieces, and into scalars where there are none. lane_conversion, bit_cast:
    how a vector `x` is converted to the type `to`, and how the bits of a vector or scalar are taken for it.
    item, shared, barrier: the name that the index of a work item within its group has, the word for memory
    of the group, and the statement at which its items wait for each other; empty in a language without
    groups. subgroup: items with neighboring numbers that read each other's registers by `exchange` (0: none
    do). aligned: the word that aligns an array for the widest row, where rows rely on it. copied_bytes:
    rows that are copied to memory of the group ahead of time. rolled: what stands before a loop whose steps
    are too long to be unrolled.
    """

    types: ClassVar[Mapping[str, str]] = {
        "bool": "unsigned char", "float16": "_Float16", "float32": "float", "float64": "double",
        **{d.name: f"{d.name}_t" for d in dtypes.INTS}}
    functions: ClassVar[Mapping[str, Mapping[str, str]]] = {
        op: {"float32": f"{name}f", "float64": name} for op, name in _LIBM.items()}
    function_head: ClassVar[str] = "static inline"
    vector_widths: ClassVar[tuple[int, ...]] = ()
    lane_conversion: ClassVar[str] = ""
    bit_cast: ClassVar[str] = ""  # without one, a union
    item: ClassVar[str] = ""
    shared: ClassVar[str] = ""
    aligned: ClassVar[str] = ""
    barrier: ClassVar[str] = ""
    subgroup: ClassVar[int] = 0
    copied_bytes: ClassVar[tuple[int, ...]] = ()
    rolled: ClassVar[str] = ""

    def __init__(self, arithmetic: Collection[str]) -> None:
        self.arithmetic = frozenset(arithmetic)

    # ------------------------------------------------------------------------------------------------ types

    def held(self, dtype: DType) -> DType:
        """What a value of this dtype is in a register: floats that are not computed in travel as bits."""
        return dtype if dtype.kind != "f" or dtype.name in self.arithmetic else unsigned(dtype)

    def type(self, dtype: DType, lanes: int, out: Source) -> str:
        """The name of a type."""
        return self.types[dtype.name] if lanes == 1 else self.vector_type(dtype, lanes, out)

    def pieces(self, extent: int) -> tuple[Piece, ...]:
        """A VECTOR axis as vectors of the language, the widest first."""
        cut: list[Piece] = []
        start = 0
        while start < extent:
            lanes = next((width for width in self.vector_widths if width <= extent - start), 1)
            cut.append(Piece(start, lanes))
            start += lanes
        return tuple(cut)

    # --------------------------------------------------------------------------------------------- literals

    def literal(self, value: Scalar, dtype: DType) -> str:
        """A Python value as a scalar of the dtype as it is held."""
        if dtype.kind == "b":
            return str(int(value))
        if dtype.kind != "f":
            return self.integer(int(value), dtype)
        if self.held(dtype) is not dtype:
            return self.integer(float_bits(float(value), dtype), unsigned(dtype))
        return self.real(float(value), dtype)

    def integer(self, value: int, dtype: DType) -> str:
        """The literal of an integer."""
        if dtype.kind == "u":
            small = dtype is dtypes.uint64 and value < 1 << 32  # two of them would meet in 32 bits
            return f"({self.types[dtype.name]}){value}u" if small else f"{value}u"
        # the literal of the most negative number would be that of one which the type lacks
        return f"({value + 1} - 1)" if value in (-(1 << 31), -(1 << 63)) else str(value)

    def real(self, value: float, dtype: DType) -> str:
        """The literal of a float that is computed in; NaN and infinity occur."""
        if not math.isfinite(value):
            text = "NAN" if value != value else "INFINITY" if value > 0 else "-INFINITY"
            return text if dtype is dtypes.float32 else f"(({self.types[dtype.name]}){text})"
        if dtype is dtypes.float64:
            return repr(value)
        text = f"{rounded(value):.9g}"
        text = f"{text}f" if set(text) & set(".en") else f"{text}.0f"
        return text if dtype is dtypes.float32 else f"(({self.types[dtype.name]}){text})"

    # --------------------------------------------------------------------------- scalars, and lanes of them

    def convert(self, value: Value, dtype: DType, out: Source) -> Value:
        """C's conversion of numbers: integers wrap, floats are rounded."""
        if value.lanes == 1:
            return Value(f"({self.types[dtype.name]}){value}", dtype, form="call")
        return self._to_type(self.lane_conversion, value, dtype, out)

    def _to_type(self, spelling: str, value: Value, dtype: DType, out: Source) -> Value:
        text = spelling.format(to=self.type(dtype, value.lanes, out), x=value.text)
        return Value(text, dtype, value.lanes, "call")

    def own_cast(self, value: Value, source: DType, target: DType, out: Source) -> Value | None:
        """What the op CAST means, where the language has a way of its own; None: it is written in others."""
        return None

    def reinterpret(self, value: Value, dtype: DType, out: Source) -> Value:
        """The same bits as another type of the same size."""
        integer = value.lanes == 1 and value.dtype.is_int
        if integer and dtype.is_int:
            return self.convert(value, dtype, out)
        if self.bit_cast:
            if integer:
                value = self.convert(value, value.dtype, out)  # a literal may be of another size
            return self._to_type(self.bit_cast, value, dtype, out)
        name = f"bits_{value.dtype.name}_to_{dtype.name}"
        before, after = self.types[value.dtype.name], self.types[dtype.name]
        out.pieces.setdefault(name, (
            f"{self.function_head} {after} {name}({before} x) {{\n"
            f"    union {{ {before} before; {after} after; }} bits = {{ x }};\n"
            f"    return bits.after;\n}}"))
        return Value(f"{name}({value.text})", dtype, form="call")

    def compare(self, symbol: str, x: Value, y: Value, out: Source) -> Value:
        """A bool; of lanes a mask as wide as they are."""
        dtype = dtypes.bool_ if x.lanes == 1 else signed(x.dtype)
        return Value(f"{x} {symbol} {y}", dtype, x.lanes, form="operation")

    def select(self, condition: Value, yes: Value, no: Value, out: Source) -> Value:
        """`yes` where the condition holds; a condition of lanes is a mask as wide as what it chooses from."""
        return Value(f"{condition} ? {yes} : {no}", yes.dtype, yes.lanes, form="operation")

    def call(self, function: str, arguments: Sequence[Value], dtype: DType, out: Source) -> Value:
        """A function of scalars, for each lane."""
        return Value(f"{function}({', '.join(a.text for a in arguments)})", dtype, form="call")

    # ------------------------------------------------------------------------ what only vector types need

    def vector_type(self, dtype: DType, lanes: int, out: Source) -> str:
        """The name of a type of several lanes; what declares it goes to `out`."""
        raise NotImplementedError

    def splat(self, value: Value, lanes: int, out: Source) -> Value:
        """A scalar in every lane."""
        raise NotImplementedError

    def join(self, elements: Sequence[str], dtype: DType, out: Source) -> Value:
        """A vector of these elements."""
        raise NotImplementedError

    def element(self, value: Value, lane: int) -> str:
        """One lane of a vector that has a name."""
        raise NotImplementedError

    def load_row(self, pointer: str, dtype: DType, lanes: int, out: Source) -> Value:
        """Neighbors in memory, aligned as elements are."""
        raise NotImplementedError

    def store_row(self, pointer: str, value: Value, out: Source) -> str:
        """The statement that writes neighbors in memory."""
        raise NotImplementedError

    # -------------------------------------------------------------------- what only copies ahead of time need

    def copy_ahead(self, to: str, source: str, nbytes: int, gate: str, out: Source) -> str:
        """The statement that starts to copy an aligned row of one of `copied_bytes`, zeros where the gate
        is false."""
        raise NotImplementedError

    def commit(self, out: Source) -> str:
        """The statement that makes a batch of the copies since the last one."""
        raise NotImplementedError

    def wait(self, newer: int, out: Source) -> str:
        """The statement that waits for all batches but so many."""
        raise NotImplementedError

    # ----------------------------------------------------------------------------- what only boxes need

    def arrivals(self, stages: int, copies: int, out: Source) -> str:
        """The statement that makes ready what counts the boxes of each stage that have arrived."""
        raise NotImplementedError

    def copy_box(self, to: str, number: int, starts: Sequence[str], step: str, stages: int, program: Program,
                 out: Source) -> str:
        """The statement that starts to copy a box from these positions on, for one step of a loop."""
        raise NotImplementedError

    def wait_box(self, step: str, stages: int, out: Source) -> str:
        """The statement that waits for the boxes of a step."""
        raise NotImplementedError

    # ---------------------------------------------------------------------------- what only matrix units need

    def matrix_sums(self, name: str, tile: MatrixTile, program: Program, out: Source) -> str:
        """The statement that declares the sums of a tile, all 0."""
        raise NotImplementedError

    def matrix_multiply(self, name: str, tile: MatrixTile, left: str, right: str, program: Program,
                        out: Source) -> str:
        """The statement that adds the product of the panels at two addresses."""
        raise NotImplementedError

    def matrix_store(self, name: str, tile: MatrixTile, to: str, stride: int, program: Program,
                     out: Source) -> str:
        """The statement that stores sums at an address, rows so many elements apart."""
        raise NotImplementedError

    def load_aligned_row(self, pointer: str, dtype: DType, lanes: int, multiple: int, out: Source) -> Value:
        """Neighbors, of which the first is `multiple` elements, a power of two, from an aligned place."""
        return self.load_row(pointer, dtype, lanes, out)

    def store_aligned_row(self, pointer: str, value: Value, multiple: int, out: Source) -> str:
        """The statement that writes them."""
        return self.store_row(pointer, value, out)

    # ---------------------------------------------------------------------- what only subgroups need

    def exchange(self, value: Value, distance: int, group: int, out: Source) -> Value:
        """The value of the item whose number differs in the bit `distance`, of the same subgroup of a group
        of `group` items; all of them get there together."""
        raise NotImplementedError


def rounded(value: float) -> float:
    """The float32 nearest to `value`."""
    return float(struct.unpack("<f", float_bits(value, dtypes.float32).to_bytes(4, "little"))[0])


def float_bits(value: float, dtype: DType) -> int:
    """The bits of the float of this dtype nearest to `value`, ties to even."""
    if dtype is dtypes.bfloat16:
        bits = float_bits(value, dtypes.float32)
        return bits >> 16 | 0x40 if value != value else (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    form = {2: "<e", 4: "<f", 8: "<d"}[dtype.itemsize]
    try:
        packed = struct.pack(form, value)
    except OverflowError:
        packed = struct.pack(form, math.copysign(math.inf, value))
    return int.from_bytes(packed, "little")
