"""Dtypes: every cast, every promotion, every reinterpretation; large uint64; sums of halves; defaults."""

from __future__ import annotations

import itertools
import math
import threading

import ml_dtypes
import numpy as np
import pytest

from pluggrad import Context, Tensor, config, dtypes, jit, manual_seed
from pluggrad.tensor.convert import storage_array

ALL = {dtype.name: dtype for dtype in dtypes.ALL}
PAIRS = list(itertools.product(dtypes.ALL, repeat=2))


def numpy_dtype(dtype: dtypes.DType) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16 if dtype is dtypes.bfloat16 else dtype.name)


def name_of(value: object) -> str | None:
    return value.name if isinstance(value, dtypes.DType) else None


# ---------------------------------------------------------------------------------------- casts

FLOATS = [
    0.0, -0.0, np.nan, np.inf, -np.inf, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 0.999, -0.999, 3.7, 127.5,
    -128.5, 255.5, 256.0, -129.0, 32767.5, 65504.0, 65519.0, 65520.0, 2.0**24 + 1, 2.0**31 - 128, 2.0**31,
    -(2.0**31), 2.0**32, 2.0**53 + 2, 2.0**63, -(2.0**63), 2.0**63 - 1024, 2.0**64, 1e30, -1e30, 3.4e38, 1e39,
    1.7e308, 6e-8, 2.9e-8, 6.1e-5, 1.2e-38, 1e-40, 1e-45, 1e-310, 5e-324, 1 + 2.0**-11, 1 + 3 * 2.0**-11,
    1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-24,
]


