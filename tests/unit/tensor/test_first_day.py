"""What a newcomer does on the first day, in exactly this style."""

from __future__ import annotations

import numpy as np
import pytest

import pluggrad
from pluggrad import Tensor
from pluggrad.nn import BatchNorm2d, Conv2d, Linear, optim

pytestmark = pytest.mark.usefixtures("device")


@pytest.fixture
def training():
    before, Tensor.training = Tensor.training, True
    yield
    Tensor.training = before


@pytest.mark.usefixtures("training")
def test_tensors_and_a_layer():
    a = Tensor([1, 2, 3])
    b = Tensor.zeros(3)
    c = Tensor.rand(2, 3)
    d = a + b
    e = d * 2
    f = a @ Tensor([[1], [2], [3]])
    assert e.numpy().tolist() == [2, 4, 6]
    assert f.tolist() == [14]
    assert c.shape == (2, 3)

    model = Linear(3, 1)
    loss = ((model(Tensor.rand(4, 3)).sigmoid() - Tensor.rand(4, 1)) ** 2).mean()
    loss.backward()
    before = model.weight.numpy()
    optim.Adam([model], lr=0.01).step()
    np.testing.assert_allclose(abs(model.weight.numpy() - before), 0.01, rtol=1e-2)


def test_a_step_works_without_training_mode_and_skips_what_has_no_gradient():
    model, unused = Linear(3, 1), Linear(2, 2)
    kept = unused.weight.numpy()
    model(Tensor.rand(4, 3)).sum().backward()
    optim.SGD([model, unused], lr=0.1).step()
    assert (unused.weight.numpy() == kept).all()


@pytest.mark.usefixtures("training")
def test_a_list_of_layers_and_functions():
    net = [Conv2d(1, 8, 3), BatchNorm2d(8), Tensor.relu]
    result = Tensor.rand(2, 1, 8, 8).sequential(net)
    assert result.shape == (2, 8, 6, 6)
    assert result.min().item() == 0


def test_xor_with_one_layer_stays_undecided():
    pluggrad.manual_seed(0)
    X, Y = Tensor([[0, 0], [0, 1], [1, 0], [1, 1]]), Tensor([[0], [1], [1], [0]])
    model = Linear(2, 1)
    opt = optim.Adam([model], lr=0.1)
    for _ in range(200):
        loss = ((model(X).sigmoid() - Y) ** 2).mean()
        loss.backward()
        opt.step()
        opt.zero_grad()
    assert abs(loss.item() - 0.25) < 1e-3
    assert repr(model(Tensor([[0, 0]]))).startswith("Tensor([[")
