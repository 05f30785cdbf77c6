"""Sources as an op can find them in memory: the layouts of the coverage table, made of real buffers."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np

from pluggrad import runtime
from pluggrad.dtypes import DType
from pluggrad.graph import build
from pluggrad.ir.node import Node
from pluggrad.testing.conformance import samples
from pluggrad.testing.conformance.reference import Array
from pluggrad.testing.conformance.subject import Subject, stored

Shape = tuple[int, ...]

# (rows, columns) of what an op sees; an odd size is one that no vector divides
TABLES: Final[Mapping[str, tuple[int, int]]] = {
    "dense": (32, 32), "odd": (17, 59), "strided": (19, 40), "transposed": (33, 31), "broadcast": (31, 33)}


class Source(NamedTuple):
    """A graph value and what it holds."""

    node: Node
    values: Array


def buffer(subject: Subject, values: Array, dtype: DType) -> Node:
    """Values in device memory, row-major."""
    return runtime.upload(stored(values, dtype), dtype, subject.id)


def dense(subject: Subject, values: Array, dtype: DType) -> Source:
    """Row-major memory."""
    return Source(buffer(subject, values, dtype), values)


def strided(subject: Subject, values: Array, dtype: DType) -> Source:
    """Every other element of each axis, the first of them not the memory's first."""
    around = samples.plain(dtype, tuple([2 * d + 1 for d in values.shape]), samples.seeded("around"))
    around[tuple([slice(1, None, 2)] * values.ndim)] = values
    parts = [(1, d, 2) for d in values.shape]
    return Source(build.slice(buffer(subject, around, dtype), parts), values)


def transposed(subject: Subject, values: Array, dtype: DType) -> Source:
    """Memory with the axes in the opposite order."""
    order = tuple(reversed(range(values.ndim)))
    memory = np.ascontiguousarray(np.transpose(values, order))
    return Source(build.permute(buffer(subject, memory, dtype), order), values)


def broadcast(subject: Subject, values: Array, dtype: DType, axis: int = 1) -> Source:
    """The first element along `axis`, repeated; the rest of `values` is not used."""
    first = np.take(values, [0], axis)
    node = build.expand(buffer(subject, first, dtype), values.shape)
    return Source(node, np.broadcast_to(first, values.shape))


ARRANGE: Final[Mapping[str, Callable[..., Source]]] = {
    "dense": dense, "odd": dense, "strided": strided, "transposed": transposed, "broadcast": broadcast}


def operands(subject: Subject, layout: str, family: str, dtype: DType) -> tuple[Source, Source]:
    """Two operands of one shape in a layout; broadcast ones meet as rows and columns of a table."""
    rng, shape = samples.seeded(layout, family, dtype.name), TABLES[layout]
    if layout == "broadcast":
        x, y = samples.columns(family, dtype, *shape, rng)
        tables = np.broadcast_to(x[:, None], shape), np.broadcast_to(y[None, :], shape)
        return (broadcast(subject, tables[0], dtype, axis=1), broadcast(subject, tables[1], dtype, axis=0))
    pair = samples.pairs(family, dtype, shape[0] * shape[1], rng)
    first, second = [ARRANGE[layout](subject, values.reshape(shape), dtype) for values in pair]
    return first, second
