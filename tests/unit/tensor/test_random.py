"""Random numbers: the stream, its bits, and the shapes of the distributions."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, dtypes, manual_seed
from pluggrad.tensor import rng_counter
from tests.graph_reference import evaluate, threefry2x32

pytestmark = pytest.mark.usefixtures("device")


def test_threefry_matches_its_published_vectors():
    # Random123's known answers for threefry2x32, 20 rounds
    zero = np.zeros(1, np.uint32)
    ones = np.full(1, 0xFFFFFFFF, np.uint32)
    assert [int(w[0]) for w in threefry2x32((0, 0), zero, zero)] == [0x6B200159, 0x99BA4EFE]
    assert [int(w[0]) for w in threefry2x32((0xFFFFFFFF, 0xFFFFFFFF), ones, ones)] == [0x1CB996FC, 0xBB002BE7]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_uniforms_are_the_same_bits_as_the_reference(dtype):
    manual_seed(7)
    x = Tensor.rand(5, 7, dtype=dtype)
    expected = evaluate(x.node)
    np.testing.assert_array_equal(x.numpy(), expected)
    assert x.dtype is dtypes.by_name(dtype)


def test_a_seed_repeats_the_stream():
    manual_seed(1)
    first = [Tensor.rand(3).tolist(), Tensor.randn(3).tolist(), Tensor.randint(3).tolist()]
    assert rng_counter.value == 3
    Tensor.manual_seed(1)
    again = [Tensor.rand(3).tolist(), Tensor.randn(3).tolist(), Tensor.randint(3).tolist()]
    manual_seed(2)
    assert first == again
    assert Tensor.rand(3).tolist() != first[0]


def test_draws_differ():
    manual_seed(3)
    assert Tensor.rand(4).tolist() != Tensor.rand(4).tolist()


def test_a_lazy_draw_keeps_its_place_in_the_stream():
    manual_seed(4)
    early, late = Tensor.rand(3), Tensor.rand(3)
    values = late.tolist(), early.tolist()
    manual_seed(4)
    assert Tensor.rand(3).tolist() == values[1]


def test_distributions():
    manual_seed(0)
    n = 20000
    uniform = Tensor.uniform(n, low=-2, high=4).numpy()
    assert uniform.min() >= -2
    assert uniform.max() < 4
    assert abs(uniform.mean() - 1) < 0.05
    normal = Tensor.normal(n, mean=3, std=0.5).numpy()
    assert abs(normal.mean() - 3) < 0.02
    assert abs(normal.std() - 0.5) < 0.02
    assert np.isfinite(normal).all()
    assert abs(np.mean(Tensor.randn(n).numpy() ** 4) - 3) < 0.3
    integers = Tensor.randint(n, low=-3, high=4).numpy()
    assert set(integers.tolist()) == set(range(-3, 4))
    assert np.bincount(integers + 3).min() > n / 7 * 0.9
    assert abs(Tensor.bernoulli(n, p=0.3).numpy().mean() - 0.3) < 0.02


def test_initial_weights():
    manual_seed(0)
    for make, bound in (
        (Tensor.kaiming_uniform, np.sqrt(6 / (1 + 0.01**2) / 50)),
        (Tensor.glorot_uniform, np.sqrt(6 / 250)),
        (Tensor.scaled_uniform, np.sqrt(1 / 10000)),
    ):
        weights = make(200, 50).numpy()
        assert 0.98 * bound < np.abs(weights).max() <= bound
    assert abs(Tensor.kaiming_normal(200, 50).numpy().std() - np.sqrt(2 / 50)) < 0.01


def test_like():
    x = Tensor([[1.0, 2.0]], dtype="float64")
    assert x.rand_like().dtype is dtypes.float64
    assert x.randn_like(dtype="float32").dtype is dtypes.float32
    assert x.rand_like().shape == (1, 2)


def test_dropout():
    manual_seed(0)
    x = Tensor.ones(1000)
    assert x.dropout(0.5) is x
    with Tensor.train():
        dropped = x.dropout(0.25).numpy()
        assert set(np.round(dropped, 4).tolist()) == {0.0, np.float32(1.3333).item()} or set(
            np.unique(dropped).tolist()) == {0.0, float(np.float32(1 / 0.75))}
        assert abs((dropped == 0).mean() - 0.25) < 0.05
        assert x.dropout(1.0).sum().item() == 0
        assert x.dropout(0.0) is x
    assert Tensor.training is False
    with pytest.raises(ValueError, match="probability"):
        x.dropout(1.5)
