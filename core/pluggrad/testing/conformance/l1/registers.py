"""Kernels by hand, for what a renderer must handle and a schedule only sometimes asks for.

Axes in registers, by tiles and by lanes; blocks across memory; gates by lane; tails; ordered stores; division
toward zero. A device without vectors gets tiles in their place.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.ir.node import Node, node
from pluggrad.kernel import ops
from pluggrad.kernel.kernel import Axis, AxisKind, BufferParam, Kernel, Role, axis, cast, const
from pluggrad.testing.conformance import reference, samples
from pluggrad.testing.conformance.registry import conformance, product
from pluggrad.testing.conformance.requirement import requires
from pluggrad.testing.conformance.subject import Subject, decoded, stored

_NAMES: Final = [dtype.name for dtype in dtypes.ALL]
_MOVED: Final = ("bool", "uint8", "int16", "float16", "bfloat16", "float32", "int64", "float64")
_ROWS: Final = 3


def _op(name: str, *sources: Node, dtype: DType | None = None) -> Node:
    return node(ops.KERNEL_OPS[name], sources, None, dtype or sources[-1].type)


def _at(offset: int = 0, **strides: int) -> Node:
    """offset + the sum of axis * stride: _at(1, a0=3, a2=1)."""
    position = const(offset)
    for name, stride in strides.items():
        position = _op("ADD", position, _op("MUL", axis(int(name[1:])), const(stride)))
    return position


def _below(position: Node, limit: int) -> Node:
    return _op("LT", position, const(limit), dtype=dtypes.bool_)


def _load(buffer: int, index: Node, dtype: DType, *gate: Node) -> Node:
    return node(ops.LOAD, (index, *gate), buffer, dtype)


def _store(buffer: int, axes: tuple[int, ...], index: Node, value: Node, *gate: Node,
           combine: tuple[str, ...] = ()) -> Node:
    return node(ops.STORE, (index, value, *gate), (buffer, axes, *combine), value.type)


def _kernel(buffers: Sequence[tuple[DType, int, Role]], axes: Sequence[tuple[int, AxisKind]],
            *stores: Node) -> Kernel:
    numbered = tuple([Axis(id, extent, kind) for id, (extent, kind) in enumerate(axes)])
    return Kernel("by_hand", tuple([BufferParam(*each) for each in buffers]), (), numbered, stores)


def _lanes(subject: Subject, dtype: DType) -> tuple[int, AxisKind]:
    """The widest vector of a dtype, but two lanes at least; registers where the device has no vectors."""
    width = subject.capabilities.vector_bytes
    return max(width // dtype.itemsize, 2), "VECTOR" if width else "TILE"


@conformance("L1", cases=product(name=("ADD", "MUL", "MAX", "MIN"), dtype=_NAMES),
             requires=lambda name, dtype: requires(dtype=dtype),
             suggests="HREDUCE {name} of {dtype} drops or repeats lanes")
def lanes_combined(subject: Subject, name: str, dtype: str) -> None:
    """A reduction along a loop, registers and lanes at once: every position counts once."""
    of = dtypes.by_name(dtype)
    inside = dtypes.uint8 if of.kind == "b" else dtypes.accumulator_dtype(of)
    lanes, kind = _lanes(subject, of)
    columns = 5 * 2 * lanes
    index = _at(a0=columns, a1=2 * lanes, a2=lanes, a3=1)
    combine = {"ADD": "MAX", "MUL": "MIN"}.get(name, name) if of.kind == "b" else name
    total = node(ops.REDUCE, (cast(_load(0, index, of), inside),), (combine, (1, 2, 3)), inside)
    kernel = _kernel([(of, _ROWS * columns, "in"), (of, _ROWS, "out")],
                     [(_ROWS, "PARALLEL"), (5, "REDUCE"), (2, "TILE"), (lanes, kind)],
                     _store(1, (0,), axis(0), cast(total, of)))
    draw = samples.near_one if name == "MUL" else samples.summable
    x = draw(of, (_ROWS, columns), samples.seeded("lanes", name, dtype))
    have = subject.run(kernel, [stored(x, of).reshape(-1), np.zeros(_ROWS, of.numpy)], tuned=False)[1]
    op = {"ADD": "SUM", "MUL": "PROD", "MAX": "RMAX", "MIN": "RMIN"}[name]
    subject.expect(decoded(have, of), reference.reduce(op, x, (1,), of), of,
                   "sum" if name in ("ADD", "MUL") else "exact", op=f"HREDUCE {name} of {dtype}")


_ACCESSES: Final = ("contiguous", "reversed", "strided", "repeated", "block", "spread-block", "looked-up")


@conformance("L1", cases=product(access=_ACCESSES, gate=("open", "by-lane", "shut"), dtype=_MOVED),
             requires=lambda access, gate, dtype: requires(dtype=(dtype, "int32")),
             suggests="a load of {dtype} reads the wrong lanes ({access}, gate {gate})")
def lanes_loaded(subject: Subject, access: str, gate: str, dtype: str) -> None:
    """Registers by lanes, loaded along memory, against it and across it; a shut gate reads nothing."""
    of = dtypes.by_name(dtype)
    lanes, kind = _lanes(subject, of)
    tile, first = 3, 1 << 40 if gate == "shut" else 4 * lanes
    tile_stride, lane_stride = {"contiguous": (lanes, 1), "reversed": (lanes, -1), "strided": (2 * lanes, 2),
                                "repeated": (1, 0), "block": (1, tile), "spread-block": (1, tile + 4),
                                "looked-up": (lanes, 1)}[access]
    size = 8 * lanes + (tile - 1) * abs(tile_stride) + lanes * abs(lane_stride)
    index = _at(first, a1=tile_stride, a2=lane_stride)
    if access == "looked-up":
        index = cast(_load(1, _at(a1=lanes, a2=1), dtypes.int32), dtypes.int64)
    gates = {"open": (), "by-lane": (_below(axis(2), lanes - 1),),
             "shut": (_below(axis(0), 0),)}[gate]
    kernel = _kernel([(of, size, "in"), (dtypes.int32, tile * lanes, "in"), (of, tile * lanes, "out")],
                     [(1, "PARALLEL"), (tile, "TILE"), (lanes, kind)],
                     _store(2, (0, 1, 2), _at(a1=lanes, a2=1), _load(0, index, of, *gates)))
    rng = samples.seeded("loaded", access, gate, dtype)
    x, looked = samples.plain(of, (size,), rng), rng.integers(0, size, tile * lanes).astype(np.int32)
    places = first + tile_stride * np.arange(tile)[:, None] + lane_stride * np.arange(lanes)
    places = looked.reshape(tile, lanes).astype(np.int64) if access == "looked-up" else places
    want = x[places % size]
    want[:, {"open": lanes, "by-lane": lanes - 1, "shut": 0}[gate]:] = 0
    have = subject.run(kernel, [stored(x, of), looked, np.zeros(tile * lanes, of.numpy)], tuned=False)[2]
    subject.expect(decoded(have, of), want.reshape(-1), of, op=f"LOAD of {dtype}, {access}, gate {gate}")


@conformance("L1", cases=product(access=("contiguous", "reversed", "strided", "block"),
                                 gate=("open", "by-lane", "shut"), dtype=_MOVED),
             requires=lambda access, gate, dtype: requires(dtype=dtype),
             suggests="a store of {dtype} writes the wrong lanes ({access}, gate {gate})")
def lanes_stored(subject: Subject, access: str, gate: str, dtype: str) -> None:
    """Registers by lanes, stored along memory, against it and across it; what is gated off stays."""
    of = dtypes.by_name(dtype)
    lanes, kind = _lanes(subject, of)
    tile, first = 3, 1 << 40 if gate == "shut" else lanes
    tile_stride, lane_stride = {"contiguous": (lanes, 1), "reversed": (lanes, -1), "strided": (2 * lanes, 2),
                                "block": (1, tile)}[access]
    size = 2 * lanes + (tile - 1) * tile_stride + lanes * abs(lane_stride)
    gates = {"open": (), "by-lane": (_below(axis(2), lanes - 1),), "shut": (_below(axis(0), 0),)}[gate]
    kernel = _kernel([(of, tile * lanes, "in"), (of, size, "inout")],
                     [(1, "PARALLEL"), (tile, "TILE"), (lanes, kind)],
                     _store(1, (0, 1, 2), _at(first, a1=tile_stride, a2=lane_stride),
                            _load(0, _at(a1=lanes, a2=1), of), *gates))
    rng = samples.seeded("stored", access, gate, dtype)
    x, want = samples.plain(of, (tile, lanes), rng), samples.plain(of, (size,), rng)
    before = stored(want, of)
    passing = {"open": lanes, "by-lane": lanes - 1, "shut": 0}[gate]
    places = first + tile_stride * np.arange(tile)[:, None] + lane_stride * np.arange(passing)
    want[places % size] = x[:, :passing]
    have = subject.run(kernel, [stored(x, of).reshape(-1), before], tuned=False)[1]
    subject.expect(decoded(have, of), want, of, op=f"STORE of {dtype}, {access}, gate {gate}")


@conformance("L1", cases=product(size=(1, 7, 8, 9, 31, 64, 100)), requires=requires(dtype="float32"),
             suggests="the last step of a loop or of the tasks, which is partial, is wrong")
def tails(subject: Subject, size: int) -> None:
    """Tasks and a loop in steps of a vector, the last one partial: x[i] + the sum of x."""
    of = dtypes.float32
    lanes, kind = _lanes(subject, of)
    steps = -(-size // lanes)

    def element(outer: int, inner: int) -> tuple[Node, Node]:
        position = _at(**{f"a{outer}": lanes, f"a{inner}": 1})
        tail = node(ops.TAIL, (position,), (outer, lanes, size), dtypes.bool_)
        return tail, _load(0, position, of, tail)

    total = node(ops.REDUCE, (element(2, 3)[1],), ("ADD", (2, 3)), of)
    tail, loaded = element(0, 1)
    kernel = _kernel([(of, size, "in"), (of, size, "out")],
                     [(steps, "PARALLEL"), (lanes, kind), (steps, "REDUCE"), (lanes, "TILE")],
                     _store(1, (0, 1), _at(a0=lanes, a1=1), _op("ADD", loaded, total), tail))
    x = np.arange(1, size + 1, dtype=np.float32)
    have = subject.run(kernel, [x, np.zeros(size, np.float32)], tuned=False)[1]
    subject.expect(have, x + x.sum(), of, op=f"steps of {lanes} over {size}")


@conformance("L1", cases=product(dtype=("float32", "float64", "int32", "uint8")),
             requires=lambda dtype: requires(dtype=dtype),
             suggests="an accumulator over registers and lanes is wrong, or an operand is not splat")
def outer_product(subject: Subject, dtype: str) -> None:
    """A matrix product with a tile of accumulators: one operand the same for all lanes, one for all rows."""
    of = dtypes.by_name(dtype)
    lanes, kind = _lanes(subject, of)
    rows, depth, tasks = 4, 7, 3
    product_ = _op("MUL", _load(0, _at(a0=rows * depth, a1=depth, a3=1), of),
                   _load(1, _at(a3=lanes, a2=1), of))
    total = node(ops.REDUCE, (product_,), ("ADD", (3,)), of)
    kernel = _kernel([(of, tasks * rows * depth, "in"), (of, depth * lanes, "in"),
                      (of, tasks * rows * lanes, "out")],
                     [(tasks, "PARALLEL"), (rows, "TILE"), (lanes, kind), (depth, "REDUCE")],
                     _store(2, (0, 1, 2), _at(a0=rows * lanes, a1=lanes, a2=1), total))
    rng = samples.seeded("outer-product", dtype)
    a, b = [rng.integers(0, 5, shape).astype(of.numpy) for shape in ((tasks * rows, depth), (depth, lanes))]
    out = np.zeros(tasks * rows * lanes, of.numpy)
    have = subject.run(kernel, [a.reshape(-1), b.reshape(-1), out], tuned=False)[2]
    subject.expect(have, (a @ b).reshape(-1), of, op=f"outer product of {dtype}")


@conformance("L1", cases=product(vectors=(0, 1, 4), half=(False, True)),
             requires=requires(dtype=("uint32", "float32")),
             suggests="DOT2 takes the wrong halves, or drops what it adds to")
def dots_of_pairs(subject: Subject, vectors: int, half: bool) -> None:
    """A product of bfloat16 by pairs along the sum; lanes of several registers, of half a one, or none."""
    of, pair = dtypes.float32, dtypes.uint32
    width, kind = _lanes(subject, of)
    lanes, rows, depth = max(vectors * width // (2 if half else 1), 1), 3, 5
    first = const(0.0 if half else 1.0, of)  # what is not 0 is no part of the sum's own accumulator
    x, y = _load(0, _at(a0=depth, a2=1), pair), _load(1, _at(a2=lanes, a1=1), pair)
    total = node(ops.REDUCE, (_op("DOT2", first, x, y, dtype=of),), ("ADD", (2,)), of)
    kernel = _kernel([(pair, rows * depth, "in"), (pair, depth * lanes, "in"), (of, rows * lanes, "out")],
                     [(rows, "TILE"), (lanes, kind if lanes > 1 else "TILE"), (depth, "REDUCE")],
                     _store(2, (0, 1), _at(a0=lanes, a1=1), total))
    rng = samples.seeded("pairs", str(vectors), str(half))
    a, b = [rng.integers(-9, 10, (count, 2 * depth)).astype(np.float32) for count in (rows, lanes)]
    pairs = [stored(x, dtypes.bfloat16).view(np.uint32) for x in (a, b)]
    out = np.zeros(rows * lanes, np.float32)
    have = subject.run(kernel, [pairs[0].reshape(-1), pairs[1].T.reshape(-1), out], tuned=False)[2]
    want = a @ b.T + (0 if half else depth)
    subject.expect(have, want.reshape(-1), of, op=f"DOT2 in {lanes} lanes")


@conformance("L1", cases=product(name=("CDIV", "CMOD"), dtype=[dtype.name for dtype in dtypes.INTS]),
             requires=lambda name, dtype: requires(dtype=dtype),
             suggests="{name} of {dtype} does not round toward 0")
def toward_zero(subject: Subject, name: str, dtype: str) -> None:
    """Division toward zero and its remainder, of both signs, by lanes."""
    of = dtypes.by_name(dtype)
    lanes, kind = _lanes(subject, of)
    size = 8 * lanes
    where = _at(a0=lanes, a1=1)
    value = _op(name, _load(0, where, of), _load(1, where, of))
    kernel = _kernel([(of, size, "in"), (of, size, "in"), (of, size, "out")],
                     [(8, "PARALLEL"), (lanes, kind)], _store(2, (0, 1), where, value))
    rng = samples.seeded("toward-zero", dtype)
    x = np.maximum(samples.plain(of, (size,), rng), int(of.min) + (of.kind == "i"))
    y = rng.integers(1, 12, size).astype(of.numpy)
    y = np.where(rng.random(size) < 0.5, y, -y) if of.kind == "i" else y
    quotients = [abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
                 for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    want = np.array(quotients, of.numpy)
    have = subject.run(kernel, [x, y, np.zeros(size, of.numpy)], tuned=False)[2]
    subject.expect(have, want if name == "CDIV" else x - want * y, of, op=f"{name} of {dtype}")


@conformance("L1", cases=product(name=("SET", "ADD", "MUL", "MAX", "MIN")),
             requires=requires(dtype="float32"),
             suggests="stores that meet in one element are not made one after another")
def stores_that_meet(subject: Subject, name: str) -> None:
    """Stores along a LOOP axis come in order, and see what those before them stored."""
    of, count, size = dtypes.float32, 40, 7
    index = _op("CMOD", _op("MUL", axis(0), const(3)), const(size))
    kernel = _kernel([(of, size, "inout"), (of, count, "in")], [(count, "LOOP")],
                     _store(0, (0,), index, _load(1, axis(0), of), combine=() if name == "SET" else (name,)))
    rng = samples.seeded("meeting", name)
    there, x = [rng.uniform(0.5, 1.5, n).astype(np.float32) for n in (size, count)]
    chosen = np.arange(count) * 3 % size
    want = reference.scatter(there, chosen, x, 0, name, of)
    subject.expect(subject.run(kernel, [there, x], tuned=False)[0], want, of, "sum", op=f"STORE {name}")


@conformance("L1", cases=product(dtype=_MOVED), requires=lambda dtype: requires(dtype=dtype, local=True),
             suggests="local memory is shared between tasks, too small, or stored to in another order")
def local_memory(subject: Subject, dtype: str) -> None:
    """Each task turns blocks around in memory of its own: what a load finds is what was stored last."""
    of = dtypes.by_name(dtype)
    lanes, kind = _lanes(subject, of)
    tasks, blocks, rows = 6, 3, 64
    block = rows * lanes
    task, first = blocks * block, _at(a2=lanes, a3=1)
    stores = [_store(2, (0, 1, 2, 3), first, _load(0, _at(a0=task, a1=block, a2=lanes, a3=1), of)),
              _store(1, (0, 1, 4, 3), _at(a0=task, a1=block, a4=lanes, a3=1),
                     _load(2, _at(block - 1, a4=-lanes, a3=-1), of))]
    kernel = _kernel([(of, tasks * task, "in"), (of, tasks * task, "out"), (of, block, "local")],
                     [(tasks, "PARALLEL"), (blocks, "LOOP"), (rows, "LOOP"), (lanes, kind), (rows, "LOOP")],
                     *stores)
    x = samples.plain(of, (tasks * blocks, block), samples.seeded("local", dtype))
    have = subject.run(kernel, [stored(x, of).reshape(-1), np.zeros(x.size, of.numpy)], tuned=False)[1]
    subject.expect(decoded(have, of), x[:, ::-1].reshape(-1), of, op=f"local memory of {dtype}")


@conformance("L1", requires=requires(dtype="int32"),
             suggests="every value must be computed before one is stored")
def values_before_stores(subject: Subject) -> None:
    """Two buffers exchange their contents in one kernel, lane by lane."""
    of = dtypes.int32
    lanes, kind = _lanes(subject, of)
    size, where = 5 * lanes, _at(a0=lanes, a1=1)
    stores = [_store(to, (0, 1), where, _load(1 - to, where, of)) for to in (0, 1)]
    kernel = _kernel([(of, size, "inout"), (of, size, "inout")], [(5, "PARALLEL"), (lanes, kind)], *stores)
    a, b = np.arange(size, dtype=np.int32), -np.arange(size, dtype=np.int32)
    have = subject.run(kernel, [a, b], tuned=False)
    subject.expect(np.stack(have), np.stack([b, a]), of, op="two buffers exchanged")
