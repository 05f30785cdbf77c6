"""One random stream for all devices: the same bits wherever a draw is made, whatever it is computed with."""

from __future__ import annotations

import numpy as np
import pytest

import pluggrad
from pluggrad import Tensor, dtypes, jit, manual_seed, nn
from pluggrad.kernel.tolerance import tolerance
from pluggrad.tensor import rng_counter

pytestmark = pytest.mark.usefixtures("device")

# draws whose bits are the same everywhere
EXACT = {
    "rand": lambda place: Tensor.rand(5, 7, device=place),
    "rand float64": lambda place: Tensor.rand(33, device=place, dtype="float64"),
    "rand float16": lambda place: Tensor.rand(33, device=place, dtype="float16"),
    "rand bfloat16": lambda place: Tensor.rand(33, device=place, dtype="bfloat16"),
    "randint": lambda place: Tensor.randint(40, low=-5, high=1000, device=place),
    "randint int64": lambda place: Tensor.randint(40, high=1 << 32, dtype="int64", device=place),
    "bernoulli": lambda place: Tensor.bernoulli(64, p=0.3, device=place),
    "dropout": lambda place: Tensor.ones(64, device=place).dropout(0.5),
}
# draws that are functions of such bits
ROUNDED = {
    "uniform": lambda place: Tensor.uniform(65, low=-3, high=4, device=place),
    "randn": lambda place: Tensor.randn(65, device=place),
    "normal": lambda place: Tensor.normal(65, mean=2, std=0.1, device=place),
    "kaiming_uniform": lambda place: Tensor.kaiming_uniform(6, 7, device=place),
    "glorot_uniform": lambda place: Tensor.glorot_uniform(6, 7, device=place),
}


@pytest.fixture(autouse=True)
def training(monkeypatch):
    monkeypatch.setattr(Tensor, "training", True)


def skip_without(dtype: dtypes.DType, *places: str) -> None:
    for place in places:
        if dtype.name not in pluggrad.Device[place].capabilities.dtypes:
            pytest.skip(f"{place} does not hold {dtype.name}")


@pytest.mark.parametrize("draw", EXACT.values(), ids=EXACT)
def test_the_same_bits(device, other_device, draw):
    skip_without(draw(device).dtype, device, other_device)
    manual_seed(11)
    here = draw(device)
    manual_seed(11)
    there = draw(other_device)
    assert (here.device, there.device) == (device, other_device)
    np.testing.assert_array_equal(here.numpy(), there.numpy())


@pytest.mark.parametrize("draw", ROUNDED.values(), ids=ROUNDED)
def test_the_same_numbers(device, other_device, draw):
    manual_seed(12)
    here = draw(device).numpy()
    manual_seed(12)
    allowed = tolerance(dtypes.float32, "function")
    np.testing.assert_allclose(draw(other_device).numpy(), here, allowed.relative * 4, allowed.absolute * 4)


def test_draws_on_two_devices_take_turns_in_one_stream(device, other_device):
    manual_seed(13)
    one_device = [Tensor.rand(9, device=device).tolist() for _ in range(4)]
    manual_seed(13)
    places = [other_device, device, device, other_device]
    lazy = [Tensor.rand(9, device=place) for place in places]
    assert rng_counter.value == 4
    for position in (2, 0, 3, 1):  # the order of the draws counts, not of the computation
        assert lazy[position].tolist() == one_device[position]


def test_what_a_draw_is_computed_with_changes_no_bit(device):
    manual_seed(14)
    alone = Tensor.rand(6, 8).realize().numpy()
    manual_seed(14)
    fused = Tensor.rand(6, 8)
    total, shifted, transposed = fused.sum(1), fused * 0.5 + 2, fused.T.contiguous()
    Tensor.realize(total, shifted, transposed)
    np.testing.assert_array_equal(transposed.numpy(), alone.T)
    np.testing.assert_array_equal(fused.numpy(), alone)
    np.testing.assert_allclose(total.numpy(), alone.sum(1), rtol=1e-6)
    np.testing.assert_allclose(shifted.numpy(), alone * 0.5 + 2, rtol=1e-6)


def test_a_captured_function_draws_on_from_the_stream(device, other_device):
    def draws(place: str, wrap) -> list[list[float]]:
        manual_seed(15)
        draw = wrap(lambda: Tensor.rand(5, device=place) + Tensor.rand(5, device=place))
        return [draw().tolist() for _ in range(3)]

    expected = draws(device, lambda f: f)
    assert draws(other_device, jit) == draws(device, jit) == expected


def test_layers_start_from_the_same_weights(device, other_device):
    def weights(place: str) -> list[np.ndarray]:
        manual_seed(16)
        with pluggrad.device(place):
            layers = [nn.Linear(4, 3), nn.Conv2d(2, 3, 3), nn.Embedding(5, 4)]
        return [tensor.numpy() for tensor in nn.state.get_parameters(layers)]

    for here, there in zip(weights(device), weights(other_device), strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-5, atol=1e-6)
