"""Random numbers against published vectors, closed forms and their promises at the edges, seeds fixed."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

import pluggrad
from pluggrad import Tensor, dtypes, jit, manual_seed, nn
from pluggrad.graph import build
from pluggrad.tensor import distributions, rng_counter
from pluggrad.tensor.base import place
from tests.graph_reference import threefry2x32

ALL_ONES = 0xFFFFFFFF
LEVEL = 1e-3  # of each test; a seed that passes, passes always

# Random123's known answers for threefry2x32 with 20 rounds, which JAX tests too: key, counter, result
VECTORS = [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((ALL_ONES, ALL_ONES), (ALL_ONES, ALL_ONES), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
]


def bits_at(key: tuple[int, int], draw: int, positions: list[int], device: str) -> list[int]:
    """Elements of a draw of 2**33, of which no others are computed."""
    words = [build.const(word, dtypes.uint32, place(device)) for word in (*key, draw)]
    whole = build.random_bits((1 << 33,), *words)
    parts = [Tensor._of(build.slice(whole, ((position, 1, 1),))) for position in positions]
    return [part.item() for part in parts]


@pytest.mark.parametrize(("key", "counter", "words"), VECTORS)
def test_published_vectors(device, key, counter, words):
    first, second = (np.array([word], np.uint32) for word in counter)
    assert tuple(int(word[0]) for word in threefry2x32(key, first, second)) == words
    assert bits_at(key, counter[0], [counter[1]], device) == [words[0] ^ words[1]]


def test_more_than_32_bits_of_positions(device):
    last = (1 << 32) + 5
    assert bits_at((1, 2), 3, [last], device) == bits_at((1, 2), 4, [5], device)


def test_a_huge_draw_counts_as_several():
    manual_seed(0)
    Tensor.rand(1 << 16, 1 << 17)
    assert rng_counter.value == 2
    Tensor.rand(0, 5)
    Tensor.rand()
    assert rng_counter.value == 4


def test_the_stream_does_not_repeat_after_many_draws(monkeypatch):
    manual_seed(1)
    early = Tensor.rand(3, device="ref").tolist()
    monkeypatch.setattr(rng_counter, "value", 1 << 32)
    draw = jit(lambda: Tensor.rand(3, device="ref"))
    late = [draw().tolist() for _ in range(3)]
    assert len({tuple(numbers) for numbers in (early, *late)}) == 4
    rng_counter.value = 1 << 32
    assert Tensor.rand(3, device="ref").tolist() == late[0]


# ---------------------------------------------------------------------------------------- statistics

CONTINUOUS = {
    "rand": (lambda n, d: Tensor.rand(n, dtype=d), stats.uniform()),
    "uniform": (lambda n, d: Tensor.uniform(n, low=-3, high=4, dtype=d), stats.uniform(-3, 7)),
    "randn": (lambda n, d: Tensor.randn(n, dtype=d), stats.norm()),
    "normal": (lambda n, d: Tensor.normal(n, mean=3, std=0.5, dtype=d), stats.norm(3, 0.5)),
    "exponential": (lambda n, d: Tensor.exponential(n, rate=2.5, dtype=d), stats.expon(scale=1 / 2.5)),
    "kaiming_uniform": (lambda n, d: Tensor.kaiming_uniform(n // 3, 3, a=0, dtype=d).flatten(),
                        stats.uniform(-math.sqrt(2), 2 * math.sqrt(2))),
    "kaiming_normal": (lambda n, d: Tensor.kaiming_normal(n // 8, 8, a=0, dtype=d).flatten(),
                       stats.norm(0, 0.5)),
    "glorot_uniform": (lambda n, d: Tensor.glorot_uniform(10, n // 10, dtype=d).flatten(), None),
}
# where rounding to a half shows less than chance
SIZES = {"float32": 30_000, "float64": 30_000, "float16": 20_000, "bfloat16": 3_000}


@pytest.mark.parametrize("dtype", SIZES)
@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_distributions(name, dtype):
    manual_seed(100)
    draw, expected = CONTINUOUS[name]
    n = SIZES[dtype]
    with pluggrad.device("ref"):
        drawn = draw(n, dtype).numpy().astype(np.float64)
    bound = math.sqrt(6 / (n // 10 + 10))
    expected = expected or stats.uniform(-bound, 2 * bound)
    size = drawn.size
    assert stats.kstest(drawn, expected.cdf).pvalue > LEVEL
    spread = expected.std()
    assert abs(drawn.mean() - expected.mean()) < 4 * spread / math.sqrt(size)
    kurtosis = expected.stats("k") + 2
    assert abs(drawn.var() / spread**2 - 1) < 4 * math.sqrt(kurtosis / size) + 2e-3


# low, high, dtype; the last of them tell a multiplication by too few bits from one by enough
RANGES = [
    (0, 10, "int32"), (-3, 4, "int8"), (5, 6, "uint8"), (0, 256, "uint8"), (-128, 128, "int8"),
    (-1000, 1001, "int16"), (-(2**31), 2**31, "int32"), (0, 2**32, "uint32"), (-(2**63), 2**63, "int64"),
    (0, 2**64, "uint64"), (2**63, 2**64, "uint64"), (-(2**40), 2**41, "int64"), (0, 3 * 2**30, "uint32"),
    (0, 3 * 2**62, "uint64"), (-5, 2**63, "int64"),
]


@pytest.mark.parametrize(("low", "high", "dtype"), RANGES, ids=str)
def test_integers_are_equally_likely(low, high, dtype):
    manual_seed(101)
    drawn = Tensor.randint(30_000, low=low, high=high, dtype=dtype, device="ref")
    assert drawn.dtype is dtypes.by_name(dtype)
    offsets, count = [number - low for number in drawn.tolist()], high - low
    assert 0 <= min(offsets) <= max(offsets) < count
    if count == 1:
        return
    bins = min(count, 21)
    for put in (lambda offset: offset * bins // count, lambda offset: offset % bins):
        # of few values, how many go to each bin; of many, as good as equally many
        sizes = np.bincount([put(value) for value in range(count)]) if count < 4000 else np.ones(bins)
        found = np.bincount([put(offset) for offset in offsets], minlength=bins)
        assert stats.chisquare(found, sizes / sizes.sum() * len(offsets)).pvalue > LEVEL


def test_bernoulli():
    manual_seed(102)
    for p in (0.0, 0.03, 0.5, 1.0):
        drawn = Tensor.bernoulli(50_000, p=p, device="ref").numpy()
        assert set(drawn.tolist()) <= {0.0, 1.0}
        assert stats.binomtest(int(drawn.sum()), drawn.size, p).pvalue > LEVEL


def test_tails_of_the_normal_distribution():
    manual_seed(103)
    drawn = np.abs(Tensor.randn(2_000_000).numpy())
    for bound in (2.0, 3.0, 4.0, 4.5):
        expected = 2 * stats.norm.sf(bound)
        assert stats.binomtest(int((drawn > bound).sum()), drawn.size, expected).pvalue > LEVEL
    assert 4.8 < drawn.max() < 5.8


def test_every_bit_and_neighbors_and_draws_are_independent():
    manual_seed(104)
    first, second, third = (Tensor.randint(40_000, high=2**32, dtype="uint32", device="ref").numpy()
                            for _ in range(3))
    for bit in range(32):
        assert stats.binomtest(int((first >> np.uint32(bit) & 1).sum()), first.size).pvalue > LEVEL / 10
    for a, b in ((first[:-1], first[1:]), (first, second), (second, third), (first[:-257], first[257:])):
        assert abs(np.corrcoef(a.astype(float), b.astype(float))[0, 1]) < 4 / math.sqrt(len(a))
    assert len(np.unique(np.concatenate([first, second, third]))) > 119_900
    manual_seed(105)
    other = Tensor.randint(40_000, high=2**32, dtype="uint32", device="ref").numpy()
    assert abs(np.corrcoef(first.astype(float), other.astype(float))[0, 1]) < 4 / math.sqrt(40_000)


# ---------------------------------------------------------------------------------------- edges


@pytest.fixture(params=[0, ALL_ONES], ids=["all bits 0", "all bits 1"])
def extreme(request, monkeypatch):
    """Every draw takes its first, or its last, value."""
    monkeypatch.setattr(distributions, "random_bits",
                        lambda shape, device: build.const(request.param, dtypes.uint32, device, shape))
    return request.param


@pytest.mark.parametrize("dtype", dtypes.FLOATS, ids=lambda d: d.name)
def test_extreme_floats(device, extreme, dtype):
    bounds = [(0.0, 1.0), (1.0, 2.0), (-3.0, 4.0), (-1.0, 0.0), (-5.0, -4.0), (1000.0, 1001.0), (0.1, 0.3),
              (0.0, 1 / 3), (-1e-3, 1e-3), (2.0, 2.0)]
    uniforms = [Tensor.uniform(3, low=low, high=high, dtype=dtype) for low, high in bounds]
    others = [Tensor.randn(3, dtype=dtype), Tensor.exponential(3, dtype=dtype), Tensor.rand(3, dtype=dtype)]
    Tensor.realize(*uniforms, *others)
    for (low, high), drawn in zip(bounds, uniforms, strict=True):
        value = float(drawn.numpy()[0])
        assert low - 2.0**-7 * abs(low) <= value  # the bound itself is rounded to the dtype
        assert value < high or low == high, (low, high, value)
    assert all(np.isfinite(drawn.numpy()).all() for drawn in others)
    last = 1 - 2.0**-{"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}[dtype.name]
    assert others[2].numpy()[0] == (last if extreme else 0)


@pytest.mark.parametrize(("low", "high", "dtype"), RANGES, ids=str)
def test_extreme_integers(extreme, low, high, dtype):
    drawn = Tensor.randint(2, low=low, high=high, dtype=dtype, device="ref")
    assert drawn.tolist() == [high - 1 if extreme else low] * 2


@pytest.mark.parametrize("dtype", dtypes.FLOATS, ids=lambda d: d.name)
def test_the_resolution_of_a_uniform_is_that_of_its_dtype(dtype):
    manual_seed(106)
    steps = 2.0 ** {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}[dtype.name]
    numbers = Tensor.rand(5000, dtype=dtype, device="ref").numpy().astype(np.float64) * steps
    assert (numbers == np.floor(numbers)).all()
    assert (numbers % 2 == 1).any()


def test_shapes():
    for shape in ((), (0,), (3, 0), (1,), (2, 3)):
        for draw in (Tensor.rand, Tensor.randn, Tensor.randint, Tensor.exponential, Tensor.bernoulli):
            assert draw(*shape, device="ref").numpy().shape == draw(shape, device="ref").shape == shape


def test_like():
    x = Tensor([[1, 2]], dtype="int64", device="ref")
    drawn = x.randint_like(low=5, high=7)
    assert (drawn.dtype, drawn.shape, drawn.device) == (dtypes.int64, (1, 2), "ref")
    assert x.randint_like(high=3, dtype="uint8").dtype is dtypes.uint8


BAD = {
    "low above high": (lambda: Tensor.uniform(2, low=2, high=1), ValueError, "uniform: expected finite low"),
    "infinite": (lambda: Tensor.uniform(2, high=math.inf), ValueError, "uniform: expected finite low"),
    "negative deviation": (lambda: Tensor.normal(2, std=-1), ValueError, "normal: expected a standard dev"),
    "rate 0": (lambda: Tensor.exponential(2, rate=0), ValueError, "exponential: expected a rate above 0"),
    "empty range": (lambda: Tensor.randint(2, low=3, high=3), ValueError, r"randint: expected low < high"),
    "beyond": (lambda: Tensor.randint(2, high=300, dtype="uint8"), ValueError, r"uint8 \(0 to 255\)"),
    "floats": (lambda: Tensor.randint(2, dtype="float32"), TypeError, "randint: expected an integer dtype"),
    "integers": (lambda: Tensor.rand(2, dtype="int32"), TypeError, "expected a float dtype, got int32"),
    "probability": (lambda: Tensor.bernoulli(2, p=1.5), ValueError, r"bernoulli: expected a probability"),
    "shape": (lambda: Tensor.rand(-1), ValueError, "rand"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(name):
    call, kind, text = BAD[name]
    with pytest.raises(kind, match=text):
        call()


# ---------------------------------------------------------------------------------------- repetition


def test_pieces_of_a_draw_are_those_of_the_whole(device):
    manual_seed(107)
    whole = Tensor.rand(6, 8).numpy()
    manual_seed(107)
    lazy = Tensor.rand(6, 8)
    pieces = [lazy[2:4, ::3], lazy.T[1:], lazy.flip(0), lazy.reshape(4, 12)[:, 5], lazy + 0]
    views = [whole[2:4, ::3], whole.T[1:], whole[::-1], whole.reshape(4, 12)[:, 5], whole]
    for piece, view in zip(pieces, views, strict=True):
        np.testing.assert_array_equal(piece.numpy(), view)


def test_a_training_run_repeats_bit_for_bit(device):
    def run() -> list[np.ndarray]:
        manual_seed(108)
        net = [nn.Linear(5, 8), Tensor.relu, Tensor.dropout, nn.Linear(8, 2)]
        optimizer = nn.optim.Adam(net, lr=0.01)
        with Tensor.train():
            for _ in range(3):
                optimizer.zero_grad()
                (Tensor.randn(4, 5).sequential(net) - Tensor.rand(4, 2)).square().mean().backward()
                optimizer.step()
        return [param.numpy() for param in optimizer.params]

    for first, second in itertools.pairwise([run(), run(), run()]):
        for a, b in zip(first, second, strict=True):
            np.testing.assert_array_equal(a, b)
