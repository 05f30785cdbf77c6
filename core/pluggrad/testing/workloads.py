"""What is timed, on any device and beside other libraries: a row is one entry here.

Numbers are drawn in float32; labels are int64. A row names the form of its computation, which is
in `forms.py`.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Inputs: TypeAlias = list[Array]
MakeInputs: TypeAlias = Callable[[np.random.Generator], Inputs]

MLP_LAYERS: Final = (784, 512, 512, 10)
ADAM: Final[dict[str, Any]] = {"lr": 1e-3, "b1": 0.9, "b2": 0.999, "eps": 1e-8}
CHAIN: Final = 20  # multiplications by a sine: work that no memory limits
_BATCH: Final = 128
_MILLION: Final = 1_000_000
CLASSES: Final = 100  # of the row `one_hot`
LEADING: Final = 100  # of the row `topk_1m`
_GPT_WIDTH: Final = 768
GPT_HEADS: Final = 12
_GPT_BLOCKS: Final = 4


@dataclass(frozen=True, slots=True)
class Workload:
    """One row.

    amount: the work of a call in giga-units: GFLOP, or GB of compulsory traffic; 0 where the row is a time.
    unit: GFLOP/s where multiply-adds bound the row, GB/s where memory does, else ms or us.
    steps: how often a call repeats its computation, where the form is a loop.
    seconds: how long a turn lasts; it has at least one call.
    comparable: every library starts from the same numbers, so that results are compared too.
    dtype: of floats, as which a library is to hold its inputs before it is timed.
    """

    name: str
    form: str
    what: str
    inputs: MakeInputs
    amount: float = 0.0
    unit: str = "ms"
    steps: int = 1
    seconds: float = 0.2
    comparable: bool = True
    dtype: str = "float32"

    def arrays(self) -> Inputs:
        """The same inputs in every process."""
        return self.inputs(np.random.default_rng(0))


# ---- inputs --------------------------------------------------------------------------------------
def _normal(*shapes: tuple[int, ...]) -> MakeInputs:
    return lambda rng: [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]


def _mlp(rng: np.random.Generator) -> Inputs:
    images = rng.standard_normal((_BATCH, MLP_LAYERS[0]), dtype=np.float32)
    return [images, rng.integers(0, MLP_LAYERS[-1], _BATCH)]


def _lenet(rng: np.random.Generator) -> Inputs:
    """Images, labels, then a weight and a bias for each of two convolutions and two linear layers."""
    weights = (((32, 1, 5, 5), 0.1), ((64, 32, 5, 5), 0.03), ((1024, 256), 0.03), ((256, 10), 0.06))
    arrays: Inputs = [rng.standard_normal((_BATCH, 1, 28, 28), dtype=np.float32), rng.integers(0, 10, _BATCH)]
    for shape, scale in weights:
        outputs = shape[0] if len(shape) == 4 else shape[1]
        arrays += [rng.standard_normal(shape, dtype=np.float32) * np.float32(scale),
                   np.zeros(outputs, np.float32)]
    return arrays


def _gpt(tokens: int) -> MakeInputs:
    """Activations, then each block's weights: query, key and value; output; up; down."""
    d = _GPT_WIDTH
    weights = ((d, 3 * d), (d, d), (d, 4 * d), (4 * d, d))

    def inputs(rng: np.random.Generator) -> Inputs:
        activations = rng.standard_normal((1, tokens, d), dtype=np.float32)
        return [activations, *[rng.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
                               for shape in weights * _GPT_BLOCKS]]

    return inputs


def _xor(_: np.random.Generator) -> Inputs:
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    return [corners, np.array([[0], [1], [1], [0]], np.float32)]


def _embedding(rng: np.random.Generator) -> Inputs:
    return [rng.standard_normal((50_000, 64), dtype=np.float32), rng.integers(0, 50_000, 1 << 14)]


def _vector_and_indices(rng: np.random.Generator) -> Inputs:
    return [rng.standard_normal(_MILLION, dtype=np.float32), rng.integers(0, _MILLION, _MILLION)]


