"""Attention in one pass, without scores in memory: against NumPy, in each form that it is written in."""
from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, memory_stats, reset_peak_memory_stats
from pluggrad.cli.stages import run_stages, verify_stage
from pluggrad.device.registry import REGISTRY
from pluggrad.ir.passes import Trace
from pluggrad.lower.program import Program
from pluggrad.runtime.normalize import normalize
from pluggrad.target import DeviceId

RNG = np.random.default_rng(11)
pytestmark = pytest.mark.device("cpu")


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def scores(q: np.ndarray, k: np.ndarray) -> np.ndarray:
    return q.astype(np.float64) @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])


def weigh(s: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Rows that see nothing give zeros."""
    largest = s.max(-1, keepdims=True)
    grown = np.exp(s - np.where(np.isneginf(largest), 0, largest))
    total = grown.sum(-1, keepdims=True)
    return grown / np.where(total == 0, 1, total) @ v


def programs(*outputs: Tensor) -> tuple[Program, ...]:
    target = REGISTRY.target(DeviceId("cpu"))
    return run_stages(normalize([x.node for x in outputs]), (None,) * len(outputs), target,
                      Trace(verify=verify_stage)).programs


def kernels(*outputs: Tensor) -> list[str]:
    """The roles of the buffers of each kernel."""
    return [" ".join(b.role for b in program.buffers) for program in programs(*outputs)]


Q, K, V = normal(6, 150, 64), normal(6, 150, 64), normal(6, 150, 64)
MASK = RNG.random((150, 150)) < 0.3
MASK[7] = False  # sees nothing
MASK[:, :70] = False  # nobody sees the first block
MASK[9, :] = True


@pytest.mark.parametrize(("given", "changed"), [
    ({}, lambda s: s),
    ({"is_causal": True}, lambda s: np.where(np.tri(150, dtype=bool), s, -np.inf)),
    ({"attn_mask": MASK}, lambda s: np.where(MASK, s, -np.inf)),
    ({"attn_mask": np.where(MASK, 0.5, -3).astype(np.float32)}, lambda s: s + np.where(MASK, 0.5, -3)),
], ids=["plain", "causal", "bool mask", "float mask"])
def test_masks(given, changed):
    q, k, v = Tensor(Q), Tensor(K), Tensor(V)
    named = {name: Tensor(x) if isinstance(x, np.ndarray) else x for name, x in given.items()}
    out = q.scaled_dot_product_attention(k, v, **named)
    assert len(kernels(out)) == 1
    assert "local" in kernels(out)[0]
    np.testing.assert_allclose(out.numpy(), weigh(changed(scores(Q, K)), V), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(("rows", "keys", "wide", "values"), [(37, 2001, 40, 67), (1001, 70, 32, 128)])
def test_odd_sizes_written_out(rows, keys, wide, values):
    q, k, v = normal(2, rows, wide), normal(2, keys, wide), normal(2, keys, values)
    x, y, z = Tensor(q), Tensor(k), Tensor(v)
    out = (x @ y.transpose(-2, -1) * (1 / np.sqrt(wide))).softmax(-1) @ z
    assert len(kernels(out)) == 1
    np.testing.assert_allclose(out.numpy(), weigh(scores(q, k), v), rtol=2e-5, atol=2e-6)


def test_a_row_of_nothing_is_not_a_number_where_softmax_says_so():
    """And a block of nothing before others is no more than nothing."""
    allowed = Tensor(MASK)
    s = allowed.where(Tensor(Q) @ Tensor(K).transpose(-2, -1) * 0.125, -np.inf)
    out = s.softmax(-1) @ Tensor(V)
    assert len(kernels(out)) == 1
    want = weigh(np.where(MASK, scores(Q, K), -np.inf), V)
    want[:, 7] = np.nan
    np.testing.assert_allclose(out.numpy(), want, rtol=2e-5, atol=2e-6)


def test_grouped_heads_and_an_epilogue():
    q, k, v, bias = normal(2, 4, 100, 32), normal(2, 2, 120, 32), normal(2, 2, 120, 32), normal(2, 4, 100, 32)
    out = Tensor(q).scaled_dot_product_attention(Tensor(k), Tensor(v), enable_gqa=True) + Tensor(bias)
    assert len(kernels(out)) == 1
    repeated = [x.repeat(2, 1) for x in (k, v)]
    np.testing.assert_allclose(out.numpy(), weigh(scores(q, repeated[0]), repeated[1]) + bias, rtol=2e-5,
                               atol=2e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_of_halves_stay_as_exact_as_they_are(dtype):
    operands = [Tensor(x).cast(dtype).realize() for x in (Q, K, V)]
    out = operands[0].scaled_dot_product_attention(*operands[1:])
    assert kernels(out)[-1].startswith("out in in in")
    q, k, v = [x.float().numpy() for x in operands]
    want, spacing = weigh(scores(q, k), v), {"float16": 2.0**-10, "bfloat16": 2.0**-7}[dtype]
    np.testing.assert_allclose(out.float().numpy(), want, rtol=0.51 * spacing, atol=1e-6)  # rounded once


def test_weights_that_are_cast_to_no_float_are_not_taken_for_rounded_ones():
    weights = (Tensor(Q) @ Tensor(K).transpose(-2, -1) * 0.125).softmax(-1)
    found = (weights.bool().float() @ Tensor(V)).numpy()  # all of them are positive
    np.testing.assert_allclose(found, np.broadcast_to(V.sum(1, keepdims=True), V.shape), rtol=1e-4, atol=1e-4)


def test_blocks_that_no_query_of_a_task_sees_are_left_out():
    q, k, v = [Tensor(normal(2, 256, 64)) for _ in range(3)]

    def conditions(causal: bool) -> int:
        (program,) = programs(q.scaled_dot_product_attention(k, v, is_causal=causal))
        return [instr.op for instr in program.body].count("IF")

    assert conditions(causal=True) >= 1  # of the full blocks, and of the last if it is not full
    assert conditions(causal=False) == 0


def test_scores_that_others_need_are_stored():
    s = Tensor(Q) @ Tensor(K).transpose(-2, -1)
    out = s.softmax(-1) @ Tensor(V)
    assert len(kernels(out, s)) > 1
    want = np.exp(s.numpy() - s.numpy().max(-1, keepdims=True))
    np.testing.assert_allclose(out.numpy(), want / want.sum(-1, keepdims=True) @ V, rtol=2e-5, atol=2e-6)


def test_scores_that_another_attention_ends_in_are_stored():
    first, w = normal(256, 256), normal(256, 256)
    x, expected = Tensor(first), first.astype(np.float64)
    for _ in range(3):
        x = (x @ w).softmax(1)
        expected = weigh(expected @ w, np.eye(256))
    assert len(programs(x)) == 3
    np.testing.assert_allclose(x.numpy(), expected, rtol=1e-5, atol=1e-7)


def test_few_rows_are_not_worth_it():
    out = Tensor(normal(64, 4, 64)).scaled_dot_product_attention(Tensor(normal(64, 600, 64)),
                                                                 Tensor(normal(64, 600, 64)))
    assert len(kernels(out)) > 1


def test_memory_grows_with_tokens_and_not_with_their_square():
    q, k, v = [Tensor(normal(1, 3000, 16)).realize() for _ in range(3)]
    reset_peak_memory_stats("cpu")
    before = memory_stats()["cpu"]["used"]
    out = q.scaled_dot_product_attention(k, v, is_causal=True).realize()
    stats = memory_stats()["cpu"]
    assert out.shape == (1, 3000, 16)
    assert stats["peak"] - before < 1 << 20, "the scores alone are 36 MB"


def test_gradients_of_both_orders():
    q, k, v = [x[:2] for x in (Q, K, V)]

    def derivatives(weighted):
        x = Tensor(q, requires_grad=True)
        (first,) = weighted(x).square().sum().gradient(x)
        (second,) = first.square().sum().gradient(x)
        return first.numpy(), second.numpy()

    one = derivatives(lambda x: x.scaled_dot_product_attention(Tensor(k), Tensor(v)))
    stored = derivatives(lambda x: (x @ Tensor(k).mT * 0.125).softmax(-1).contiguous() @ Tensor(v))
    for have, want in zip(one, stored, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-3, atol=1e-4)
