"""Indexing as programs do it: embeddings, masks, and gradients that add up at indices."""
from __future__ import annotations

import numpy as np

from pluggrad.testing.conformance import samples
from pluggrad.testing.conformance.registry import conformance, product
from pluggrad.testing.conformance.requirement import requires
from pluggrad.testing.conformance.subject import Subject


@conformance("L2", cases=product(size=(1, 17, 1000)), requires=requires(dtype=("float32", "int32")),
             suggests="rows that data select, or their gradient, are wrong")
def embedding(subject: Subject, size: int) -> None:
    """Rows of a table by indices of any rank; the gradient adds up where an index comes again."""
    rng = samples.seeded("embedding", str(size))
    table = rng.normal(0, 1, (50, 24)).astype(np.float32)
    index = rng.integers(0, 50, (3, size)).astype(np.int32)
    weight = rng.normal(0, 1, (3, size, 24)).astype(np.float32)
    t, i = subject.tensor(table), subject.tensor(index)
    rows = t[i]
    subject.expect(rows, table[index], "float32", op="rows by index")
    want = np.zeros(table.shape)
    np.add.at(want, index, weight)
    subject.expect((rows * subject.tensor(weight)).sum().gradient(t)[0], want, "float32", "sum",
                   op="gradient of rows by index")


@conformance("L2", requires=requires(dtype=("float32", "int32", "bool")), suggests="an index is read wrong")
def keys(subject: Subject) -> None:
    """Slices, steps, negative and missing axes, arrays and masks, read and written."""
    values = np.arange(210, dtype=np.float32).reshape(5, 6, 7)
    x, rows, cols = subject.tensor(values), np.array([4, 0, -1]), np.array([1, 1, 5])
    for key in (np.s_[1:4, ::2], np.s_[..., -3:], np.s_[2], np.s_[:, 1:5:3, 2::4], np.s_[:, None, 3]):
        subject.expect(x[key], values[key], "float32", op=f"x[{key}]")
    r, c = subject.tensor(rows.astype(np.int32)), subject.tensor(cols.astype(np.int32))
    subject.expect(x[r], values[rows], "float32", op="x[rows]")
    subject.expect(x[r, c], values[rows, cols], "float32", op="x[rows, cols]")
    subject.expect(x[:, r, 2:4], values[:, rows, 2:4], "float32", op="x[:, rows, 2:4]")
    subject.expect(x.masked_fill(x > 100, -1.0), np.where(values > 100, -1, values), "float32", op="masked")
    written = values.copy()
    written[rows, cols] = 0.5
    x[r, c] = 0.5
    subject.expect(x, written, "float32", op="x[rows, cols] = 0.5")