# ---- families of rows ----------------------------------------------------------------------------
def gemm(n: int, seconds: float = 0.2) -> Workload:
    """A square product."""
    return Workload(f"gemm{n}", "matmul", f"({n}, {n}) @ ({n}, {n})", _normal((n, n), (n, n)),
                    2e-9 * n**3, "GFLOP/s", seconds=seconds)


def _row_wise(form: str, what: str) -> Workload:
    return Workload(f"{form}4k", form, what, _normal((4096, 4096)), 8e-9 * 4096**2, "GB/s")


def _linear(name: str, form: str, what: str, inputs: MakeInputs) -> Workload:
    """Work that takes as long as its elements are many."""
    return Workload(name, form, what, inputs)


_LARGE: Final = 1 << 24
_GPT_WEIGHTS: Final = 12 * _GPT_WIDTH**2 * _GPT_BLOCKS

_TABLE: Final = (
    Workload("mnist_step", "lenet", "training step of LeNet, batch 128, Adam, jit", _lenet, seconds=0.5),
    Workload("lenet_eager", "lenet_eager", "the same without jit", _lenet, seconds=0.5),
    Workload("mlp_step", "mlp", "training step of 784-512-512-10, batch 128, Adam, jit", _mlp, seconds=0.5,
             comparable=False),
    gemm(512),
    gemm(1024),
    gemm(2048),
    # half of the matrix fits in a large cache: more than the stream is possible
    Workload("gemv4096", "matmul", "(4096, 4096) @ (4096,)", _normal((4096, 4096), (4096,)),
             4e-9 * 4096**2, "GB/s"),
    Workload("conv3x3", "conv", "3x3 convolution, 64 to 64 channels, 16 images of 56x56",
             _normal((16, 64, 56, 56), (64, 64, 3, 3)), 2e-9 * 16 * 64 * 56 * 56 * 64 * 9, "GFLOP/s"),
    Workload("attn", "attention", "attention, 12 heads, 512 tokens of 64",
             _normal(*[(1, 12, 512, 64)] * 3), 4e-9 * 12 * 512 * 512 * 64, "GFLOP/s"),
    Workload("gpt_fwd128", "gpt", "4 blocks of GPT-2, 128 tokens", _gpt(128), 2e-9 * 128 * _GPT_WEIGHTS,
             "GFLOP/s"),
    Workload("gpt_tok1", "gpt", "the same, 1 token: GB/s of weights", _gpt(1), 4e-9 * _GPT_WEIGHTS, "GB/s"),
    Workload("fuse16m", "fuse", "relu(a * b + c) * 0.5 on 16M elements", _normal(*[(_LARGE,)] * 3),
             16e-9 * _LARGE, "GB/s"),
    Workload("sum16m", "sum", "sum of 16M elements", _normal((_LARGE,)), 4e-9 * _LARGE, "GB/s"),
    _row_wise("softmax", "softmax of 4096 rows of 4096"),
    _row_wise("lnorm", "layer norm of 4096 rows of 4096"),
    _row_wise("transpose", "(4096, 4096) transposed and stored"),
    _linear("sort_1m", "sort", "a million floats sorted, equals in order", _normal((_MILLION,))),
    _linear("argsort_1m", "argsort", "the order of a million floats, equals in order", _normal((_MILLION,))),
    _linear("topk_1m", "topk", f"the {LEADING} largest of a million floats, in order", _normal((_MILLION,))),
    _linear("cumsum_1m", "cumsum", "running sums of a million floats", _normal((_MILLION,))),
    _linear("cumsum_axis0", "cumsum", "running sums of 1024 columns of 1024", _normal((1024, 1024))),
    _linear("cumsum_axis1", "cumsum_rows", "running sums of 1024 rows of 1024", _normal((1024, 1024))),
    _linear("gather_1m", "gather", "a million floats at random places", _vector_and_indices),
    _linear("scatter_add_1m", "scatter_add", "a million floats added at random places", _vector_and_indices),
    _linear("embedding", "embedding", "16,384 rows of 64 of 50,000, and their gradient", _embedding),
    _linear("one_hot", "one_hot", f"100,000 labels of {CLASSES} classes",
            lambda rng: [rng.integers(0, CLASSES, 100_000)]),
    Workload("xor100", "xor", "the XOR loop of the first day, 100 steps, no jit", _xor, steps=100,
             comparable=False),
    Workload("xor1000", "xor", "the same, 1,000 steps", _xor, steps=1000, seconds=0.0, comparable=False),
    Workload("tiny_add", "captured_add", "a + b of 10 elements, jit", _normal((10,), (10,)), unit="us"),
    Workload("eager_add", "eager_add", "a + b of 10 elements, computed at once, no jit",
             _normal((10,), (10,)), unit="us"),
    # A kernel a little over 100 us of estimated work pays for waking the others; a longer one has no excuse.
    Workload("busy_short", "busy", f"{CHAIN} sines and products on 32,768 elements", _normal((1 << 15,)),
             unit="us"),
    Workload("busy_long", "busy", f"{CHAIN} sines and products on 262,144 elements", _normal((1 << 18,)),
             unit="us"),
)


