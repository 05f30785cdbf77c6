"""Products of matrices as instructions: which part of a kernel a matrix unit takes, and how its operands
lie."""
from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pluggrad.errors import InternalError
from pluggrad.graph import ops as g
from pluggrad.ir.node import Node
from pluggrad.kernel import ops
from pluggrad.kernel.kernel import Axis


class Panel(NamedTuple):
    """An operand in local memory, along its own outputs (x) and along the sum (step).

    Where memory runs along the sum, element (x, step) lies at step // piece * leading + x * stride + step %
    piece beyond the index, and with x and step exchanged where it does not.
    """

    buffer: int
    along_sum: bool
    piece: int
    leading: int
    stride: int


class MatrixTile(NamedTuple):
    """Sums of rows x columns, which one product takes `steps` further: left panel times right panel.

    in_flight: so many products may still be under way when the next thing is done; their panels are left
    alone until then.
    """

    rows: int
    columns: int
    steps: int
    left: Panel
    right: Panel
    in_flight: int = 0


class Product(NamedTuple):
    """A REDUCE that a matrix unit computes: its tile, and the loads of its operands."""

    tile: MatrixTile
    left: Node
    right: Node


def product_of(reduction: Node, axes: Mapping[int, Axis]) -> Product:
    """What a REDUCE over MATRIX axes, whose addresses are split, asks of the unit.

    Rows are those of the first factor. An axis along which pieces follow each other is split in two.
    """
    factors = [_loaded(factor) for factor in reduction.src[0].src]
    if reduction.arg[0] != "ADD" or reduction.src[0].op is not g.MUL or None in factors:
        raise InternalError(f"a matrix unit adds products of two loads, and {reduction} is none")
    left, right = [factor for factor in factors if factor is not None]
    unit = [id for id, axis in axes.items() if axis.kind == "MATRIX"]
    summed = [id for id in unit if id in reduction.arg[1]]
    strides = [dict(load.arg[1]) for load in (left, right)]
    own = [[id for id in unit if id in found and id not in summed] for found in strides]
    extents = [_extent(ids, axes) for ids in (*own, summed)]
    panels = [_panel(load.arg[0], found, ids, summed, axes)
              for load, found, ids in zip((left, right), strides, own, strict=True)]
    return Product(MatrixTile(extents[0], extents[1], extents[2], panels[0], panels[1]), left, right)


def row_stride(store: Node, tile: MatrixTile, axes: Mapping[int, Axis]) -> int:
    """Elements from row to row of the memory to which a store, whose address is split, brings a tile."""
    strides = [stride for id, stride in store.arg[1] if axes[id].kind == "MATRIX" and axes[id].extent > 1]
    rows: list[int] = sorted({stride for stride in strides if stride >= tile.columns})
    if not rows or 1 not in strides:
        raise InternalError(f"a tile of sums is stored row by row, not at strides {strides}")
    return rows[0]


def _loaded(factor: Node) -> Node | None:
    """What a factor is read by, and widened from."""
    load = factor.src[0] if factor.op is g.CAST else factor
    return load if load.op is ops.LOAD and load.arg[1] is not None else None


def _extent(ids: list[int], axes: Mapping[int, Axis]) -> int:
    total = 1
    for id in ids:
        total *= axes[id].extent
    return total


def _panel(buffer: int, strides: Mapping[int, int], own: list[int], summed: list[int],
           axes: Mapping[int, Axis]) -> Panel:
    along_sum = strides.get(summed[-1]) == 1
    (outer, inner), (_, across) = (summed, own) if along_sum else (own, summed)
    if strides[inner] != 1:
        raise InternalError(f"a panel runs along one of its axes, not at strides {dict(strides)}")
    return Panel(buffer, along_sum, axes[inner].extent, strides[outer], strides[across])
