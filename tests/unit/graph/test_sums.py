"""Sums within sums along skewed axes become one sum of the same value."""
from __future__ import annotations

import numpy as np
import pytest

import pluggrad
from pluggrad import Tensor, runtime
from pluggrad.graph import build, ops
from pluggrad.graph.sums import simplify_sums
from pluggrad.graph.windows import folded
from pluggrad.ir.node import Node, node
from pluggrad.ir.walk import rewrite, toposort
from tests.graph_reference import evaluate

RNG = np.random.default_rng(4)


@pytest.fixture(autouse=True)
def _on_the_reference_device():
    with pluggrad.device("ref"):
        yield


def convolved(x: Node, w: Node, stride: int, dilation: int) -> Node:
    """x [batch, inputs, n] over w [outputs, inputs, k]."""
    outputs, inputs, k = w.shape
    windows = build.window(x, [(2, k, stride, dilation)])
    batch, _, n, _ = windows.shape
    product = build.binary(ops.MUL, build.reshape(windows, (batch, 1, inputs, n, k)),
                           build.reshape(w, (1, outputs, inputs, 1, k)))
    return build.reduce(ops.SUM, product, (2, 4))


def gradient(stride: int = 1, dilation: int = 1, n: int = 11, k: int = 3) -> Node:
    x, w = Tensor(RNG.standard_normal((2, 3, n))), Tensor(RNG.standard_normal((4, 3, k)))
    y = x._new(convolved(x.node, w.node, stride, dilation))
    root = y.gradient(x, gradient=Tensor(RNG.standard_normal(y.shape)))[0].node
    return rewrite([root], _without_folds)[0]


def _without_folds(n: Node, src: tuple[Node, ...]) -> Node:
    return folded(src[0], *n.arg) if n.op is ops.FOLD else node(n.op, src, n.arg, n.type)


def sums(root: Node) -> int:
    return sum(n.op is ops.SUM for n in toposort([root]))


@pytest.mark.parametrize(("stride", "dilation", "k"), [(1, 1, 3), (1, 2, 3), (2, 1, 3), (2, 3, 4), (3, 1, 2)])
def test_the_value_stays(stride, dilation, k):
    root = gradient(stride, dilation, 17, k)
    merged = simplify_sums([root])[0]
    np.testing.assert_allclose(evaluate(merged, runtime.read), evaluate(root, runtime.read), rtol=1e-12)


def test_the_gradient_of_an_input_is_one_contraction():
    root = gradient()
    assert sums(root) == 2
    assert sums(simplify_sums([root])[0]) == 1


def test_strided_gradients_are_one_contraction_for_each_residue():
    assert sums(simplify_sums([gradient(stride=2)])[0]) == 2


def test_a_sum_with_other_users_stays():
    root = gradient()
    inner = next(n for n in toposort([root]) if n.op is ops.SUM)
    merged = simplify_sums([root, inner])
    assert merged[1] is inner
    assert sums(merged[0]) == 2


def test_much_more_work_is_not_taken_on():
    assert sums(simplify_sums([gradient(n=7, k=7)])[0]) == 2


def test_graphs_without_skews_are_left_alone():
    x = Tensor(RNG.standard_normal((3, 4, 5))).node
    root = build.reduce(ops.SUM, build.reduce(ops.SUM, x, (1,)), (0,))
    assert simplify_sums([root]) == [root]


def test_a_slice_of_a_sum_sums_a_slice():
    x = Tensor(RNG.standard_normal((3, 4, 5))).node
    root = build.slice(build.reduce(ops.SUM, x, (1,)), [(1, 2, 1), (0, 3, 2)])
    narrowed = simplify_sums([root])[0]
    assert narrowed.op is ops.SUM
    assert narrowed.src[0].shape == (2, 4, 3)
    np.testing.assert_allclose(evaluate(narrowed, runtime.read), evaluate(root, runtime.read))
