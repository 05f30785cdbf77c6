"""Attention's gradients from scores that are computed again: beside NumPy and what keeps them."""
from __future__ import annotations

import math

import numpy as np
import pytest

from pluggrad import Tensor, jit, memory_stats, reset_peak_memory_stats, vmap
from pluggrad.graph import products

RNG = np.random.default_rng(13)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


@pytest.fixture
def again(monkeypatch):
    """Few scores count as many."""
    monkeypatch.setattr(products, "MANY", 1)


def gradients(q, k, v, g, changed=lambda s: s):
    """Of sum(attention * g) by the inputs and the scores, in float64, by the definition."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    s = changed(q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1]))
    largest = s.max(-1, keepdims=True)
    p = np.exp(s - np.where(np.isneginf(largest), 0, largest))
    total = p.sum(-1, keepdims=True)
    p /= np.where(total == 0, 1, total)
    dp = g @ v.swapaxes(-1, -2)
    ds = p * (dp - (dp * p).sum(-1, keepdims=True))
    factor = 1 / math.sqrt(q.shape[-1])
    return ds @ k * factor, ds.swapaxes(-1, -2) @ q * factor, p.swapaxes(-1, -2) @ g, ds


def close(found, wanted):
    for have, want in zip(found, wanted, strict=True):
        np.testing.assert_allclose(have.numpy(), want, rtol=2e-4, atol=2e-5)


Q, K, V, G = normal(2, 190, 40), normal(2, 201, 40), normal(2, 201, 67), normal(2, 190, 67)
MASK = RNG.random((190, 201)) < 0.3
MASK[7] = False  # sees nothing
MASK[:, 11] = False  # seen by nobody
BIAS = np.where(MASK, 0.5, -3).astype(np.float32)
CASES = {
    "plain": ({}, lambda s: s),
    "causal": ({"is_causal": True}, lambda s: np.where(np.tri(190, 201, dtype=bool), s, -np.inf)),
    "bool mask": ({"attn_mask": MASK}, lambda s: np.where(MASK, s, -np.inf)),
    "float mask": ({"attn_mask": BIAS}, lambda s: s + BIAS),
}


@pytest.mark.usefixtures("again", "device")
@pytest.mark.parametrize("name", CASES)
def test_odd_sizes_and_masks(name):
    given, changed = CASES[name]
    x = [Tensor(a, requires_grad=True) for a in (Q, K, V)]
    named = {key: Tensor(a) if isinstance(a, np.ndarray) else a for key, a in given.items()}
    out = x[0].scaled_dot_product_attention(*x[1:], **named)
    close((out * Tensor(G)).sum().gradient(*x), gradients(Q, K, V, G, changed)[:3])


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("many", [1, products.MANY])
@pytest.mark.parametrize(("dtype", "spacing"), [("float16", 2.0**-10), ("bfloat16", 2.0**-7)])
def test_halves_lose_no_more_than_their_spacing(monkeypatch, dtype, spacing, many):
    monkeypatch.setattr(products, "MANY", many)
    x = [Tensor(a).cast(dtype).detach().requires_grad_(True) for a in (Q, K, V)]
    out = x[0].scaled_dot_product_attention(*x[1:], is_causal=True)
    found = (out.float() * Tensor(G).cast(dtype).float()).sum().gradient(*x)
    exact = [a.float().numpy() for a in (*x, Tensor(G).cast(dtype))]
    for have, want in zip(found, gradients(*exact, CASES["causal"][1])[:3], strict=True):
        np.testing.assert_allclose(have.float().numpy(), want, rtol=0, atol=2 * spacing * np.abs(want).max())


@pytest.mark.usefixtures("again", "device")
def test_grouped_heads_and_a_mask_that_learns():
    q, g, bias = normal(4, 100, 32), normal(4, 100, 32), normal(120)
    k, v = normal(2, 120, 32), normal(2, 120, 32)
    x = [Tensor(a, requires_grad=True) for a in (q, k, v, bias)]
    out = x[0].scaled_dot_product_attention(*x[1:], enable_gqa=True)
    dq, dk, dv, ds = gradients(q, k.repeat(2, 0), v.repeat(2, 0), g, lambda s: s + bias)
    found = (out * Tensor(g)).sum().gradient(*x)
    close(found, (dq, *[d.reshape(2, 2, 120, 32).sum(1) for d in (dk, dv)], ds.sum((0, 1))))


@pytest.mark.usefixtures("device")
def test_both_orders_and_batches_are_those_of_the_composition(monkeypatch):
    q, k, v = [normal(2, 70, 16) for _ in range(3)]

    def derivatives():
        x = [Tensor(a, requires_grad=True) for a in (q, k, v)]
        first = x[0].scaled_dot_product_attention(*x[1:], is_causal=True).square().sum().gradient(*x)
        second = sum([d.square().sum() for d in first], Tensor(0.0)).gradient(*x)

        def each(a):
            return a.scaled_dot_product_attention(a, a).square().sum().gradient(a)[0]
        return [d.numpy() for d in (*first, *second, vmap(each)(Tensor(q, requires_grad=True)))]

    kept = derivatives()
    monkeypatch.setattr(products, "MANY", 1)
    for have, want in zip(derivatives(), kept, strict=True):
        np.testing.assert_allclose(have, want, rtol=2e-3, atol=2e-3)


@pytest.mark.device("cpu")
def test_a_training_step_keeps_no_scores():
    q, k, v = [Tensor(normal(1, 2100, 16)).realize() for _ in range(3)]

    @jit
    def step(q, k, v):
        x = [a.detach().requires_grad_(True) for a in (q, k, v)]
        return x[0].scaled_dot_product_attention(*x[1:]).square().sum().gradient(*x)

    for _ in range(3):
        reset_peak_memory_stats("cpu")
        before = memory_stats()["cpu"]["used"]
        found = step(q, k, v)
        found[0].numpy()
        assert memory_stats()["cpu"]["peak"] - before < 3 << 20, "the scores alone are 18 MB"
    arrays = [a.numpy().astype(np.float64) for a in (q, k, v)]
    p = np.exp(arrays[0] @ arrays[1].swapaxes(-1, -2) / 4)
    out = p / p.sum(-1, keepdims=True) @ arrays[2]
    close(found, gradients(*arrays, 2 * out)[:3])
