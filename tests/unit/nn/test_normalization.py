"""Normalization layers: statistics while training and after, tensors, gradients, devices, precision."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, dtypes, nn
from pluggrad.errors import ShapeError


@pytest.fixture(autouse=True)
def training(monkeypatch):
    monkeypatch.setattr(Tensor, "training", True)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([len(shape), seed]).standard_normal(shape).astype(np.float32)


def standardized(x, axes, eps=1e-5):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


@pytest.mark.parametrize("momentum", [0.1, 0.5, None])
@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (2, 3, 4, 5), (2, 3, 2, 3, 4)])
def test_batch_norm(shape, momentum, monkeypatch):
    layer, axes = nn.BatchNorm(3, momentum=momentum), (0, *range(2, len(shape)))
    mean, var, kept = np.zeros(3), np.ones(3), (1, 3, *[1] * (len(shape) - 2))
    for step in range(3):
        x = normal(*shape, seed=step) * 2 + step
        np.testing.assert_allclose(layer(Tensor(x)).numpy(), standardized(x, axes), rtol=1e-4, atol=1e-5)
        share = 1 / (step + 1) if momentum is None else momentum
        mean += (x.mean(axes) - mean) * share
        var += (x.var(axes, ddof=1) - var) * share
        np.testing.assert_allclose(layer.running_mean.numpy(), mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(layer.running_var.numpy(), var, rtol=1e-5, atol=1e-6)
        assert layer.num_batches_tracked.item() == step + 1
    monkeypatch.setattr(Tensor, "training", False)
    expected = (x - mean.reshape(kept)) / np.sqrt(var.reshape(kept) + 1e-5)
    np.testing.assert_allclose(layer(Tensor(x)).numpy(), expected, rtol=1e-4, atol=1e-5)
    assert layer.num_batches_tracked.item() == 3


def test_batch_norm_options(monkeypatch):
    x = normal(5, 2, 3)
    layer = nn.BatchNorm(2, affine=False, track_running_stats=False, eps=1e-2)
    assert layer.state_dict() == {}
    expected = standardized(x, (0, 2), 1e-2)
    for mode in (True, False):
        monkeypatch.setattr(Tensor, "training", mode)
        np.testing.assert_allclose(layer(Tensor(x)).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_statistics_are_no_parameters():
    layer = nn.BatchNorm2d(3)
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    names = ["weight", "bias", "num_batches_tracked", "running_mean", "running_var"]
    assert list(layer.state_dict()) == names
    for given in (layer, nn.state.get_parameters(layer)):
        assert [id(t) for t in nn.optim.SGD(given).params] == [id(layer.weight), id(layer.bias)]
    layer(Tensor(normal(2, 3, 2, 2))).sum().realize()
    assert len(nn.optim.SGD(layer).params) == 2


def test_one_value_per_channel():
    for shape in ((1, 3), (1, 3, 1, 1)):
        with pytest.raises(ShapeError, match="BatchNorm: expected more than one value per channel"):
            nn.BatchNorm(3)(Tensor(normal(*shape)))
    layer = nn.BatchNorm(3)
    Tensor.training = False
    assert layer(Tensor(normal(1, 3))).shape == (1, 3)


def test_an_empty_batch_leaves_the_running_statistics():
    layer = nn.BatchNorm(3)
    assert layer(Tensor.zeros(0, 3, 4)).shape == (0, 3, 4)
    assert (layer.running_mean.tolist(), layer.running_var.tolist()) == ([0.0] * 3, [1.0] * 3)


def test_a_distant_mean_costs_no_precision():
    layer, x = nn.BatchNorm(2), normal(4, 2, 300) + 3000
    np.testing.assert_allclose(layer(Tensor(x)).numpy(), standardized(x.astype(float), (0, 2)), atol=2e-3)
    np.testing.assert_allclose(
        layer.running_var.numpy(), 0.9 + 0.1 * x.astype(float).var((0, 2), ddof=1), rtol=1e-4
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_batch_norm_dtypes(dtype):
    x = normal(8, 2, 16) * 100 + 1000
    layer = nn.BatchNorm(2)
    result = layer(Tensor(x, dtype=dtype))
    assert result.dtype is dtypes.to_dtype(dtype)
    assert layer.running_mean.dtype is dtypes.float32
    rounded = Tensor(x, dtype=dtype).cast("float64").numpy()
    tolerance = 1e-9 if dtype == "float64" else 3e-2
    expected = standardized(rounded, (0, 2))
    np.testing.assert_allclose(result.cast("float64").numpy(), expected, atol=tolerance)
    np.testing.assert_allclose(layer.running_mean.numpy(), rounded.mean((0, 2)) * 0.1, rtol=1e-5)


def test_batch_norm_gradients():
    """First and second, against differences of what it computes."""
    x, seed, direction = (np.float64(normal(4, 2, 3, seed=i)) for i in range(3))

    def loss_of(t):
        layer = nn.BatchNorm(2, affine=False)
        return (layer(t).tanh() * Tensor(seed)).sum()

    def slope(values):
        t = Tensor(values)
        return (loss_of(t).gradient(t)[0].numpy() * direction).sum()

    h = 1e-5
    difference = (loss_of(Tensor(x + h * direction)) - loss_of(Tensor(x - h * direction))).item() / (2 * h)
    np.testing.assert_allclose(slope(x), difference, rtol=1e-6)
    t = Tensor(x)
    first = (loss_of(t).gradient(t)[0] * Tensor(direction)).sum()
    second = (first.gradient(t)[0].numpy() * direction).sum()
    difference = (slope(x + h * direction) - slope(x - h * direction)) / (2 * h)
    np.testing.assert_allclose(second, difference, rtol=1e-5)


def test_group_and_instance_norm():
    x = normal(2, 4, 3, 5)
    group = nn.GroupNorm(2, 4)(Tensor(x)).numpy()
    np.testing.assert_allclose(
        group, standardized(x.reshape(2, 2, -1), -1).reshape(x.shape), rtol=1e-4, atol=1e-5
    )
    instance = nn.InstanceNorm2d(4)(Tensor(x)).numpy()
    np.testing.assert_allclose(instance, standardized(x, (2, 3)), rtol=1e-4, atol=1e-5)
    for layer in (nn.GroupNorm(2, 4), nn.InstanceNorm(4)):
        assert [tensor.shape for tensor in layer.parameters()] == [(4,), (4,)]
    for layer in (nn.GroupNorm(2, 4, affine=False), nn.InstanceNorm(4, affine=False)):
        assert layer.parameters() == []


def test_layer_norm_2d_and_rms_norm():
    x = normal(2, 4, 3, 5)
    result = nn.LayerNorm2d(4)(Tensor(x)).numpy()
    np.testing.assert_allclose(result, standardized(x, 1), rtol=1e-4, atol=1e-5)
    rms = nn.RMSNorm((3, 5), eps=1e-3)(Tensor(x)).numpy()
    np.testing.assert_allclose(rms, x / np.sqrt((x * x).mean((2, 3), keepdims=True) + 1e-3), rtol=1e-4)
    assert nn.RMSNorm(5).weight.shape == (5,)
    assert nn.RMSNorm(5, elementwise_affine=False).weight is None


@pytest.mark.parametrize(
    ("layer", "shape", "text"),
    [
        (nn.BatchNorm(3), (2, 4, 5), r"BatchNorm: expected \(batch, 3 channels, ...\), got \(2, 4, 5\)"),
        (nn.BatchNorm(3), (3,), "BatchNorm: expected"),
        (nn.GroupNorm(2, 4), (2, 6), r"GroupNorm: expected \(batch, 4 channels, ...\), got \(2, 6\)"),
        (nn.InstanceNorm(4), (2, 3, 5), "InstanceNorm: expected"),
        (nn.InstanceNorm(4), (2, 4, 1), "instance_norm: expected .* more than one element per channel"),
        (nn.LayerNorm2d(4), (2, 4, 3), "LayerNorm2d: expected"),
        (nn.LayerNorm2d(4), (2, 3, 4, 4), r"layer_norm: expected a shape that ends in \(4,\)"),
        (nn.RMSNorm(4), (2, 3), r"rms_norm: expected a shape that ends in \(4,\), got \(2, 3\)"),
    ],
)
def test_wrong_shapes(layer, shape, text):
    with pytest.raises(ShapeError, match=text):
        layer(Tensor(normal(*shape)))
