"""Kernel: stores over index expressions, and the axes they range over."""
from __future__ import annotations

import math
import struct
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from pluggrad import dtypes
from pluggrad.dtypes import DType, Scalar
from pluggrad.graph.ops import CAST
from pluggrad.ir.node import Node, node
from pluggrad.kernel import ops

AxisKind = Literal["PARALLEL", "ITEM", "LOOP", "REDUCE", "UNROLL", "TILE", "VECTOR", "MATRIX", "BOX"]
Role = Literal["in", "out", "inout", "status", "local"]


@dataclass(frozen=True, slots=True)
class Axis:
    """PARALLEL axes are split into tasks, LOOP and REDUCE run in order, TILE and VECTOR live in registers.

    UNROLL is a short REDUCE whose steps are written out one after another: each has instructions of its
    own. Along an ITEM axis each work item of a task's group takes one position: all ITEM axes of a kernel
    have the group's size as their extent. MATRIX axes belong to a matrix unit: what ranges over them is a
    sum of products of two loads from local memory, which the group holds in registers until it is stored,
    to local memory again. BOX axes belong to a copy engine: what is stored over them is a box of a buffer
    (kernel/boxes.py).
    """

    id: int
    extent: int
    kind: AxisKind

    @property
    def in_registers(self) -> bool:
        """TILE, VECTOR or MATRIX."""
        return self.kind in ("TILE", "VECTOR", "MATRIX")


@dataclass(frozen=True, slots=True)
class BufferParam:
    """One buffer: element type, size in elements, and what the kernel does with it.

    A status buffer holds an int64 for each `IndexCheck`: 0, or some index that was out of range. A local one
    is no argument but memory of each task's own, which its group shares, of any content when the task begins.
    A streamed one is not read by the kernel, and too large to be found in a cache by whoever reads it later.
    `ahead` is always 0 (PREFETCH says what will be read). A local one of several `stages`, which is stored to
    at each step of a reduction, is there so many times: it is stored to up to `stages - 1` steps before it is
    read. The last `kept` of them that were read are not stored to: products under way may still read there.
    """

    dtype: DType
    size: int
    role: Role
    streamed: bool = False
    ahead: int = 0
    stages: int = 1
    kept: int = 0

    @property
    def nbytes(self) -> int:
        """Memory that it takes, in all stages."""
        return self.size * self.dtype.itemsize * self.stages


class IndexCheck(NamedTuple):
    """What a word of a status buffer is about: indices of the op called `op`, along an axis of `extent`.

    axis: None where the indices are labels.
    """

    op: str
    axis: int | None
    extent: int


class Dim(NamedTuple):
    """`extent` positions, neighbors `stride` elements apart, of which a box has `held`."""

    extent: int
    stride: int
    held: int


class Box(NamedTuple):
    """A box of buffer `source`, which it sees as `dims` from element `offset` on, the shortest stride first.

    In local memory it lies in spans of `span` elements along the first dimension: all others within a span,
    then the next span.
    """

    source: int
    offset: int
    dims: tuple[Dim, ...]
    span: int

    @property
    def spans(self) -> int:
        """How many spans there are."""
        return self.dims[0].held // self.span

    @property
    def size(self) -> int:
        """Elements that it holds."""
        return math.prod([dim.held for dim in self.dims])


LOCAL_ALIGNMENT: Final = 16  # bytes, of the widest row that a work item moves
NO_CHECK: Final = IndexCheck("", 0, 0)  # of a word that nobody writes


