"""What is measured and what it has to show. The rows ship with pluggrad, whose own `bench` times them too."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

from benchmarks import gpu_rows
from benchmarks.criteria import Beside, Criterion, Kernels, OfLimit, OnDevice, SpeedUp, Within
from pluggrad.testing import workloads as rows
from pluggrad.testing.workloads import (
    ADAM,
    CHAIN,
    CLASSES,
    GPT_HEADS,
    LEADING,
    MLP_LAYERS,
    Array,
    Inputs,
)

__all__ = ["ADAM", "CHAIN", "CLASSES", "GPT_HEADS", "LEADING", "MLP_LAYERS", "NEIGHBORS", "SETS", "SIZES",
           "WORKLOADS", "Array", "Inputs", "Workload", "workload"]


@dataclass(frozen=True, slots=True)
class Workload(rows.Workload):
    """A row, and what it is held against.

    required: what a run has to show, or it fails; of a device only where the run has that device. goals: what
    is aimed at. only_reads: memory bounds it, and it writes next to nothing.
    """

    required: tuple[Criterion, ...] = ()
    goals: tuple[Criterion, ...] = ()
    only_reads: bool = False

    def on(self, devices: Sequence[str]) -> Workload:
        """The row without what it requires of devices that a run does not have."""
        kept = [each for each in self.required
                if not isinstance(each, OnDevice) or each.device in devices]
        return replace(self, required=tuple(kept))


_ONE_PASS: Final = (OfLimit("stream", 0.8), Kernels(1))
_SORTING: Final = (Beside("numpy", 1 / 2),)  # in linear time and stable
_LINEAR: Final = (Beside("numpy", 1 / 2), Beside("torch", 1 / 2))

_REQUIRED: Final[dict[str, tuple[Criterion, ...]]] = {
    "mnist_step": (Beside("best", 1.5),),
    "lenet_eager": (Beside("torch", 1 / 1.5),),
    "mlp_step": (Beside("torch", 1 / 2),),
    "gemm512": (Beside("best", 1.1, "fma"),),
    "gemm1024": (Beside("best", 1.1, "fma"), OfLimit("fma", 0.85), OnDevice("opencl", "fma", 0.25)),
    "gemm2048": (Beside("best", 1.05, "fma"), OfLimit("fma", 0.85)),
    "gemv4096": (Beside("best", 1.0, "stream"),),
    "conv3x3": (Beside("best", 1.0, "fma"),),
    "attn": (Beside("best", 1.2, "fma"),),
    "gpt_fwd128": (Beside("best", 1.2, "fma"),),
    "gpt_tok1": (OfLimit("stream", 0.8),),
    "fuse16m": (OfLimit("stream", 0.9),),
    "sum16m": (Beside("best", 1.0, "stream"),),
    "softmax4k": (*_ONE_PASS, OnDevice("opencl", "stream", 0.4)),
    "lnorm4k": _ONE_PASS,
    "transpose4k": (OfLimit("stream", 0.6),),
    **dict.fromkeys(("sort_1m", "argsort_1m", "topk_1m"), _SORTING),
    **dict.fromkeys(("cumsum_1m", "cumsum_axis0", "cumsum_axis1", "gather_1m", "scatter_add_1m", "embedding",
                     "one_hot"), _LINEAR),
    "xor100": (Beside("torch", 1 / 2),),
    "xor1000": (Beside("torch", 1 / 5),),
    "tiny_add": (Within(6e-6),),
    "eager_add": (Within(50e-6),),
    "busy_short": (SpeedUp(0.5),),
    "busy_long": (SpeedUp(0.75),),
}
_ONLY_READ: Final = frozenset({
    "gemv4096", "gpt_tok1", "sum16m", "gemv8192", "gevm8192", "sum64m", "sum8k_axis0", "sum8k_axis1"})
_GOALS: Final = dict.fromkeys(("sort_1m", "argsort_1m", "topk_1m"), (Beside("best", 1.0),))
# of the second set, by what bounds a row: multiply-adds, or memory
_BY_UNIT: Final[dict[str, tuple[Criterion, ...]]] = {
    "GFLOP/s": (Beside("best", 1.0, "fma", 0.85),), "GB/s": (OfLimit("stream", 0.8),)}
_IN_STREAM: Final = (OfLimit("stream", 0.9), Kernels(1))
_COMPILED: Final = (Beside("torch.compile", 1.0),)
# of the set `gpu`: what is required, and what is aimed at
_ON_GPU: Final[dict[str, tuple[tuple[Criterion, ...], tuple[Criterion, ...]]]] = {
    **dict.fromkeys(("gemm8k", "gemm8k_tf32", "gemm8k_bf16"),
                    ((Beside("torch", 0.6),), (Beside("torch", 0.9),))),
    **dict.fromkeys(("fuse64m", "softmax8k", "lnorm8k"), (_IN_STREAM, _COMPILED)),
    "attn8k_bf16": ((Beside("torch", 0.5),), (Beside("torch", 0.8),)),
    **dict.fromkeys(("lenet_step", "resnet18_64", "gpt2_step"), (_COMPILED, ())),
    "replay": ((Beside("torch", 1.0),), ()),
}


def _held_against(row: rows.Workload, required: tuple[Criterion, ...] = (),
                  goals: tuple[Criterion, ...] = ()) -> Workload:
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    return Workload(**values, required=required, goals=goals, only_reads=row.name in _ONLY_READ)


SETS: Final[dict[str, dict[str, Workload]]] = {
    "table": {name: _held_against(row, _REQUIRED.get(name, ()), _GOALS.get(name, ()))
              for name, row in rows.SETS["table"].items()},
    "second": {name: _held_against(row, _BY_UNIT[row.unit]) for name, row in rows.SETS["second"].items()},
    "gpu": {row.name: _held_against(row, *_ON_GPU[row.name]) for row in gpu_rows.rows()}}
WORKLOADS: Final[dict[str, Workload]] = SETS["table"] | SETS["second"] | SETS["gpu"]

# the sizes of the row `gemm_sizes`: each is timed together with its neighbors, one less and one more
SIZES: Final = (100, 128, 150, 192, 224, 256, 300, 320, 384, 400, 448, 512, 576, 600, 640, 768, 800, 896, 960,
                1000)
NEIGHBORS: Final[dict[int, tuple[Workload, ...]]] = {
    size: tuple([_held_against(rows.gemm(n, seconds=0.1)) for n in (size - 1, size, size + 1)])
    for size in SIZES}


def workload(name: str) -> Workload:
    """A row, or a matmul of the row `gemm_sizes`, by name."""
    found = WORKLOADS.get(name)
    return found or next(w for group in NEIGHBORS.values() for w in group if w.name == name)
