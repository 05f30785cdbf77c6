"""Normalization beside PyTorch's: forward, gradients, second gradients, running statistics step by step."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, nn
from tests.pytorch.compare import close, compare, draw, in_torch

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("device")]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "normalized"), [((4, 7), (7,)), ((2, 3, 5), (3, 5)), ((3, 1, 4), (4,))])
def test_layer_and_rms_norm(shape, normalized, dtype):
    import torch.nn.functional as F

    arrays = draw(*shape), draw(*normalized, seed=3), draw(*normalized, seed=4)
    compare(
        lambda x, w, b: x.layer_norm(normalized, w, b),
        lambda x, w, b: F.layer_norm(x, normalized, w, b),
        *arrays,
        dtype=dtype,
    )
    compare(
        lambda x, w: x.rms_norm(normalized, w, 1e-5),
        lambda x, w: F.rms_norm(x, normalized, w, 1e-5),
        *arrays[:2],
        dtype=dtype,
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "groups"), [((2, 6, 3, 5), 3), ((3, 4, 7), 2), ((1, 4, 3, 2, 3), 1)])
def test_group_norm(shape, groups, dtype):
    import torch.nn.functional as F

    compare(
        lambda x, w, b: x.group_norm(groups, w, b),
        lambda x, w, b: F.group_norm(x, groups, w, b),
        draw(*shape),
        draw(shape[1], seed=3),
        draw(shape[1], seed=4),
        dtype=dtype,
    )


@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 3, 4, 5), (1, 2, 3, 2, 4)])
def test_instance_norm(shape):
    import torch.nn.functional as F

    compare(
        lambda x, w, b: x.instance_norm(w, b),
        lambda x, w, b: F.instance_norm(x, weight=w, bias=b),
        draw(*shape),
        draw(shape[1], seed=3),
        draw(shape[1], seed=4),
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("trains", [True, False])
@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (2, 3, 4, 5), (1, 2, 3, 2, 2)])
def test_batch_norm(shape, trains, dtype, monkeypatch):
    import torch
    import torch.nn.functional as F

    monkeypatch.setattr(Tensor, "training", trains)
    channels = shape[1]
    layer = nn.BatchNorm(channels)
    mean, var = draw(channels, seed=5), np.abs(draw(channels, seed=6)) + 0.5
    layer.running_mean.assign(mean)
    layer.running_var.assign(var)

    def ours(x, w, b):
        layer.weight, layer.bias = w, b
        return layer(x)

    def theirs(x, w, b):
        running = [torch.tensor(part).to(x.dtype) for part in (mean, var)]
        return F.batch_norm(x, *running, w, b, training=trains)

    compare(ours, theirs, draw(*shape), draw(channels, seed=3), draw(channels, seed=4), dtype=dtype)


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
def test_running_statistics(momentum, training):
    import torch

    layer, other = nn.BatchNorm2d(3, momentum=momentum), torch.nn.BatchNorm2d(3, momentum=momentum)
    for step in range(4):
        x = draw(4, 3, 5, 6, seed=step) * (step + 1) + 2 * step
        result, expected = layer(Tensor(x)), other(in_torch(x, "float32"))
        close(result, expected, "float32", f"step {step}")
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            close(getattr(layer, name), getattr(other, name), "float32", f"{name} at step {step}")
    Tensor.training = False
    close(layer(Tensor(x)), other.eval()(in_torch(x, "float32")), "float32", "after training")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves(dtype, training):
    import torch
    import torch.nn.functional as F

    x = draw(4, 6, 5, 5) * 3 + 10
    given = in_torch(x, dtype)
    one, zero = torch.ones(6, dtype=given.dtype), torch.zeros(6, dtype=given.dtype)
    t = Tensor(x, dtype=dtype)
    close(t.group_norm(2), F.group_norm(given, 2, one, zero), dtype)
    close(t.layer_norm((5, 5)), F.layer_norm(given, (5, 5)), dtype)
    expected = F.batch_norm(given, None, None, one, zero, training=True)
    close(nn.BatchNorm(6)(t), expected, dtype)


def test_layers_load_each_others_state(training):
    import torch

    for layer, other in (
        (nn.BatchNorm2d(4), torch.nn.BatchNorm2d(4)),
        (nn.GroupNorm(2, 4), torch.nn.GroupNorm(2, 4)),
        (nn.InstanceNorm2d(4), torch.nn.InstanceNorm2d(4, affine=True)),
        (nn.LayerNorm((4, 3)), torch.nn.LayerNorm((4, 3))),
        (nn.RMSNorm(4), torch.nn.RMSNorm(4, eps=1e-6)),
        (nn.Embedding(7, 3), torch.nn.Embedding(7, 3)),
    ):
        state = {name: Tensor(value.numpy()) for name, value in other.state_dict().items()}
        nn.state.load_state_dict(layer, state)


def test_normalize():
    import torch.nn.functional as F

    for p, dim in ((2.0, 1), (1.0, 0), (3.0, -1)):
        compare(
            lambda x, p=p, dim=dim: x.normalize(p, dim),
            lambda x, p=p, dim=dim: F.normalize(x, p, dim),
            draw(3, 4, 2),
        )
