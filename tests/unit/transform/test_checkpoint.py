"""Checkpointing: the same gradients, of any order, from less memory."""

from __future__ import annotations

import numpy as np

import pluggrad
from pluggrad import Tensor, checkpoint, grad, hessian, jacobian, jvp, manual_seed, nn, vmap
from pluggrad.graph import ops
from pluggrad.ir.walk import toposort
from pluggrad.plan.build import build_plan
from pluggrad.runtime.normalize import normalize, rebuild
from pluggrad.runtime.sessions import session

RNG = np.random.default_rng(6)
X = RNG.uniform(-1, 1, (4, 8)).astype(np.float32)


class Block:
    def __init__(self, size=8):
        self.a, self.b = nn.Linear(size, size), nn.Linear(size, size)
        Tensor.realize(*nn.state.get_parameters(self))

    def __call__(self, x):
        return self.b(self.a(x).tanh()).gelu() + x


def gradients_of(blocks, x, call):
    for block in blocks:
        x = call(block, x)
    loss = (x * x).mean()
    return loss, loss.gradient(*nn.state.get_parameters(blocks))


def plain(block, x):
    return block(x)


def close(found, expected):
    """Equal but for the order of sums, which depends on what is computed together."""
    Tensor.realize(*found)
    Tensor.realize(*expected)
    return all(np.allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)
               for a, b in zip(found, expected, strict=True))


def test_gradients_are_the_same(device):
    blocks, x = [Block() for _ in range(3)], Tensor(X)
    loss, found = gradients_of(blocks, x, checkpoint)
    other, expected = gradients_of(blocks, x, plain)
    assert close([loss, *found], [other, *expected])


def peak(values):
    """Bytes of temporaries of the one plan that computes all of them."""
    normalized = normalize([value.node for value in values])
    capabilities = session(values[0].node.device).target.capabilities
    return build_plan(rebuild(normalized), [None] * len(values), capabilities).arena_bytes


def test_a_deep_chain_takes_less_memory(device):
    blocks, x = [Block() for _ in range(12)], Tensor(np.zeros((512, 8), np.float32))
    activation = 512 * 8 * 4
    kept = peak([*gradients_of(blocks, x, plain)[1]])
    again = peak([*gradients_of(blocks, x, checkpoint)[1]])
    assert kept > 3 * 12 * activation
    assert again < (12 + 10) * activation  # the inputs of the blocks, and the inside of one


def test_of_checkpoints_inside(device):
    blocks, x = [Block() for _ in range(4)], Tensor(X)

    def half(pair, x):
        return checkpoint(pair[1], checkpoint(pair[0], x))

    pairs = [(blocks[0], blocks[1]), (blocks[2], blocks[3])]
    for pair in pairs:
        x = checkpoint(half, pair, x)
    found = (x * x).mean().gradient(*nn.state.get_parameters(blocks))
    assert close(found, gradients_of(blocks, Tensor(X), plain)[1])


def test_backward_reaches_arguments_and_weights(device):
    block, x = Block(), Tensor(X, requires_grad=True)
    for parameter in nn.state.get_parameters(block):
        parameter.requires_grad_()
    checkpoint(block, x).sum().backward()
    expected = block(x).sum().gradient(x, block.a.weight)
    assert close([x.grad, block.a.weight.grad], expected)


def test_the_second_half_of_a_step_runs_later(device):
    block, x = Block(), Tensor(X)
    y = checkpoint(block, x).realize()
    assert close(y.sum().gradient(x), block(x).sum().gradient(x))


def test_dropout_repeats_its_mask(device):
    x = Tensor(X)

    def noisy(x):
        return (x.dropout(0.5) * x).sum()

    with Tensor.train():
        manual_seed(3)
        value = checkpoint(noisy, x) ** 2
        (found,) = value.gradient(x)
        bits = [n for n in toposort([found.node, value.node]) if n.op is ops.RANDOM_BITS]
        manual_seed(3)
        expected = noisy(x) ** 2
    assert value.item() == expected.item()
    assert close([found], expected.gradient(x))
    assert len(bits) == 2  # drawn again with the same counter, not kept


