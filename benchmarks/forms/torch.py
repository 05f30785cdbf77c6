"""The forms in PyTorch, eager, or compiled for `torch_compile.py`: on as many threads as there are CPUs, or
on the device that the environment names."""
from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import programs
from benchmarks.device_limits import TORCH_DEVICE_VARIABLE
from benchmarks.forms import Call, Library
from benchmarks.gpu_rows import REPLAYED
from benchmarks.workloads import ADAM, CLASSES, GPT_HEADS, LEADING, MLP_LAYERS, Inputs, Workload

Wrap = Callable[[Any], Any]  # torch.compile, or nothing
DEVICE: Final = torch.device(os.environ.get(TORCH_DEVICE_VARIABLE, "cpu"))
_COPIED: Final = 1 << 27  # elements of the copy that measures memory
_SIDE: Final = 4096  # of the product that measures arithmetic
_TRIES: Final = 10


def _synchronize() -> None:
    if DEVICE.type != "cpu":
        torch.accelerator.synchronize()


def _placed(inputs: Inputs) -> list[Any]:
    return [torch.from_numpy(array).to(DEVICE) for array in inputs]


# ---- functions -----------------------------------------------------------------------------------
def _gpt(h: Any, *weights: Any) -> Any:
    batch, tokens, width = h.shape
    for qkv, out, up, down in zip(*[iter(weights)] * 4, strict=True):
        q, k, v = [part.view(batch, tokens, GPT_HEADS, -1).transpose(1, 2)
                   for part in (F.layer_norm(h, (width,)) @ qkv).split(width, -1)]
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + attended.transpose(1, 2).reshape(batch, tokens, width) @ out
        h = h + F.gelu(F.layer_norm(h, (width,)) @ up, approximate="tanh") @ down
    return h


def _conv(a: Any, w: Any, stride: int = 1) -> Any:
    return F.conv2d(a, w, stride=stride, padding=w.shape[2] // 2, groups=a.shape[1] // w.shape[1])


def _mlp_forward(h: Any, *weights: Any) -> Any:
    *hidden, last = zip(weights[::2], weights[1::2], strict=True)
    for weight, bias in hidden:
        h = torch.relu(torch.addmm(bias, h, weight))
    return torch.addmm(last[1], h, last[0])


def _attention_train(q: Any, k: Any, v: Any, g: Any, is_causal: bool = False) -> Any:
    with torch.enable_grad():
        inputs = [x.requires_grad_() for x in (q, k, v)]
        attended = F.scaled_dot_product_attention(*inputs, is_causal=is_causal)
        return attended, *torch.autograd.grad(attended, inputs, g)


def _embedding(table: Any, places: Any) -> Any:
    with torch.enable_grad():
        rows = F.embedding(places, table.requires_grad_())
        return torch.autograd.grad((rows * rows).sum(), table)[0]


_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "matmul": lambda a, b: a @ b,
    "matmul_tn": lambda a, b: a.T @ b,
    "matmul_nt": lambda a, b: a @ b.T,
    "matmul_strided": lambda a, b: a[:, ::2] @ b,
    "conv": _conv,
    "conv_s2": lambda a, w: _conv(a, w, 2),
    "mlp_forward": _mlp_forward,
    "attention": lambda q, k, v: F.scaled_dot_product_attention(q, k, v),
    "attention_causal": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    "attention_train": _attention_train,
    "attention_train_causal": lambda q, k, v, g: _attention_train(q, k, v, g, is_causal=True),
    "gpt": _gpt,
    "fuse": lambda a, b, c: torch.relu(a * b + c) * 0.5,
    "sum": lambda a: a.sum(),
    "sum_axis0": lambda a: a.sum(0),
    "sum_axis1": lambda a: a.sum(1),
    "add_transposed": lambda a, b: a + b.T,
    "bias_gelu": lambda a, bias: F.gelu(a + bias, approximate="tanh"),
    "softmax": lambda a: a.softmax(1),
    "lnorm": lambda a: F.layer_norm(a, a.shape[-1:]),
    "transpose": lambda a: a.T.contiguous(),
    "sort": lambda a: a.sort(stable=True)[0],
    "argsort": lambda a: a.argsort(stable=True),
    "topk": lambda a: a.topk(LEADING)[0],
    "cumsum": lambda a: a.cumsum(0),
    "cumsum_rows": lambda a: a.cumsum(1),
    "gather": lambda a, i: a.gather(0, i),
    "scatter_add": lambda a, i: torch.zeros_like(a).scatter_add(0, i, a),
    "embedding": _embedding,
    "one_hot": lambda i: F.one_hot(i, CLASSES),
}


# ---- steps ---------------------------------------------------------------------------------------
def _adam(parameters: Any) -> Any:
    return torch.optim.Adam(parameters, lr=ADAM["lr"], betas=(ADAM["b1"], ADAM["b2"]), eps=ADAM["eps"])


