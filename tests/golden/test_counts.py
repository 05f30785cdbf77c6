"""How many regions and kernels well-known expressions take: each one too many is a pass over memory."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pluggrad import Tensor
from pluggrad.plan import PlannedCopy, PlannedLaunch
from tests.golden import expressions
from tests.golden.expressions import Expression, stages, stored, value


def rows_of_cross_entropy() -> Expression:
    logits, labels = stored(32, 10), stored(32, dtype=np.int32)
    return value(logits.sparse_categorical_crossentropy(labels, reduction="none"))


def gradients_of(x: Tensor, *others: Tensor) -> Expression:
    """The gradients of `x`, weighted, in the stored tensors that it is computed from."""
    loss = (x * stored(*x.shape)).sum()
    return value(*loss.gradient(*others))


def layer_norm_backward() -> Expression:
    x, weight, bias = stored(256, 256), stored(256), stored(256)
    return gradients_of(x.layernorm() * weight + bias, x, weight, bias)


def rms_norm_backward() -> Expression:
    x, weight = stored(256, 256), stored(256)
    return gradients_of(x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * weight, x, weight)


def batch_norm_backward(*shape: int) -> Expression:
    """Through a normalization over all axes but the channels, its weight and bias, and relu."""
    x, weight, bias = stored(*shape), stored(shape[1]), stored(shape[1])
    normal = x.layernorm((0, 2, 3)) * weight.reshape(-1, 1, 1) + bias.reshape(-1, 1, 1)
    return gradients_of(normal.relu(), x, weight, bias)


def pooling_backward() -> Expression:
    """Of maxima over windows of a value that is computed from what is stored."""
    x = stored(4, 8, 24, 24)
    return gradients_of(x.relu().reshape(4, 8, 12, 2, 12, 2).max((3, 5)), x)


def group_norm() -> Expression:
    x, weight = stored(16, 32, 8, 8), stored(32)
    normal = x.reshape(16, 4, -1).layernorm().reshape(x.shape)
    return value(normal * weight.reshape(-1, 1, 1))


def rows_backward(of: Callable[[Tensor], Tensor]) -> Callable[[], Expression]:
    x = stored(256, 256)
    return lambda: gradients_of(of(x), x)


def statistics() -> Expression:
    x = stored(64, 8, 28, 28)
    return value(x.sum((0, 2, 3)), x.square().sum((0, 2, 3)))


# name -> expression, regions, kernels launched
COUNTS: dict[str, tuple[Callable[[], Expression], int, int]] = {
    "elementwise chain": (lambda: value(((stored(64, 64) + 1).exp() * 2).tanh()), 1, 1),
    "softmax": (lambda: value(stored(64, 64).softmax(1)), 1, 1),
    "softmax of columns": (lambda: value(stored(64, 64).softmax(0)), 1, 1),
    "log softmax": (lambda: value(stored(64, 64).log_softmax(1)), 1, 1),
    "layer norm": (expressions.layer_norm, 1, 1),
    "layer norm, affine": (lambda: value(stored(32, 128).layernorm() * stored(128) + stored(128)), 1, 1),
    "variance": (lambda: value(stored(64, 64).var(1)), 1, 1),
    "mean and maximum": (lambda: value((x := stored(64, 64)).mean(1), x.max(1)), 1, 1),
    "matmul, bias, relu": (lambda: value((stored(64, 64) @ stored(64, 64) + stored(64)).relu()), 1, 1),
    "matmul of a transpose": (lambda: value(stored(64, 64) @ stored(64, 64).T), 1, 1),
    "matmul, relu, softmax": (expressions.matmul_relu_softmax, 2, 2),
    "attention": (expressions.attention, 1, 1),
    "rows of cross entropy": (rows_of_cross_entropy, 1, 1),
    "long sum": (expressions.long_sum, 1, 2),
    "adam step": (expressions.adam_step, 1, 1),
    "update in place": (expressions.update_through_a_view, 1, 1),
    "dropout": (expressions.dropout, 1, 1),
    "softmax, backward": (rows_backward(lambda x: x.softmax(1)), 1, 1),
    "log softmax, backward": (rows_backward(lambda x: x.log_softmax(1)), 1, 1),
    "logsumexp, backward": (rows_backward(lambda x: x.logsumexp(1)), 1, 1),
    "layer norm, backward": (rows_backward(lambda x: x.layernorm()), 1, 1),
    "layer norm, affine, backward": (layer_norm_backward, 2, 3),
    "rms norm, backward": (rms_norm_backward, 2, 3),
    "cross entropy and its gradient": (expressions.cross_entropy_and_gradient, 3, 3),
    "maximum pooling, backward": (pooling_backward, 1, 1),
    "group norm": (group_norm, 1, 1),
    "two sums of one pass": (statistics, 1, 2),
    "batch norm, backward": (lambda: batch_norm_backward(16, 32, 24, 24), 1, 1),
    "batch norm of few channels, backward": (lambda: batch_norm_backward(64, 8, 28, 28), 5, 9),
}


@pytest.mark.parametrize("name", COUNTS)
def test_regions_and_kernels(name: str) -> None:
    make, regions, kernels = COUNTS[name]
    made = stages(make())
    assert (len(made.regions), len(made.plan.commands)) == (regions, kernels)


def test_a_step_writes_over_its_state() -> None:
    made = stages(expressions.adam_step())
    assert [output.reuses is not None for output in made.plan.outputs] == [True, True, True]
    assert made.plan.arena_bytes == 0


def test_an_update_that_may_not_take_over_its_base_copies_it() -> None:
    made = stages(Expression(expressions.update_through_a_view().roots, [None]))
    assert [type(command) for command in made.plan.commands] == [PlannedCopy, PlannedLaunch]
