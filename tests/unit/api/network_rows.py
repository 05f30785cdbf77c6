"""Rows of what networks are made of: convolutions, pooling, norms, losses."""

from __future__ import annotations

import numpy as np
from scipy import special

from pluggrad import Tensor
from pluggrad.errors import PluggradError, ShapeError
from tests.convolution_reference import convolved, spread
from tests.unit.api.rows import Make, Row, exactly, integers, probabilities, uniform


def convolution(name, rank):
    """Padding 1, stride 2."""
    inputs = (uniform(1, 2, *(4,) * rank), uniform(3, 2, *(2,) * rank))

    def reference(x, w):
        return convolved(x, w, strides=(2,) * rank, dilations=(1,) * rank, pads=((1, 1),) * rank)

    return Row(
        name,
        reference,
        inputs,
        lambda x, w: getattr(x, name)(w, stride=2, padding=1),
        order=1,
        error=lambda x, w: getattr(x, name)(w[:, :1]),
        raises=ShapeError,
    )


def transposed(name, rank):
    inputs = (uniform(1, 2, *(3,) * rank), uniform(2, 3, *(2,) * rank))

    def reference(x, w):
        return spread(x, w, 1, (2,) * rank, (1,) * rank, ((0, 0),) * rank, (0,) * rank)

    return Row(
        name,
        reference,
        inputs,
        lambda x, w: getattr(x, name)(w, stride=2),
        order=1,
        error=lambda x, w: getattr(x, name)(w[:1]),
        raises=ShapeError,
    )


def blocks(x, rank):
    """Windows of 2 without overlap, on the last axes."""
    split = x.reshape(*x.shape[:-rank], *[part for size in x.shape[-rank:] for part in (size // 2, 2)])
    return split, tuple(range(split.ndim - 2 * rank + 1, split.ndim, 2))


def pooled(name, rank, reduce):
    def reference(x):
        split, axes = blocks(x, rank)
        return reduce(split, axis=axes)

    def call(x):
        arguments = {"output_size": 2} if "adaptive" in name else {"kernel_size": 2}
        return getattr(x, name)(**arguments)

    wrong = "output_size" if "adaptive" in name else "kernel_size"
    return Row(
        name,
        reference,
        (uniform(1, 2, *(4,) * rank),),
        call,
        order=1,
        error=lambda x: getattr(x, name)(**{wrong: -1}),
        raises=PluggradError,
    )


def loss(name, reference, target: Make | None = None, values: Make | None = None, **fields):
    """Of shape (4, 3), a mean."""
    fields = {"error": lambda x, y, *_: getattr(x, name)(y[:1]), "raises": ShapeError} | fields
    return Row(name, reference, (values or uniform(4, 3), target or uniform(4, 3)), **fields)


def standardized(x, axes, eps=1e-5):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def attention(q, k, v):
    return special.softmax(q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), -1) @ v


def unpooled(x):
    y = np.zeros((1, 1, 4, 4))
    y[0, 0, ::2, ::2] = x[0, 0]
    return y


def picked(x, y):
    return np.take_along_axis(x, y[:, None], 1)[:, 0]


def cosine(a, b, y):
    cos = (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    return np.where(y == 1, 1 - cos, np.maximum(cos, 0)).mean()


LABELS = integers(4, high=3)
AT = exactly(np.array([[[[0, 2], [8, 10]]]], np.int32))
SIGNS = exactly(np.array([1, -1, 1, -1], np.int32))

ROWS = [
    Row(
        "linear",
        lambda x, w, b: x @ w + b,
        (uniform(2, 3), uniform(3, 4), uniform(4)),
        error=lambda x, w, b: x.linear(w[:2], b),
        raises=ShapeError,
    ),
    *[convolution(f"conv{rank}d", rank) for rank in (1, 2, 3)],
    *[transposed(f"conv_transpose{rank}d", rank) for rank in (1, 2, 3)],
    *[pooled(f"{kind}avg_pool{rank}d", rank, np.mean) for rank in (1, 2, 3) for kind in ("", "adaptive_")],
    *[pooled(f"{kind}max_pool{rank}d", rank, np.max) for rank in (1, 2, 3) for kind in ("", "adaptive_")],
    Row(
        "max_unpool2d",
        lambda x, i: unpooled(x),
        (uniform(1, 1, 2, 2), AT),
        order=1,
        error=lambda x, i: x.max_unpool2d(i[..., :1]),
        raises=ShapeError,
    ),
    Row(
        "layernorm",
        lambda x: standardized(x, -1),
        (uniform(2, 5),),
        ints="float32",
        error=lambda x: x.layernorm(9),
        raises=IndexError,
    ),
    Row(
        "batchnorm",
        lambda x, w, b, m, i: (x - m[:, None]) * i[:, None] * w[:, None] + b[:, None],
        (uniform(2, 3, 4), uniform(3), uniform(3), uniform(3), uniform(3, low=0.5, high=2)),
        error=lambda x, w, b, m, i: x.batchnorm(w[:2], b, m, i),
        raises=ShapeError,
    ),
    Row(
        "sequential",
        lambda x: np.tanh(np.exp(x)),
        (uniform(3),),
        lambda x: x.sequential([Tensor.exp, Tensor.tanh]),
        error=lambda x: x.sequential([Tensor.exp, 3]),
        raises=TypeError,
        says="callable",
    ),
    Row(
        "scaled_dot_product_attention",
        attention,
        (uniform(2, 3, 4), uniform(2, 5, 4), uniform(2, 5, 2)),
        order=1,
        error=lambda q, k, v: q.scaled_dot_product_attention(k[..., :3], v),
        raises=ShapeError,
    ),
    loss("mse_loss", lambda x, y: ((x - y) ** 2).mean()),
    loss("l1_loss", lambda x, y: abs(x - y).mean()),
    loss("smooth_l1_loss", lambda x, y: np.where(abs(x - y) < 1, (x - y) ** 2 / 2, abs(x - y) - 0.5).mean()),
    loss(
        "huber_loss",
        lambda x, y: special.huber(0.5, x - y).mean(),
        call=lambda x, y: x.huber_loss(y, delta=0.5),
    ),
    loss(
        "binary_crossentropy",
        lambda x, y: -(special.xlogy(y, x) + special.xlog1py(1 - y, -x)).mean(),
        probabilities(4, 3),
        probabilities(4, 3),
    ),
    loss(
        "binary_crossentropy_logits",
        lambda x, y: -(y * special.log_expit(x) + (1 - y) * special.log_expit(-x)).mean(),
        probabilities(4, 3),
    ),
    loss("cross_entropy", lambda x, y: -picked(special.log_softmax(x, 1), y).mean(), LABELS),
    loss(
        "sparse_categorical_crossentropy", lambda x, y: -picked(special.log_softmax(x, 1), y).mean(), LABELS
    ),
    loss("nll_loss", lambda x, y: -picked(x, y).mean(), LABELS),
    loss("kl_div", lambda x, y: (special.xlogy(y, y) - y * x).mean(), probabilities(4, 3)),
    Row(
        "cosine_embedding_loss",
        cosine,
        (uniform(4, 3), uniform(4, 3), SIGNS),
        error=lambda x, y, s: x.cosine_embedding_loss(y, s[:1]),
        raises=ShapeError,
    ),
]