@dataclass(frozen=True, slots=True)
class Kernel:
    """`stores` over `axes`; buffers and run-time values are slots. `name` says what it is, for people.

    Local buffers stand behind all others. With them stores have an order (kernel/order.py). A store to one
    that ranges over a REDUCE axis is made in the loop of that reduction, at each position before what is read
    there; its other axes are of registers, or of what is around the reduction.
    """

    name: str
    buffers: tuple[BufferParam, ...]
    values: tuple[DType, ...]
    axes: tuple[Axis, ...]
    stores: tuple[Node, ...]

    @property
    def arguments(self) -> tuple[BufferParam, ...]:
        """The buffers that a launch is given: all but the local ones."""
        return tuple([b for b in self.buffers if b.role != "local"])

    @property
    def local(self) -> dict[int, frozenset[int]]:
        """The slots of local buffers, each with the axes that what is in there differs along: the PARALLEL
        ones, and the REDUCE axes that are stored over."""
        slots = [slot for slot, b in enumerate(self.buffers) if b.role == "local"]
        if not slots:
            return {}
        kinds = {a.id: a.kind for a in self.axes}
        found = {slot: {id for id, kind in kinds.items() if kind == "PARALLEL"} for slot in slots}
        for store in self.stores:
            if store.arg[0] in found:
                found[store.arg[0]].update([id for id in store.arg[1] if kinds.get(id) == "REDUCE"])
        return {slot: frozenset(ids) for slot, ids in found.items()}

    @property
    def local_bytes(self) -> int:
        """Memory that a task has for itself."""
        unit = {a.id for a in self.axes if a.kind == "MATRIX"}
        sums = [store.arg[0] for store in self.stores if not unit.isdisjoint(store.arg[1])] if unit else []
        return local_places(self.buffers, sums)[1]

    @property
    def tasks(self) -> int:
        """How many tasks the kernel is launched with."""
        return math.prod([axis.extent for axis in self.axes if axis.kind == "PARALLEL"])

    @property
    def group(self) -> int:
        """Work items that run each task together; 1 without ITEM axes."""
        return next((axis.extent for axis in self.axes if axis.kind == "ITEM"), 1)


def local_places(buffers: Sequence[BufferParam], sums: Container[int]) -> tuple[dict[int, int], int]:
    """Where each local buffer lies, in bytes, and how many they take. `sums`, which a matrix unit stores
    when it is done, take the place of what it has read."""
    places, end = dict[int, int](), 0
    panels = [slot for slot, b in enumerate(buffers) if b.role == "local" and slot not in sums]
    for slot in panels:
        places[slot] = -(-end // LOCAL_ALIGNMENT) * LOCAL_ALIGNMENT
        end = places[slot] + buffers[slot].nbytes
    held = [slot for slot, b in enumerate(buffers) if b.role == "local" and slot in sums]
    places |= dict.fromkeys(held, 0)
    return places, max([end, *[buffers[slot].nbytes for slot in held]])


_FORMATS = {"float16": "<e", "bfloat16": "<f", "float32": "<f", "float64": "<d"}


@dataclass(frozen=True, slots=True)
class ConstBits:
    """A constant by its bits, so that -0.0 and NaN are told apart; bfloat16 by the bits of its float32."""

    bits: int
    is_float: bool

    def of(self, dtype: DType) -> Scalar:
        """The Python value."""
        if dtype.kind == "b":
            return bool(self.bits)
        if dtype.kind != "f":
            return self.bits
        form = _FORMATS[dtype.name]
        return float(struct.unpack(form, self.bits.to_bytes(struct.calcsize(form), "little"))[0])


def const(value: Scalar, dtype: DType = dtypes.int64) -> Node:
    """A CONST node; floats are rounded to the dtype, integers wrapped."""
    value = dtypes.cast_scalar(value, dtype)
    if dtype.kind != "f":
        return node(ops.CONST, (), ConstBits(int(value), False), dtype)
    form = _FORMATS[dtype.name]
    try:
        packed = struct.pack(form, value)
    except OverflowError:  # beyond the format's range: infinity, as a rounding conversion gives
        packed = struct.pack(form, float("inf") if value > 0 else float("-inf"))
    bits = int.from_bytes(packed, "little")
    if dtype is dtypes.bfloat16 and value == value:  # nearest, ties to even, in the upper half of a float32
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return node(ops.CONST, (), ConstBits(bits, True), dtype)


def cast(x: Node, dtype: DType) -> Node:
    """`x` as `dtype`, by the rules of the op CAST."""
    return x if x.type is dtype else node(CAST, (x,), None, dtype)


def axis(id: int) -> Node:
    """The position along an axis, as a node."""
    return node(ops.AXIS, (), id, dtypes.int64)
