"""Rows: softmax, normalization, cumulative sums, and sums beside one another in one kernel."""
from __future__ import annotations

from typing import Final

import numpy as np

from pluggrad.testing.conformance import samples
from pluggrad.testing.conformance.registry import conformance, product
from pluggrad.testing.conformance.requirement import requires
from pluggrad.testing.conformance.subject import Subject

SHAPES: Final = tuple(map(samples.Sizes, (
    (1, 1), (3, 17), (64, 64), (5, 4099), (1000, 3), (2, 3, 129))))


@conformance("L2", cases=product(shape=SHAPES), requires=requires(dtype="float32"),
             suggests="several reductions of one row disturb each other, or exp overflows")
def softmax(subject: Subject, shape: tuple[int, ...]) -> None:
    """Softmax, log-softmax and logsumexp, of rows that would overflow if the maximum stayed."""
    values = samples.seeded("softmax", str(shape)).normal(0, 50, shape).astype(np.float32)
    wide = values.astype(np.float64)
    shifted = wide - wide.max(-1, keepdims=True)
    total = np.exp(shifted).sum(-1, keepdims=True)
    x = subject.tensor(values)
    subject.expect(x.softmax(-1), np.exp(shifted) / total, "float32", "sum", op="softmax")
    subject.expect(x.log_softmax(-1), shifted - np.log(total), "float32", "sum", op="log_softmax")
    subject.expect(x.logsumexp(-1), (np.log(total) + wide.max(-1, keepdims=True))[..., 0], "float32", "sum",
                   op="logsumexp")


@conformance("L2", cases=product(shape=SHAPES[1:]), requires=requires(dtype="float32"),
             suggests="a normalization of rows is wrong")
def layer_norm(subject: Subject, shape: tuple[int, ...]) -> None:
    """Layer norm, and its gradient, which is orthogonal to a constant row."""
    values = samples.seeded("layer-norm", str(shape)).normal(3, 2, shape).astype(np.float32)
    wide = values.astype(np.float64)
    want = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-5)
    x = subject.tensor(values)
    normed = x.layernorm(-1)
    subject.expect(normed, want, "float32", "sum", op="layer norm")
    weight = samples.seeded("weights").normal(0, 1, shape).astype(np.float32)
    gradient = (normed * subject.tensor(weight)).sum().gradient(x)[0]
    subject.expect(gradient.sum(-1), np.zeros(shape[:-1]), "float32", "sum", op="gradient of layer norm")


@conformance("L2", cases=product(size=(1, 5, 64, 1001)), requires=requires(dtype=("float32", "int32")),
             suggests="a cumulative operation loses or repeats elements")
def cumulative(subject: Subject, size: int) -> None:
    """Cumulative sums and maxima, as reductions of sliding windows over a padded row."""
    whole = samples.seeded("cumulative", str(size)).integers(-9, 10, (3, size)).astype(np.int32)
    x = subject.tensor(whole)
    windows = x.pad(((0, 0), (size - 1, 0))).unfold(1, size, 1)
    subject.expect(windows.sum(2), np.cumsum(whole, 1, dtype=np.int32), "int32", op="cumulative sum")
    lowest = subject.tensor((whole + 10).astype(np.float32)).pad(((0, 0), (size - 1, 0)))
    subject.expect(lowest.unfold(1, size, 1).max(2), np.maximum.accumulate(whole + 10.0, 1), "float32",
                   op="cumulative maximum")


@conformance("L2", requires=requires(dtype="float32"), suggests="sums that share a kernel are mixed up")
def side_by_side(subject: Subject) -> None:
    """Many results of one pass, each its own."""
    values = samples.seeded("side-by-side").normal(1, 1, (37, 53)).astype(np.float32)
    x, wide = subject.tensor(values), values.astype(np.float64)
    results = [(x * k).sum(1) for k in range(1, 9)] + [(x + k).max(1) for k in range(1, 9)]
    type(x).realize(*results)
    for k in range(1, 9):
        subject.expect(results[k - 1], (wide * k).sum(1), "float32", "sum", op=f"sum {k} of 16")
        subject.expect(results[k + 7], (wide + k).max(1), "float32", "rounded", op=f"max {k} of 16")
