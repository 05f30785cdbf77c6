"""Reductions as programs have them: long, empty, of few outputs, and in an order that never changes."""
from __future__ import annotations

from typing import Final

import numpy as np

from pluggrad import dtypes
from pluggrad.testing.conformance import reference, samples
from pluggrad.testing.conformance.mismatch import Mismatch
from pluggrad.testing.conformance.registry import conformance, product
from pluggrad.testing.conformance.requirement import requires
from pluggrad.testing.conformance.subject import Subject

LONG: Final = 300_007  # enough for two phases, and nothing divides it
SHAPES: Final = tuple(map(samples.Sizes, (
    (1, LONG), (3, 50_001), (LONG, 1), (4099, 7), (129, 65), (5, 33, 17))))


@conformance("L2", cases=product(shape=SHAPES, axis=(0, -1)), requires=requires(dtype="float32"),
             suggests="a long reduction is lowered, rendered or scheduled wrong")
def sums(subject: Subject, shape: tuple[int, ...], axis: int) -> None:
    """Long, short and oddly shaped sums, means and extremes along the first and last axis."""
    values = samples.seeded("sums", str(shape)).normal(1, 3, shape).astype(np.float32)
    x, wide = subject.tensor(values), values.astype(np.float64)
    subject.expect(x.sum(axis), wide.sum(axis), "float32", "sum", op="sum")
    subject.expect(x.mean(axis), wide.mean(axis), "float32", "sum", op="mean")
    subject.expect(x.max(axis), values.max(axis), "float32", op="max")
    subject.expect(x.min(axis), values.min(axis), "float32", op="min")


@conformance("L2", requires=requires(dtype="float32"), suggests="a reduction of nothing is not its identity")
def nothing(subject: Subject) -> None:
    """Sums and products of no elements, and results without elements."""
    x = subject.tensor(np.zeros((3, 0), np.float32))
    subject.expect(x.sum(1), np.zeros(3, np.float32), "float32", op="sum of nothing")
    subject.expect(x.prod(1), np.ones(3, np.float32), "float32", op="product of nothing")
    subject.expect(x.sum(0), np.zeros(0, np.float32), "float32", op="no sums")
    subject.expect(x + 1, np.zeros((3, 0), np.float32), "float32", op="no elements")


@conformance("L2", cases=product(size=(7, 64, 4099)), requires=requires(dtype="float32"),
             suggests="max or min does not pass NaN on, or takes it for a number")
def extremes(subject: Subject, size: int) -> None:
    """NaN wins wherever it stands; infinities are the largest; -inf of a row of them."""
    values = samples.seeded("extremes", str(size)).normal(0, 1, (6, size)).astype(np.float32)
    values[0, 0] = values[1, -1] = values[2, size // 2] = np.nan
    values[3, -1], values[4, 0] = np.inf, -np.inf
    values[5] = -np.inf
    x = subject.tensor(values)
    subject.expect(x.max(1), values.max(1), "float32", op="max of a row")
    subject.expect(x.min(1), values.min(1), "float32", op="min of a row")
    subject.expect(x.max(0), values.max(0), "float32", op="max of a column")
    subject.expect(x.argmax(1)[3:5], values[3:5].argmax(1).astype(np.int32), "int32", op="argmax")
    subject.expect(x[:, :1].abs().sum(1), np.abs(values[:, 0]), "float32", op="sum of one")


@conformance("L2", cases=product(dtype=("float16", "bfloat16")),
             requires=lambda dtype: requires(dtype=(dtype, "float32")),
             suggests="a sum of {dtype} is rounded on the way: halves add up in float32")
def half_sums(subject: Subject, dtype: str) -> None:
    """4096 ones are 4096: halves add up in float32 and are rounded once."""
    x = subject.tensor(np.ones((2, 4096), np.float32), dtype)
    subject.expect(x.sum(1), np.full(2, 4096.0), dtype, op=f"sum of {dtype}")


@conformance("L2", cases=product(dtype=("int8", "uint8", "int16", "uint32", "int32", "int64", "uint64")),
             requires=lambda dtype: requires(dtype=dtype), suggests="integer sums of {dtype} are not exact")
def integers(subject: Subject, dtype: str) -> None:
    """Long sums of integers are exact, and wrap in the dtype that they widen to."""
    of = dtypes.by_name(dtype)
    wide = dtypes.sum_dtype(of)
    if wide.name not in subject.capabilities.dtypes:
        return
    values = samples.plain(of, (3, 10_007), samples.seeded("integers", dtype))
    want = reference.wrapped([sum(row) for row in values.tolist()], wide)
    subject.expect(subject.tensor(values, dtype).sum(1), want, wide, op=f"sum of {dtype}")


@conformance("L2", cases=product(shape=map(samples.Sizes, ((1, LONG), (65, 4099), (4099, 65)))),
             requires=requires(dtype="float32"),
             suggests="a reduction is not deterministic: its order depends on which task comes first")
def same_sums(subject: Subject, shape: tuple[int, ...]) -> None:
    """The same sums have the same bits, over five runs of the same kernels."""
    values = samples.seeded("same-bits", str(shape)).normal(0, 1, shape).astype(np.float32)
    x = subject.tensor(values)
    first = [x.sum(axis).numpy() for axis in (0, 1)]
    for run in range(1, 5):
        for axis, before in enumerate(first):
            again = x.sum(axis).numpy()
            if not np.array_equal(before.view(np.uint32), again.view(np.uint32)):
                raise Mismatch(f"two runs of one sum differ: not deterministic (run {run})", op="sum",
                               dtype="float32", expected=str(before.reshape(-1)[:3]),
                               got=str(again.reshape(-1)[:3]))
