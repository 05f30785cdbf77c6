"""Every batching rule against a Python loop over the batch, through the graph evaluator; gradients too."""

from __future__ import annotations

import numpy as np
import pytest

import pluggrad
from pluggrad import Tensor, runtime, vmap
from pluggrad.autograd import BATCHING
from pluggrad.graph import build, ops
from pluggrad.ir.walk import toposort
from tests.graph_reference import evaluate
from tests.unit.autograd.test_rules import CASES as DIFFERENTIABLE

RNG = np.random.default_rng(5)
SIZE = 3
N, M = RNG.integers(-9, 9, (3, 4)), RNG.integers(1, 9, (3, 4))
F = RNG.uniform(-2, 2, (3, 4))


@pytest.fixture(autouse=True)
def _on_the_reference_device():
    with pluggrad.device("ref"):
        yield


def unary(op):
    return lambda x: x._new(build.unary(op, x.node))


def binary(op):
    return lambda x, y: x._new(build.binary(op, x.node, y.node))


def tally(x):
    return x._new(build.tally((x & 3).node, 4))


@pluggrad.custom_vjp
def tripled(x, y):
    return x * y


tripled.defvjp(lambda x, y: (tripled(x, y), (x, y)), lambda saved, g: (3 * g * saved[1], 3 * g * saved[0]))


# name -> (function, arguments, ops it must go through): what has no gradient, or is not in that table
OTHERS = {
    **{op.name: (unary(op), [F], {op}) for op in (ops.FLOOR, ops.CEIL, ops.TRUNC, ops.ROUND)},
    **{op.name: (binary(op), [F, F.round()], {op}) for op in (ops.LT, ops.LE, ops.EQ, ops.NE)},
    **{op.name: (binary(op), [N, M], {op})
       for op in (ops.IDIV, ops.AND, ops.OR, ops.XOR, ops.SHL, ops.SHR)},
    "not": (lambda x: ~x, [N], {ops.NOT}),
    "cast": (lambda x: x.cast("int32"), [F], {ops.CAST}),
    "bitcast": (lambda x: x.bitcast("int64"), [F], {ops.BITCAST}),
    "detach": (lambda x: x.detach() * 2, [F], {ops.DETACH}),
    "leaf": (lambda x: Tensor(x, requires_grad=True) * 2, [F], {ops.LEAF}),
    "tally": (tally, [N], {ops.TALLY}),
    "index": (lambda x, i: x[i.abs() % 3], [F, N[0]], {ops.GATHER}),
    "argsort": (lambda x: x.argsort(1), [F], set()),
    "index of rows and columns": (lambda x, i: x[i.abs() % 3, 1:], [F, N[0]], {ops.GATHER}),
    "custom": (tripled, [F, F + 1], {ops.CUSTOM_VJP, ops.VJP_CALL}),
    "custom of one": (lambda x: tripled(x, Tensor(F)), [F], {ops.CUSTOM_VJP}),
    "conv2d": (lambda x, w: x.conv2d(w, stride=2, padding=1), [RNG.uniform(-1, 1, (1, 2, 5, 5)),
                                                               RNG.uniform(-1, 1, (3, 2, 3, 3))], set()),
    "sort": (lambda x: x.sort(0)[0], [F], set()),
}
CASES = {**DIFFERENTIABLE, **OTHERS}
# between devices; computed by the host; drawn: all three below
ELSEWHERE = {ops.COPY, ops.EXTERN, ops.RANDOM_BITS}


def value(node):
    return evaluate(node, runtime.read)


def batches(array):
    """Arrays like this one, each another, at the same side of every kink."""
    if array.dtype.kind != "f":
        return np.stack([np.roll(array, i) for i in range(SIZE)])
    return np.stack([array * (1 + 0.01 * i) for i in range(SIZE)])


def arguments_with(axes, arguments):
    """The arguments, with a batch where `axes` says so."""
    return [np.asarray(a) if axis is None else batches(np.asarray(a))
            for a, axis in zip(arguments, axes, strict=True)]


def elements(arrays, axes, i):
    """Tensors: of an array with a batch its element `i`."""
    return [Tensor(array if axis is None else array[i]) for array, axis in zip(arrays, axes, strict=True)]


def axes_of(count):
    """Which arguments have a batch, and where: each alone, and all."""
    return [*[tuple([0 if i == j else None for i in range(count)]) for j in range(count)],
            *([(0,) * count] if count > 1 else [])]


@pytest.mark.parametrize("name", CASES)
def test_as_a_loop(name):
    function, arguments, expected = CASES[name]
    for axes in axes_of(len(arguments)):
        given = arguments_with(axes, arguments)
        found = vmap(function, in_axes=axes)(*map(Tensor, given))
        if expected and axes[0] == 0 and name != "leaf":
            assert expected - {ops.SLICE} <= {n.op for n in toposort([found.node])}
        loop = [value(function(*elements(given, axes, i)).node) for i in range(SIZE)]
        np.testing.assert_allclose(value(found.node), np.stack(loop), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [*DIFFERENTIABLE, "custom", "custom of one", "conv2d"])
def test_gradients_as_a_loop(name):
    """The gradient by all arguments, one of which has a batch: for each element, and summed."""
    function, arguments, _ = CASES[name]

    def loss(*tensors):
        return (function(*tensors) * 1.5).sum()

    axes = (0, *[None] * (len(arguments) - 1))
    given = arguments_with(axes, arguments)
    numbers = range(len(given))
    one_by_one = [pluggrad.grad(loss, numbers)(*elements(given, axes, i)) for i in range(SIZE)]
    expected = [np.stack([value(found[j].node) for found in one_by_one]) for j in numbers]
    inside = vmap(pluggrad.grad(loss, numbers), in_axes=axes)(*map(Tensor, given))
    outside = pluggrad.grad(lambda *t: vmap(loss, in_axes=axes)(*t).sum(), numbers)(*map(Tensor, given))
    for j, axis in enumerate(axes):
        np.testing.assert_allclose(value(inside[j].node), expected[j], rtol=1e-9, atol=1e-9)
        total = expected[j] if axis == 0 else expected[j].sum(0)
        np.testing.assert_allclose(value(outside[j].node), total, rtol=1e-9, atol=1e-9)


def test_every_primitive_has_a_rule_that_is_tested():
    assert set(BATCHING) == {op for op in ops.GRAPH_OPS.values() if op.kind != "leaf"}
    seen = set().union(*[expected for _, _, expected in CASES.values()])
    assert set(BATCHING) - seen == ELSEWHERE


def test_what_does_not_depend_on_the_batch_is_not_batched():
    weight = Tensor(F)
    found = vmap(lambda x: x + (weight.exp() @ weight.T).sum())(Tensor(np.arange(7.0)))
    batched = {n.op for n in toposort([found.node]) if 7 in n.shape}
    assert batched <= {ops.LEAF, ops.BUFFER, ops.EXPAND, ops.ADD}


def test_one_table_for_all_is_not_repeated():
    found = vmap(lambda i: Tensor(F)[i])(Tensor([[0, 2], [1, 1], [2, 0]]))
    gathers = [n for n in toposort([found.node]) if n.op is ops.GATHER]
    assert [n.src[0].shape for n in gathers] == [F.shape]
