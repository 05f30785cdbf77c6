"""Orders and running sums as programs use them: rows of every length, long ones in blocks."""
from __future__ import annotations

import numpy as np

from pluggrad.testing.conformance import samples
from pluggrad.testing.conformance.registry import conformance, product
from pluggrad.testing.conformance.requirement import requires
from pluggrad.testing.conformance.subject import Subject

_KEYS = ("bool", "int32", "uint32", "uint64", "float32")


@conformance("L2", cases=product(rows=(1, 5), length=(3, 200, 1100, 9001)), requires=requires(dtype=_KEYS),
             suggests="elements are counted, added up or brought to the wrong places")
def sorting(subject: Subject, rows: int, length: int) -> None:
    """Stable in both directions, NaN last; the smallest few are the first of it."""
    rng = samples.seeded("sorting", str(rows), str(length))
    values = np.round(rng.normal(0, 3, (rows, length)), 1).astype(np.float32)
    values[rng.random(values.shape) < 0.02] = np.nan
    x = subject.tensor(values)
    order = np.argsort(values, -1, kind="stable")
    ranks = np.unique(values, return_inverse=True)[1].reshape(values.shape)
    found, places = x.sort()
    subject.expect(places, order, "int32", op=f"places of {rows} x {length} in order")
    subject.expect(found, np.take_along_axis(values, order, -1), "float32", op="elements in order")
    falling = np.argsort(-ranks, -1, kind="stable")
    subject.expect(x.argsort(descending=True), falling, "int32", op="the order from the largest on")
    subject.expect(x.topk(2, largest=False)[1], order[:, :2], "int32", op="the smallest two")


@conformance("L2", cases=product(length=(1025, 9001, 70_000)), requires=requires(dtype=("int32", "float32")),
             suggests="a block of a long running sum does not go on where the one before it ends")
def long_running_sums(subject: Subject, length: int) -> None:
    """Running sums and extremes of vectors that are cut into blocks."""
    rng = samples.seeded("long-running-sums", str(length))
    numbers = rng.integers(-100, 100, length).astype(np.int32)
    x = subject.tensor(numbers)
    subject.expect(x.cumsum(dtype="int32"), np.cumsum(numbers, dtype=np.int32), "int32", op="cumsum")
    subject.expect(x.cummax()[0], np.maximum.accumulate(numbers), "int32", op="cummax")
    floats = rng.uniform(0, 1, length).astype(np.float32)
    subject.expect(subject.tensor(floats).cumsum(), np.cumsum(floats, dtype=np.float64), "float32", "sum",
                   op="cumsum of floats")
