"""Rows of elementwise methods."""

from __future__ import annotations

import numpy as np
from scipy import special

from pluggrad import Tensor
from pluggrad.errors import DTypeError, ShapeError
from tests.unit.api.rows import Make, Row, chances, exactly, integers, uniform

SHAPE = (2, 3)


def unary(name, reference, low=-2.0, high=2.0, ints="float32", **fields):
    inputs = (uniform(*SHAPE, low=low, high=high),)
    return Row(name, reference, inputs, ints=ints, raises=TypeError, says="no_such_argument", **fields)


def steps(name, reference, **fields):
    """Piecewise constant: no gradient."""
    return unary(name, reference, ints="same", gradient=False, **fields)


def binary(name, reference, low=-2.0, high=2.0, ints="same", second: Make | None = None, **fields):
    """Two operands that broadcast."""
    fields = {"error": lambda x, y: getattr(x, name)(Tensor.ones(5)), "raises": ShapeError} | fields
    inputs = (uniform(*SHAPE, low=low, high=high), second or uniform(3, low=low, high=high))
    return Row(name, reference, inputs, ints=ints, **fields)


def test(name, reference, **fields):
    """A comparison or a test: bool."""
    return binary(name, reference, result="bool", ints="bool", gradient=False, **fields)


def bits(name, reference, second: Make | None = None):
    """Of integers; floats are refused."""
    inputs = (integers(*SHAPE, high=100), second or integers(3, high=100))
    return Row(
        name,
        reference,
        inputs,
        gradient=False,
        error=lambda x, y: getattr(x.float(), name)(y.float()),
        raises=DTypeError,
    )


def clamped(low, high):
    return lambda x: np.clip(x, low, high)


