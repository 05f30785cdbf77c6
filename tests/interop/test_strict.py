"""`pluggrad.array_api` beside array-api-strict, which implements the standard to the letter.

The names and signatures that tests/unit/array_api holds are those that it has, and so are values and dtypes:
of the calls written there, and of random operands.
"""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn

import pluggrad
import pluggrad.array_api as xp
from pluggrad import Context, Tensor
from tests.unit.array_api.calls import calls, evaluate, signatures

pytestmark = pytest.mark.interop

SIGNATURES, CALLS = signatures(), calls()
LATER = {"broadcast_shapes", "isin", "linalg.eig", "linalg.eigvals"}  # in the version after 2024.12
# as that version has them: this one takes more positions
SPELLED_OTHERWISE = {"expand_dims": "(x, /, axis)"}
# what array-api-strict refuses, and the standard leaves open
REFUSED = {
    "xp.imag(f32)",
    "xp.clip(f32, g32, single)",
    "xp.meshgrid(v, few)",
    "xp.linalg.cross(m, m[::-1, ...], axis=1)",
    "xp.linalg.vector_norm(t + 0.5, axis=(0, 2), ord=3)",
}
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float32", "float64"]
# remainders of floats are those of their rounded quotients (docs/array-api.md): these are exact enough
LARGEST = 1e3


@pytest.fixture(scope="session")
def strict():
    import array_api_strict

    return array_api_strict


def plain(function) -> str:
    parameters = inspect.signature(function).parameters.values()
    empty = inspect.Parameter.empty
    return str(inspect.Signature([p.replace(annotation=empty, default=p.default if p.default is empty or
                                            "Undef" not in repr(p.default) else None) for p in parameters]))


def namespace_functions(strict):
    for prefix, namespace in (("", strict), ("linalg.", strict.linalg)):
        names = namespace.__all__ if prefix else [name for name in dir(strict) if name in strict.__all__]
        for name in names:
            function = getattr(namespace, name)
            if inspect.isfunction(function) and "array_api_strict_flags" not in name:
                yield prefix + name, function


def test_the_list_of_the_standard_is_whole(strict):
    theirs = dict(namespace_functions(strict))
    assert set(theirs) - LATER == set(SIGNATURES)
    assert {name: SPELLED_OTHERWISE.get(name, text) for name, text in SIGNATURES.items()} == {
        name: plain(function) for name, function in theirs.items() if name not in LATER}


def as_numpy(value):
    return np.asarray(value) if hasattr(value, "shape") else value


def same(ours, theirs, tolerance=2e-6):
    if isinstance(theirs, (tuple, list)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            same(one, other, tolerance)
    elif isinstance(ours, Tensor):
        theirs = as_numpy(theirs)
        assert (ours.dtype.name, ours.shape) == (theirs.dtype.name, theirs.shape)
        tolerance = tolerance if ours.dtype.name == "float32" else 1e-10
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=tolerance, atol=tolerance)
    elif isinstance(ours, pluggrad.dtypes.DType):
        assert ours.name in repr(theirs)
    else:
        assert ours == theirs


@pytest.mark.parametrize("name", CALLS)
def test_calls(strict, name):
    defaults = Context(DEFAULT_FLOAT="float64", DEFAULT_INT="int64")
    with defaults, pluggrad.device("ref"), np.errstate(all="ignore"):
        for text in [call.text for call in CALLS[name] if call.text not in REFUSED]:
            theirs = evaluate(text, strict, strict.asarray)
            try:
                same(evaluate(text, xp, Tensor), theirs)
            except AssertionError as error:
                raise AssertionError(f"{text}: {error}") from error


def kinds(name: str) -> list[str]:
    """The dtypes that a function of one or two operands takes."""
    if name.startswith("logical"):
        return ["bool"]
    if name.startswith("bitwise"):
        return [*INTEGERS, *(["bool"] if "shift" not in name else [])]
    if name in OF_NUMBERS:
        return [*INTEGERS, *FLOATS]
    return FLOATS


OF_NUMBERS = {
    "abs", "ceil", "floor", "isfinite", "isinf", "isnan", "negative", "positive", "round", "sign", "square",
    "trunc", "add", "equal", "floor_divide", "greater", "greater_equal", "less", "less_equal", "maximum",
    "minimum", "multiply", "not_equal", "pow", "remainder", "subtract"}
NOT_ELEMENTWISE = {"real", "imag", "conj", "nonzero", "matmul"}
ELEMENTWISE = [name for name, text in SIGNATURES.items()
               if text in ("(x, /)", "(x1, x2, /)") and name not in NOT_ELEMENTWISE
               and not name.startswith(("linalg", "unique", "matrix"))]


@st.composite
def operands(draw, name: str):
    """Arrays that broadcast, of one dtype, with values of any size and special ones."""
    dtype = np.dtype(draw(st.sampled_from(kinds(name))))
    if dtype.kind == "f":
        special = st.sampled_from([math.inf, -math.inf, math.nan, 0.0])
        elements = st.floats(-LARGEST, LARGEST, width=32) | special
    elif dtype.kind == "b":
        elements = st.booleans()
    else:
        elements = hn.from_dtype(dtype)
    count = 2 if "x2" in SIGNATURES[name] else 1
    shapes = draw(hn.mutually_broadcastable_shapes(num_shapes=count, max_dims=3, max_side=3)).input_shapes
    arrays = [draw(hn.arrays(dtype, shape, elements=elements)) for shape in shapes]
    if "shift" in name or (name == "pow" and dtype.kind in "iu"):
        arrays[1] = arrays[1] % np.array(5, dtype)
    if name in ("floor_divide", "remainder") and dtype.kind in "iu":
        arrays[1] = np.where(arrays[1] == 0, np.array(1, dtype), arrays[1])
    return arrays


@pytest.mark.parametrize("name", ELEMENTWISE)
@settings(max_examples=30)
@given(data=st.data())
def test_random_operands(strict, name, data):
    arrays = data.draw(operands(name))
    if name in ("floor_divide", "remainder") and arrays[0].dtype.kind == "f":
        arrays = [np.round(x) for x in arrays]  # quotients of whole numbers are exact enough
    with pluggrad.device("ref"), np.errstate(all="ignore"):
        theirs = as_numpy(getattr(strict, name)(*[strict.asarray(x) for x in arrays]))
        ours = getattr(xp, name)(*[Tensor(x) for x in arrays])
        if name in ("floor_divide", "remainder") and arrays[0].dtype.kind == "f":
            open_to_choice = np.isinf(arrays[0]) | (arrays[1] == 0)
            ours, theirs = (np.where(open_to_choice, 0, np.asarray(x)) for x in (ours, theirs))
            ours = Tensor(ours)
        same(ours, theirs, tolerance=4e-6)
