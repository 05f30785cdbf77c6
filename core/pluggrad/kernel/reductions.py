"""What a REDUCE combines with, by the name in its argument: which reduction it is, and its identity."""
from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pluggrad.dtypes import DType, Scalar
from pluggrad.graph import ops
from pluggrad.ir.node import Op

COMBINE: Final[dict[Op, str]] = {ops.SUM: "ADD", ops.PROD: "MUL", ops.RMAX: "MAX", ops.RMIN: "MIN"}

_IDENTITIES: Final[dict[str, Callable[[DType], Scalar]]] = {
    "ADD": lambda dtype: 0, "MUL": lambda dtype: 1,
    "MAX": lambda dtype: dtype.min, "MIN": lambda dtype: dtype.max}


def identity(name: str, dtype: DType) -> Scalar:
    """The value that leaves a reduction in `dtype` unchanged: what it gives of nothing."""
    return _IDENTITIES[name](dtype)
