"""Elementwise methods against NumPy and SciPy: dtypes, odd shapes, views, NaN and infinity."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from pluggrad import Tensor, dtypes

pytestmark = pytest.mark.usefixtures("device")

SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan]
ANY = np.array([-30.5, -3.7, -1.0, -0.5, -1e-4, 1e-4, 0.3, 0.5, 1.0, 1.5, 2.5, 7.0, 25.0, *SPECIAL])
UNIT = np.array([-1.0, -0.7, -1e-4, 0.0, 1e-4, 0.3, 0.99, 1.0])
POSITIVE = np.array([1e-5, 0.3, 1.0, 1.7, 40.0, 1e4, np.inf])
FINITE = ANY[np.isfinite(ANY)]


def sigmoid(x):
    return special.expit(x)


def selu(x):
    return 1.0507 * np.where(x > 0, x, 1.67326 * np.expm1(np.minimum(x, 0)))


# name -> (reference, values); the Tensor method of that name is called without arguments
UNARY = {
    "neg": (np.negative, ANY),
    "abs": (np.abs, ANY),
    "sign": (np.sign, ANY),
    "square": (np.square, ANY),
    "sqrt": (np.sqrt, ANY),
    "rsqrt": (lambda x: 1 / np.sqrt(x), POSITIVE),
    "reciprocal": (lambda x: 1 / x, ANY),
    "exp": (np.exp, ANY),
    "exp2": (np.exp2, ANY),
    "expm1": (np.expm1, ANY),
    "log": (np.log, ANY),
    "log2": (np.log2, ANY),
    "log10": (np.log10, ANY),
    "log1p": (np.log1p, ANY),
    "sin": (np.sin, ANY),
    "cos": (np.cos, ANY),
    "tan": (np.tan, UNIT),
    "asin": (np.arcsin, UNIT),
    "acos": (np.arccos, UNIT),
    "atan": (np.arctan, ANY),
    "sinh": (np.sinh, ANY),
    "cosh": (np.cosh, ANY),
    "tanh": (np.tanh, ANY),
    "asinh": (np.arcsinh, FINITE),
    "acosh": (np.arccosh, np.array([1.0, 1.2, 3.0, 1e4])),
    "atanh": (np.arctanh, UNIT),
    "erf": (special.erf, ANY),
    "floor": (np.floor, ANY),
    "ceil": (np.ceil, ANY),
    "trunc": (np.trunc, ANY),
    "round": (np.rint, ANY),
    "isnan": (np.isnan, ANY),
    "isinf": (np.isinf, ANY),
    "isfinite": (np.isfinite, ANY),
    "logical_not": (np.logical_not, ANY),
    "relu": (lambda x: np.maximum(x, 0), ANY),
    "relu6": (lambda x: np.clip(x, 0, 6), ANY),
    "sigmoid": (sigmoid, ANY),
    "logsigmoid": (lambda x: -np.logaddexp(0, -x), FINITE),
    "softplus": (lambda x: np.logaddexp(0, x), FINITE),
    "softsign": (lambda x: x / (1 + np.abs(x)), FINITE),
    "silu": (lambda x: x * sigmoid(x), FINITE),
    "swish": (lambda x: x * sigmoid(x), FINITE),
    "mish": (lambda x: x * np.tanh(np.logaddexp(0, x)), FINITE),
    "selu": (selu, FINITE),
    "quick_gelu": (lambda x: x * sigmoid(1.702 * x), FINITE),
    "elu": (lambda x: np.where(x > 0, x, np.expm1(x)), FINITE),
    "celu": (lambda x: np.where(x > 0, x, np.expm1(x)), FINITE),
    "hardsigmoid": (lambda x: np.clip(x / 6 + 0.5, 0, 1), ANY),
    "hardtanh": (lambda x: np.clip(x, -1, 1), ANY),
    "hardswish": (lambda x: x * np.clip(x + 3, 0, 6) / 6, FINITE),
    "leaky_relu": (lambda x: np.where(x < 0, 0.01 * x, x), ANY),
    "gelu": (lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))), FINITE),
}
TOLERANCE = {np.float16: 4e-3, np.float32: 3e-6, np.float64: 1e-13}


# sums that cancel where the function ends in 0: its rounding counts as often as the argument is large
CANCELS = {"gelu": 10.0}


def close(actual, expected, dtype, cancels=1.0):
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * 0.1 * cancels)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", UNARY)
def test_function_of_one_tensor(name, dtype):
    reference, values = UNARY[name]
    x = values.astype(dtype)
    with np.errstate(all="ignore"):
        expected = reference(x.astype(np.float64))
        if expected.dtype == np.float64:
            expected = expected.astype(dtype)
    result = getattr(Tensor(x), name)()
    assert result.shape == x.shape
    assert result.dtype is (dtypes.bool_ if expected.dtype == bool else dtypes.to_dtype(dtype))
    close(result.numpy(), expected, dtype, CANCELS.get(name, 1.0))


@pytest.mark.parametrize("name", ["exp", "sigmoid", "gelu", "tanh", "log1p", "atan"])
def test_halves(name):
    reference, _ = UNARY[name]
    x = np.array([0.1, 0.5, 1.0, 3.0, 7.0], np.float16)
    for dtype in (dtypes.float16, dtypes.bfloat16):
        result = getattr(Tensor(x, dtype=dtype), name)()
        assert result.dtype is dtype
        tolerance = 4e-3 if dtype is dtypes.float16 else 4e-2
        np.testing.assert_allclose(
            result.float().numpy(), reference(x.astype(np.float64)), rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize("shape", [(), (1,), (0,), (7,), (3, 5), (2, 0, 3), (2, 1, 3)])
def test_shapes(shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    result = (Tensor(x).exp() * 2 - 1).numpy()
    assert result.shape == shape
    close(result, np.exp(x) * 2 - 1, np.float32)


@pytest.mark.parametrize(
    "name", ["relu", "neg", "abs", "sign", "square", "floor", "round", "exp", "sigmoid", "isnan"]
)
@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int64, np.int8])
def test_integers(name, dtype):
    x = np.array([0, 1, 5, 7, 3], dtype)
    result = getattr(Tensor(x), name)()
    expected = UNARY[name][0](x.astype(np.float64) if name in ("exp", "sigmoid") else x)
    if name in ("exp", "sigmoid"):
        assert result.dtype is dtypes.float32
    elif name != "isnan":
        assert result.dtype is dtypes.to_dtype(dtype)
        expected = expected.astype(dtype)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6)


BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "mod": lambda x, y: x - np.floor(x / y) * y,
    "fmod": np.fmod,
    "hypot": np.hypot,
    "atan2": np.arctan2,
    "copysign": np.copysign,
    "logaddexp": np.logaddexp,
    "eq": np.equal,
    "ne": np.not_equal,
}
OPERATORS = {
    "+": lambda x, y: x + y, "-": lambda x, y: x - y, "*": lambda x, y: x * y, "/": lambda x, y: x / y,
    "<": lambda x, y: x < y, "<=": lambda x, y: x <= y, ">": lambda x, y: x > y, ">=": lambda x, y: x >= y,
    "==": lambda x, y: x == y, "!=": lambda x, y: x != y,
}
INT_OPERATORS = {
    "&": lambda x, y: x & y, "|": lambda x, y: x | y, "^": lambda x, y: x ^ y,
    "//": lambda x, y: x // y, "%": lambda x, y: x % y,
}


@pytest.mark.parametrize("name", BINARY)
def test_function_of_two_tensors(name):
    x, y = np.meshgrid(ANY.astype(np.float32), ANY.astype(np.float32))
    if name in ("mod", "fmod", "atan2", "hypot"):
        x, y = (np.where(np.isfinite(v), v, 2.5).astype(np.float32) for v in (x, y))
    if name in ("mod", "fmod"):  # quarters divide without rounding, so that the remainder is exact
        x, y = np.round(x * 4) / 4, np.round(y * 4) / 4
    if name == "atan2":
        x = np.where(x == 0, np.float32(0.5), x)
    with np.errstate(all="ignore"):
        expected = BINARY[name](x, y)
    if name == "fmod":
        expected = np.where(y == 0, np.nan, expected)
    np.testing.assert_allclose(getattr(Tensor(x), name)(Tensor(y)).numpy(), expected, rtol=5e-6, atol=1e-6)


@pytest.mark.parametrize("symbol", OPERATORS)
def test_operators_broadcast_and_reflect(symbol):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(3, 1, 5)).astype(np.float32), rng.normal(size=(7, 1)).astype(np.float32)
    apply = OPERATORS[symbol]
    np.testing.assert_allclose(apply(Tensor(x), Tensor(y)).numpy(), apply(x, y), rtol=1e-6)
    np.testing.assert_allclose(apply(Tensor(x), y).numpy(), apply(x, y), rtol=1e-6)
    np.testing.assert_allclose(apply(x, Tensor(y)).numpy(), apply(x, y), rtol=1e-6)
    np.testing.assert_allclose(apply(Tensor(x), 0.5).numpy(), apply(x, np.float32(0.5)), rtol=1e-6)
    np.testing.assert_allclose(apply(0.5, Tensor(y)).numpy(), apply(np.float32(0.5), y), rtol=1e-6)


@pytest.mark.parametrize("symbol", INT_OPERATORS)
@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int64])
def test_integer_operators(symbol, dtype):
    apply = INT_OPERATORS[symbol]
    x, y = np.array([7, 100, 5, 0], dtype), np.array([2, 3, 7, 9], dtype)
    if dtype != np.uint8:
        x[:2] *= -1
    np.testing.assert_array_equal(apply(Tensor(x), Tensor(y)).numpy(), apply(x, y))
    np.testing.assert_array_equal(apply(Tensor(x), 3).numpy(), apply(x, dtype(3)))
    np.testing.assert_array_equal(apply(5, Tensor(y)).numpy(), apply(dtype(5), y))


def test_integer_division_by_zero_gives_zero():
    x, zero = Tensor([7, -7, 0]), Tensor([0, 0, 0])
    assert (x // zero).tolist() == [0, 0, 0]
    assert (x % zero).tolist() == [0, 0, 0]
    assert x.fmod(zero).tolist() == [7, -7, 0]
    assert (Tensor([-(2**31)]) // -1).tolist() == [-(2**31)]


def test_rounding_of_quotients():
    x, y = np.array([7, -7, 7, -7]), np.array([2, 2, -2, -2])
    a, b = Tensor(x), Tensor(y)
    assert a.div(b, rounding_mode="trunc").tolist() == [3, -3, -3, 3]
    assert a.div(b, rounding_mode="floor").tolist() == [3, -4, -4, 3]
    assert a.fmod(b).tolist() == np.fmod(x, y).tolist()
    assert (a.float() // b.float()).tolist() == (x // y).tolist()
    assert [t.tolist() for t in divmod(a, b)] == [(x // y).tolist(), (x % y).tolist()]


def test_shifts():
    x = Tensor([1, -8, 3])
    assert (x << 2).tolist() == [4, -32, 12]
    assert (x >> 1).tolist() == [0, -4, 1]
    assert (x << 40).tolist() == [0, 0, 0]
    assert (x >> 40).tolist() == [0, -1, 0]
    assert (1 << Tensor([3, 4])).tolist() == [8, 16]


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 4, 7, -1, -2, 0.5, -0.5, 1.7, 2.0, 9])
def test_powers_by_numbers(exponent):
    x = np.array([0.3, 1.0, 2.5, 7.0], np.float32)
    np.testing.assert_allclose((Tensor(x) ** exponent).numpy(), x**exponent, rtol=3e-6)


def test_powers():
    assert (Tensor([2, -3, 5]) ** 3).tolist() == [8, -27, 125]
    assert (Tensor([2, -3, 1, -1]) ** -1).tolist() == [0, 0, 1, -1]
    assert (Tensor([2, 3, 4]) ** Tensor([3, 2, 0])).tolist() == [8, 9, 1]
    np.testing.assert_allclose((2 ** Tensor([0.0, 1.0, 3.5])).numpy(), [1, 2, 2**3.5], rtol=1e-6)
    np.testing.assert_allclose((Tensor([2.0, 3.0]) ** Tensor([0.5, 2.0])).numpy(), [2**0.5, 9], rtol=1e-6)


def test_python_scalars_are_weak():
    assert (Tensor([1, 2], dtype="uint8") + 5).dtype is dtypes.uint8
    assert (Tensor([1.0], dtype="float16") * 2.5).dtype is dtypes.float16
    assert (Tensor([1, 2]) * 0.5).tolist() == [0.5, 1.0]
    assert (Tensor([True, False]) + 1).tolist() == [2, 1]
    with pytest.raises(TypeError, match=r"add: .*uint8.*300"):
        Tensor([1], dtype="uint8") + 300


def test_comparison_with_a_number_beyond_the_dtype():
    x = Tensor([0, 255], dtype="uint8")
    assert (x < 300).tolist() == [True, True]
    assert (x > -1).tolist() == [True, True]
    assert (x == 300).tolist() == [False, False]
    assert (x < 300).tolist() == [True, True]
    assert (x < 0.5).tolist() == [True, False]


def test_nan_goes_through_max_relu_and_comparisons_as_in_numpy():
    x = np.array([np.nan, 1.0, -1.0], np.float32)
    t = Tensor(x)
    assert np.isnan(t.relu().numpy()[0])
    np.testing.assert_array_equal(t.maximum(0.0).numpy(), np.maximum(x, 0))
    np.testing.assert_array_equal(t.clip(-0.5, 0.5).numpy(), np.clip(x, -0.5, 0.5))
    for apply in OPERATORS.values():
        np.testing.assert_array_equal(apply(t, 1.0).numpy(), apply(x, np.float32(1)))


def test_where_and_friends():
    x, y = Tensor([1.0, 2.0, 3.0]), Tensor([4, 5, 6])
    condition = Tensor([True, False, True])
    assert condition.where(x, y).tolist() == [1, 5, 3]
    assert condition.where(x, 0).tolist() == [1, 0, 3]
    assert condition.where(0, x).tolist() == [0, 2, 0]
    assert condition.where(1, 2).tolist() == [1, 2, 1]
    assert x.masked_fill(condition, -1).tolist() == [-1, 2, -1]
    assert x.lerp(y, 0.5).tolist() == [2.5, 3.5, 4.5]
    assert x.clamp(1.5).tolist() == [1.5, 2, 3]
    assert x.clamp(max_=Tensor([0.0, 9.0, 1.0])).tolist() == [0, 2, 1]
    assert (3 - x).tolist() == [2, 1, 0]


def test_isclose():
    x, y = Tensor([1.0, np.inf, np.nan, 1.0]), Tensor([1.0 + 1e-7, np.inf, np.nan, 1.1])
    assert x.isclose(y).tolist() == [True, True, False, False]
    assert x.isclose(y, equal_nan=True).tolist() == [True, True, True, False]
    assert x[:2].allclose(y[:2])
    assert not x.allclose(y)


def test_casts():
    x = Tensor([1.7, -1.7, np.nan, 1e30, -np.inf])
    assert x.int().tolist() == [1, -1, 0, 2**31 - 1, -(2**31)]
    assert x.cast("uint8").tolist() == [1, 0, 0, 255, 0]
    assert Tensor([300, -1]).cast(dtypes.uint8).tolist() == [44, 255]
    assert Tensor([0, 2, -1]).bool().tolist() == [False, True, True]
    assert Tensor([1.0]).bitcast(dtypes.int32).item() == 0x3F800000
    for name in ("half", "bfloat16", "float", "double", "short", "int", "long", "bool"):
        assert getattr(Tensor([1.0]), name)().dtype is dtypes.by_name(name)


def test_bits_of_bool():
    a, b = Tensor([True, True, False]), Tensor([True, False, False])
    assert (a & b).tolist() == [True, False, False]
    assert (a | b).tolist() == [True, True, False]
    assert (a ^ b).tolist() == [False, True, False]
    assert (~a).tolist() == [False, False, True]


def test_operands_of_other_types():
    x = Tensor([1.0, 2.0])
    assert (x + [1, 2]).tolist() == [2, 4]
    assert (np.float32(2) * x).tolist() == [2, 4]
    assert (np.array([1, 2]) * x).tolist() == [1, 4]
    assert (x == None) is False  # noqa: E711 - what the comparison gives is the test
    with pytest.raises(TypeError, match="add"):
        x + "two"


def test_angles_of_points_on_the_axes_and_at_infinity():
    edges = np.array([0.0, -0.0, 1.0, -2.0, np.inf, -np.inf, np.nan])
    y, x = np.meshgrid(edges, edges)
    np.testing.assert_allclose(Tensor(y).atan2(Tensor(x)).numpy(), np.arctan2(y, x), rtol=1e-14)
    x, y = Tensor([0.0, -1.0, 2.0]), Tensor([2.0, 0.0, 2.0])
    y.atan2(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [-0.5, 0, -0.25], rtol=1e-6)
    np.testing.assert_allclose(y.grad.numpy(), [0, -1, 0.25], rtol=1e-6)


def test_lengths_beside_infinity_and_quotients_that_vanish():
    assert Tensor([np.inf, 3.0, np.inf]).hypot(Tensor([1.0, 4.0, np.nan])).tolist() == [np.inf, 5, np.inf]
    quotients = Tensor([-3.0, 3.0, 3.0, -1e-30, 0.0]) // Tensor([np.inf, np.inf, -np.inf, 1e30, -np.inf])
    assert quotients.tolist() == [-1, 0, -1, -1, 0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_rest_of_a_division_is_rounded_once(dtype):
    rng = np.random.default_rng(2)
    edges = [(1, 0.1), (-1, 0.1), (1, -0.1), (3, np.inf), (-3, np.inf), (np.inf, 2), (1, 0), (7.5, 2.5)]
    x, y = (np.concatenate([rng.uniform(-9, 9, 500), part]).astype(dtype) for part in zip(*edges))
    a, b = Tensor(x), Tensor(y)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal((a % b).numpy(), np.remainder(x, y))
        np.testing.assert_array_equal(a.fmod(b).numpy(), np.fmod(x, y))
        np.testing.assert_array_equal((a // b).numpy(), np.floor_divide(x, y))
