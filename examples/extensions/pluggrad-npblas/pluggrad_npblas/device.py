"""What runs on the device `npblas`: the interpreter's kernels, and calls of `numpy.matmul`."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pluggrad.plugin_api import Executable, Matmul, Matrix, RefDevice, Scalar, Signature


class NpblasDevice(RefDevice):
    """Memory, copies and everything else as on `ref`."""

    def load(self, binary: bytes, signature: Signature) -> Executable:
        if signature.extern:  # the binary is the payload of what `claim` gave
            return MatmulCall(Matmul.decode(binary))
        return super().load(binary, signature)


class MatmulCall(Executable):
    """One product; every launch brings its own memory."""

    def __init__(self, product: Matmul) -> None:
        self.product = product

    def launch(self, args: Sequence[Any], values: Sequence[Scalar], grid: int, block: int,
               scratch: int) -> None:
        a, b, out = [in_place(x, args[x.buffer]) for x in (self.product.a, self.product.b, self.product.out)]
        with np.errstate(all="ignore"):
            np.matmul(a, b, out=out)


def in_place(matrix: Matrix, memory: Any) -> Any:
    """The elements of `matrix` where they lie in the bytes of an allocation."""
    size = matrix.dtype.itemsize
    return np.ndarray(matrix.shape, matrix.dtype.numpy, memory.data, offset=matrix.offset * size,
                      strides=[stride * size for stride in matrix.strides])
