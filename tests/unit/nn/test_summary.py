"""summary: layers in the order in which they run, without computing anything."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import GlobalCounters, Tensor, manual_seed, nn
from pluggrad.errors import ShapeError


class Residual:
    """A custom layer, with no base class."""

    def __init__(self, channels: int) -> None:
        self.convolution = nn.Conv2d(channels, channels, 3, padding="same")
        self.norm = nn.BatchNorm2d(channels)

    def __call__(self, x: Tensor) -> Tensor:
        return x + self.norm(self.convolution(x)).relu()


def network() -> list:
    return [
        nn.Conv2d(3, 16, 3),
        Tensor.relu,
        Residual(16),
        nn.Flatten(),
        nn.Sequential(nn.Linear(576, 4), nn.Dropout(0.5)),
    ]


def test_a_list_with_custom_layers():
    found = nn.summary(network(), (2, 3, 8, 8))
    rows = [(row.name, row.kind, row.output, row.parameters, row.nbytes, row.depth) for row in found.rows]
    assert rows == [
        ("0", "Conv2d", (2, 16, 6, 6), 448, 1792, 0),
        ("2", "Residual", (2, 16, 6, 6), 2352, 9544, 0),
        ("2.convolution", "Conv2d", (2, 16, 6, 6), 2320, 9280, 1),
        ("2.norm", "BatchNorm", (2, 16, 6, 6), 32, 264, 1),
        ("3", "Flatten", (2, 576), 0, 0, 0),
        ("4", "Sequential", (2, 4), 2308, 9232, 0),
        ("4.0", "Linear", (2, 4), 2308, 9232, 1),
        ("4.1", "Dropout", (2, 4), 0, 0, 1),
    ]
    assert (found.parameters, found.nbytes) == (5108, 20568)


def test_it_prints_a_table():
    text = str(nn.summary(nn.Sequential(nn.Linear(3, 1000), nn.Tanh()), (7, 3)))
    assert text.splitlines() == [
        "layer               output shape  parameters   bytes",
        "----------------------------------------------------",
        "model (Sequential)  (7, 1000)          4,000  16,000",
        "  0 (Linear)        (7, 1000)          4,000  16,000",
        "  1 (Tanh)          (7, 1000)              0       0",
        "----------------------------------------------------",
        "4,000 parameters, 16,000 bytes",
    ]


def test_nothing_is_computed_or_changed(monkeypatch):
    monkeypatch.setattr(Tensor, "training", True)
    model = network()
    before = {name: tensor.numpy() for name, tensor in nn.state.get_state_dict(model).items()}
    manual_seed(4)
    kernels, call = GlobalCounters.kernels, nn.Conv2d.__call__
    nn.summary([*model, Tensor.rand_like], (10**6, 3, 8, 8))
    assert GlobalCounters.kernels == kernels
    assert nn.Conv2d.__call__ is call
    assert "__call__" not in vars(nn.Conv1d)
    assert Tensor.training
    drawn = Tensor.rand(2).numpy()
    manual_seed(4)
    np.testing.assert_array_equal(Tensor.rand(2).numpy(), drawn)
    for name, tensor in nn.state.get_state_dict(model).items():
        np.testing.assert_array_equal(tensor.numpy(), before[name])


def test_shared_layers_and_several_inputs():
    layer = nn.Linear(2, 2)
    found = nn.summary(nn.Sequential(layer, layer), (1, 2))
    assert [row.name for row in found.rows] == ["", "0", "0"]
    assert found.parameters == 6
    found = nn.summary(nn.LSTMCell(3, 4), (2, 3), None)
    assert found.rows[0].output == [(2, 4), (2, 4)]
    found = nn.summary([nn.Embedding(5, 2)], Tensor([[1, 2, 3]]))
    assert found.rows[0].output == (1, 3, 2)


def test_inherited_calls_are_noted_once():
    found = nn.summary([nn.LayerNorm2d(2)], (1, 2, 3, 3))
    assert [row.kind for row in found.rows] == ["LayerNorm2d"]
    both = [nn.LayerNorm2d(2), nn.LayerNorm(3)]
    assert [row.kind for row in nn.summary(both, (1, 2, 3, 3)).rows] == ["LayerNorm2d", "LayerNorm"]


def test_shapes_that_do_not_fit():
    with pytest.raises(ShapeError, match="expected 3 input channels"):
        nn.summary(network(), (1, 4, 8, 8))
    assert nn.Conv2d.__call__.__name__ == "__call__"
