"""Recurrent and attention layers by their formulas in float64, and gradient clipping."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pluggrad import Tensor, jit, nn
from pluggrad.errors import ShapeError, ValueRangeError
from pluggrad.nn import state


@pytest.fixture(autouse=True)
def seeded(device):
    Tensor.manual_seed(0)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def weights(layer) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().astype(np.float64) for name, tensor in state.get_state_dict(layer).items()}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# ---- recurrent -----------------------------------------------------------------------------------


def lstm(x, w, suffix, h, c):
    gates = x @ w["weight_ih" + suffix].T + w["bias_ih" + suffix]
    gates = gates + h @ w["weight_hh" + suffix].T + w["bias_hh" + suffix]
    i, f, g, o = np.split(gates, 4, -1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def test_an_lstm_cell():
    cell, x, zero = nn.LSTMCell(3, 4), normal(2, 3), np.zeros((2, 4))
    h, c = cell(Tensor(x))
    expected = lstm(x, weights(cell), "", zero, zero)
    np.testing.assert_allclose(h.numpy(), expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(c.numpy(), expected[1], rtol=1e-5, atol=1e-6)
    h, _ = cell(Tensor(x), (h, c))
    np.testing.assert_allclose(h.numpy(), lstm(x, weights(cell), "", *expected)[0], rtol=1e-5, atol=1e-6)


def test_an_lstm_is_its_cells_along_the_steps():
    layer, x = nn.LSTM(3, 4), normal(5, 2, 3)
    output, (h, c) = layer(Tensor(x))
    state_now, rows = (np.zeros((2, 4)), np.zeros((2, 4))), []
    for step in x:
        state_now = lstm(step, weights(layer), "_l0", *state_now)
        rows.append(state_now[0])
    np.testing.assert_allclose(output.numpy(), rows, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(h.numpy(), [state_now[0]], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(c.numpy(), [state_now[1]], rtol=1e-5, atol=1e-6)


def test_a_gru_cell():
    cell, x, h = nn.GRUCell(3, 4), normal(2, 3), normal(2, 4)
    w = weights(cell)
    r, z, n = np.split(x @ w["weight_ih"].T + w["bias_ih"], 3, -1)
    r_h, z_h, n_h = np.split(h @ w["weight_hh"].T + w["bias_hh"], 3, -1)
    keep, new = sigmoid(z + z_h), np.tanh(n + sigmoid(r + r_h) * n_h)
    expected = (1 - keep) * new + keep * h
    np.testing.assert_allclose(cell(Tensor(x), Tensor(h)).numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_layers_and_directions(kind):
    layer = getattr(nn, kind)(3, 4, num_layers=2, bidirectional=True, batch_first=True, dropout=0.5)
    names = [f"{part}_l{n}{end}" for n in (0, 1) for end in ("", "_reverse")
             for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    assert list(layer.state_dict()) == names
    assert all(np.abs(tensor.numpy()).max() <= 0.5 for tensor in layer.parameters())
    output, last = layer(Tensor(normal(2, 3, 3)))
    h = last[0] if kind == "LSTM" else last
    assert (output.shape, h.shape) == ((2, 3, 8), (4, 2, 4))
    np.testing.assert_allclose(output[:, -1, :4].numpy(), h[2].numpy(), rtol=1e-6)
    np.testing.assert_allclose(output[:, 0, 4:].numpy(), h[3].numpy(), rtol=1e-6)
    assert repr(layer) == (
        f"{kind}(3, 4, num_layers=2, bias=True, batch_first=True, dropout=0.5, bidirectional=True)"
    )


def test_a_captured_sequence_learns():
    layer, head = nn.GRU(1, 8), nn.Linear(8, 1)
    optimizer = nn.optim.Adam([layer, head], lr=0.05)
    x = Tensor(normal(6, 16, 1))
    target = x.sum(0).detach().realize()

    @jit
    def step(x, y):
        optimizer.zero_grad()
        loss = (head(layer(x)[0][-1]) - y).square().mean()
        loss.backward()
        nn.clip_grad_norm_(optimizer.params, 1.0)
        optimizer.step()
        return loss

    losses = [step(x, target).item() for _ in range(40)]
    assert losses[-1] < losses[0] / 5


# ---- attention -----------------------------------------------------------------------------------


def attention(w, x, heads, mask):
    """Self-attention of one example, in float64."""
    q, k, v = np.split(x @ w["in_proj_weight"].T + w["in_proj_bias"], 3, -1)
    width = x.shape[-1] // heads
    outputs, shares = [], []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = q[:, part] @ k[:, part].T / math.sqrt(width) + mask
        share = np.exp(scores - scores.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        shares.append(share)
        outputs.append(share @ v[:, part])
    return np.concatenate(outputs, -1) @ w["out_proj.weight"].T + w["out_proj.bias"], np.mean(shares, 0)


def test_multihead_attention():
    layer, x = nn.MultiheadAttention(6, 2, batch_first=True), normal(2, 4, 6)
    hidden = np.triu(np.ones((4, 4), bool), 1)
    found, shares = layer(*[Tensor(x)] * 3, attn_mask=Tensor(hidden))
    causal, _ = layer(*[Tensor(x)] * 3, need_weights=False, is_causal=True)
    for index in range(2):
        expected = attention(weights(layer), x[index], 2, np.where(hidden, -np.inf, 0))
        np.testing.assert_allclose(found[index].numpy(), expected[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(shares[index].numpy(), expected[1], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(causal.numpy(), found.numpy(), rtol=1e-5, atol=1e-6)
    assert list(layer.state_dict()) == ["in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"]


def test_an_encoder_learns_with_dropout(monkeypatch):
    monkeypatch.setattr(Tensor, "training", True)
    block = nn.TransformerEncoderLayer(8, 2, 16, 0.1, "gelu", norm_first=True)
    layer = nn.TransformerEncoder(block, 2, nn.LayerNorm(8))
    assert layer.layers[0] is not layer.layers[1]
    x = Tensor(normal(5, 2, 8))
    optimizer = nn.optim.AdamW(layer, lr=0.01)

    @jit
    def step(x):
        optimizer.zero_grad()
        loss = (layer(x, is_causal=True) - x).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    losses = [step(x).item() for _ in range(20)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.MultiheadAttention(6, 4), "heads that divide embed_dim 6, got 4"),
        (lambda: nn.MultiheadAttention(4, 2)(*[Tensor.ones(1, 1, 1, 4)] * 3), "3 axes each"),
        (lambda: nn.TransformerEncoderLayer(4, 2, activation="x"), "an activation among relu, gelu"),
        (lambda: nn.LSTM(3, 4, 0), "LSTM: expected at least 1 layer"),
        (lambda: nn.GRU(3, 4, dropout=2.0), "a dropout from 0 to 1"),
        (lambda: nn.LSTM(3, 4)(Tensor.ones(5, 2, 2)), "a last axis of 3"),
        (lambda: nn.LSTM(3, 4)(Tensor.ones(3)), "batch, features"),
        (lambda: nn.GRU(3, 4)(Tensor.ones(5, 2, 3), Tensor.ones(2, 2, 4)), r"of shape \(1, 2, 4\), got \(2"),
        (lambda: nn.LSTMCell(3, 4)(Tensor.ones(2, 4)), "LSTMCell: expected a last axis of 3"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises((ShapeError, ValueRangeError), match=message):
        make()


# ---- clipping ------------------------------------------------------------------------------------


def with_gradients(*arrays):
    tensors = [Tensor(np.zeros_like(array)) for array in arrays]
    for tensor, array in zip(tensors, arrays, strict=True):
        tensor.grad = Tensor(array)
    return tensors


def test_clipping_by_norm():
    tensors = [*with_gradients(np.float32([3, 0]), np.float32([[4]])), Tensor([1.0])]
    norm = nn.clip_grad_norm_(iter(tensors), 1.0)
    assert norm.item() == pytest.approx(5)
    np.testing.assert_allclose(tensors[0].grad.numpy(), [0.6, 0], rtol=1e-5)
    np.testing.assert_allclose(tensors[1].grad.numpy(), [[0.8]], rtol=1e-5)
    assert nn.clip_grad_norm_(tensors, 10.0).item() == pytest.approx(1)
    np.testing.assert_allclose(tensors[0].grad.numpy(), [0.6, 0], rtol=1e-5)  # short enough
    assert nn.clip_grad_norm_(tensors, 0.4, math.inf).item() == pytest.approx(0.8)
    np.testing.assert_allclose(tensors[1].grad.numpy(), [[0.4]], rtol=1e-5)
    assert nn.clip_grad_norm_([Tensor([1.0])], 1.0).item() == 0


def test_clipping_halves():
    (x,) = with_gradients(np.float16([300, 400]))  # whose squares are no halves
    assert nn.clip_grad_norm_(x, 5.0).item() == pytest.approx(500)
    assert x.grad.dtype.name == "float16"
    np.testing.assert_allclose(x.grad.numpy(), [3, 4], rtol=1e-3)


def test_clipping_what_is_not_finite():
    tensors = with_gradients(np.float32([np.inf, 1]))
    with pytest.raises(ValueRangeError, match="a finite norm, got inf"):
        nn.clip_grad_norm_(tensors, 1.0, error_if_nonfinite=True)
    np.testing.assert_array_equal(tensors[0].grad.numpy(), [np.inf, 1])
    assert math.isinf(nn.clip_grad_norm_(tensors, 1.0).item())
    with pytest.raises(ValueRangeError, match="a norm_type above 0"):
        nn.clip_grad_norm_(tensors, 1.0, 0)


def test_clipping_by_value():
    (x,) = with_gradients(np.float32([-3, 0.5, 7]))
    nn.clip_grad_value_([x, Tensor([1.0])], 2.0)
    np.testing.assert_array_equal(x.grad.numpy(), [-2, 0.5, 2])
    with pytest.raises(ValueRangeError, match="a clip_value of at least 0"):
        nn.clip_grad_value_([x], -1.0)
