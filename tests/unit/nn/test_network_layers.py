"""Convolution, pooling, embedding and activation layers: tensors, options passed on, what they print."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, jit, nn
from pluggrad.errors import ShapeError


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


# ---- convolution ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolution(rank):
    x = Tensor(normal(2, 4, *(7, 6, 5)[:rank]))
    layer = getattr(nn, f"Conv{rank}d")(4, 6, 3, stride=2, padding=1, groups=2)
    assert layer.weight.shape == (6, 2, *(3,) * rank)
    expected = x.conv2d(layer.weight, layer.bias, groups=2, stride=2, padding=1)
    np.testing.assert_array_equal(layer(x).numpy(), expected.numpy())
    back = getattr(nn, f"ConvTranspose{rank}d")(6, 4, 3, 2, padding=1, output_padding=1, groups=2)
    assert back.weight.shape == (6, 2, *(3,) * rank)
    expected = layer(x).conv_transpose2d(back.weight, back.bias, 2, 2, 1, 1, 1)
    np.testing.assert_array_equal(back(layer(x)).numpy(), expected.numpy())


def test_convolution_options():
    x = Tensor(normal(1, 2, 9, 9))
    assert nn.Conv2d(2, 3, (3, 1), padding="same")(x).shape == (1, 3, 9, 9)
    assert nn.Conv2d(2, 3, 3, dilation=(2, 3))(x).shape == (1, 3, 5, 3)
    assert nn.ConvTranspose2d(2, 3, 3, dilation=2)(x).shape == (1, 3, 13, 13)
    assert list(nn.Conv2d(2, 3, 1).state_dict()) == ["weight", "bias"]
    assert list(nn.Conv2d(2, 3, 1, bias=False).state_dict()) == ["weight"]


@pytest.mark.parametrize("make", [nn.Conv2d, nn.ConvTranspose2d])
def test_convolutions_start_within_their_bound(make):
    Tensor.manual_seed(4)
    layer = make(8, 48, 5, groups=2)
    for tensor in (layer.weight, layer.bias):
        assert tensor.requires_grad
        assert 0.08 < np.abs(tensor.numpy()).max() <= 0.1


# ---- pooling -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_pooling(rank):
    x = Tensor(normal(2, 3, *(8, 7, 9)[:rank]))
    for layer, expected in (
        (f"MaxPool{rank}d", getattr(x, f"max_pool{rank}d")(3, 2, padding=1, ceil_mode=True)),
        (f"AvgPool{rank}d", getattr(x, f"avg_pool{rank}d")(3, 2, padding=1, ceil_mode=True)),
    ):
        result = getattr(nn, layer)(3, 2, 1, ceil_mode=True)(x)
        np.testing.assert_array_equal(result.numpy(), expected.numpy())
    for kind in ("Avg", "Max"):
        result = getattr(nn, f"Adaptive{kind}Pool{rank}d")(3)(x)
        expected = getattr(x, f"adaptive_{kind.lower()}_pool{rank}d")(3)
        np.testing.assert_array_equal(result.numpy(), expected.numpy())


def test_pooling_options_are_in_the_order_of_pytorch():
    x = Tensor(normal(1, 1, 9, 9))
    values, places = nn.MaxPool2d(2, 1, 0, 2, True)(x)
    np.testing.assert_array_equal(values.numpy(), x.max_pool2d(2, 1, 2).numpy())
    assert places.shape == values.shape
    uncounted = nn.AvgPool2d(3, 2, 1, False, False)(x)
    expected = x.avg_pool2d(3, 2, 1, 1, False, False)
    np.testing.assert_array_equal(uncounted.numpy(), expected.numpy())


# ---- embedding -----------------------------------------------------------------------------------


def test_embedding():
    layer = nn.Embedding(7, 3)
    index = np.array([[0, 6, 2], [2, 2, 5]])
    np.testing.assert_array_equal(layer(Tensor(index)).numpy(), layer.weight.numpy()[index])
    seed = normal(2, 3, 3)
    (layer(Tensor(index)) * Tensor(seed)).sum().backward()
    expected = np.zeros((7, 3), np.float32)
    np.add.at(expected, index, seed)
    np.testing.assert_allclose(layer.weight.grad.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("padding", [2, -5])
def test_embedding_of_padding(padding):
    layer = nn.Embedding(7, 3, padding_idx=padding)
    assert layer.weight.requires_grad
    assert (layer.weight.numpy() == 0).all(1).tolist() == [row == 2 for row in range(7)]
    layer.weight.assign(Tensor.ones(7, 3))
    result = layer(Tensor([2, 3, 2]))
    assert (result.numpy() == 1).all()
    result.sum().backward()
    assert layer.weight.grad.numpy()[:, 0].tolist() == [0, 0, 0, 1, 0, 0, 0]


# ---- the rest ------------------------------------------------------------------------------------


def test_flatten():
    x = Tensor.ones(2, 3, 4, 5)
    assert nn.Flatten()(x).shape == (2, 60)
    assert nn.Flatten(0, 1)(x).shape == (6, 4, 5)


@pytest.mark.parametrize(
    ("layer", "function"),
    [
        (nn.ReLU(), Tensor.relu),
        (nn.LeakyReLU(0.2), lambda x: x.leaky_relu(0.2)),
        (nn.GELU(), lambda x: x.gelu("none")),
        (nn.GELU("tanh"), Tensor.gelu),
        (nn.SiLU(), Tensor.silu),
        (nn.Tanh(), Tensor.tanh),
        (nn.Sigmoid(), Tensor.sigmoid),
        (nn.Softmax(0), lambda x: x.softmax(0)),
    ],
    ids=lambda part: repr(part) if isinstance(part, nn.Module) else "",
)
def test_activations(layer, function):
    x = Tensor(normal(3, 4))
    np.testing.assert_array_equal(layer(x).numpy(), function(x).numpy())


def test_layers_print_their_arguments():
    assert repr(nn.Conv2d(1, 8, 3, padding="same")) == (
        "Conv2d(1, 8, kernel_size=(3, 3), stride=1, padding=same, dilation=1, groups=1, bias=True)"
    )
    assert repr(nn.AvgPool1d(3)) == (
        "AvgPool1d(kernel_size=3, stride=None, padding=0, ceil_mode=False, count_include_pad=True)"
    )
    assert repr(nn.BatchNorm2d(3)) == (
        "BatchNorm(3, eps=1e-05, affine=True, track_running_stats=True, momentum=0.1)"
    )
    assert repr(nn.GroupNorm(2, 4)) == "GroupNorm(2, 4, eps=1e-05, affine=True)"
    assert repr(nn.InstanceNorm2d(4)) == "InstanceNorm(4, eps=1e-05, affine=True)"
    assert repr(nn.RMSNorm(4)) == "RMSNorm((4,), eps=1e-06, elementwise_affine=True)"
    assert repr(nn.Embedding(4, 3)) == "Embedding(4, 3, padding_idx=None)"
    assert repr(nn.Flatten()) == "Flatten(start_dim=1, end_dim=-1)"
    assert repr(nn.ReLU()) == "ReLU()"


PYTORCH_NAMES = {
    "binary_cross_entropy": "binary_crossentropy",
    "binary_cross_entropy_with_logits": "binary_crossentropy_logits",
}


def test_functional_forms_are_the_methods():
    for name in nn.functional.__all__:
        method = getattr(Tensor, PYTORCH_NAMES.get(name, name))
        assert getattr(nn, name) is getattr(nn.functional, name) is method


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "Conv2d: expected groups that divide 3 input and 4 output"),
        (lambda: nn.ConvTranspose1d(4, 3, 3, groups=2), "ConvTranspose1d: expected groups that divide"),
        (lambda: nn.Conv2d(4, 4, (3,)), "Conv2d: expected kernel_size: an integer, or one for each of 2"),
        (lambda: nn.Conv2d(4, 4, 0), "Conv2d: expected kernel_size of at least 1, got 0"),
        (lambda: nn.GroupNorm(3, 4), "GroupNorm: expected groups that divide 4 channels, got 3"),
        (lambda: nn.Embedding(4, 2, 4), r"Embedding: expected a padding_idx in \[-4, 3\], got 4"),
    ],
)
def test_layers_that_cannot_be(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_a_network_trains(monkeypatch):
    """One step after another, captured and not, gives the same weights and running statistics."""
    monkeypatch.setattr(Tensor, "training", True)
    x, y = Tensor(normal(8, 1, 8, 8)).realize(), Tensor(np.arange(8) % 3).realize()

    def run(wrap):
        Tensor.manual_seed(1)
        net = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
        )
        optimizer = nn.optim.SGD(net, lr=0.1)

        def step() -> Tensor:
            optimizer.zero_grad()
            loss = nn.cross_entropy(net(x), y).backward()
            return loss.realize(*optimizer.schedule_step())

        step = wrap(step)
        losses = [step().item() for _ in range(5)]
        return losses, {name: tensor.numpy() for name, tensor in net.state_dict().items()}

    (losses, state), (captured_losses, captured) = run(lambda step: step), run(jit)
    assert losses[-1] < losses[0] * 0.7
    assert state["1.num_batches_tracked"] == 5
    np.testing.assert_allclose(captured_losses, losses, rtol=1e-5)
    for name, value in state.items():
        np.testing.assert_allclose(captured[name], value, rtol=1e-4, atol=1e-6)


def test_a_wrong_number_of_channels():
    with pytest.raises(ShapeError, match=r"conv2d: expected 3 input channels, .* got 4 in shape"):
        nn.Conv2d(3, 4, 3)(Tensor(normal(1, 4, 5, 5)))


def test_lists_and_dictionaries_of_layers():
    layers = nn.ModuleList([nn.Linear(2, 3), nn.Identity(7, bias=False)])
    layers.append(nn.Linear(3, 1))
    assert list(nn.state.get_state_dict({"body": layers})) == [
        f"body.{index}.{name}" for index in (0, 2) for name in ("weight", "bias")
    ]
    assert Tensor.ones(1, 2).sequential(layers).shape == (1, 1)
    assert list(nn.state.get_state_dict(nn.ModuleDict(head=nn.Linear(1, 1, bias=False)))) == ["head.weight"]
    assert repr(nn.Identity()) == "Identity()"
