"""What no buffer holds: positions along an axis, random bits, constants, run-time values."""
from __future__ import annotations

import math
from typing import Final

import numpy as np

from pluggrad import dtypes
from pluggrad.dtypes import DType, Scalar
from pluggrad.graph import build, ops
from pluggrad.ir.node import Node
from pluggrad.testing.conformance import batch, layouts, reference, samples
from pluggrad.testing.conformance.coverage import dtypes_of
from pluggrad.testing.conformance.registry import conformance, product
from pluggrad.testing.conformance.requirement import requires
from pluggrad.testing.conformance.subject import Subject

SIZES: Final = {"dense": 1024, "odd": 1009}


@conformance("L1", cases=[{"op": "IOTA", "dtype": dtype.name, "layout": layout}
                          for dtype in dtypes_of(ops.IOTA) for layout in SIZES],
             requires=lambda op, dtype, layout: requires(dtype=dtype),
             suggests="positions along an axis are wrong as {dtype}")
def positions(subject: Subject, op: str, dtype: str, layout: str) -> None:
    """0, 1, 2, ..., wrapped to the dtype."""
    of, size = dtypes.by_name(dtype), SIZES[layout]
    have = batch.realized({0: build.contiguous(build.iota(size, of, subject.id))})[0]
    subject.expect(have, reference.wrapped(range(size), of), of, op=f"IOTA of {dtype}, {layout}")


@conformance("L1", cases=[{"op": "RANDOM_BITS", "dtype": "uint32", "layout": layout} for layout in SIZES],
             requires=requires(dtype="uint32"),
             suggests="32-bit integers do not wrap, or shifts and exclusive or are wrong")
def random_bits(subject: Subject, op: str, dtype: str, layout: str) -> None:
    """Threefry-2x32 of key and counter, every word."""
    key, counter, size = (0x13198A2E, 0x03707344), 0xFFFFFFFE, SIZES[layout]
    words = [layouts.buffer(subject, np.array(word, np.uint32), dtypes.uint32) for word in (*key, counter)]
    have = batch.realized({0: build.random_bits((size,), words[0], words[1], words[2])})[0]
    subject.expect(have, reference.random_bits(key, counter, size), "uint32", op=f"RANDOM_BITS, {layout}")


def _numbers(dtype: DType) -> list[Scalar]:
    """Numbers that a kernel may be given as a run-time value or hold as a constant."""
    if dtype.kind == "b":
        return [False, True]
    if dtype.is_int:
        return [*samples.integer_edges(dtype), 77]
    return [0.0, -0.0, math.nan, math.inf, -math.inf, 1.0, -1.5, 0.37, 1e-3]


@conformance("L1", cases=product(how=("value", "constant"), dtype=[d.name for d in dtypes.ALL]),
             requires=lambda how, dtype: requires(dtype=dtype),
             suggests="a {how} of {dtype} does not reach the kernel as it was given")
def scalars(subject: Subject, how: str, dtype: str) -> None:
    """Numbers of every dtype, as run-time values and as constants, one kernel for each."""
    of = dtypes.by_name(dtype)
    zero = layouts.buffer(subject, np.zeros(5), of)
    nodes: dict[int, Node] = {}
    for place, number in enumerate(_numbers(of)):
        constant = build.const(number, of, subject.id, (5,), fixed=how == "constant")
        nodes[place] = build.where(_never(subject), zero, constant)
    have = batch.realized(nodes)
    for place, number in enumerate(_numbers(of)):
        want = np.full(5, number, np.float64 if of.is_float else of.numpy)
        subject.expect(have[place], reference.rounded(want, of) if of.is_float else want, of,
                       op=f"{how} {number} of {dtype}")


def _never(subject: Subject) -> Node:
    return layouts.buffer(subject, np.zeros(5, bool), dtypes.bool_)
