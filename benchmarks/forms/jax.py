"""The forms in JAX under jit, on the CPU."""
from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import partial
from itertools import chain, pairwise
from typing import Any, Final

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.forms import Call, Library
from benchmarks.workloads import ADAM, CLASSES, GPT_HEADS, LEADING, MLP_LAYERS, Inputs, Workload


# ---- functions -----------------------------------------------------------------------------------
def _layernorm(h: Any) -> Any:
    centered = h - h.mean(-1, keepdims=True)
    return centered * lax.rsqrt((centered * centered).mean(-1, keepdims=True) + 1e-5)


def _attention(q: Any, k: Any, v: Any, mask: Any = None) -> Any:
    scores = q @ k.swapaxes(-2, -1) / math.sqrt(q.shape[-1])
    return jax.nn.softmax(scores if mask is None else jnp.where(mask, scores, -jnp.inf)) @ v


def _causal_attention(q: Any, k: Any, v: Any) -> Any:
    return _attention(q, k, v, jnp.tril(jnp.ones((q.shape[-2], k.shape[-2]), bool)))


def _attention_train(q: Any, k: Any, v: Any, g: Any, forward: Callable[..., Any] = _attention) -> Any:
    attended, gradients_of = jax.vjp(forward, q, k, v)
    return attended, *gradients_of(g)


def _gpt(h: Any, *weights: Any) -> Any:
    batch, tokens, width = h.shape
    for qkv, out, up, down in zip(*[iter(weights)] * 4, strict=True):
        q, k, v = [part.reshape(batch, tokens, GPT_HEADS, -1).transpose(0, 2, 1, 3)
                   for part in jnp.split(_layernorm(h) @ qkv, 3, -1)]
        h = h + _causal_attention(q, k, v).transpose(0, 2, 1, 3).reshape(batch, tokens, width) @ out
        h = h + jax.nn.gelu(_layernorm(h) @ up) @ down
    return h


