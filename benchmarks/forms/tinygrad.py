"""The forms in tinygrad under TinyJit, on the CPU (it calls clang for that)."""
from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from typing import Any, Final

os.environ.setdefault("DEV", "CPU")
os.environ.setdefault("TRAINING", "1")  # its optimizers refuse to step otherwise

import numpy as np
from tinygrad import Device, Tensor, TinyJit, nn

from benchmarks.forms import Call, Library
from benchmarks.workloads import ADAM, GPT_HEADS, MLP_LAYERS, Inputs, Workload


# ---- functions -----------------------------------------------------------------------------------
def _gpt(h: Any, *weights: Any) -> Any:
    batch, tokens, width = h.shape
    for qkv, out, up, down in zip(*[iter(weights)] * 4, strict=True):
        q, k, v = [part.reshape(batch, tokens, GPT_HEADS, -1).transpose(1, 2)
                   for part in (h.layernorm() @ qkv).split(width, -1)]
        attended = q.scaled_dot_product_attention(k, v, is_causal=True)
        h = h + attended.transpose(1, 2).reshape(batch, tokens, width) @ out
        h = h + (h.layernorm() @ up).gelu() @ down
    return h


def _conv(a: Any, w: Any, stride: int = 1) -> Any:
    return a.conv2d(w, stride=stride, padding=w.shape[2] // 2, groups=a.shape[1] // w.shape[1])


def _mlp_forward(h: Any, *weights: Any) -> Any:
    *hidden, last = zip(weights[::2], weights[1::2], strict=True)
    for weight, bias in hidden:
        h = (h @ weight + bias).relu()
    return h @ last[0] + last[1]


_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "matmul": lambda a, b: a @ b,
    "matmul_tn": lambda a, b: a.T @ b,
    "matmul_nt": lambda a, b: a @ b.T,
    "matmul_strided": lambda a, b: a[:, ::2] @ b,
    "conv": _conv,
    "conv_s2": partial(_conv, stride=2),
    "mlp_forward": _mlp_forward,
    "attention": lambda q, k, v: q.scaled_dot_product_attention(k, v),
    "attention_causal": lambda q, k, v: q.scaled_dot_product_attention(k, v, is_causal=True),
    "gpt": _gpt,
    "fuse": lambda a, b, c: (a * b + c).relu() * 0.5,
    "sum": lambda a: a.sum(),
    "sum_axis0": lambda a: a.sum(0),
    "sum_axis1": lambda a: a.sum(1),
    "add_transposed": lambda a, b: a + b.T,
    "bias_gelu": lambda a, bias: (a + bias).gelu(),
    "softmax": lambda a: a.softmax(1),
    "lnorm": lambda a: a.layernorm(),
    "transpose": lambda a: a.T.contiguous(),
    "captured_add": lambda a, b: a + b,
}


# ---- loops and steps -----------------------------------------------------------------------------
def _tensors(inputs: Inputs) -> list[Any]:
    return [Tensor(a.astype(np.int32) if a.dtype == np.int64 else a).realize() for a in inputs]


def _trained(logits_of: Callable[[], Any], labels: Any, optimizer: Any) -> Call:
    @TinyJit  # type: ignore[untyped-decorator]
    def step() -> Any:
        optimizer.zero_grad()
        loss = logits_of().sparse_categorical_crossentropy(labels).backward()
        return loss.realize(*optimizer.schedule_step())

    return lambda: step().item()


def _lenet(inputs: Inputs, _: int) -> Call:
    images, labels, *weights = _tensors(inputs)
    w1, b1, w2, b2, w3, b3, w4, b4 = weights

    def logits() -> Any:
        h = images.conv2d(w1, b1).relu().max_pool2d(2).conv2d(w2, b2).relu().max_pool2d(2)
        return (h.flatten(1) @ w3 + b3).relu() @ w4 + b4

    return _trained(logits, labels, nn.optim.Adam(weights, lr=ADAM["lr"]))


def _mlp(inputs: Inputs, _: int) -> Call:
    images, labels = _tensors(inputs)
    first, second, third = [nn.Linear(m, n) for m, n in pairwise(MLP_LAYERS)]
    optimizer = nn.optim.Adam(nn.state.get_parameters([first, second, third]), lr=ADAM["lr"])
    return _trained(lambda: third(second(first(images).relu()).relu()), labels, optimizer)


def _xor(inputs: Inputs, steps: int) -> Call:
    x, y = _tensors(inputs)
    model = nn.Linear(2, 1)
    opt = nn.optim.Adam([model.weight, model.bias], lr=0.1)

    def run() -> object:
        for _ in range(steps):
            loss = ((model(x).sigmoid() - y) ** 2).mean()
            loss.backward()
            opt.step()
            opt.zero_grad()
        return loss.item()

    return run


def _eager_add(inputs: Inputs, _: int) -> Call:
    a, b = _tensors(inputs)
    return lambda: (a + b).realize()


_STEPS: Final[dict[str, Callable[[Inputs, int], Call]]] = {
    "lenet": _lenet, "mlp": _mlp, "xor": _xor, "eager_add": _eager_add}


def _make(workload: Workload) -> Call | None:
    form, inputs = workload.form, workload.arrays()
    if form in _STEPS:
        return _STEPS[form](inputs, workload.steps)
    if form not in _FUNCTIONS or workload.dtype != "float32":
        return None
    tensors, function, device = _tensors(inputs), _FUNCTIONS[form], Device[Device.DEFAULT]
    captured: Any = TinyJit(lambda *arguments: function(*arguments).realize())

    def run() -> object:
        result = captured(*tensors)
        device.synchronize()
        return result

    return run


def library() -> Library:
    """tinygrad."""
    return Library(version("tinygrad"), _make, needs="clang")
