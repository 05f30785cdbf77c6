"""torch.func and torch.utils.checkpoint beside ours: values of nested transformations."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, checkpoint, grad, hessian, jacobian, jvp, vjp, vmap

pytestmark = pytest.mark.torch

RNG = np.random.default_rng(9)
A, B, X, T = [RNG.uniform(-1, 1, shape) for shape in ((5, 4), (3, 5), (6, 4), (4,))]


def network(a, b, x):
    return (b @ (a @ x).tanh()).exp()


def loss(a, b, x):
    return (network(a, b, x) ** 2).sum()


# name -> (ours, theirs), functions of the four arrays; theirs take the module torch.func, too
CASES = {
    "per-example gradients": (
        lambda a, b, x, t: vmap(grad(loss, argnums=(0, 1)), in_axes=(None, None, 0))(a, b, x),
        lambda func, a, b, x, t: func.vmap(func.grad(loss, (0, 1)), in_dims=(None, None, 0))(a, b, x)),
    "jacobian": (
        lambda a, b, x, t: (vmap(jacobian(network, argnums=2), in_axes=(None, None, 0))(a, b, x),),
        lambda func, a, b, x, t: (func.vmap(func.jacrev(network, 2), in_dims=(None, None, 0))(a, b, x),)),
    "hessian": (
        lambda a, b, x, t: (vmap(hessian(loss, argnums=2), in_axes=(None, None, 0))(a, b, x),),
        lambda func, a, b, x, t: (func.vmap(func.hessian(loss, 2), in_dims=(None, None, 0))(a, b, x),)),
    "jvp": (
        lambda a, b, x, t: jvp(lambda v: network(a, b, v), (x[0],), (t,)),
        lambda func, a, b, x, t: func.jvp(lambda v: network(a, b, v), (x[0],), (t,))),
    "vjp": (
        lambda a, b, x, t: vjp(network, a, b, x[0])[1](t[:3]),
        lambda func, a, b, x, t: func.vjp(network, a, b, x[0])[1](t[:3])),
    "gradient of a product with the Hessian": (
        lambda a, b, x, t: (grad(lambda v: (grad(loss, 2)(a, b, v) * t).sum())(x[0]),),
        lambda func, a, b, x, t: (func.grad(lambda v: (func.grad(loss, 2)(a, b, v) * t).sum())(x[0]),)),
}


@pytest.mark.parametrize("name", CASES)
def test_as_torch_func(name):
    import torch

    ours, theirs = CASES[name]
    arrays = (A, B, X, T)
    expectations = theirs(torch.func, *map(torch.tensor, arrays))
    for found, expected in zip(ours(*map(Tensor, arrays)), expectations, strict=True):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-10, atol=1e-12)


def test_checkpoint():
    import torch
    from torch.utils.checkpoint import checkpoint as torch_checkpoint

    a, b, x = [torch.tensor(array, requires_grad=True) for array in (A, B, X[0])]
    (torch_checkpoint(network, a, b, x, use_reentrant=False) ** 2).sum().backward()
    ours = [Tensor(array) for array in (A, B, X[0])]
    found = (checkpoint(network, *ours) ** 2).sum().gradient(*ours)
    for got, expected in zip(found, (a.grad, b.grad, x.grad), strict=True):
        np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-10)