def test_under_jit(device):
    block = Block()
    step = pluggrad.jit(lambda x: (checkpoint(block, x) ** 2).sum().gradient(x, block.a.weight))
    for shift in range(3):
        x = Tensor(X + shift)
        expected = (block(x) ** 2).sum().gradient(x, block.a.weight)
        for got, wanted in zip(step(x), expected, strict=True):
            assert np.allclose(got.numpy(), wanted.numpy(), atol=1e-4)


def test_higher_orders_vmap_and_nested_values():
    with pluggrad.device("ref"):
        def inside(parts):
            return {"y": parts["x"].sin() * parts["x"].exp(), "n": 3}

        def function(x):
            return checkpoint(inside, {"x": x})["y"].sum()

        x = np.array([0.3, -0.8])
        third = grad(lambda x: grad(lambda x: grad(function)(x).sum())(x).sum())(Tensor(x))
        assert np.allclose(third.numpy(), 2 * np.exp(x) * (np.cos(x) - np.sin(x)))
        each = vmap(grad(function))(Tensor(np.stack([x, x + 1, x + 2])))
        for i in range(3):
            z = x + i
            assert np.allclose(each[i].numpy(), np.exp(z) * (np.sin(z) + np.cos(z)))


def test_whole_jacobians_and_forward_mode():
    with pluggrad.device("ref"):
        def inside(x):
            return x.sin().outer(x).sum(0).exp()

        def function(x):
            return checkpoint(inside, x)

        x, direction = Tensor([0.3, -0.8]), Tensor([1.0, 2.0])
        for order in (jacobian, hessian):
            assert np.allclose(order(function)(x).numpy(), order(inside)(x).numpy(), atol=1e-6)
        by_columns = jacobian(lambda x: function(x).cat(function(x * 2)))(x)
        expected = jacobian(lambda x: inside(x).cat(inside(x * 2)))(x)
        assert np.allclose(by_columns.numpy(), expected.numpy(), atol=1e-6)
        found, expected = [jvp(f, (x,), (direction,))[1].numpy() for f in (function, inside)]
        assert np.allclose(found, expected, atol=1e-6)


def test_different_draws_of_a_batch_are_repeated():
    with pluggrad.device("ref"), Tensor.train():
        batch = Tensor(np.ones((6, 16)))
        f = vmap(pluggrad.value_and_grad(lambda x: checkpoint(lambda v: v.dropout(0.5), x).sum()),
                 randomness="different")
        value, gradient = f(batch)
        assert len(np.unique(gradient.numpy(), axis=0)) > 1
        assert np.allclose(value.numpy(), gradient.numpy().sum(1))  # linear: the value is the gradient's sum


def test_integers_constants_and_no_grad():
    index = Tensor([1, 0, 1])
    table = Tensor(X)
    rows, same = checkpoint(lambda i, t: (t[i] * 2, i + 1), index, table)
    assert np.allclose(rows.sum().gradient(table)[0].numpy()[:2, 0], [2, 4])
    assert same.tolist() == [2, 1, 2]
    with pluggrad.no_grad():
        assert checkpoint(lambda x: x * 2, table).shape == (4, 8)
    assert checkpoint(lambda: 7) == 7
    assert np.allclose(checkpoint(lambda x: x, table).sum().gradient(table)[0].numpy(), 1)


def test_through_a_convolution_and_a_norm(device):
    layers = [nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.BatchNorm2d(2)]
    x = Tensor(RNG.uniform(-1, 1, (2, 1, 6, 6)).astype(np.float32))
    weights = [layers[0].weight, layers[1].weight]
    found, expected = [], []
    for gradients, call in ((found, checkpoint), (expected, plain)):
        with Tensor.train():
            value = call(lambda x: x.sequential(layers).relu(), x)
        gradients += (value * value).sum().gradient(x, *weights)
    Tensor.realize(*found)
    Tensor.realize(*expected)
    assert all(np.allclose(a.numpy(), b.numpy(), atol=1e-5) for a, b in zip(found, expected, strict=True))
