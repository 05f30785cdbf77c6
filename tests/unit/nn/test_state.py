"""Tensors of a model: found wherever they are, loaded whole or not at all."""

from __future__ import annotations

from collections import OrderedDict, namedtuple

import numpy as np
import pytest

from pluggrad import Tensor, dtypes
from pluggrad.errors import DTypeError, StateError
from pluggrad.nn import Linear, Module, Sequential, state

Pair = namedtuple("Pair", ["left", "right"])


class Plain:
    """A model with no base class, its tensors in every kind of place."""

    def __init__(self):
        self.weight = Tensor([1.0, 2.0])
        self.layers = [Linear(2, 1), Tensor.relu, (Linear(1, 1, bias=False),)]
        self.table = {"a": Tensor([3]), 7: Tensor([4.0])}
        self.ordered = OrderedDict(x=Tensor([True]))
        self.pair = Pair(Tensor([5.0]), None)
        self.name, self.size, self.rule = "plain", 3, np.tanh
        self.kind = Linear
        self.itself = self


NAMES = [
    "weight",
    "layers.0.weight",
    "layers.0.bias",
    "layers.2.0.weight",
    "table.a",
    "table.7",
    "ordered.x",
    "pair.left",
]


def test_every_tensor_has_a_name():
    model = Plain()
    found = state.get_state_dict(model)
    assert list(found) == NAMES
    assert found["layers.0.bias"] is model.layers[0].bias


def test_a_prefix_goes_before_the_names():
    assert list(state.get_state_dict(Linear(1, 1), "model.head.")) == ["model.head.weight", "model.head.bias"]
    assert list(state.get_state_dict(Tensor([1.0]), "x")) == ["x"]


def test_parameters_are_listed_once():
    shared = Linear(2, 2)
    model = Sequential(shared, Tensor.relu, shared)
    assert list(state.get_state_dict(model)) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert [id(tensor) for tensor in state.get_parameters(model)] == [id(shared.weight), id(shared.bias)]


# ---- loading -------------------------------------------------------------------------------------


def test_loading_takes_values_and_keeps_tensors():
    source, target = Sequential(Linear(2, 3), Linear(3, 1)), Sequential(Linear(2, 3), Linear(3, 1))
    tensors, x = state.get_parameters(target), Tensor([[1.0, -2.0]])
    state.load_state_dict(target, state.get_state_dict(source))
    np.testing.assert_array_equal(target(x).numpy(), source(x).numpy())
    assert [id(tensor) for tensor in state.get_parameters(target)] == [id(tensor) for tensor in tensors]
    assert all(tensor.requires_grad for tensor in tensors)


def test_what_was_loaded_is_the_models_own():
    source, target = Linear(2, 1), Linear(2, 1)
    state.load_state_dict(target, state.get_state_dict(source))
    before = source.weight.numpy().copy()
    target.weight.assign(target.weight.detach() * 0 + 7)
    np.testing.assert_array_equal(source.weight.numpy(), before)
    np.testing.assert_array_equal(target.weight.numpy(), [[7, 7]])


def test_gradients_reach_a_loaded_model():
    model = Linear(2, 1)
    state.load_state_dict(model, {"weight": Tensor([[1.0, 2.0]]), "bias": Tensor([3.0])})
    model(Tensor([[5.0, 7.0]])).sum().backward()
    np.testing.assert_array_equal(model.weight.grad.numpy(), [[5, 7]])


def test_every_difference_is_named_at_once_and_nothing_changes():
    model = Sequential(Linear(2, 3), Linear(3, 1))
    before = {name: tensor.numpy().copy() for name, tensor in state.get_state_dict(model).items()}
    wrong = {
        "0.weight": Tensor(np.zeros((3, 2), np.float32)),
        "0.bias": Tensor(np.zeros(4, np.float32)),
        "1.weight": Tensor(np.zeros((1, 3))),
        "2.weight": Tensor([1.0]),
        "step": Tensor([4]),
    }
    with pytest.raises(StateError) as caught:
        state.load_state_dict(model, wrong)
    message = str(caught.value)
    for line in (
        "missing: 1.bias, float32 (1,)",
        "unexpected: 2.weight, float32 (1,)",
        "unexpected: step, int32 (1,)",
        "misshapen: 0.bias, expected (3,), got (4,)",
        "wrong dtype: 1.weight, expected float32, got float64",
        "Nothing was loaded",
    ):
        assert line in message
    assert "0.weight" not in message
    assert isinstance(caught.value, KeyError)
    for name, tensor in state.get_state_dict(model).items():
        np.testing.assert_array_equal(tensor.numpy(), before[name])