# ---- the second set: odd, skinny, batched, strided, and larger than caches -----------------------------
def _compute(name: str, form: str, what: str, gflop: float, *shapes: tuple[int, ...]) -> Workload:
    """What caches can feed."""
    return Workload(name, form, what, _normal(*shapes), gflop, "GFLOP/s")


def _memory(name: str, form: str, what: str, gb: float, *shapes: tuple[int, ...]) -> Workload:
    """What has to go through memory."""
    return Workload(name, form, what, _normal(*shapes), gb, "GB/s")


def _product(m: int, k: int, n: int, name: str = "") -> Workload:
    return _compute(name or f"gemm_{m}x{k}x{n}", "matmul", f"({m}, {k}) @ ({k}, {n})", 2e-9 * m * k * n,
                    (m, k), (k, n))


def _batched(batch: int, m: int, k: int, n: int) -> Workload:
    return _compute(f"bmm{batch}_{m}x{k}x{n}", "matmul", f"({batch}, {m}, {k}) @ ({batch}, {k}, {n})",
                    2e-9 * batch * m * k * n, (batch, m, k), (batch, k, n))


def _perceptron(batch: int) -> Workload:
    """Forward through the layers of `mlp_step`; inputs are images, then each layer's weight and bias."""
    layers = list(pairwise(MLP_LAYERS))
    weights = [shape for m, n in layers for shape in ((m, n), (n,))]
    what = f"{'-'.join(map(str, MLP_LAYERS))}, forward, batch {batch}"
    return _compute(f"mlp_b{batch}", "mlp_forward", what,
                    2e-9 * batch * sum(m * n for m, n in layers), (batch, MLP_LAYERS[0]), *weights)


def _attention_steps() -> list[Workload]:
    """Attention and its gradients: six contractions; what is computed twice counts once."""
    batch, heads, tokens, wide = 4, 8, 1024, 64
    rows = (("attn_train", "attention_train", "attention", tokens),
            ("attn_train_causal", "attention_train_causal", "causal attention", (tokens + 1) / 2))
    return [_compute(name, form, f"{what} and gradients, {batch} x {heads} heads, {tokens} tokens of {wide}",
                     6 * 2e-9 * batch * heads * tokens * keys * wide, *[(batch, heads, tokens, wide)] * 4)
            for name, form, what, keys in rows]


_K: Final = 1024
_WIDE: Final = 50_257  # GPT-2's tokens
_IMAGES: Final = (32, 128, 56, 56)
_IMAGES_GB: Final = 4e-9 * math.prod(_IMAGES)