def values_of(dtype: dtypes.DType) -> np.ndarray:
    if dtype.is_float:
        with np.errstate(over="ignore"):
            # through float32, as every conversion to bfloat16 goes
            return np.array(FLOATS).astype(np.float32 if dtype is dtypes.bfloat16 else dtype.numpy).astype(
                numpy_dtype(dtype))
    if dtype is dtypes.bool_:
        return np.array([False, True])
    edges = {dtype.min, dtype.min + 1, 0, 1, 2, 100, dtype.max // 2, dtype.max - 1, dtype.max}
    others = [number for number in (127, 128, 255, 256, 2049, 65520, 2**24 + 1) if number <= dtype.max]
    return np.array(sorted({*edges, *others}), dtype.numpy)


def converted(values: np.ndarray, target: dtypes.DType) -> np.ndarray:
    """By NumPy, where it defines the result; a float that an integer cannot hold saturates, NaN gives 0."""
    if values.dtype.kind in "fV" and target.is_int:
        numbers = [0 if math.isnan(v) else min(max(v, target.min), target.max) for v in values.tolist()]
        return np.array([int(number) for number in numbers], target.numpy)
    with np.errstate(over="ignore", invalid="ignore"):
        if target is dtypes.bfloat16:
            return values.astype(np.float32).astype(numpy_dtype(target))
        return values.astype(numpy_dtype(target))


def assert_same(have: np.ndarray, want: np.ndarray) -> None:
    """Every value, NaN like NaN, and the sign of every zero."""
    want = want.astype(np.float32) if want.dtype == ml_dtypes.bfloat16 else want
    assert have.dtype == want.dtype
    np.testing.assert_array_equal(have, want)
    if want.dtype.kind == "f":
        numbers = ~np.isnan(want)
        np.testing.assert_array_equal(np.signbit(have)[numbers], np.signbit(want)[numbers])


def tensor_of(values: np.ndarray, dtype: dtypes.DType) -> Tensor:
    stored = values.view(np.uint16) if dtype is dtypes.bfloat16 else values
    made = Tensor(stored)
    return made.bitcast(dtype) if dtype is dtypes.bfloat16 else made


@pytest.mark.parametrize("source", dtypes.ALL, ids=name_of)
def test_every_cast(device, source):
    values = values_of(source)
    x = tensor_of(values, source)
    results = {target: x.cast(target) for target in dtypes.ALL}
    Tensor.realize(*results.values())
    for target, result in results.items():
        assert result.dtype is target
        assert_same(result.numpy(), converted(values, target))


@pytest.mark.parametrize("target", dtypes.ALL, ids=name_of)
def test_python_and_numpy_data_convert_as_casts_do(target):
    values = np.array(FLOATS)
    assert_same(Tensor(values, dtype=target, device="ref").numpy(), converted(values, target))
    if target.is_float:
        assert_same(Tensor(FLOATS, dtype=target, device="ref").numpy(), converted(values, target))


def test_bfloat16_rounds_to_nearest_even():
    values = np.random.default_rng(0).integers(0, 2**32, 100_000, dtype=np.uint32).view(np.float32)
    numbers = values[~np.isnan(values)]
    stored = storage_array(numbers, dtypes.bfloat16)
    np.testing.assert_array_equal(stored, numbers.astype(ml_dtypes.bfloat16).view(np.uint16))
    assert np.isnan(Tensor(values[np.isnan(values)], dtype="bfloat16", device="ref").numpy()).all()


# ---------------------------------------------------------------------------------------- bits


@pytest.mark.parametrize("source", [d for d in dtypes.ALL if d.kind != "b"], ids=name_of)
def test_every_bitcast(device, source):
    bits = np.random.default_rng(1).integers(0, 256, (3, 16), dtype=np.uint8)
    bits[:, source.itemsize - 1::source.itemsize] &= 0x3F  # no NaN, whose bits may change on the way
    x = Tensor(bits).bitcast(source)
    assert x.shape == (3, 16 // source.itemsize)
    results = {target: x.bitcast(target) for target in dtypes.ALL}
    Tensor.realize(x, *results.values())
    for target, result in results.items():
        want = bits != 0 if target is dtypes.bool_ else bits.view(numpy_dtype(target))
        have = result.numpy()
        np.testing.assert_array_equal(have, want.astype(have.dtype))
        assert result.dtype is target


def test_bits_of_views_and_bools():
    x = Tensor(np.arange(24, dtype=np.uint16).reshape(2, 3, 4), device="ref")
    np.testing.assert_array_equal(x.transpose(0, 2).bitcast("uint8").numpy(),
                                  np.ascontiguousarray(x.numpy().transpose(2, 1, 0)).view(np.uint8))
    assert Tensor([True, False], device="ref").bitcast("uint8").tolist() == [1, 0]
    assert Tensor([True, False], device="ref").bitcast("int16").tolist() == [1]
    assert Tensor([0, 2, 255], dtype="uint8", device="ref").bitcast("bool").tolist() == [False, True, True]
    assert Tensor.zeros(2, 0, dtype="uint8", device="ref").bitcast("int64").shape == (2, 0)
    with pytest.raises(ValueError, match="bitcast: expected a last axis that 4 divides"):
        Tensor.zeros(4, 6, dtype="uint8").bitcast("float32")


# ---------------------------------------------------------------------------------------- promotion

# who meets where, but for uint64 and a signed integer; `max` of the rows that a pair reaches
LATTICE = {
    "bool": "uint8 int8", "uint8": "uint16 int16", "uint16": "uint32 int32", "uint32": "uint64 int64",
    "uint64": "float16 bfloat16", "int8": "int16", "int16": "int32", "int32": "int64",
    "int64": "float16 bfloat16", "float16": "float32", "bfloat16": "float32", "float32": "float64",
    "float64": "",
}


def above(name: str) -> set[str]:
    return {name}.union(*[above(other) for other in LATTICE[name].split()])


def joined(a: str, b: str) -> str:
    """The least of what lies above both: that from which all others of them are reached."""
    both = above(a) & above(b)
    least = [name for name in both if both <= above(name)]
    return least[0] if least else "float32"


@pytest.mark.parametrize(("a", "b"), PAIRS, ids=name_of)
def test_promotion(a, b):
    expected = dtypes.by_name(joined(a.name, b.name))
    x, y = Tensor.ones(2, dtype=a, device="ref"), Tensor.ones(2, dtype=b, device="ref")
    assert dtypes.promote(a, b) is expected
    assert {(x + y).dtype, (y * x).dtype, x.maximum(y).dtype, (x == x).where(x, y).dtype} == {expected}
    assert (x < y).dtype is dtypes.bool_
    assert (x / y).dtype is (expected if expected.is_float else dtypes.float32)
    if "f" not in (a.kind, b.kind) and expected.kind != "f":  # NumPy's lattice is the same there
        assert np.promote_types(a.numpy, b.numpy) == expected.numpy


def test_promotion_is_associative_but_for_uint64_beside_signed_integers():
    for a, b, c in itertools.product(dtypes.ALL, repeat=3):
        meeting = dtypes.uint64 in (a, b, c) and "i" in (a.kind, b.kind, c.kind)
        if not meeting:
            assert dtypes.promote(dtypes.promote(a, b), c) is dtypes.promote(a, dtypes.promote(b, c))


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=name_of)
def test_python_numbers_are_weak(dtype):
    x = Tensor.ones(2, dtype=dtype, device="ref")
    whole = dtypes.int32 if dtype.kind == "b" else dtype
    real = dtype if dtype.is_float else dtypes.float32
    assert [(x + number).dtype for number in (True, 3, 0.5)] == [dtype, whole, real]
    assert [(number * x).dtype for number in (True, 3, 0.5)] == [dtype, whole, real]
    assert x.exp().dtype is real
    assert [x.cat(x).dtype, x.relu().dtype, x.max().dtype] == [dtype] * 3
    if dtype.is_int:
        with pytest.raises(TypeError, match=f"{dtype.name} holds"):
            x + 2**70


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=name_of)
def test_dtypes_of_sums(dtype):
    x = Tensor.ones(2, dtype=dtype, device="ref")
    wide = {"b": "int32", "i": "int32", "u": "uint32", "f": dtype.name}[dtype.kind]
    expected = dtypes.by_name(wide) if dtype.itemsize < 4 else dtype
    assert {x.sum().dtype, x.prod().dtype} == {expected}
    assert x.mean().dtype is (dtype if dtype.is_float else dtypes.float32)
    with Context(DEFAULT_INT="int64"):
        wide = {"b": dtypes.int64, "i": dtypes.int64, "u": dtypes.uint64, "f": dtype}
        assert x.sum().dtype is wide[dtype.kind]


