"""The forms in NumPy, matrix products by the BLAS that it comes with."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from benchmarks.forms import Call, Library
from benchmarks.workloads import CLASSES, LEADING, Array, Workload


def _softmax(a: Array) -> Array:
    grown = np.exp(a - a.max(1, keepdims=True))
    return np.asarray(grown / grown.sum(1, keepdims=True))


def _layernorm(a: Array) -> Array:
    centered = a - a.mean(1, keepdims=True)
    return np.asarray(centered / np.sqrt((centered * centered).mean(1, keepdims=True) + 1e-5))


def _bias_gelu(a: Array, bias: Array) -> Array:
    x = a + bias
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
    return np.asarray(x * (np.tanh(inner) + 1) * 0.5)


def _mlp_forward(h: Array, *weights: Array) -> Array:
    *hidden, last = zip(weights[::2], weights[1::2], strict=True)
    for weight, bias in hidden:
        h = np.maximum(h @ weight + bias, 0)
    return np.asarray(h @ last[0] + last[1])


def _scatter_add(a: Array, i: Array) -> Array:
    sums = np.zeros_like(a)
    np.add.at(sums, i, a)
    return sums


def _embedding(table: Array, places: Array) -> Array:
    gradient = np.zeros_like(table)
    np.add.at(gradient, places, 2 * table[places])
    return gradient


def _one_hot(labels: Array) -> Array:
    table = np.zeros((labels.size, CLASSES), np.int32)
    table[np.arange(labels.size), labels] = 1
    return table


_FUNCTIONS: Final[dict[str, Callable[..., Array]]] = {
    "matmul": lambda a, b: a @ b,
    "matmul_tn": lambda a, b: a.T @ b,
    "matmul_nt": lambda a, b: a @ b.T,
    "matmul_strided": lambda a, b: a[:, ::2] @ b,
    "mlp_forward": _mlp_forward,
    "fuse": lambda a, b, c: np.maximum(a * b + c, 0) * np.float32(0.5),
    "sum": lambda a: a.sum(),
    "sum_axis0": lambda a: a.sum(0),
    "sum_axis1": lambda a: a.sum(1),
    "add_transposed": lambda a, b: a + b.T,
    "bias_gelu": _bias_gelu,
    "softmax": _softmax,
    "lnorm": _layernorm,
    "transpose": lambda a: np.ascontiguousarray(a.T),
    "eager_add": lambda a, b: a + b,
    "sort": lambda a: np.sort(a, kind="stable"),
    "argsort": lambda a: np.argsort(a, kind="stable"),
    "topk": lambda a: np.sort(np.partition(a, a.size - LEADING)[-LEADING:])[::-1],
    "cumsum": lambda a: np.cumsum(a, 0),
    "cumsum_rows": lambda a: np.cumsum(a, 1),
    "gather": lambda a, i: a[i],
    "scatter_add": _scatter_add,
    "embedding": _embedding,
    "one_hot": _one_hot,
}


def _make(workload: Workload) -> Call | None:
    function, arrays = _FUNCTIONS.get(workload.form), workload.arrays()
    if function is None or workload.dtype != "float32":
        return None
    return lambda: function(*arrays)


def library() -> Library:
    """NumPy."""
    return Library(np.__version__, _make)
