"""What is measured: inputs, the work of one call, and which libraries take part. Every number is float32."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Inputs: TypeAlias = list[Array]

XOR_STEPS: Final = 1000
MLP_LAYERS: Final = (784, 512, 512, 10)
ADAM: Final = {"lr": 1e-3, "b1": 0.9, "b2": 0.999, "eps": 1e-8}
CHAIN: Final = 20  # multiplications by a sine: work that no memory limits

_ALL: Final = ("numpy", "torch", "jax", "tinygrad")


@dataclass(frozen=True, slots=True)
class Workload:
    """One row. `amount` is the work of a call in giga-units: GFLOP, GB of compulsory traffic, or 0 for none.

    peers: the libraries it is compared with. seconds: how long a turn lasts; at least one call.
    """

    name: str
    what: str
    inputs: Callable[[np.random.Generator], Inputs]
    amount: float = 0.0
    unit: str = ""
    peers: tuple[str, ...] = _ALL
    seconds: float = 0.2


def _normal(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], Inputs]:
    return lambda rng: [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]


def _batch(rng: np.random.Generator) -> Inputs:
    return [rng.standard_normal((128, MLP_LAYERS[0]), dtype=np.float32), rng.integers(0, MLP_LAYERS[-1], 128)]


def _gemm(n: int) -> Workload:
    return Workload(f"gemm{n}", f"({n}, {n}) @ ({n}, {n})", _normal((n, n), (n, n)), 2e-9 * n**3, "GFLOP/s")


def _rows(name: str, what: str) -> Workload:
    return Workload(name, what, _normal((4096, 4096)), 8e-9 * 4096**2, "GB/s")


_LARGE: Final = 1 << 24

WORKLOADS: Final[dict[str, Workload]] = {workload.name: workload for workload in (
    Workload("mlp_step", "training step of 784-512-512-10, batch 128, Adam, jit", _batch,
             peers=("torch", "jax", "tinygrad"), seconds=0.5),
    Workload("xor1000", "the XOR loop of the first day, 1,000 steps, no jit", lambda rng: [],
             peers=("torch",), seconds=0.0),
    Workload("fuse16m", "relu(a * b + c) * 0.5 on 16M elements", _normal((_LARGE,), (_LARGE,), (_LARGE,)),
             16e-9 * _LARGE, "GB/s"),
    Workload("sum16m", "sum of 16M elements", _normal((_LARGE,)), 4e-9 * _LARGE, "GB/s"),
    _gemm(512),
    _gemm(1024),
    Workload("gemv4096", "(4096, 4096) @ (4096,)", _normal((4096, 4096), (4096,)), 4e-9 * 4096**2, "GB/s"),
    _rows("softmax4k", "softmax of 4096 rows of 4096"),
    _rows("lnorm4k", "layer norm of 4096 rows of 4096"),
    _rows("transpose4k", "(4096, 4096) transposed and stored"),
    Workload("tiny_add", "a + b of 10 elements, jit", _normal((10,), (10,)), peers=("jax", "tinygrad")),
    Workload("eager_add", "a + b of 10 elements, computed at once, no jit", _normal((10,), (10,)),
             peers=("numpy", "torch", "jax", "tinygrad")),
    Workload("busy_short", f"{CHAIN} sines and products on 32,768 elements", _normal((1 << 15,)), peers=()),
    Workload("busy_long", f"{CHAIN} sines and products on 262,144 elements", _normal((1 << 18,)), peers=()),
)}


def inputs_of(workload: Workload) -> Inputs:
    """The same inputs in every process."""
    return workload.inputs(np.random.default_rng(0))
