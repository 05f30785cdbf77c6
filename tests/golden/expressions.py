"""Expressions that exercise different stages, and a target that is the same on every machine."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pluggrad import Tensor, dtypes
from pluggrad.autograd import gradients, trace
from pluggrad.cli.stages import Stages, run_stages, verify_stage
from pluggrad.graph import build, ops
from pluggrad.graph.ops import ELEMENTWISE
from pluggrad.ir.node import Node
from pluggrad.ir.passes import Trace
from pluggrad.runtime.normalize import normalize
from pluggrad.target import Capabilities, Target

# a machine with 8 cores and 16 vector registers of 32 bytes that computes halves in float32
TARGET = Target("golden", Capabilities(
    dtypes=frozenset(d.name for d in dtypes.ALL),
    arithmetic=frozenset(d.name for d in dtypes.ALL) - {"float16", "bfloat16"},
    ops=frozenset(op.name for op in ELEMENTWISE),
    vector_bytes=32, vector_registers=16, register_transposes=True, cores=8,
    cache_bytes=1 << 20, local_bytes=1 << 18, shared_cache_bytes=16 << 20,
    launch_cost_us=1.0, team_cost_us=10.0, flops_per_core=5e10, bytes_per_second=3e10))


@dataclass(frozen=True, slots=True)
class Expression:
    """Roots, and for each the stored tensor whose memory it may take over, or None."""

    roots: list[Node]
    donors: list[Node | None]


def stored(*shape: int, dtype: type = np.float32) -> Tensor:
    """A tensor in memory; what it holds does not matter here."""
    return Tensor(np.zeros(shape, dtype), device="ref")


def value(*tensors: Tensor) -> Expression:
    return Expression([x.node for x in tensors], [None] * len(tensors))


def matmul_relu_softmax() -> Expression:
    return value((stored(64, 64) @ stored(64, 64)).relu().softmax(1))


def attention() -> Expression:
    q, k, v = [stored(2, 200, 64) for _ in range(3)]
    return value((q @ k.transpose(-2, -1) * 0.125).softmax(-1) @ v)


def layer_norm() -> Expression:
    return value(stored(32, 128).layernorm())


def long_sum() -> Expression:
    return value(stored(1 << 18).sum())


def update_through_a_view() -> Expression:
    x = stored(8, 16)
    before = x.node
    x[2:6, 1::2] = stored(4, 8) * 2
    return Expression([x.node], [before])


def adam_step() -> Expression:
    gradient, *state = [stored(1000) for _ in range(4)]
    parameter, mean, square = state
    new_mean = mean * 0.9 + gradient * 0.1
    new_square = square * 0.999 + gradient * gradient * 0.001
    new_parameter = parameter - 0.01 * new_mean / (new_square.sqrt() + 1e-8)
    new = [new_parameter, new_mean, new_square]
    return Expression([x.node for x in new], [x.node for x in state])


def cross_entropy_and_gradient() -> Expression:
    logits, labels = stored(32, 10), stored(32, dtype=np.int32)
    loss = logits.sparse_categorical_crossentropy(labels).node
    found = trace(loss)
    wanted = set(found.leaves.values())
    seed = build.const(1.0, loss.dtype, loss.device)
    roots = [loss, *gradients(found, {loss: seed}, wanted).values()]
    return Expression(roots, [None] * len(roots))


def convolution_and_gradient() -> Expression:
    result = stored(8, 16, 14, 14).conv2d(stored(16, 16, 3, 3), padding=1).relu()
    series = stored(8, 16, 29)
    (gradient,) = series.conv1d(stored(16, 16, 3), stride=2).gradient(series, gradient=stored(8, 16, 14))
    return value(result, gradient)


def embedding_and_gradient() -> Expression:
    weight, index, scale = stored(100, 24), stored(16, dtype=np.int32), stored(16, 24)
    rows = index.embedding(weight)
    (gradient,) = rows.gradient(weight, gradient=scale)
    return value(rows, gradient)


def dropout() -> Expression:
    Tensor.training = True
    try:
        return value(stored(32, 64).dropout(0.25))
    finally:
        Tensor.training = False


EXPRESSIONS: list[Callable[[], Expression]] = [
    matmul_relu_softmax, attention, layer_norm, long_sum, update_through_a_view, adam_step,
    cross_entropy_and_gradient, convolution_and_gradient, embedding_and_gradient, dropout]


def stages(expression: Expression, target: Target = TARGET) -> Stages:
    """Every stage of an expression, each verified."""
    normalized = normalize(expression.roots)
    donated = [None if donor is None else normalized.inputs.index(donor.arg) for donor in expression.donors]
    assert all(donor is None or donor.op is ops.BUFFER for donor in expression.donors)
    return run_stages(normalized, donated, target, Trace(verify=verify_stage))
