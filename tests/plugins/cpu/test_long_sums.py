"""Sums and norms at sizes that schedules treat differently; bits that do not depend on threads."""
from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from pluggrad import Tensor

Rows = Callable[[np.ndarray], np.ndarray]


def softmax(x: np.ndarray) -> np.ndarray:
    grown = np.exp(x - x.max(-1, keepdims=True))
    return grown / grown.sum(-1, keepdims=True)


def normal(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


ROWS: dict[str, tuple[Callable[[Tensor], Tensor], Rows]] = {
    "softmax": (lambda x: x.softmax(), softmax),
    "log softmax": (lambda x: x.log_softmax(), lambda x: np.log(softmax(x))),
    "layer norm": (lambda x: x.layernorm(), normal),
    "logsumexp": (lambda x: x.logsumexp(-1), lambda x: np.log(np.exp(x).sum(-1))),
    "columns": (lambda x: x.sum(0), lambda x: x.sum(0)),
    "largest": (lambda x: x.max(0), lambda x: x.max(0)),
}


@pytest.mark.parametrize("shape", [
    (1, 1), (1, 17), (17, 1), (129, 17), (515, 63), (4097, 3), (130, 100), (1000, 257), (33, 4097),
    (2, 1_000_003)])
@pytest.mark.parametrize("name", ROWS)
def test_rows_and_columns(name: str, shape: tuple[int, int]) -> None:
    ours, reference = ROWS[name]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    want = reference(x.astype(np.float64))
    np.testing.assert_allclose(ours(Tensor(x, device="cpu")).numpy(), want, rtol=3e-5, atol=2e-5)


@pytest.mark.parametrize("shape", [(3, 1, 5, 7), (128, 3, 24, 24), (33, 70, 7, 7), (64, 8, 28, 28),
                                   (5, 32, 1, 1)])
def test_statistics_of_channels(shape: tuple[int, ...]) -> None:
    x, g = np.random.default_rng(1).standard_normal((2, *shape)).astype(np.float32)
    a, b = Tensor(x, device="cpu"), Tensor(g, device="cpu")
    sums = [a.sum((0, 2, 3)), (a * b).sum((0, 2, 3)), a.var((0, 2, 3), correction=0)]
    Tensor.realize(*sums)
    axes, wide = (0, 2, 3), x.astype(np.float64)
    for ours, want in zip(sums, [wide.sum(axes), (wide * g).sum(axes), wide.var(axes)], strict=True):
        np.testing.assert_allclose(ours.numpy(), want, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_a_norm_of_groups_and_its_gradients(groups: int) -> None:
    x, g = np.random.default_rng(2).standard_normal((2, 6, 8, 5, 5))
    weight = np.random.default_rng(3).standard_normal((8, 1, 1))
    a, w = Tensor(x, device="cpu"), Tensor(weight, device="cpu")
    y = a.reshape(6, groups, -1).layernorm().reshape(x.shape) * w
    got = (y * Tensor(g, device="cpu")).sum().gradient(a, w)
    rows = x.reshape(6, groups, -1)
    unit = normal(rows)
    np.testing.assert_allclose(y.numpy(), unit.reshape(x.shape) * weight, atol=1e-10)
    scaled = (g * weight).reshape(rows.shape)
    inner = scaled - scaled.mean(-1, keepdims=True) - unit * (scaled * unit).mean(-1, keepdims=True)
    want = (inner / np.sqrt(rows.var(-1, keepdims=True) + 1e-5)).reshape(x.shape)
    np.testing.assert_allclose(got[0].numpy(), want, atol=1e-10)
    products = (g * unit.reshape(x.shape)).sum((0, 2, 3)).reshape(8, 1, 1)
    np.testing.assert_allclose(got[1].numpy(), products, atol=1e-9)


_SUMS = """
import hashlib, numpy as np
from pluggrad import Tensor
x = Tensor(np.random.default_rng(0).standard_normal((64, 8, 28, 28)).astype(np.float32), device="cpu")
rows = x.reshape(3136, 128)
values = [x.sum(), x.sum((0, 2, 3)), x.var((0, 2, 3)), rows.sum(0), rows.T @ rows,
          rows.softmax(), rows.logsumexp(0)]
print(hashlib.sha256(b"".join(v.numpy().tobytes() for v in values)).hexdigest())
"""


def test_no_bit_depends_on_the_number_of_threads() -> None:
    seen = set()
    for threads in ("1", "2", "5"):
        environment = {**os.environ, "PLUGGRAD_CPU_THREADS": threads, "PLUGGRAD_CACHE": "0"}
        done = subprocess.run([sys.executable, "-c", _SUMS], env=environment, capture_output=True, text=True,
                              check=True)
        seen.add(done.stdout)
    assert len(seen) == 1
