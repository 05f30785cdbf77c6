"""The computations of the rows of `workloads.py`, written as users would write them."""
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

from pluggrad import nn
from pluggrad.jit import jit
from pluggrad.nn import Linear, optim
from pluggrad.runtime.devices import Device
from pluggrad.tensor import Tensor
from pluggrad.testing.workloads import ADAM, CHAIN, CLASSES, GPT_HEADS, LEADING, MLP_LAYERS, Workload

Call: TypeAlias = Callable[[], object]


# ---- captured functions --------------------------------------------------------------------------
def _gpt(h: Tensor, *weights: Tensor) -> Tensor:
    batch, tokens, width = h.shape
    for qkv, out, up, down in zip(*[iter(weights)] * 4, strict=True):
        q, k, v = [part.reshape(batch, tokens, GPT_HEADS, -1).transpose(1, 2)
                   for part in (h.layernorm() @ qkv).split(width, -1)]
        attended = q.scaled_dot_product_attention(k, v, is_causal=True)
        h = h + attended.transpose(1, 2).reshape(batch, tokens, width) @ out
        h = h + (h.layernorm() @ up).gelu() @ down
    return h


def _attention_train(*tensors: Tensor, is_causal: bool = False) -> tuple[Tensor, ...]:
    q, k, v, g = tensors
    attended = q.scaled_dot_product_attention(k, v, is_causal=is_causal)
    return attended, *attended.gradient(q, k, v, gradient=g)


def _busy(a: Tensor) -> Tensor:
    for _ in range(CHAIN):
        a = a.sin() * a
    return a


def _embedding(table: Tensor, places: Tensor) -> Tensor:
    rows = places.embedding(table)
    return (rows * rows).sum().gradient(table)[0]


def _conv(a: Tensor, w: Tensor, stride: int = 1) -> Tensor:
    return a.conv2d(w, stride=stride, padding=w.shape[2] // 2, groups=a.shape[1] // w.shape[1])


def _mlp_forward(h: Tensor, *weights: Tensor) -> Tensor:
    *hidden, last = zip(weights[::2], weights[1::2], strict=True)
    for weight, bias in hidden:
        h = (h @ weight + bias).relu()
    return h @ last[0] + last[1]


_FUNCTIONS: Final[dict[str, Callable[..., Tensor | tuple[Tensor, ...]]]] = {
    "matmul": lambda a, b: a @ b,
    "matmul_tn": lambda a, b: a.T @ b,
    "matmul_nt": lambda a, b: a @ b.T,
    "matmul_strided": lambda a, b: a[:, ::2] @ b,
    "conv": _conv,
    "conv_s2": partial(_conv, stride=2),
    "mlp_forward": _mlp_forward,
    "attention": lambda q, k, v: q.scaled_dot_product_attention(k, v),
    "attention_causal": lambda q, k, v: q.scaled_dot_product_attention(k, v, is_causal=True),
    "attention_train": _attention_train,
    "attention_train_causal": partial(_attention_train, is_causal=True),
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
    "busy": _busy,
    "sort": lambda a: a.sort()[0],
    "argsort": lambda a: a.argsort(),
    "topk": lambda a: a.topk(LEADING)[0],
    "cumsum": lambda a: a.cumsum(0),
    "cumsum_rows": lambda a: a.cumsum(1),
    "gather": lambda a, i: a.gather(0, i),
    "scatter_add": lambda a, i: Tensor.zeros(*a.shape).scatter_add(0, i, a),
    "embedding": _embedding,
    "one_hot": lambda i: i.one_hot(CLASSES),
}


def _captured(form: str, tensors: list[Tensor]) -> Call:
    function, device = jit(_FUNCTIONS[form]), Device[Device.DEFAULT]

    def run() -> object:
        result = function(*tensors)
        device.synchronize()
        return result

    return run


# ---- loops and steps -----------------------------------------------------------------------------
def _lenet(tensors: list[Tensor], _: int, wrap: Callable[..., Any] = jit) -> Call:
    images, labels, *weights = tensors
    w1, b1, w2, b2, w3, b3, w4, b4 = weights
    optimizer = optim.Adam(weights, **ADAM)

    @wrap
    def step(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        h = x.conv2d(w1, b1).relu().max_pool2d(2)
        h = h.conv2d(w2, b2).relu().max_pool2d(2)
        loss: Tensor = ((h.flatten(1) @ w3 + b3).relu() @ w4 + b4).cross_entropy(y)
        loss.backward()
        optimizer.step()
        return loss

    return lambda: step(images, labels).item()


def _lenet_eager(tensors: list[Tensor], _: int) -> Call:
    return _lenet(tensors, _, wrap=lambda step: step)


def _mlp(tensors: list[Tensor], _: int) -> Call:
    images, labels = tensors
    first, second, third, last = MLP_LAYERS
    model = nn.Sequential(Linear(first, second), Tensor.relu, Linear(second, third), Tensor.relu,
                          Linear(third, last))
    optimizer = optim.Adam([model], **ADAM)

    @jit
    def step(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = model(x).cross_entropy(y)
        loss.backward()
        optimizer.step()
        return loss

    return lambda: step(images, labels).item()


def _xor(tensors: list[Tensor], steps: int) -> Call:
    x, y = tensors
    model = Linear(2, 1)
    opt = optim.Adam([model], lr=0.1)

    def run() -> object:
        for _ in range(steps):
            loss = ((model(x).sigmoid() - y) ** 2).mean()
            loss.backward()
            opt.step()
            opt.zero_grad()
        return loss.item()

    return run


def _eager_add(tensors: list[Tensor], _: int) -> Call:
    a, b = tensors
    return lambda: (a + b).realize()


_STEPS: Final[dict[str, Callable[[list[Tensor], int], Call]]] = {
    "lenet": _lenet, "lenet_eager": _lenet_eager, "mlp": _mlp, "xor": _xor, "eager_add": _eager_add}


def make(workload: Workload) -> Call:
    """The timed call of a row on the default device, which returns its result; its inputs are there already.
    """
    tensors = [Tensor(array).cast(workload.dtype if array.dtype.kind == "f" else array.dtype.name).realize()
               for array in workload.arrays()]
    step = _STEPS.get(workload.form)
    return _captured(workload.form, tensors) if step is None else step(tensors, workload.steps)
