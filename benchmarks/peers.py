"""The workloads in the libraries that pluggrad is compared with, each as its own documentation says.

A library is found by name when its process starts: one that is missing is reported, its rows stay empty.
"""
from __future__ import annotations

import math
import os
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from typing import Any, Final

import numpy as np
from workloads import ADAM, MLP_LAYERS, XOR_STEPS, Array, Inputs

Call = Callable[[], object]
Maker = Callable[[str, Inputs], "Call | None"]
Library = Callable[[], "tuple[str, Maker]"]

_XOR: Final = ([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [[0.0], [1.0], [1.0], [0.0]])


# ---- NumPy ---------------------------------------------------------------------------------------
def _np_softmax(a: Array) -> Array:
    grown = np.exp(a - a.max(1, keepdims=True))
    return np.asarray(grown / grown.sum(1, keepdims=True))


def _np_layernorm(a: Array) -> Array:
    centered = a - a.mean(1, keepdims=True)
    return np.asarray(centered / np.sqrt((centered * centered).mean(1, keepdims=True) + 1e-5))


_NUMPY: Final[dict[str, Callable[..., Array]]] = {
    "fuse16m": lambda a, b, c: np.maximum(a * b + c, 0) * np.float32(0.5),
    "sum16m": lambda a: a.sum(),
    "gemm512": lambda a, b: a @ b,
    "gemm1024": lambda a, b: a @ b,
    "gemv4096": lambda a, b: a @ b,
    "softmax4k": _np_softmax,
    "lnorm4k": _np_layernorm,
    "transpose4k": lambda a: np.ascontiguousarray(a.T),
    "eager_add": lambda a, b: a + b,
}


def numpy() -> tuple[str, Maker]:
    """NumPy, matrix products by the BLAS that it comes with."""
    def make(name: str, inputs: Inputs) -> Call | None:
        function = _NUMPY.get(name)
        return None if function is None else lambda: function(*inputs)

    return np.__version__, make


# ---- PyTorch -------------------------------------------------------------------------------------
def torch() -> tuple[str, Maker]:
    """PyTorch, eager, on as many threads as there are CPUs."""
    torch: Any = import_module("torch")
    nn, functional = torch.nn, torch.nn.functional
    torch.set_num_threads(os.cpu_count() or 1)
    functions: dict[str, Callable[..., Any]] = {
        "fuse16m": lambda a, b, c: torch.relu(a * b + c) * 0.5,
        "sum16m": lambda a: a.sum(),
        "gemm512": lambda a, b: a @ b,
        "gemm1024": lambda a, b: a @ b,
        "gemv4096": lambda a, b: a @ b,
        "softmax4k": lambda a: a.softmax(1),
        "lnorm4k": lambda a: functional.layer_norm(a, (4096,)),
        "transpose4k": lambda a: a.T.contiguous(),
        "eager_add": lambda a, b: a + b,
    }

    def mlp_step(inputs: Inputs) -> Call:
        images, labels = map(torch.from_numpy, inputs)
        first, second, third, last = MLP_LAYERS
        model = nn.Sequential(nn.Linear(first, second), nn.ReLU(), nn.Linear(second, third), nn.ReLU(),
                              nn.Linear(third, last))
        optimizer = torch.optim.Adam(model.parameters(), lr=ADAM["lr"], betas=(ADAM["b1"], ADAM["b2"]),
                                     eps=ADAM["eps"])

        def run() -> object:
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            return loss.item()

        return run

    def xor(_: Inputs) -> Call:
        def run() -> object:
            x, y = map(torch.tensor, _XOR)
            model = nn.Linear(2, 1)
            opt = torch.optim.Adam(model.parameters(), lr=0.1)
            for _ in range(XOR_STEPS):
                loss = ((model(x).sigmoid() - y) ** 2).mean()
                loss.backward()
                opt.step()
                opt.zero_grad()
            return loss.item()

        return run

    steps = {"mlp_step": mlp_step, "xor1000": xor}

    def make(name: str, inputs: Inputs) -> Call | None:
        if name in steps:
            return steps[name](inputs)
        function = functions.get(name)
        if function is None:
            return None
        tensors = [torch.from_numpy(array) for array in inputs]

        def run() -> object:
            with torch.no_grad():
                return function(*tensors)

        return run

    return str(torch.__version__), make


# ---- JAX -----------------------------------------------------------------------------------------
def jax() -> tuple[str, Maker]:
    """JAX under jit, on the CPU."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    jax: Any = import_module("jax")
    jnp: Any = import_module("jax.numpy")

    def layernorm(a: Any) -> Any:
        centered = a - a.mean(1, keepdims=True)
        return centered * jax.lax.rsqrt((centered * centered).mean(1, keepdims=True) + 1e-5)

    functions: dict[str, Callable[..., Any]] = {
        "fuse16m": lambda a, b, c: jax.nn.relu(a * b + c) * 0.5,
        "sum16m": lambda a: a.sum(),
        "gemm512": lambda a, b: a @ b,
        "gemm1024": lambda a, b: a @ b,
        "gemv4096": lambda a, b: a @ b,
        "softmax4k": lambda a: jax.nn.softmax(a, axis=1),
        "lnorm4k": layernorm,
        "transpose4k": lambda a: a.T + 0,  # an operation, so that the result is stored
        "tiny_add": lambda a, b: a + b,
    }

    def mlp_step(inputs: Inputs) -> Call:
        images, labels = map(jnp.asarray, inputs)
        rng = np.random.default_rng(0)
        params = [(jnp.asarray(rng.uniform(-1, 1, (m, n)).astype(np.float32) / math.sqrt(m)), jnp.zeros(n))
                  for m, n in pairwise(MLP_LAYERS)]

        def loss_of(params: Any) -> Any:
            h = images
            for weight, bias in params[:-1]:
                h = jax.nn.relu(h @ weight + bias)
            logits = h @ params[-1][0] + params[-1][1]
            return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()

        def adam(p: Any, m: Any, v: Any, t: Any) -> Any:
            step = (m / (1 - ADAM["b1"]**t)) / (jnp.sqrt(v / (1 - ADAM["b2"]**t)) + ADAM["eps"])
            return p - ADAM["lr"] * step

        @jax.jit  # type: ignore[untyped-decorator]
        def step(params: Any, first: Any, second: Any, t: Any) -> Any:
            each = jax.tree.map
            loss, gradient = jax.value_and_grad(loss_of)(params)
            first = each(lambda m, g: ADAM["b1"] * m + (1 - ADAM["b1"]) * g, first, gradient)
            second = each(lambda v, g: ADAM["b2"] * v + (1 - ADAM["b2"]) * g * g, second, gradient)
            params = each(lambda p, m, v: adam(p, m, v, t + 1), params, first, second)
            return params, first, second, t + 1, loss

        zeros = jax.tree.map(jnp.zeros_like, params)
        state: list[Any] = [params, zeros, zeros, jnp.float32(0)]

        def run() -> float:
            *state[:], loss = step(*state)
            return float(loss)

        return run

    def make(name: str, inputs: Inputs) -> Call | None:
        if name == "mlp_step":
            return mlp_step(inputs)
        arrays = [jnp.asarray(array) for array in inputs]
        if name == "eager_add":
            return lambda: jax.block_until_ready(arrays[0] + arrays[1])
        if name not in functions:
            return None
        compiled = jax.jit(functions[name])
        return lambda: jax.block_until_ready(compiled(*arrays))

    return str(jax.__version__), make


# ---- tinygrad ------------------------------------------------------------------------------------
def tinygrad() -> tuple[str, Maker]:
    """tinygrad under TinyJit, on the CPU (it needs clang for that)."""
    os.environ.setdefault("DEV", "CPU")
    os.environ.setdefault("TRAINING", "1")  # its optimizers refuse to step otherwise
    tinygrad: Any = import_module("tinygrad")
    nn: Any = import_module("tinygrad.nn")
    tensor = tinygrad.Tensor
    device = tinygrad.Device[tinygrad.Device.DEFAULT]
    functions: dict[str, Callable[..., Any]] = {
        "fuse16m": lambda a, b, c: (a * b + c).relu() * 0.5,
        "sum16m": lambda a: a.sum(),
        "gemm512": lambda a, b: a @ b,
        "gemm1024": lambda a, b: a @ b,
        "gemv4096": lambda a, b: a @ b,
        "softmax4k": lambda a: a.softmax(1),
        "lnorm4k": lambda a: a.layernorm(),
        "transpose4k": lambda a: a.T.contiguous(),
        "tiny_add": lambda a, b: a + b,
    }

    def mlp_step(inputs: Inputs) -> Call:
        images, labels = tensor(inputs[0]).realize(), tensor(inputs[1].astype(np.int32)).realize()
        layers = [nn.Linear(m, n) for m, n in pairwise(MLP_LAYERS)]
        optimizer = nn.optim.Adam(nn.state.get_parameters(layers), lr=ADAM["lr"])

        @tinygrad.TinyJit  # type: ignore[untyped-decorator]
        def step() -> Any:
            optimizer.zero_grad()
            h = layers[1](layers[0](images).relu()).relu()
            loss = layers[2](h).sparse_categorical_crossentropy(labels).backward()
            return loss.realize(*optimizer.schedule_step())

        return lambda: step().item()

    def make(name: str, inputs: Inputs) -> Call | None:
        if name == "mlp_step":
            return mlp_step(inputs)
        tensors = [tensor(array).realize() for array in inputs]
        if name == "eager_add":
            return lambda: (tensors[0] + tensors[1]).realize()
        if name not in functions:
            return None
        function = functions[name]
        captured = tinygrad.TinyJit(lambda *arguments: function(*arguments).realize())

        def run() -> None:
            captured(*tensors)
            device.synchronize()

        return run

    metadata: Any = import_module("importlib.metadata")
    return str(metadata.version("tinygrad")), make


LIBRARIES: Final[dict[str, Library]] = {"numpy": numpy, "torch": torch, "jax": jax, "tinygrad": tinygrad}