def _lenet(inputs: Inputs, wrap: Wrap) -> Call:
    images, labels, *weights = _placed(inputs)
    for weight in weights:
        weight.requires_grad_()
    optimizer = _adam(weights)

    def network(x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any, w4: Any, b4: Any) -> Any:
        h = F.max_pool2d(F.relu(F.conv2d(x, w1, b1)), 2)
        h = F.max_pool2d(F.relu(F.conv2d(h, w2, b2)), 2)
        return F.relu(h.flatten(1) @ w3 + b3) @ w4 + b4

    network = wrap(network)

    def step() -> object:
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images, *weights), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _mlp(inputs: Inputs, wrap: Wrap) -> Call:
    images, labels = _placed(inputs)
    first, second, third, last = MLP_LAYERS
    model = nn.Sequential(nn.Linear(first, second), nn.ReLU(), nn.Linear(second, third), nn.ReLU(),
                          nn.Linear(third, last)).to(DEVICE)
    optimizer, model = _adam(model.parameters()), wrap(model)

    def step() -> object:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _xor(inputs: Inputs, steps: int) -> Call:
    x, y = _placed(inputs)
    model = nn.Linear(2, 1).to(DEVICE)
    opt = torch.optim.Adam(model.parameters(), lr=0.1)

    def run() -> object:
        for _ in range(steps):
            loss = ((model(x).sigmoid() - y) ** 2).mean()
            loss.backward()
            opt.step()
            opt.zero_grad()
        return loss.item()

    return run


def _function(function: Any, inputs: Inputs, dtype: Any) -> Call:
    tensors = [tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in _placed(inputs)]

    def run() -> object:
        with torch.no_grad():
            result = function(*tensors)
        _synchronize()
        return result

    return run


def _tf32(a: Any, b: Any) -> Any:
    torch.set_float32_matmul_precision("high")
    try:
        return a @ b
    finally:
        torch.set_float32_matmul_precision("highest")


def _chained(h: Any, w: Any) -> Any:
    for _ in range(REPLAYED):
        h = (h @ w).tanh()
    return h


def _replay(inputs: Inputs) -> Call:
    """As a CUDA graph where there are such."""
    tensors = _placed(inputs)
    if DEVICE.type != "cuda":
        return _function(_chained, inputs, torch.float32)
    aside = torch.cuda.Stream()
    with torch.no_grad(), torch.cuda.stream(aside):  # a first run outside, as the documentation asks for
        _chained(*tensors)
    aside.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        result = _chained(*tensors)

    def run() -> object:
        graph.replay()
        _synchronize()
        return result

    return run


# ---- limits --------------------------------------------------------------------------------------
def _fastest(work: Callable[[], object]) -> float:
    times = []
    for _ in range(_TRIES):
        begin = time.perf_counter()
        work()
        _synchronize()
        times.append(time.perf_counter() - begin)
    return min(times)


def _limits() -> tuple[float, float] | None:
    """Of a product in float32, and of a copy, which reads and writes."""
    if DEVICE.type == "cpu":
        return None
    a, source = torch.ones(_SIDE, _SIDE, device=DEVICE), torch.ones(_COPIED, device=DEVICE)
    target = torch.empty_like(source)
    return (2e-9 * _SIDE**3 / _fastest(lambda: a @ a),
            2e-9 * source.nbytes / _fastest(lambda: target.copy_(source)))


def library(compiled: bool = False) -> Library:
    """PyTorch; compiled: what `torch.compile` makes of everything but the loop that is written without it."""
    torch.set_num_threads(os.cpu_count() or 1)
    wrap: Wrap = torch.compile if compiled else lambda function: function
    functions = _FUNCTIONS | {"captured_add" if compiled else "eager_add": lambda a, b: a + b}

    def make(workload: Workload) -> Call | None:
        if compiled:
            torch.compiler.reset()  # or it makes one matmul for the sizes of all rows
        form, inputs = workload.form, workload.arrays()
        if form == "lenet" or (form == "lenet_eager" and not compiled):
            return _lenet(inputs, wrap)
        if form == "mlp":
            return _mlp(inputs, wrap)
        if form == "xor" and not compiled:
            return _xor(inputs, workload.steps)
        if form in programs.PROGRAMS:
            return wrap(programs.make("torch", form))  # type: ignore[no-any-return]
        if form == "matmul_tf32":
            return _function(_tf32, inputs, torch.float32)
        if form == "replay":
            return _function(wrap(_chained), inputs, torch.float32) if compiled else _replay(inputs)
        dtype = getattr(torch, workload.dtype)
        return _function(wrap(functions[form]), inputs, dtype) if form in functions else None

    version = str(torch.__version__) if DEVICE.type == "cpu" else f"{torch.__version__} on {DEVICE}"
    return Library(version, make, needs="a C++ compiler" if compiled else "", limits=_limits)
