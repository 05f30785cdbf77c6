"""Products of matrices, recognized in kernels: what a plugin's library most often takes over."""
from __future__ import annotations

import json
from dataclasses import dataclass

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.graph import ops as g
from pluggrad.ir.node import Node
from pluggrad.kernel import ops
from pluggrad.kernel.index_nodes import linear
from pluggrad.kernel.kernel import Kernel


@dataclass(frozen=True, slots=True)
class Matrix:
    """A stack of matrices in memory: elements of `dtype` in argument `buffer` of the kernel.

    shape: (*batch, rows, columns). offset, strides: in elements; a stride is 0 where an operand is repeated,
    or the extent is 1.
    """

    buffer: int
    dtype: DType
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Matmul:
    """`out[..., i, j]` = sum over l of `a[..., i, l] * b[..., l, j]`.

    Operands are converted to dtype `accumulator`, multiplied and summed in it, and the sum is converted to
    that of `out`. All three have the same batch. `out` is row-major within a matrix wherever that can be had
    by exchanging the operands; it overlaps neither of them.
    """

    a: Matrix
    b: Matrix
    out: Matrix
    accumulator: DType

    @property
    def batch(self) -> tuple[int, ...]:
        """Extents of the dimensions in front of the matrices."""
        return self.out.shape[:-2]

    @property
    def m(self) -> int:
        """Rows of `a` and `out`."""
        return self.out.shape[-2]

    @property
    def n(self) -> int:
        """Columns of `b` and `out`."""
        return self.out.shape[-1]

    @property
    def k(self) -> int:
        """Columns of `a`, rows of `b`."""
        return self.a.shape[-1]

    def encode(self) -> bytes:
        """As bytes, for `Extern.payload`."""
        rows = [[x.buffer, x.dtype.name, x.offset, x.shape, x.strides] for x in (self.a, self.b, self.out)]
        return json.dumps([*rows, self.accumulator.name]).encode()

    @staticmethod
    def decode(payload: bytes) -> Matmul:
        """What `encode` wrote."""
        *rows, accumulator = json.loads(payload)
        a, b, out = [_matrix(*row) for row in rows]
        return Matmul(a, b, out, dtypes.by_name(accumulator))


def _matrix(buffer: int, dtype: str, offset: int, shape: list[int], strides: list[int]) -> Matrix:
    return Matrix(buffer, dtypes.by_name(dtype), offset, tuple(shape), tuple(strides))


def find_matmul(kernel: Kernel) -> Matmul | None:
    """The product of matrices that is all that `kernel` computes; None if it is not one.

    A product has more than one row or column: sums of elementwise products are left out.
    """
    store = kernel.stores[0]
    total = product_under(store.src[1])
    if total is None or len(kernel.stores) > 1 or len(store.arg) > 2:
        return None
    left, right = [_uncast(factor) for factor in total.src[0].src]
    out, a, b = [_strides(n) for n in (store, left, right)]
    if out is None or a is None or b is None or store.arg[0] in (left.arg, right.arg):
        return None
    extents = {axis.id: axis.extent for axis in kernel.axes}
    outer = [id for id in store.arg[1] if extents[id] > 1]
    inner = [id for id in total.arg[1] if extents[id] > 1]
    if len(inner) != 1 or not all(id in out and (id in a or id in b) for id in outer):
        return None

    def nearest(ids: list[int]) -> int | None:
        return min(ids, key=lambda id: abs(out[id]), default=None)

    row, column = nearest([id for id in outer if id not in b]), nearest([id for id in outer if id not in a])
    if row is None and column is None:
        return None
    if row is not None and column is not None and abs(out[row]) < abs(out[column]):
        left, right, a, b, row, column = right, left, b, a, column, row
    batch = [id for id in outer if id not in (row, column)]
    dims = [(left, a, (row, inner[0])), (right, b, (inner[0], column)), (store, out, (row, column))]
    first, second, result = [_placed(kernel, n, strides, (*batch, *pair), extents)
                             for n, strides, pair in dims]
    return Matmul(first, second, result, total.type)


def product_under(n: Node) -> Node | None:
    """The sum of products of two loaded values that `n` is, or converts; None if it is something else."""
    total = _uncast(n)
    if total.op is not ops.REDUCE or total.arg[0] != "ADD" or total.src[0].op is not g.MUL:
        return None
    return total if all(_uncast(factor).op is ops.LOAD for factor in total.src[0].src) else None


def _uncast(n: Node) -> Node:
    """What is converted; only once, since of two conversions in a row the first may change values."""
    return n.src[0] if n.op is g.CAST else n


def _strides(access: Node) -> dict[int, int] | None:
    """Elements to the next position along each axis; None for a gate, or an index that is no such sum."""
    gated = len(access.src) > (2 if access.op is ops.STORE else 1)
    strides, rest, _ = linear(access.src[0])
    return None if gated or rest else strides


def _placed(kernel: Kernel, access: Node, strides: dict[int, int], ids: tuple[int | None, ...],
            extents: dict[int, int]) -> Matrix:
    buffer = access.arg[0] if access.op is ops.STORE else access.arg
    shape = tuple([1 if id is None else extents[id] for id in ids])
    steps = tuple([0 if id is None else strides.get(id, 0) for id in ids])
    return Matrix(buffer, kernel.buffers[buffer].dtype, linear(access.src[0]).offset, shape, steps)
