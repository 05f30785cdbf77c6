"""Products of matrices as untuned kernels, with data for them: what a matrix unit is to take over."""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pluggrad import Tensor, dtypes
from pluggrad.dtypes import DType
from pluggrad.graph import build, ops
from pluggrad.graph.types import tensor_type
from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import toposort
from pluggrad.kernel.build import build as build_kernel
from pluggrad.kernel.interpret import interpret
from pluggrad.kernel.kernel import Kernel
from pluggrad.kernel.ops import REDUCE
from pluggrad.runtime.normalize import normalize, rebuild
from pluggrad.schedule import schedule
from pluggrad.target import DeviceId, Narrow
from tests.elementwise_cases import stored

F32 = dtypes.float32
HALVES = Narrow(*[frozenset({"float16", "bfloat16"})] * 2)


class MatrixProduct(NamedTuple):
    """A (rows, steps) and B (steps, columns) of one dtype, either of them turned around in memory, a stack of
    `stack` of both; a vector is added to each row, and the result is rounded to `out`."""

    rows: int
    steps: int
    columns: int
    inputs: DType
    turned: tuple[bool, bool] = (False, False)
    stack: int = 1
    out: DType = F32

    def kernel(self) -> Kernel:
        """As the scheduler makes it."""
        a = self._input(0, self.rows, self.steps, self.turned[0])
        b = build.permute(self._input(1, self.steps, self.columns, self.turned[1]), (0, 2, 1))
        shape = self.stack, self.rows, self.columns, self.steps
        left = build.expand(build.reshape(a, (self.stack, self.rows, 1, self.steps)), shape)
        right = build.expand(build.reshape(b, (self.stack, 1, self.columns, self.steps)), shape)
        total = build.reshape(build.reduce(ops.SUM, build.binary(ops.MUL, left, right), (3,)), shape[:3])
        added = node(ops.INPUT, (), 2, tensor_type((self.columns,), F32, _REF))
        total = build.binary(ops.ADD, total, build.expand(build.reshape(added, (1, 1, -1)), shape[:3]))
        (region,) = schedule([build.cast(total, self.out)], narrow=HALVES)
        return build_kernel(region).kernel

    def _input(self, number: int, rows: int, columns: int, turned: bool) -> Node:
        shape = (self.stack, columns, rows) if turned else (self.stack, rows, columns)
        x = build.cast(node(ops.INPUT, (), number, tensor_type(shape, self.inputs, _REF)), F32)
        return build.permute(x, (0, 2, 1)) if turned else x


_REF = DeviceId("ref")


class Convolution(NamedTuple):
    """Images (batch, inner, *size) in windows by weights (outer, inner / groups, *window) of one dtype: the
    result, or the gradient of the images or of the weights (`of`: "y", "x", "w")."""

    of: str
    inputs: DType
    batch: int
    inner: int
    outer: int
    size: tuple[int, ...]
    window: tuple[int, ...]
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1

    def kernels(self) -> list[Kernel]:
        """Those that multiply, as the scheduler makes them; several for residues modulo a stride."""
        x, w = self._leaf(self.batch, self.inner, *self.size), self._leaf(
            self.outer, self.inner // self.groups, *self.window)
        y = x.conv2d(w, None, self.groups, self.stride, self.dilation, self.padding)
        wanted = y
        if self.of != "y":
            wanted, = y.gradient(x if self.of == "x" else w, gradient=self._leaf(*y.shape))
        return kernels_of(wanted)

    def _leaf(self, *shape: int) -> Tensor:
        return leaf(self.inputs, *shape)


def leaf(dtype: DType, *shape: int) -> Tensor:
    """In memory, so that kernels read it."""
    return Tensor.zeros(shape, dtype=dtype, device="ref").realize()


def by_heads(x: Tensor, y: Tensor) -> Tensor:
    """Products of what lies between rows (..., rows, head, steps), as queries and keys of attention do."""
    return x.transpose(-2, -3).float() @ y.transpose(-2, -3).transpose(-1, -2).float()


def kernels_of(y: Tensor) -> list[Kernel]:
    """The untuned kernels that reduce, of a tensor that is not computed yet."""
    regions = schedule(rebuild(normalize([y.node])), narrow=HALVES)
    built = [build_kernel(region).kernel for region in regions]
    return [kernel for kernel in built if any(n.op is REDUCE for n in toposort(kernel.stores))]


def arguments(kernel: Kernel) -> list[np.ndarray]:
    """Small integers, which every format holds and whose sums are exact."""
    rng = np.random.default_rng(7)
    return [stored(rng.integers(-3, 4, b.size).astype(np.float32), b.dtype) if b.role == "in"
            else np.zeros(b.size, b.dtype.numpy) for b in kernel.arguments]


def expected(kernel: Kernel, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What the interpreter makes of the untuned kernel."""
    results = [array.copy() for array in arrays]
    interpret(kernel, results, [])
    return results
