"""Layers: values against NumPy, gradients against formulas, tensors named, marked and drawn as promised."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, jit
from pluggrad.errors import ShapeError, ValueRangeError
from pluggrad.nn import Dropout, LayerNorm, Linear, Sequential


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


# ---- Linear --------------------------------------------------------------------------------------


@pytest.mark.parametrize("lead", [(), (1,), (7,), (2, 0), (2, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear(lead, bias):
    layer, x = Linear(5, 3, bias=bias), normal(*lead, 5)
    expected = x @ layer.weight.numpy().T + (layer.bias.numpy() if bias else 0)
    result = layer(Tensor(x))
    assert result.shape == (*lead, 3)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_linear_gradients():
    layer, x, g = Linear(5, 3), normal(4, 5), normal(4, 3)
    (layer(Tensor(x)) * Tensor(g)).sum().backward()
    np.testing.assert_allclose(layer.weight.grad.numpy(), g.T @ x, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.bias.grad.numpy(), g.sum(0), rtol=1e-5, atol=1e-6)


def test_linear_takes_integers():
    layer = Linear(2, 1)
    whole, float_ = layer(Tensor([[0, 1], [2, 3]])), layer(Tensor([[0.0, 1.0], [2.0, 3.0]]))
    np.testing.assert_array_equal(whole.numpy(), float_.numpy())


def test_linear_starts_within_its_bound():
    Tensor.manual_seed(3)
    layer = Linear(16, 400)
    for tensor in (layer.weight, layer.bias):
        values = tensor.numpy()
        assert np.abs(values).max() <= 0.25
        assert np.abs(values).max() > 0.24
        assert abs(values.mean()) < 0.02
        assert tensor.requires_grad


def test_linear_of_a_wrong_width():
    with pytest.raises(ShapeError, match="5"):
        Linear(5, 3)(Tensor(normal(2, 4)))


# ---- LayerNorm -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "normalized"), [((4,), 4), ((3, 4), 4), ((2, 3, 4), (3, 4)), ((2, 3, 1), 1)]
)
def test_layernorm(shape, normalized):
    layer, x = LayerNorm(normalized, eps=1e-3), normal(*shape) * 3 + 1
    rank = len(layer.normalized_shape)
    layer.weight.assign(Tensor(normal(*layer.normalized_shape)))
    layer.bias.assign(Tensor(normal(*layer.normalized_shape) + 1))
    axes = tuple(range(-rank, 0))
    scaled = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-3)
    expected = scaled * layer.weight.numpy() + layer.bias.numpy()
    np.testing.assert_allclose(layer(Tensor(x)).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_layernorm_without_weights():
    layer = LayerNorm(6, elementwise_affine=False)
    result = layer(Tensor(normal(2, 6))).numpy()
    np.testing.assert_allclose(result.mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(result.var(1), 1, rtol=1e-3)
    assert (layer.weight, layer.bias) == (None, None)


def test_layernorm_of_another_shape():
    with pytest.raises(ShapeError, match=r"layer_norm: expected a shape that ends in \(4,\), got \(4, 3\)"):
        LayerNorm(4)(Tensor(normal(4, 3)))


# ---- Dropout -------------------------------------------------------------------------------------


def test_dropout_is_off_outside_training():
    x = Tensor(normal(4, 4))
    assert Tensor.training is False
    np.testing.assert_array_equal(Dropout(0.5)(x).numpy(), x.numpy())


def test_dropout_zeroes_and_scales(monkeypatch):
    monkeypatch.setattr(Tensor, "training", True)
    Tensor.manual_seed(0)
    result = Dropout(0.25)(Tensor.ones(200, 50)).numpy()
    np.testing.assert_allclose(np.unique(result), [0, 4 / 3], rtol=1e-6)
    assert abs((result == 0).mean() - 0.25) < 0.02


def test_dropout_passes_the_same_elements_backward(monkeypatch):
    monkeypatch.setattr(Tensor, "training", True)
    x = Tensor(np.ones((50, 5), np.float32))
    y = Dropout(0.5)(x)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.numpy())


def test_a_captured_dropout_draws_anew(monkeypatch):
    monkeypatch.setattr(Tensor, "training", True)
    layer, x = Dropout(0.5), Tensor.ones(100).realize()

    @jit
    def dropped(x: Tensor) -> Tensor:
        return layer(x)

    masks = [dropped(x).numpy() for _ in range(4)]
    assert all((one != other).any() for index, one in enumerate(masks) for other in masks[:index])
    Tensor.training = False
    np.testing.assert_array_equal(dropped(x).numpy(), np.ones(100))


@pytest.mark.parametrize(("p", "expected"), [(0.0, 1.0), (1.0, 0.0)])
def test_dropout_of_nothing_and_of_everything(monkeypatch, p, expected):
    monkeypatch.setattr(Tensor, "training", True)
    np.testing.assert_array_equal(Dropout(p)(Tensor.ones(7)).numpy(), np.full(7, expected))


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_dropout_of_no_probability(p):
    with pytest.raises(ValueRangeError, match="probability"):
        Dropout(p)


# ---- Sequential ----------------------------------------------------------------------------------


def test_sequential_calls_one_after_another():
    first, last, x = Linear(3, 4), Linear(4, 2), Tensor(normal(5, 3))
    expected = last(first(x).relu()).numpy()
    for model in (Sequential(first, Tensor.relu, last), Sequential([first, Tensor.relu, last])):
        np.testing.assert_allclose(model(x).numpy(), expected, rtol=1e-6)


def test_sequential_is_a_sequence():
    layers = [Linear(3, 4), Tensor.relu, Linear(4, 2)]
    model = Sequential(*layers)
    assert (len(model), list(model), model[0], model[-1]) == (3, layers, layers[0], layers[2])
    assert list(model[1:]) == layers[1:]
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_an_empty_sequential_gives_its_input_back():
    x = Tensor([1.0])
    assert Sequential()(x) is x


# ---- how layers show themselves ------------------------------------------------------------------


def test_layers_print_their_arguments():
    assert repr(Linear(3, 4)) == "Linear(in_features=3, out_features=4, bias=True)"
    assert repr(LayerNorm((3, 4))) == "LayerNorm((3, 4), eps=1e-05, elementwise_affine=True)"
    assert repr(Dropout(0.1)) == "Dropout(p=0.1)"
    assert repr(Sequential(Linear(3, 4, bias=False), Tensor.relu, Sequential(Dropout()))) == (
        "Sequential(\n"
        "  0: Linear(in_features=3, out_features=4, bias=False)\n"
        "  1: relu\n"
        "  2: Sequential(\n"
        "    0: Dropout(p=0.5)\n"
        "  )\n"
        ")"
    )
