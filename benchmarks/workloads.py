"""What is measured: a row is one entry here. Every number is float32; labels are int64.

A row names the form of its computation; `forms/` holds that form once for each library.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from benchmarks.criteria import Beside, Criterion, Kernels, OfLimit, OnDevice, SpeedUp, Within

Array: TypeAlias = npt.NDArray[Any]
Inputs: TypeAlias = list[Array]

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
    unit: GFLOP/s or GB/s with an amount, else ms or us.
    steps: how often a call repeats its computation, where the form is a loop.
    seconds: how long a turn lasts; it has at least one call.
    comparable: every library starts from the same numbers, so that results are compared too.
    required: what a run has to show, or it fails; of a device only where the run has that device. goals: what
    is aimed at.
    """

    name: str
    form: str
    what: str
    inputs: Callable[[np.random.Generator], Inputs]
    amount: float = 0.0
    unit: str = "ms"
    steps: int = 1
    seconds: float = 0.2
    comparable: bool = True
    required: tuple[Criterion, ...] = ()
    goals: tuple[Criterion, ...] = ()

    def arrays(self) -> Inputs:
        """The same inputs in every process."""
        return self.inputs(np.random.default_rng(0))

    def on(self, devices: Sequence[str]) -> Workload:
        """The row without what it requires of devices that a run does not have."""
        kept = [each for each in self.required
                if not isinstance(each, OnDevice) or each.device in devices]
        return replace(self, required=tuple(kept))


# ---- inputs --------------------------------------------------------------------------------------
def _normal(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], Inputs]:
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


def _gpt(tokens: int) -> Callable[[np.random.Generator], Inputs]:
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
def _gemm(n: int, *goals: Criterion, required: tuple[Criterion, ...] = (), seconds: float = 0.2) -> Workload:
    return Workload(f"gemm{n}", "matmul", f"({n}, {n}) @ ({n}, {n})", _normal((n, n), (n, n)),
                    2e-9 * n**3, "GFLOP/s", seconds=seconds, required=required, goals=goals)


def _row_wise(form: str, what: str, least: float, *required: Criterion) -> Workload:
    return Workload(f"{form}4k", form, what, _normal((4096, 4096)), 8e-9 * 4096**2, "GB/s",
                    required=required, goals=(OfLimit("stream", least),))


def _linear(name: str, form: str, what: str, inputs: Callable[[np.random.Generator], Inputs]) -> Workload:
    """Work that takes as long as its elements are many: at most twice the time of NumPy, and of PyTorch."""
    return Workload(name, form, what, inputs, required=(Beside("numpy", 1 / 2), Beside("torch", 1 / 2)))


def _sorting(name: str, form: str, what: str) -> Workload:
    """In linear time and stable: at most twice NumPy's time for the same."""
    return Workload(name, form, what, _normal((_MILLION,)), required=(Beside("numpy", 1 / 2),),
                    goals=(Beside("best", 1.0),))


_LARGE: Final = 1 << 24
_GPT_WEIGHTS: Final = 12 * _GPT_WIDTH**2 * _GPT_BLOCKS
_ONE_PASS: Final = (OfLimit("stream", 0.5), Kernels(1))