_SECOND: Final = (
    _product(1023, 1023, 1023, "gemm1023"),
    _product(1025, 1025, 1025, "gemm1025"),
    _product(777, 1001, 513),
    _product(4096, 64, 4096),
    _product(8, _K, _K),
    _product(_K, 4096, 16),
    _compute("gemm_tn", "matmul_tn", "a.T @ b of 1024", 2e-9 * _K**3, (_K, _K), (_K, _K)),
    _compute("gemm_nt", "matmul_nt", "a @ b.T of 1024", 2e-9 * _K**3, (_K, _K), (_K, _K)),
    _compute("gemm_strided", "matmul_strided", "a[:, ::2] @ b of 1024", 2e-9 * _K**3, (_K, 2 * _K), (_K, _K)),
    replace(gemm(_K), name="gemm1024_bf16", what="a @ b of 1024, both bfloat16", dtype="bfloat16"),
    _batched(256, 32, 32, 32),
    _batched(96, 128, 64, 128),
    _compute("conv1x1", "conv", "1x1 convolution, 256 to 64 channels, 16 images of 56x56",
             2e-9 * 16 * 56 * 56 * 256 * 64, (16, 256, 56, 56), (64, 256, 1, 1)),
    _compute("conv3x3_b1", "conv", "3x3 convolution, 64 to 64 channels, 1 image of 56x56",
             2e-9 * 56 * 56 * 64 * 64 * 9, (1, 64, 56, 56), (64, 64, 3, 3)),
    _compute("conv5x5", "conv", "5x5 convolution, 32 to 64 channels, 16 images of 28x28",
             2e-9 * 16 * 28 * 28 * 32 * 64 * 25, (16, 32, 28, 28), (64, 32, 5, 5)),
    _compute("conv7x7_s2", "conv_s2", "7x7 convolution, stride 2, 3 to 64 channels, 8 images of 224x224",
             2e-9 * 8 * 112 * 112 * 3 * 64 * 49, (8, 3, 224, 224), (64, 3, 7, 7)),
    _perceptron(1),
    _perceptron(8),
    *_attention_steps(),
    # few heads and short turns: in the seconds that a slow library takes for more, the machine's limits move
    replace(_compute("attn4k_causal", "attention_causal", "causal attention, 4 heads, 4096 tokens of 64",
                     2e-9 * 4 * 4096 * 4097 * 64, *[(1, 4, 4096, 64)] * 3), seconds=0.1),
    _memory("gemv8192", "matmul", "(8192, 8192) @ (8192,)", 4e-9 * 8192**2, (8192, 8192), (8192,)),
    _memory("gevm8192", "matmul", "(8192,) @ (8192, 8192)", 4e-9 * 8192**2, (8192,), (8192, 8192)),
    _memory("sum64m", "sum", "sum of 64M elements", 4e-9 * (1 << 26), (1 << 26,)),
    _memory("sum8k_axis0", "sum_axis0", "sums of 8192 columns of 8192", 4e-9 * 8192**2, (8192, 8192)),
    _memory("sum8k_axis1", "sum_axis1", "sums of 8192 rows of 8192", 4e-9 * 8192**2, (8192, 8192)),
    _memory("add_t4k", "add_transposed", "a + b.T of 4096", 12e-9 * 4096**2, (4096, 4096), (4096, 4096)),
    _memory("softmax_odd", "softmax", "softmax of 4095 rows of 4097", 8e-9 * 4095 * 4097, (4095, 4097)),
    _memory("softmax_wide", "softmax", f"softmax of 512 rows of {_WIDE}", 8e-9 * 512 * _WIDE, (512, _WIDE)),
    _memory("lnorm_odd", "lnorm", "layer norm of 4095 rows of 4097", 8e-9 * 4095 * 4097, (4095, 4097)),
    _memory("lnorm_wide", "lnorm", f"layer norm of 512 rows of {_WIDE}", 8e-9 * 512 * _WIDE, (512, _WIDE)),
    _memory("bias_gelu", "bias_gelu", "gelu(a + bias), 4096 rows of 4096", 8e-9 * 4096**2,
            (4096, 4096), (4096,)),
    _memory("dwconv", "conv", "3x3 convolution of each of 128 channels, 32 images of 56x56", 2 * _IMAGES_GB,
            _IMAGES, (128, 1, 3, 3)),
    _memory("dwconv_s2", "conv_s2", "the same, stride 2", 1.25 * _IMAGES_GB, _IMAGES, (128, 1, 3, 3)),
)

SETS: Final[dict[str, dict[str, Workload]]] = {
    name: {workload.name: workload for workload in rows}
    for name, rows in (("table", _TABLE), ("second", _SECOND))}
