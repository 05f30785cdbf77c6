"""Layers with weights of PyTorch: outputs, states, and gradients of inputs and weights beside its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pluggrad import Tensor, nn
from pluggrad.nn import state
from tests.pytorch.compare import close, draw

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("device")]


def same(make: str, *args: Any, **options: Any) -> tuple[Any, Any]:
    """The layer in both libraries, with PyTorch's weights: its state dict loads as it is."""
    import torch

    torch.manual_seed(0)
    theirs = getattr(torch.nn, make)(*args, **options)
    ours = getattr(nn, make)(*args, **options)
    state.load_state_dict(ours, {name: Tensor(t.numpy()) for name, t in theirs.state_dict().items()})
    return ours, theirs


def flat(result: Any) -> list[Any]:
    """The tensors in a result, in order."""
    if isinstance(result, tuple):
        return [each for part in result for each in flat(part)]
    return [] if result is None else [result]


def check(ours: Any, theirs: Any, arrays: list[np.ndarray], call=lambda layer, *x: layer(*x)) -> None:
    """The same results, gradients of the inputs and gradients of all weights."""
    import torch

    x, t = [Tensor(a, requires_grad=True) for a in arrays], [torch.tensor(a).requires_grad_() for a in arrays]
    found, expected = flat(call(ours, *x)), flat(call(theirs, *t))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        close(one, other, "float32")
    sum(((one.sin() * Tensor(draw(*one.shape, seed=1))).sum() for one in found), Tensor(0.0)).backward()
    sum((other.sin() * torch.tensor(draw(*other.shape, seed=1))).sum() for other in expected).backward()
    for one, other in zip(x, t, strict=True):
        close(one.grad, other.grad, "float32", "gradient of an input")
    weights = state.get_state_dict(ours)
    for name, other in theirs.named_parameters():
        close(weights[name].grad, other.grad, "float32", name)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", ["LSTMCell", "GRUCell", "RNNCell"])
def test_cells(cell, bias):
    ours, theirs = same(cell, 3, 4, bias=bias)
    check(ours, theirs, [draw(2, 3)])

    def from_state(layer, x, h, c):
        return layer(x, (h, c) if cell == "LSTMCell" else h * c)

    check(*same(cell, 3, 4, bias=bias), [draw(2, 3), draw(2, 4), draw(2, 4, seed=5)], from_state)


OPTIONS = [
    {},
    {"num_layers": 2, "bias": False},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("layer", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers(layer, options):
    ours, theirs = same(layer, 3, 4, **options)
    check(ours, theirs, [draw(5, 2, 3)])
    count = options.get("num_layers", 1) * (1 + options.get("bidirectional", False))
    batch = 5 if options.get("batch_first") else 2
    start = [draw(count, batch, 4, seed=3), draw(count, batch, 4, seed=4)]

    def from_state(layer_, x, h, c):
        return layer_(x, (h, c) if layer == "LSTM" else h * c)

    check(*same(layer, 3, 4, **options), [draw(5, 2, 3), *start], from_state)


@pytest.mark.parametrize("layer", ["LSTM", "GRU"])
def test_recurrent_layers_without_a_batch(layer):
    check(*same(layer, 3, 4), [draw(5, 3)])


def attend(**options):
    return lambda layer, q, k, v: layer(q, k, v, **options)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("average", [False, True])
def test_attention(batch_first, average):
    ours, theirs = same("MultiheadAttention", 8, 2, batch_first=batch_first)
    shape = (3, 5, 8) if batch_first else (5, 3, 8)
    other = (3, 6, 8) if batch_first else (6, 3, 8)
    arrays = [draw(*shape), draw(*other, seed=1), draw(*other, seed=2)]
    check(ours, theirs, arrays, attend(average_attn_weights=average))


def test_attention_between_widths():
    arrays = [draw(5, 3, 8), draw(6, 3, 4), draw(6, 3, 7)]
    check(*same("MultiheadAttention", 8, 4, kdim=4, vdim=7, bias=False), arrays, attend(need_weights=False))


def test_attention_without_a_batch():
    check(*same("MultiheadAttention", 8, 2), [draw(5, 8), draw(6, 8), draw(6, 8, seed=1)], attend())


def masks(layer: Any, kind: str) -> dict[str, Any]:
    hidden = np.triu(np.ones((5, 5), bool), 1)
    padding = np.array([[False] * 5, [False] * 3 + [True] * 2])
    given: dict[str, Any] = {
        "causal": {"attn_mask": hidden},
        "padding": {"key_padding_mask": padding},
        "float": {"attn_mask": np.where(hidden, -np.inf, 0.25).astype(np.float32)},
        "each head": {"attn_mask": np.stack([hidden] * 4), "key_padding_mask": padding},
    }[kind]
    if isinstance(layer, nn.Module):
        return {name: Tensor(array) for name, array in given.items()}
    import torch

    return {name: torch.tensor(array) for name, array in given.items()}


@pytest.mark.parametrize("kind", ["causal", "padding", "float", "each head"])
def test_masks(kind):
    check(
        *same("MultiheadAttention", 8, 2),
        [draw(5, 2, 8), draw(5, 2, 8, seed=1), draw(5, 2, 8, seed=2)],
        lambda layer, q, k, v: layer(q, k, v, **masks(layer, kind)),
    )


@pytest.mark.parametrize(
    "options", [{}, {"activation": "gelu", "norm_first": True, "batch_first": True}, {"bias": False}], ids=str
)
def test_encoder_layer(options):
    ours, theirs = same("TransformerEncoderLayer", 8, 2, 16, dropout=0.0, **options)
    check(ours, theirs, [draw(4, 3, 8)])


def test_encoder_with_a_mask():
    import torch

    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    theirs = torch.nn.TransformerEncoder(layer, 2, torch.nn.LayerNorm(8), enable_nested_tensor=False)
    block = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
    ours = nn.TransformerEncoder(block, 2, nn.LayerNorm(8))
    state.load_state_dict(ours, {name: Tensor(t.numpy()) for name, t in theirs.state_dict().items()})

    def causal(model, x):
        if isinstance(model, nn.Module):
            return model(x, is_causal=True)
        return model(x, torch.nn.Transformer.generate_square_subsequent_mask(4), is_causal=True)

    check(ours, theirs, [draw(3, 4, 8)], causal)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
def test_convolutions(kind, rank):
    ours, theirs = same(f"{kind}{rank}d", 4, 6, 3, stride=2, padding=1, groups=2)
    check(ours, theirs, [draw(2, 4, *(6, 5, 4)[:rank])])


def test_embedding_with_padding():
    import torch

    ours, theirs = same("Embedding", 7, 3, padding_idx=2)
    index = np.array([[1, 2, 6], [2, 2, 0]])
    check(ours, theirs, [], lambda layer: layer(Tensor(index) if layer is ours else torch.tensor(index)))
