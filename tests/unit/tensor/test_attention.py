"""Attention and newton_schulz against their definitions in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pluggrad import Tensor, dtypes
from pluggrad.errors import DTypeError, ShapeError, ValueRangeError
from pluggrad.testing.gradcheck import gradcheck

RNG = np.random.default_rng(9)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


Q, K, V = normal(2, 4, 5, 8), normal(2, 4, 6, 8), normal(2, 4, 6, 3)
MASK = RNG.random((5, 6)) > 0.4
MASK[2] = False  # sees nothing


def attention(q, k, v, allowed=None, added=0.0, scale=None):
    scores = q @ k.swapaxes(-1, -2) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale) + added
    weights = np.exp(scores - scores.max(-1, keepdims=True)) * (1 if allowed is None else allowed)
    total = weights.sum(-1, keepdims=True)
    return weights / np.where(total == 0, 1, total) @ v


CASES = {
    "plain": ({}, attention(Q, K, V)),
    "scale": ({"scale": 0.5}, attention(Q, K, V, scale=0.5)),
    "causal": ({"is_causal": True}, attention(Q, K, V, np.tri(5, 6))),
    "bool mask": ({"attn_mask": MASK}, attention(Q, K, V, MASK)),
    "float mask": ({"attn_mask": normal(4, 1, 6) * 0 + 0.25 * np.arange(6, dtype=np.float32)},
                   attention(Q, K, V, added=0.25 * np.arange(6))),
}


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("name", CASES)
def test_attention(name):
    options, expected = CASES[name]
    if "attn_mask" in options:
        options = {"attn_mask": Tensor(options["attn_mask"])}
    found = Tensor(Q).scaled_dot_product_attention(Tensor(K), Tensor(V), **options)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.numpy(), expected, 1e-4, 1e-5)


@pytest.mark.usefixtures("device")
def test_shared_heads():
    found = Tensor(Q).scaled_dot_product_attention(Tensor(K[:, :2]), Tensor(V[:, :2]), enable_gqa=True)
    expected = attention(Q, K[:, :2].repeat(2, 1), V[:, :2].repeat(2, 1))
    np.testing.assert_allclose(found.numpy(), expected, 1e-4, 1e-5)


@pytest.mark.usefixtures("device")
def test_a_query_that_sees_nothing_gives_zeros_and_no_gradient():
    q, k, v = (Tensor(x[:1, 0]) for x in (Q, K, V))
    for mask in (Tensor(MASK), Tensor(np.where(MASK, 0, -math.inf).astype(np.float32))):
        found = q.scaled_dot_product_attention(k, v, mask)
        assert (found.numpy()[:, 2] == 0).all()
        slope = found.square().sum().gradient(q)[0].numpy()
        assert np.isfinite(slope).all()
        assert (slope[:, 2] == 0).all()


def test_dtypes_and_dropout():
    q, k, v = (Tensor(x, device="ref") for x in (Q, K, V))
    for dtype in ("float16", "bfloat16", "float64"):
        assert q.cast(dtype).scaled_dot_product_attention(k.cast(dtype), v.cast(dtype)).dtype.name == dtype
    kept = q.scaled_dot_product_attention(k, v, dropout_p=1.0)
    np.testing.assert_allclose(kept.numpy(), attention(Q, K, V), 1e-4, 1e-5)
    with Tensor.train():
        assert (q.scaled_dot_product_attention(k, v, dropout_p=1.0).numpy() == 0).all()


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize(("dtype", "spacing"), [("float16", 2.0**-10), ("bfloat16", 2.0**-7)])
def test_halves_lose_no_more_than_their_spacing(dtype, spacing):
    operands = [Tensor(x).cast(dtype) for x in (Q, K, V)]
    found = operands[0].scaled_dot_product_attention(*operands[1:])
    q, k, v = [x.float().numpy().astype(np.float64) for x in operands]
    bound = 2 * spacing * attention(q, k, np.abs(v))
    assert (np.abs(found.float().numpy() - attention(q, k, v)) <= bound).all()


def test_a_gradient_is_not_rounded_where_weights_are():
    weights = Tensor([0.3, 0.7], device="ref")
    near = weights._to_nearest(dtypes.float16)
    assert near.tolist() == np.array([0.3, 0.7], np.float16).tolist()
    assert (near * 1e6).sum().gradient(weights)[0].tolist() == [1e6, 1e6]  # more than a float16 holds


def test_attention_gradients():
    arrays = [np.random.default_rng(1).normal(size=shape) for shape in ((2, 3), (4, 3), (4, 2))]
    gradcheck(lambda q, k, v: q.scaled_dot_product_attention(k, v, is_causal=True), arrays, order=2,
              device="ref")


def test_attention_refuses():
    q, k, v = Tensor(Q), Tensor(K), Tensor(V)
    with pytest.raises(ShapeError, match=r"scaled_dot_product_attention.*keys"):
        q.scaled_dot_product_attention(k.mT, v)
    with pytest.raises(ShapeError, match="2 dimensions"):
        q.scaled_dot_product_attention(k, Tensor([1.0]))
    with pytest.raises(ShapeError, match=r"scaled_dot_product_attention.*broadcast"):
        q.scaled_dot_product_attention(k, v, Tensor(MASK.T))
    with pytest.raises(DTypeError, match="bool or float"):
        q.scaled_dot_product_attention(k, v, Tensor(MASK).int())
    with pytest.raises(ValueRangeError, match="is_causal"):
        q.scaled_dot_product_attention(k, v, Tensor(MASK), is_causal=True)
    with pytest.raises(ShapeError, match="heads"):
        q.scaled_dot_product_attention(k[:, :3], v[:, :3], enable_gqa=True)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (2, 4, 4)], ids=str)
def test_newton_schulz_makes_orthogonal(shape):
    found = Tensor(normal(*shape), device="ref").newton_schulz(25, (1.5, -0.5))
    assert found.shape == shape
    np.testing.assert_allclose(np.linalg.svd(found.numpy(), compute_uv=False), 1, atol=1e-3)


def test_newton_schulz_is_the_polynomial():
    x = normal(3, 4)
    scaled = x / (np.sqrt((x**2).sum()) + 1e-7)
    square = scaled @ scaled.T
    expected = 3 * scaled - 2 * square @ scaled + 0.5 * square @ square @ scaled
    found = Tensor(x, device="ref").newton_schulz(1, (3, -2, 0.5))
    np.testing.assert_allclose(found.numpy(), expected, 1e-5, 1e-6)
    with pytest.raises(ShapeError, match="newton_schulz"):
        Tensor([1.0]).newton_schulz(1, (1, 1))
    with pytest.raises(ValueRangeError, match="coefficient"):
        Tensor(x).newton_schulz(1, ())