# ---------------------------------------------------------------------------------------- uint64, halves


def test_uint64_beyond_the_signed_range(device):
    numbers = np.array([0, 1, 3, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 5, 2**64 - 1], np.uint64)
    divisors = np.array([1, 2, 7, 2**63, 2**63 - 1, 3, 2**64 - 6, 2**64 - 1], np.uint64)
    x, y = Tensor(numbers), Tensor(divisors)
    rows = {
        "lt": (x < y, numbers < divisors), "ge": (x >= y, numbers >= divisors),
        "eq": (x == y, numbers == divisors), "add": (x + y, numbers + divisors),
        "sub": (x - y, numbers - divisors), "mul": (x * y, numbers * divisors),
        "idiv": (x // y, numbers // divisors), "mod": (x % y, numbers % divisors),
        "max": (x.maximum(y), np.maximum(numbers, divisors)),
        "min": (x.minimum(y), np.minimum(numbers, divisors)),
        "shift": (x >> 1, numbers >> np.uint64(1)), "and": (x & y, numbers & divisors), "not": (~x, ~numbers),
        "number": (x > 2**63, numbers > 2**63), "negative": (x > -1, np.ones(8, bool)),
        "float64": (x.double(), numbers.astype(np.float64)),
        "float32": (x.float(), numbers.astype(np.float32)),
        "sum": (x[4:6].sum(), numbers[4:6].sum()), "largest": (x.max(), numbers.max()),
        "position": (x.argmax(), np.int32(7)), "divided": (x.double() / y.double(), numbers / divisors),
    }
    Tensor.realize(*[have for have, _ in rows.values()])
    for name, (have, want) in rows.items():
        np.testing.assert_array_equal(have.numpy(), want, err_msg=name)
    assert x[-1].item() == 2**64 - 1
    assert Tensor([2**64 - 1]).dtype is dtypes.uint64
    assert Tensor([2.0**63, 1e30, -1.0]).cast("uint64").tolist() == [2**63, 2**64 - 1, 0]
    assert (x + 1)[-1].item() == 0
    assert (x ** 2)[2].item() == 9


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_constants_have_64_bits(device, dtype):
    one, two = (Tensor.full((3,), number, dtype=dtype) for number in (1, 2))
    by = Tensor(np.array([33, 40, 1], dtype))
    wrapped = 2**64 - 1 if dtype == "uint64" else -1
    rows = [(two >> 33, [0] * 3), (two >> by, [0, 0, 1]), (one << 40, [2**40] * 3),
            (one << by, [2**33, 2**40, 2]), (one - two, [wrapped] * 3), (two * two, [4] * 3),
            ((one - two) >> 63, [1 if dtype == "uint64" else -1] * 3), (one ^ two, [3] * 3),
            ((one - two) // two, [(2**63 - 1) if dtype == "uint64" else -1] * 3)]
    Tensor.realize(*[have for have, _ in rows])
    for have, want in rows:
        assert have.tolist() == want


@pytest.mark.parametrize("half", [dtypes.float16, dtypes.bfloat16], ids=name_of)
def test_halves_add_up_in_float32(device, half):
    ones, small = Tensor.ones(4000, dtype=half), Tensor.full((1000,), 0.1, dtype=half)
    large, exact = Tensor.full((3,), 60000.0, dtype=half), np.float32(small.numpy()[0])

    def rounded(value: float) -> float:
        return float(np.float32(value).astype(numpy_dtype(half)))

    rows = {
        "sum": (ones.sum(), 4000), "mean": (ones.mean(), 1), "product": (ones[:4].dot(ones[:4]), 4),
        "small": (small.sum(), rounded(exact * 1000)), "mean of large": (large.mean(), rounded(60000.0)),
        "matmul": (ones.reshape(1, -1) @ ones.reshape(-1, 1), 4000), "var": (ones.var(), 0),
        "logsumexp": (ones.logsumexp(), rounded(1 + math.log(4000))),
    }
    Tensor.realize(*[have for have, _ in rows.values()])
    for name, (have, want) in rows.items():
        assert have.dtype is half, name
        assert have.item() == want, name


@pytest.mark.parametrize("half", [dtypes.float16, dtypes.bfloat16], ids=name_of)
def test_arithmetic_of_halves_rounds_each_result(device, half):
    random = np.random.default_rng(2)
    a, b = (random.normal(0, 10, 500).astype(np.float32).astype(numpy_dtype(half)) for _ in range(2))
    x, y = tensor_of(a, half), tensor_of(b, half)
    rows = {"add": (x + y, a + b), "sub": (x - y, a - b), "mul": (x * y, a * b), "div": (x / y, a / b),
            "max": (x.maximum(y), np.maximum(a, b)), "floor": (x.floor(), np.floor(a)),
            "sqrt": (x.abs().sqrt(), np.sqrt(np.abs(a))), "less": (x < y, a < b)}
    Tensor.realize(*[have for have, _ in rows.values()])
    for name, (have, want) in rows.items():
        np.testing.assert_array_equal(have.numpy(), want.astype(have.numpy().dtype), err_msg=name)


# ---------------------------------------------------------------------------------------- defaults


@pytest.fixture
def defaults():
    yield
    config.DEFAULT_FLOAT.forget()
    config.DEFAULT_INT.forget()


MADE = {
    "a list": lambda: Tensor([1.5]), "a number": lambda: Tensor(2.5), "nothing": lambda: Tensor([]),
    "zeros": lambda: Tensor.zeros(2), "ones": lambda: Tensor.ones(2), "empty": lambda: Tensor.empty(2),
    "full": lambda: Tensor.full((2,), 0.5), "arange": lambda: Tensor.arange(0.0, 2.0),
    "linspace": lambda: Tensor.linspace(0, 1, 3), "eye": lambda: Tensor.eye(2),
    "rand": lambda: Tensor.rand(2), "randn": lambda: Tensor.randn(2),
    "uniform": lambda: Tensor.uniform(2, low=1, high=2),
    "kaiming": lambda: Tensor.kaiming_uniform(2, 2), "bernoulli": lambda: Tensor.bernoulli(2),
    "a function of integers": lambda: Tensor([1]).sin(), "a quotient": lambda: Tensor([1]) / Tensor([2]),
    "mean": lambda: Tensor([1, 2]).mean(), "a number beside integers": lambda: Tensor([1]) + 0.5,
    "uint64 and int64": lambda: Tensor([1], dtype="uint64") + Tensor([1], dtype="int64"),
    "cast to float": lambda: Tensor([1]).cast(float),
}
MADE_INT = {
    "a list": lambda: Tensor([1]), "a number": lambda: Tensor(2), "arange": lambda: Tensor.arange(3),
    "full": lambda: Tensor.full((2,), 5), "a sum of bools": lambda: Tensor([True]).sum(),
    "a sum of int8": lambda: Tensor([1], dtype="int8").sum(),
    "a number beside bools": lambda: Tensor([True]) + 1,
    "cast to int": lambda: Tensor([1.0]).cast(int),
}


@pytest.mark.parametrize("name", MADE)
def test_the_default_float(name):
    assert MADE[name]().dtype is dtypes.float32
    for default in (dtypes.float64, dtypes.float16, dtypes.bfloat16):
        with Context(DEFAULT_FLOAT=default):
            assert MADE[name]().dtype is default


@pytest.mark.parametrize("name", MADE_INT)
def test_the_default_int(name):
    assert MADE_INT[name]().dtype is dtypes.int32
    with Context(DEFAULT_INT="int64"):
        assert MADE_INT[name]().dtype is dtypes.int64


def test_numpy_data_keep_their_dtype():
    with Context(DEFAULT_FLOAT="float16", DEFAULT_INT="int64"):
        assert Tensor(np.ones(2, np.float32)).dtype is dtypes.float32
        assert Tensor(np.ones(2, np.int32)).dtype is dtypes.int32
        assert (Tensor(np.ones(2, np.float32)) * 2.5).dtype is dtypes.float32


def test_integers_that_only_int64_holds():
    assert Tensor([2**40]).dtype is dtypes.int64
    beyond = Tensor.arange(2**31 - 1, 2**31 + 1, device="ref")
    assert (beyond.dtype, beyond.tolist()) == (dtypes.int64, [2**31 - 1, 2**31])
    assert Tensor.arange(2**31 - 2, 2**31).dtype is dtypes.int32


def test_defaults_are_assigned_for_all_threads_and_changed_in_a_block_of_one(defaults):
    seen = []
    dtypes.default_float, dtypes.default_int = dtypes.float64, "int64"
    with Context(DEFAULT_FLOAT="float16"):
        thread = threading.Thread(target=lambda: seen.extend([Tensor([1.0]).dtype, Tensor([1]).dtype]))
        thread.start()
        thread.join()
        assert (dtypes.default_float, Tensor([1.0]).dtype) == (dtypes.float16, dtypes.float16)
    assert seen == [dtypes.float64, dtypes.int64]
    assert dtypes.default_float is dtypes.float64


@Context(DEFAULT_FLOAT="float64")
def half_of_one() -> Tensor:
    return Tensor([1]) / 2


def test_defaults_of_a_function():
    assert half_of_one().dtype is dtypes.float64
    assert dtypes.default_float is dtypes.float32


@pytest.mark.parametrize("assign", [
    lambda: setattr(dtypes, "default_float", dtypes.int32),
    lambda: setattr(dtypes, "default_int", "float32"),
    lambda: Context(DEFAULT_FLOAT="int8"),
    lambda: Context(DEFAULT_INT=dtypes.uint8),
])
def test_defaults_of_another_kind(assign):
    with pytest.raises(ValueError, match=r"PLUGGRAD_DEFAULT_(FLOAT|INT): expected one of (float16|int32), "):
        assign()
    assert (dtypes.default_float, dtypes.default_int) == (dtypes.float32, dtypes.int32)


def test_layers_in_float64(device):
    from pluggrad import nn

    with Context(DEFAULT_FLOAT="float64"):
        manual_seed(0)
        layer = nn.Linear(3, 2)
        loss = layer(Tensor([[1.0, 2.0, 3.0]])).square().mean()
        loss.backward()
        assert {layer.weight.dtype, layer.bias.dtype, loss.dtype, layer.weight.grad.dtype} == {dtypes.float64}
        assert jit(layer)(Tensor([[1.0, 2.0, 3.0]])).dtype is dtypes.float64


# ---------------------------------------------------------------------------------------- facts


@pytest.mark.parametrize("dtype", dtypes.FLOATS, ids=name_of)
def test_finfo(dtype):
    have, want = dtypes.finfo(dtype), ml_dtypes.finfo(numpy_dtype(dtype))
    assert have.bits == want.bits
    for name in ("eps", "max", "min", "smallest_normal", "smallest_subnormal", "resolution", "tiny"):
        assert numpy_dtype(dtype).type(getattr(have, name)) == getattr(want, name), name
    assert have.dtype is dtype


@pytest.mark.parametrize("dtype", dtypes.INTS, ids=name_of)
def test_iinfo(dtype):
    have, want = dtypes.iinfo(dtype), np.iinfo(dtype.numpy)
    assert (have.bits, have.max, have.min, have.dtype) == (want.bits, want.max, want.min, dtype)
    assert (dtypes.min(dtype), dtypes.max(dtype)) == (want.min, want.max)


def test_facts_of_the_wrong_kind():
    with pytest.raises(TypeError, match="finfo: expected a float dtype, got int32"):
        dtypes.finfo(dtypes.int32)
    with pytest.raises(TypeError, match="iinfo: expected an integer dtype, got float32"):
        dtypes.iinfo("float32")
    with pytest.raises(AttributeError, match="complex64"):
        dtypes.complex64


def test_names():
    fields = dtypes.fields()
    assert set(ALL) <= set(fields)
    assert all(getattr(dtypes, name) is dtype for name, dtype in fields.items())
    assert (dtypes.float, dtypes.int, dtypes.bool, dtypes.half, dtypes.long, dtypes.uchar) == (
        dtypes.float32, dtypes.int32, dtypes.bool_, dtypes.float16, dtypes.int64, dtypes.uint8)
    assert dtypes.all == dtypes.ALL
    for dtype in dtypes.ALL:
        kinds = [dtypes.is_bool(dtype), dtype in dtypes.sints, dtypes.is_unsigned(dtype),
                 dtypes.is_float(dtype)]
        assert kinds == [dtype.kind == kind for kind in "biuf"]
        assert (dtype in dtypes.floats, dtype in dtypes.ints, dtype in dtypes.uints) == (
            dtype.is_float, dtypes.is_int(dtype), dtype.kind == "u")
    assert [dtypes.from_py(value) for value in (True, 1, 1.5, [1, 2.5], [True, [3]], [])] == [
        dtypes.bool_, dtypes.int32, dtypes.float32, dtypes.float32, dtypes.int32, dtypes.float32]