ROWS = [
    unary("neg", np.negative, ints="same"),
    unary("abs", np.abs, ints="same"),
    unary("square", np.square, ints="same"),
    unary("reciprocal", np.reciprocal, 0.3),
    unary("sqrt", np.sqrt, 0.3),
    unary("rsqrt", lambda x: x**-0.5, 0.3),
    unary("sin", np.sin),
    unary("cos", np.cos),
    unary("tan", np.tan, -1, 1),
    unary("asin", np.arcsin, -0.9, 0.9),
    unary("acos", np.arccos, -0.9, 0.9),
    unary("atan", np.arctan),
    unary("sinh", np.sinh),
    unary("cosh", np.cosh),
    unary("tanh", np.tanh),
    unary("asinh", np.arcsinh),
    unary("acosh", np.arccosh, 1.2, 3),
    unary("atanh", np.arctanh, -0.9, 0.9),
    unary("exp", np.exp),
    unary("exp2", np.exp2),
    unary("expm1", np.expm1),
    unary("log", np.log, 0.3),
    unary("log2", np.log2, 0.3),
    unary("log10", np.log10, 0.3),
    unary("log1p", np.log1p, -0.5),
    unary("erf", special.erf),
    steps("sign", np.sign),
    steps("floor", np.floor),
    steps("ceil", np.ceil),
    steps("trunc", np.trunc),
    steps("round", np.round),
    unary("isnan", np.isnan, result="bool", ints="bool", gradient=False),
    unary("isinf", np.isinf, result="bool", ints="bool", gradient=False),
    unary("isfinite", np.isfinite, result="bool", ints="bool", gradient=False),
    unary("relu", lambda x: np.maximum(x, 0), ints="same"),
    unary("relu6", lambda x: np.clip(x, 0, 6), ints="same"),
    unary("sigmoid", special.expit),
    unary("hardsigmoid", lambda x: np.clip(x / 6 + 0.5, 0, 1)),
    unary("hardswish", lambda x: x * np.clip(x + 3, 0, 6) / 6),
    unary("hardtanh", clamped(-1, 1), ints="same"),
    unary("leaky_relu", lambda x: np.where(x > 0, x, 0.01 * x)),
    unary("elu", lambda x: np.where(x > 0, x, np.expm1(x))),
    unary("celu", lambda x: np.maximum(x, 0) + np.minimum(0, np.expm1(x))),
    unary("selu", lambda x: 1.0507 * np.where(x > 0, x, 1.67326 * np.expm1(x))),
    unary("gelu", lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))),
    unary("quick_gelu", lambda x: x * special.expit(1.702 * x)),
    unary("silu", lambda x: x * special.expit(x)),
    unary("swish", lambda x: x * special.expit(x)),
    unary("mish", lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    unary("softplus", lambda x: np.log1p(np.exp(x))),
    unary("softsign", lambda x: x / (1 + np.abs(x))),
    unary("logsigmoid", lambda x: -np.log1p(np.exp(-x))),
    Row(
        "logical_not",
        np.logical_not,
        (chances(*SHAPE),),
        gradient=False,
        raises=TypeError,
        says="no_such_argument",
    ),
    Row(
        "bitwise_not",
        np.bitwise_not,
        (integers(*SHAPE),),
        gradient=False,
        error=lambda x: x.float().bitwise_not(),
        raises=DTypeError,
    ),
    Row(
        "glu",
        lambda x: x[:, :2] * special.expit(x[:, 2:]),
        (uniform(3, 4),),
        ints="float32",
        error=lambda x: x[:, :3].glu(),
        raises=ShapeError,
    ),
    Row(
        "softmax",
        lambda x: special.softmax(x, -1),
        (uniform(*SHAPE),),
        ints="float32",
        error=lambda x: x.softmax(4),
        raises=IndexError,
    ),
    Row(
        "softmin",
        lambda x: special.softmax(-x, -1),
        (uniform(*SHAPE),),
        ints="float32",
        error=lambda x: x.softmin(4),
        raises=IndexError,
        says="axis",
    ),
    Row(
        "log_softmax",
        lambda x: special.log_softmax(x, -1),
        (uniform(*SHAPE),),
        ints="float32",
        error=lambda x: x.log_softmax(4),
        raises=IndexError,
    ),
    Row(
        "clamp",
        clamped(-0.5, 0.7),
        (uniform(*SHAPE),),
        call=lambda x: x.clamp(-0.5, 0.7),
        error=lambda x: x.clamp(),
    ),
    Row(
        "clip",
        clamped(None, 0.7),
        (uniform(*SHAPE),),
        call=lambda x: x.clip(max_=0.7),
        error=lambda x: x.clip(),
    ),
    Row(
        "prelu",
        lambda x, w: np.where(x > 0, x, w * x),
        (uniform(*SHAPE), uniform(3)),
        error=lambda x, w: x.prelu(Tensor.ones(5)),
        raises=ShapeError,
    ),
    binary("add", np.add),
    binary("sub", np.subtract),
    binary("mul", np.multiply),
    binary("div", np.divide, 0.5, ints="float32"),
    binary("mod", np.mod, 0.5, second=uniform(3, low=0.3, high=0.45)),
    binary("fmod", np.fmod, 0.5, second=uniform(3, low=0.3, high=0.45)),
    binary("remainder", np.remainder, 0.5, second=uniform(3, low=0.3, high=0.45)),
    binary("pow", np.power, 0.5),
    binary("maximum", np.maximum),
    binary("minimum", np.minimum),
    binary("hypot", np.hypot, 0.5, ints="float32"),
    binary("atan2", np.arctan2, 0.5, ints="float32"),
    binary("copysign", np.copysign, ints="float32"),
    binary("logaddexp", np.logaddexp, ints="float32"),
    test("eq", np.equal),
    test("ne", np.not_equal),
    test("isclose", np.isclose),
    Row(
        "allclose",
        np.allclose,
        (uniform(*SHAPE), uniform(3)),
        call=lambda x, y: x.allclose(y) + np.array(False),
        result="",
        gradient=False,
        error=lambda x, y: x.allclose(Tensor.ones(5)),
        raises=ShapeError,
    ),
    bits("bitwise_and", np.bitwise_and),
    bits("bitwise_or", np.bitwise_or),
    bits("bitwise_xor", np.bitwise_xor),
    bits("lshift", np.left_shift, integers(3, high=5)),
    bits("rshift", np.right_shift, integers(3, high=5)),
    Row(
        "where",
        np.where,
        (chances(*SHAPE), uniform(*SHAPE), uniform(3)),
        error=lambda c, x, y: c.where(x, Tensor.ones(5)),
        raises=ShapeError,
    ),
    Row(
        "masked_fill",
        lambda x, m: np.where(m, 0.5, x),
        (uniform(*SHAPE), chances(3)),
        call=lambda x, m: x.masked_fill(m, 0.5),
        error=lambda x, m: x.masked_fill(Tensor([True] * 5), 0.5),
        raises=ShapeError,
    ),
    Row(
        "lerp",
        lambda x, y, w: x + (y - x) * w,
        (uniform(*SHAPE), uniform(3), uniform(*SHAPE)),
        error=lambda x, y, w: x.lerp(Tensor.ones(5), w),
        raises=ShapeError,
    ),
    Row("dropout", lambda x: x, (uniform(*SHAPE),), error=lambda x: x.dropout(1.5)),
    Row(
        "cast",
        lambda x: x.astype(np.float64),
        (integers(*SHAPE),),
        call=lambda x: x.cast("float64"),
        result="float64",
        gradient=False,
        error=lambda x: x.cast("float99"),
    ),
    Row(
        "bitcast",
        lambda x: x.view(np.float32),
        (integers(*SHAPE),),
        call=lambda x: x.bitcast("float32"),
        result="float32",
        gradient=False,
        error=lambda x: x.bool().bitcast("float32"),
    ),
    Row(
        "one_hot",
        lambda x: np.eye(9, dtype=np.int32)[x],
        (integers(4),),
        call=lambda x: x.one_hot(9),
        gradient=False,
        error=lambda x: x.one_hot(-1),
    ),
    Row(
        "normalize",
        lambda x: x / np.sqrt((x * x).sum(1, keepdims=True)),
        (uniform(*SHAPE),),
        error=lambda x: x.normalize(dim=5),
        raises=IndexError,
    ),
]
CASTS = {
    "half": "float16",
    "bfloat16": "bfloat16",
    "float": "float32",
    "double": "float64",
    "short": "int16",
    "int": "int32",
    "long": "int64",
    "bool": "bool",
}
ROWS += [
    Row(
        name,
        lambda x: x,
        (exactly([[1, 0, 1]]),),
        result=dtype,
        gradient=False,
        raises=TypeError,
        says="no_such_argument",
    )
    for name, dtype in CASTS.items()
]
