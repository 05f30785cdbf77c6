"""The rows of the set `gpu`: large enough that a GPU's limits set the time. `Sizes` makes them smaller.

Whole programs are those of `programs/`, by the name of their form.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from pluggrad.testing.workloads import SETS, MakeInputs, Workload, gemm

REPLAYED: Final = 30  # products of the row `replay`, each with a tanh behind it: none fuses with the next
_HEAD: Final = 128  # numbers of a head of attention
_HEADS: Final = 16


@dataclass(frozen=True, slots=True)
class Sizes:
    """side: of matrices. elements: of arrays. rows: of `row` numbers. tokens: of attention."""

    side: int = 8192
    elements: int = 1 << 26
    rows: int = 16384
    row: int = 8192
    tokens: int = 8192
    replayed: int = 256  # side of the matrices of `replay`


def _normal(*shapes: tuple[int, ...], scale: float = 1.0) -> MakeInputs:
    return lambda rng: [rng.standard_normal(shape, dtype=np.float32) * np.float32(scale) for shape in shapes]


def _program(name: str, what: str) -> Workload:
    """A step of a whole program, which starts from numbers of its own."""
    return Workload(name, name, what, lambda _: [], seconds=0.5, comparable=False)


def rows(sizes: Sizes = Sizes()) -> tuple[Workload, ...]:
    """The rows at some sizes."""
    square = gemm(sizes.side)
    side, row_bytes = f"a @ b of {sizes.side}", 8e-9 * sizes.rows * sizes.row
    shape, heads = (sizes.rows, sizes.row), (1, _HEADS, sizes.tokens, _HEAD)
    return (
        replace(square, name="gemm8k", what=f"{side}, float32"),
        replace(square, name="gemm8k_tf32", form="matmul_tf32", what=f"{side}, factors rounded to tf32"),
        replace(square, name="gemm8k_bf16", what=f"{side}, bfloat16", dtype="bfloat16"),
        Workload("fuse64m", "fuse", f"relu(a * b + c) * 0.5 on {sizes.elements} elements",
                 _normal(*[(sizes.elements,)] * 3), 16e-9 * sizes.elements, "GB/s"),
        Workload("softmax8k", "softmax", f"softmax of {sizes.rows} rows of {sizes.row}", _normal(shape),
                 row_bytes, "GB/s"),
        Workload("lnorm8k", "lnorm", f"layer norm of {sizes.rows} rows of {sizes.row}", _normal(shape),
                 row_bytes, "GB/s"),
        Workload("attn8k_bf16", "attention",
                 f"attention, {_HEADS} heads, {sizes.tokens} tokens of {_HEAD}, bfloat16",
                 _normal(*[heads] * 3), 4e-9 * _HEADS * _HEAD * sizes.tokens**2, "GFLOP/s", dtype="bfloat16"),
        replace(SETS["table"]["mnist_step"], name="lenet_step"),
        _program("resnet18_64", "training step of ResNet-18, 64 images of 224x224, SGD with momentum"),
        _program("gpt2_step", "training step of GPT-2 small, 4 texts of 512 tokens, Adam"),
        Workload("replay", "replay", f"{REPLAYED} small products, each of the tanh of the last, replayed",
                 _normal(*[(sizes.replayed,) * 2] * 2, scale=sizes.replayed**-0.5), unit="us"),
    )