def _conv(a: Any, w: Any, stride: int = 1) -> Any:
    around = [(size // 2, size // 2) for size in w.shape[2:]]
    groups = a.shape[1] // w.shape[1]
    return lax.conv_general_dilated(a, w, (stride, stride), around, feature_group_count=groups)


def _mlp_forward(h: Any, *weights: Any) -> Any:
    *hidden, last = zip(weights[::2], weights[1::2], strict=True)
    for weight, bias in hidden:
        h = jax.nn.relu(h @ weight + bias)
    return h @ last[0] + last[1]


def _squares(table: Any, places: Any) -> Any:
    return (table[places] ** 2).sum()


_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "matmul": lambda a, b: a @ b,
    "matmul_tn": lambda a, b: a.T @ b,
    "matmul_nt": lambda a, b: a @ b.T,
    "matmul_strided": lambda a, b: a[:, ::2] @ b,
    "conv": _conv,
    "conv_s2": partial(_conv, stride=2),
    "mlp_forward": _mlp_forward,
    "attention": _attention,
    "attention_causal": _causal_attention,
    "attention_train": _attention_train,
    "attention_train_causal": partial(_attention_train, forward=_causal_attention),
    "gpt": _gpt,
    "fuse": lambda a, b, c: jax.nn.relu(a * b + c) * 0.5,
    "sum": lambda a: a.sum(),
    "sum_axis0": lambda a: a.sum(0),
    "sum_axis1": lambda a: a.sum(1),
    "add_transposed": lambda a, b: a + b.T,
    "bias_gelu": lambda a, bias: jax.nn.gelu(a + bias),
    "softmax": lambda a: jax.nn.softmax(a, axis=1),
    "lnorm": _layernorm,
    "transpose": lambda a: a.T + 0,  # an operation, so that the result is stored
    "captured_add": lambda a, b: a + b,
    "sort": jnp.sort,
    "argsort": jnp.argsort,
    "topk": lambda a: lax.top_k(a, LEADING)[0],
    "cumsum": lambda a: jnp.cumsum(a, 0),
    "cumsum_rows": lambda a: jnp.cumsum(a, 1),
    "gather": lambda a, i: a[i],
    "scatter_add": lambda a, i: jnp.zeros_like(a).at[i].add(a),
    "embedding": jax.grad(_squares),
    "one_hot": lambda i: jax.nn.one_hot(i, CLASSES, dtype=jnp.int32),
}


# ---- steps ---------------------------------------------------------------------------------------
def _mean_cross_entropy(logits: Any, labels: Any) -> Any:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()


def _lenet_loss(images: Any, labels: Any, weights: Any) -> Any:
    w1, b1, w2, b2, w3, b3, w4, b4 = weights

    def layer(h: Any, w: Any, b: Any) -> Any:
        h = jax.nn.relu(lax.conv_general_dilated(h, w, (1, 1), "VALID") + b[None, :, None, None])
        return lax.reduce_window(h, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")

    h = layer(layer(images, w1, b1), w2, b2).reshape(len(images), -1)
    return _mean_cross_entropy(jax.nn.relu(h @ w3 + b3) @ w4 + b4, labels)


def _mlp_loss(images: Any, labels: Any, weights: Any) -> Any:
    return _mean_cross_entropy(_mlp_forward(images, *chain.from_iterable(weights)), labels)


def _trained(loss_of: Callable[[Any], Any], weights: Any) -> Call:
    """Adam's step as a captured function."""
    def adam(p: Any, m: Any, v: Any, t: Any) -> Any:
        step = (m / (1 - ADAM["b1"]**t)) / (jnp.sqrt(v / (1 - ADAM["b2"]**t)) + ADAM["eps"])
        return p - ADAM["lr"] * step

    @jax.jit  # type: ignore[untyped-decorator]
    def step(weights: Any, first: Any, second: Any, t: Any) -> Any:
        each = jax.tree.map
        loss, gradient = jax.value_and_grad(loss_of)(weights)
        first = each(lambda m, g: ADAM["b1"] * m + (1 - ADAM["b1"]) * g, first, gradient)
        second = each(lambda v, g: ADAM["b2"] * v + (1 - ADAM["b2"]) * g * g, second, gradient)
        weights = each(lambda p, m, v: adam(p, m, v, t + 1), weights, first, second)
        return weights, first, second, t + 1, loss

    zeros = jax.tree.map(jnp.zeros_like, weights)
    state: list[Any] = [weights, zeros, zeros, jnp.float32(0)]

    def run() -> float:
        *state[:], loss = step(*state)
        return float(loss)

    return run


def _lenet(inputs: Inputs) -> Call:
    images, labels, *weights = map(jnp.asarray, inputs)
    return _trained(partial(_lenet_loss, images, labels), weights)


def _mlp(inputs: Inputs) -> Call:
    images, labels = map(jnp.asarray, inputs)
    rng = np.random.default_rng(0)
    weights = [(jnp.asarray(rng.uniform(-1, 1, (m, n)).astype(np.float32) / math.sqrt(m)), jnp.zeros(n))
               for m, n in pairwise(MLP_LAYERS)]
    return _trained(partial(_mlp_loss, images, labels), weights)


def _eager_add(inputs: Inputs) -> Call:
    a, b = map(jnp.asarray, inputs)
    return lambda: jax.block_until_ready(a + b)


_STEPS: Final[dict[str, Callable[[Inputs], Call]]] = {"lenet": _lenet, "mlp": _mlp, "eager_add": _eager_add}


def _make(workload: Workload) -> Call | None:
    form, inputs = workload.form, workload.arrays()
    if form in _STEPS:
        return _STEPS[form](inputs)
    if form not in _FUNCTIONS:
        return None
    arrays = [jnp.asarray(array, workload.dtype if array.dtype.kind == "f" else None) for array in inputs]
    function = jax.jit(_FUNCTIONS[form])
    return lambda: jax.block_until_ready(function(*arrays))


def library() -> Library:
    """JAX."""
    return Library(str(jax.__version__), _make)