WORKLOADS: Final[dict[str, Workload]] = {workload.name: workload for workload in (
    Workload("mnist_step", "lenet", "training step of LeNet, batch 128, Adam, jit", _lenet, seconds=0.5,
             required=(Beside("torch", 1 / 1.5),), goals=(Beside("best", 1.5),)),
    Workload("mlp_step", "mlp", "training step of 784-512-512-10, batch 128, Adam, jit", _mlp, seconds=0.5,
             comparable=False, required=(Beside("torch", 1 / 2),)),
    _gemm(512, Beside("best", 1.1, "fma")),
    _gemm(1024, Beside("best", 1.1, "fma"), OfLimit("fma", 0.85),
          required=(OfLimit("fma", 0.6), OnDevice("opencl", "fma", 0.25))),
    _gemm(2048, Beside("best", 1.05, "fma"), OfLimit("fma", 0.85)),
    # half of the matrix fits in a large cache: more than the stream is possible
    Workload("gemv4096", "matmul", "(4096, 4096) @ (4096,)", _normal((4096, 4096), (4096,)),
             4e-9 * 4096**2, "GB/s", goals=(Beside("best", 1.0),)),
    Workload("conv3x3", "conv", "3x3 convolution, 64 to 64 channels, 16 images of 56x56",
             _normal((16, 64, 56, 56), (64, 64, 3, 3)), 2e-9 * 16 * 64 * 56 * 56 * 64 * 9, "GFLOP/s",
             required=(OfLimit("fma", 0.4),), goals=(Beside("best", 1.0, "fma"),)),
    Workload("attn", "attention", "attention, 12 heads, 512 tokens of 64",
             _normal(*[(1, 12, 512, 64)] * 3), 4e-9 * 12 * 512 * 512 * 64, "GFLOP/s",
             goals=(Beside("best", 1.2, "fma"),)),
    Workload("gpt_fwd128", "gpt", "4 blocks of GPT-2, 128 tokens", _gpt(128), 2e-9 * 128 * _GPT_WEIGHTS,
             "GFLOP/s", goals=(Beside("best", 1.2, "fma"),)),
    Workload("gpt_tok1", "gpt", "the same, 1 token: GB/s of weights", _gpt(1), 4e-9 * _GPT_WEIGHTS, "GB/s",
             goals=(OfLimit("stream", 0.8),)),
    Workload("fuse16m", "fuse", "relu(a * b + c) * 0.5 on 16M elements", _normal(*[(_LARGE,)] * 3),
             16e-9 * _LARGE, "GB/s", required=(OfLimit("stream", 0.7),), goals=(OfLimit("stream", 0.9),)),
    Workload("sum16m", "sum", "sum of 16M elements", _normal((_LARGE,)), 4e-9 * _LARGE, "GB/s",
             goals=(Beside("best", 1.0),)),
    _row_wise("softmax", "softmax of 4096 rows of 4096", 0.8, *_ONE_PASS, OnDevice("opencl", "stream", 0.4)),
    _row_wise("lnorm", "layer norm of 4096 rows of 4096", 0.8, *_ONE_PASS),
    _row_wise("transpose", "(4096, 4096) transposed and stored", 0.6),
    _sorting("sort_1m", "sort", "a million floats sorted, equals in order"),
    _sorting("argsort_1m", "argsort", "the order of a million floats, equals in order"),
    _sorting("topk_1m", "topk", f"the {LEADING} largest of a million floats, in order"),
    _linear("cumsum_1m", "cumsum", "running sums of a million floats", _normal((_MILLION,))),
    _linear("cumsum_axis0", "cumsum", "running sums of 1024 columns of 1024", _normal((1024, 1024))),
    _linear("cumsum_axis1", "cumsum_rows", "running sums of 1024 rows of 1024", _normal((1024, 1024))),
    _linear("gather_1m", "gather", "a million floats at random places", _vector_and_indices),
    _linear("scatter_add_1m", "scatter_add", "a million floats added at random places", _vector_and_indices),
    _linear("embedding", "embedding", "16,384 rows of 64 of 50,000, and their gradient", _embedding),
    _linear("one_hot", "one_hot", f"100,000 labels of {CLASSES} classes",
            lambda rng: [rng.integers(0, CLASSES, 100_000)]),
    Workload("xor100", "xor", "the XOR loop of the first day, 100 steps, no jit", _xor, steps=100,
             comparable=False, goals=(Beside("torch", 1 / 2),)),
    Workload("xor1000", "xor", "the same, 1,000 steps", _xor, steps=1000, seconds=0.0, comparable=False,
             required=(Beside("torch", 1 / 5),)),
    Workload("tiny_add", "captured_add", "a + b of 10 elements, jit", _normal((10,), (10,)), unit="us",
             goals=(Within(6e-6),)),
    Workload("eager_add", "eager_add", "a + b of 10 elements, computed at once, no jit",
             _normal((10,), (10,)), unit="us", goals=(Within(50e-6),)),
    # A kernel a little over 100 us of estimated work pays for waking the others; a longer one has no excuse.
    Workload("busy_short", "busy", f"{CHAIN} sines and products on 32,768 elements", _normal((1 << 15,)),
             unit="us", required=(SpeedUp(0.5),)),
    Workload("busy_long", "busy", f"{CHAIN} sines and products on 262,144 elements", _normal((1 << 18,)),
             unit="us", required=(SpeedUp(0.75),)),
)}

# the sizes of the row `gemm_sizes`: each is timed together with its neighbors, one less and one more
SIZES: Final = (100, 128, 150, 192, 224, 256, 300, 320, 384, 400, 448, 512, 576, 600, 640, 768, 800, 896, 960,
                1000)
NEIGHBORS: Final[dict[int, tuple[Workload, ...]]] = {
    size: tuple([_gemm(n, seconds=0.1) for n in (size - 1, size, size + 1)]) for size in SIZES}


def workload(name: str) -> Workload:
    """A row, or a matmul of the row `gemm_sizes`, by name."""
    found = WORKLOADS.get(name)
    return found or next(w for group in NEIGHBORS.values() for w in group if w.name == name)
