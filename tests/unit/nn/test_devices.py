"""Models, optimizers and checkpoints moved from one device to another."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

import pluggrad
from pluggrad import Device, Tensor, io, nn
from pluggrad.device.registry import REGISTRY
from pluggrad.errors import DeviceError, UnsupportedDType
from pluggrad.nn import state


class Sequence(nn.Module):
    def __init__(self, *layers) -> None:
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        return x.sequential(self.layers)


class Plain:
    """A model without a base: tensors in lists, tuples, dictionaries and objects."""

    def __init__(self, device: str) -> None:
        with pluggrad.device(device):
            self.layers = [nn.Linear(2, 3), (nn.Linear(3, 3), Tensor.relu)]
            self.named = {"out": nn.Linear(3, 1), "steps": Tensor([0])}
            self.frozen = Tensor([1.0], requires_grad=False)

    def __call__(self, x: Tensor) -> Tensor:
        first, (second, relu) = self.layers
        return self.named["out"](relu(second(first(x)))) * self.frozen


def devices_of(model: object) -> set[str]:
    return {tensor.device for tensor in state.get_state_dict(model).values()}


def test_moving_a_model(device_name, other_device):
    with pluggrad.device(other_device):
        model = Sequence(nn.Linear(2, 3), Tensor.relu, nn.Linear(3, 1))
    x = Tensor([[1.0, 2.0]], device=other_device)
    expected = model(x).numpy()
    assert model.to(device_name) is model
    assert devices_of(model) == {device_name}
    assert all(tensor.requires_grad for tensor in model.parameters())
    result = model(x.to(device_name))
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-5, atol=1e-6)
    result.sum().backward()
    assert model.layers[0].weight.grad.device == device_name


def test_moving_a_model_of_any_object(device_name, other_device):
    model, x = Plain(other_device), Tensor([[1.0, -2.0]], device=other_device)
    expected = model(x).numpy()
    state.to_device(model, Device[device_name])
    assert devices_of(model) == {device_name}
    assert (model.frozen.requires_grad, model.named["steps"].dtype.name) == (False, "int32")
    np.testing.assert_allclose(model(x.to(device_name)).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_a_model_moves_whole_or_not_at_all(device_name, other_device, monkeypatch):
    where = REGISTRY.resolve(device_name)
    target = REGISTRY.target(where)
    fewer = replace(target.capabilities, dtypes=target.capabilities.dtypes - {"float64"})
    monkeypatch.setitem(REGISTRY._targets, where, replace(target, capabilities=fewer))
    model = {"a": Tensor([1.0], device=other_device), "b": Tensor(np.ones(2), device=other_device)}
    with pytest.raises(UnsupportedDType, match=rf"device {device_name}: .*got float64"):
        state.to_device(model, device_name)
    with pytest.raises(DeviceError, match="no plugin provides device 'nowhere'"):
        state.to_device(model, "nowhere")
    assert devices_of(model) == {other_device}


@pytest.mark.parametrize("make", [lambda p: nn.optim.Adam(p, lr=0.1), lambda p: nn.optim.SGD(p, 0.1, 0.9)])
def test_an_optimizer_follows_its_model(device_name, other_device, make):
    def trained(*places: str) -> np.ndarray:
        """The weight after two steps on each device."""
        weight = Tensor([1.0, -2.0, 3.0], device=places[0])
        optimizer = make([weight])
        for place in places:
            state.to_device([weight], place)
            for _ in range(2):
                optimizer.zero_grad()
                (weight * weight).sum().backward()
                optimizer.step()
        states = [*getattr(optimizer, "m", []), *getattr(optimizer, "velocity", [])]
        assert {tensor.device for tensor in [weight, *states]} == {places[-1]}
        return weight.numpy()

    expected = trained(other_device, other_device)
    np.testing.assert_allclose(trained(other_device, device_name), expected, rtol=1e-5, atol=1e-6)


def test_gradients_move_with_their_tensors(device_name, other_device):
    weight = Tensor([1.0, 2.0], device=other_device)
    optimizer = nn.optim.SGD([weight], lr=0.5)
    (weight * 2).sum().backward()
    state.to_device(optimizer, device_name)
    (weight * 2).sum().backward()
    optimizer.step()
    assert (weight.device, weight.tolist()) == (device_name, [-1, 0])


def test_a_checkpoint_is_loaded_across_devices(device_name, other_device, tmp_path):
    source, target = Plain(other_device), Plain(device_name)
    state.safe_save(state.get_state_dict(source), tmp_path / "model.safetensors")
    for place in (None, other_device, Device[device_name]):
        loaded = state.safe_load(tmp_path / "model.safetensors", device=place)
        assert {tensor.device for tensor in loaded.values()} == {str(Device[place or Device.DEFAULT])}
        state.load_state_dict(target, loaded)
        assert devices_of(target) == {device_name}  # a model stays where it is
    x = Tensor([[1.0, 2.0]])
    np.testing.assert_allclose(target(x.to(device_name)).numpy(), source(x.to(other_device)).numpy(),
                               rtol=1e-5, atol=1e-6)


def test_a_model_is_pickled_on_one_device_and_read_onto_another(device_name, other_device):
    model = nn.Linear(2, 1)
    state.to_device(model, other_device)
    with io.unpickle_on(device_name):
        loaded = pickle.loads(pickle.dumps(model))
    assert devices_of(loaded) == {device_name}
    np.testing.assert_array_equal(loaded.weight.numpy(), model.weight.numpy())


def test_causal_attention_away_from_the_default_device(other_device):
    layer, x = nn.MultiheadAttention(4, 2).to(other_device), Tensor.ones(3, 2, 4, device=other_device)
    output, _ = layer(x, x, x, is_causal=True)
    assert output.device == other_device
    assert np.isfinite(output.numpy()).all()