def test_a_loose_load_takes_what_fits_in_name():
    model = Linear(2, 1)
    bias = model.bias.numpy().copy()
    state.load_state_dict(model, {"weight": Tensor([[1.0, 2.0]]), "other": Tensor([1.0])}, strict=False)
    np.testing.assert_array_equal(model.weight.numpy(), [[1, 2]])
    np.testing.assert_array_equal(model.bias.numpy(), bias)
    with pytest.raises(StateError, match="misshapen: weight"):
        state.load_state_dict(model, {"weight": Tensor([1.0])}, strict=False)


def test_a_file_between_two_models(tmp_path):
    source, target = Linear(2, 2), Linear(2, 2)
    path = tmp_path / "model.safetensors"
    state.safe_save(state.get_state_dict(source), path)
    state.load_state_dict(target, state.safe_load(path))
    np.testing.assert_array_equal(target.weight.numpy(), source.weight.numpy())


# ---- the optional base ---------------------------------------------------------------------------


class Network(Module):
    def __init__(self):
        self.first = Linear(2, 3)
        self.blocks = [Linear(3, 3), Tensor.relu]
        self.count = Tensor([0])

    def forward(self, x):
        for block in [self.first, *self.blocks]:
            x = block(x)
        return x


def test_calling_a_module_calls_forward():
    model, x = Network(), Tensor([[1.0, 2.0]])
    np.testing.assert_array_equal(model(x).numpy(), model.forward(x).numpy())
    with pytest.raises(NotImplementedError, match="Module"):
        Module()(x)


def test_parameters_are_marked_tensors_and_the_state_is_all():
    model = Network()
    names = ["first.weight", "first.bias", "blocks.0.weight", "blocks.0.bias"]
    assert [name for name, _ in model.named_parameters()] == names
    assert [id(tensor) for tensor in model.parameters()] == [id(model.state_dict()[name]) for name in names]
    assert list(model.state_dict()) == [*names, "count"]


def test_modules_and_buffers_are_listed_once():
    model = Network()
    model.again = model.first
    names = ["", "first", "blocks.0"]
    assert [name for name, _ in model.named_modules()] == names
    assert [type(module) for module in model.modules()] == [Network, Linear, Linear]
    assert [name for name, _ in model.named_buffers()] == ["count"]
    assert model.buffers()[0] is model.count
    seen = []
    assert model.apply(seen.append) is model
    assert seen == [model.blocks[0], model.first, model]


def test_zero_grad_forgets_gradients():
    model = Network()
    model(Tensor([[1.0, 2.0]])).sum().backward()
    assert model.first.weight.grad is not None
    model.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_in_another_dtype():
    model, x = Network(), Tensor([[1.0, 2.0]])
    expected, weight = model(x).numpy(), model.first.weight
    for cast, name in ((model.half, "float16"), (model.bfloat16, "bfloat16"), (model.double, "float64")):
        assert cast() is model
        assert {parameter.dtype.name for parameter in model.parameters()} == {name}
        assert model.count.dtype.name == "int32"
        found = model(x.cast(name)).cast("float32").numpy()
        np.testing.assert_allclose(found, expected, rtol=0.05, atol=0.02)
    assert model.first.weight is weight
    assert weight.requires_grad
    model.to("ref", "float32")
    assert (weight.device, weight.dtype.name) == ("ref", "float32")
    model(Tensor([[1.0, 2.0]], device="ref")).sum().backward()
    assert weight.grad is not None
    with pytest.raises(DTypeError, match="a float dtype for a model, got int32"):
        model.to(dtypes.int32)


def test_modes_are_the_tensors_own(monkeypatch):
    monkeypatch.setattr(Tensor, "training", False)
    model = Network()
    assert model.train() is model
    assert Tensor.training is True
    assert model.eval() is model
    assert Tensor.training is False


def test_a_module_shows_its_parts():
    assert repr(Network()) == (
        "Network(\n"
        "  first: Linear(in_features=2, out_features=3, bias=True)\n"
        "  blocks: [Linear(in_features=3, out_features=3, bias=True), relu]\n"
        ")"
    )
