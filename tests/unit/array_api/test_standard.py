"""`pluggrad.array_api` beside NumPy, which implements the standard, too: names, signatures, values."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest

import pluggrad
import pluggrad.array_api as xp
from pluggrad import Context, Tensor, dtypes
from pluggrad.errors import PluggradError
from tests.unit.array_api.calls import calls, evaluate, signatures

SIGNATURES, CALLS = signatures(), calls()
CONSTANTS = {"e": 2.718281828459045, "inf": float("inf"), "newaxis": None, "pi": 3.141592653589793}
DTYPES = {"bool", "float32", "float64", *[f"{sign}int{n}" for sign in ("", "u") for n in (8, 16, 32, 64)]}
BESIDE = {"linalg", "nan", "__array_api_version__", "broadcast_shapes"}  # two are of the next version

OPERATORS = ("add", "and", "floordiv", "lshift", "matmul", "mod", "mul", "or", "pow", "rshift",
             "sub", "truediv", "xor")
METHODS = ("abs", "array_namespace", "bool", "complex", "dlpack", "dlpack_device", "eq", "float", "ge",
           "getitem", "gt", "index", "int", "invert", "le", "lt", "ne", "neg", "pos", "setitem")


def test_every_name_of_the_standard_is_there_and_called():
    assert set(SIGNATURES) == set(CALLS)
    extension = {name for name in SIGNATURES if name.startswith("linalg.")}
    assert extension == {f"linalg.{name}" for name in xp.linalg.__all__}
    assert set(xp.__all__) == (set(SIGNATURES) - extension) | set(CONSTANTS) | DTYPES | BESIDE
    assert {name: getattr(xp, name) for name in CONSTANTS} == CONSTANTS
    assert xp.nan != xp.nan
    assert xp.__array_api_version__ == "2024.12"


def function_called(name):
    return getattr(xp.linalg if name.startswith("linalg.") else xp, name.rpartition(".")[2])


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name):
    function = function_called(name)
    parameters = [parameter.replace(annotation=inspect.Parameter.empty)
                  for parameter in inspect.signature(function).parameters.values()]
    assert str(inspect.Signature(parameters)) == SIGNATURES[name]
    assert function.__name__ == name.rpartition(".")[2]
    assert re.search(r"\w", function.__doc__ or "")


def test_arrays_have_the_attributes_and_methods_of_the_standard():
    x = Tensor([[1.0]])
    for name in (*METHODS, *[f"{way}{name}" for way in ("", "i", "r") for name in OPERATORS]):
        assert callable(getattr(x, f"__{name}__"))
    for name in ("dtype", "device", "mT", "ndim", "shape", "T"):
        assert not callable(getattr(x, name))


def test_arrays_name_their_namespace():
    x = Tensor([1.0])
    assert x.__array_namespace__() is x.__array_namespace__(api_version="2022.12") is xp
    assert x.to_device(x.device) is x
    with pytest.raises(ValueError, match=r"expected one of 2021.12, .*got '1999.12'"):
        x.__array_namespace__(api_version="1999.12")
    with pytest.raises(ValueError, match="to_device: expected stream=None, got 1"):
        x.to_device(x.device, stream=1)


def compare(ours, theirs):
    if isinstance(theirs, (tuple, list)):
        assert len(ours) == len(theirs)
        assert getattr(ours, "_fields", None) == getattr(theirs, "_fields", None)
        for one, other in zip(ours, theirs, strict=True):
            compare(one, other)
    elif isinstance(ours, dtypes.DType):
        assert ours.name == np.dtype(theirs).name
    elif not isinstance(ours, Tensor):
        assert ours == theirs
    else:
        theirs = np.asarray(theirs)
        assert (ours.dtype.name, ours.shape) == (theirs.dtype.name, theirs.shape)
        tolerance = 2e-6 if ours.dtype is dtypes.float32 else 1e-10
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", CALLS)
def test_values_and_dtypes_are_those_of_numpy(name):
    """With the default dtypes of NumPy. The interpreter computes: there are many shapes."""
    defaults = Context(DEFAULT_FLOAT="float64", DEFAULT_INT="int64")
    with defaults, pluggrad.device("ref"), np.errstate(all="ignore"):
        for call in CALLS[name]:
            ours = evaluate(call.text, xp, Tensor)
            theirs = evaluate(call.numpy, np, np.asarray)
            try:
                compare(ours, theirs)
            except AssertionError as error:
                raise AssertionError(f"{call.text}: {error}") from error


def test_dtypes_are_ours_by_default(device):
    x = xp.asarray([[1, 2], [3, 4]])
    assert (x.dtype, xp.asarray(1.5).dtype, xp.zeros(2).dtype) == (xp.int32, xp.float32, xp.float32)
    positions = (xp.argmax(x), xp.argsort(x), xp.count_nonzero(x), *xp.nonzero(x))
    assert {found.dtype for found in positions} == {xp.int64}
    assert xp.sum(xp.astype(x, xp.uint8)).dtype is xp.uint32
    assert xp.mean(xp.astype(x, xp.float64)).dtype is xp.float64


def test_the_namespace_says_what_it_can_do(device):
    info = xp.__array_namespace_info__()
    assert info.capabilities() == {
        "boolean indexing": True, "data-dependent shapes": True, "max dimensions": None}
    assert info.default_device() == device
    assert device in info.devices()
    assert info.default_dtypes() == {"real floating": xp.float32, "complex floating": None,
                                     "integral": xp.int32, "indexing": xp.int64}
    assert set(info.dtypes(device=device)) <= DTYPES
    assert info.dtypes(device="ref", kind="complex floating") == {}
    assert info.dtypes(device="ref", kind="unsigned integer") == {
        f"uint{bits}": getattr(xp, f"uint{bits}") for bits in (8, 16, 32, 64)}


def test_gradients_flow_through_the_namespace():
    x = Tensor([[1.0, 2.0], [3.0, 5.0]], requires_grad=True)
    xp.sum(xp.linalg.inv(x) * xp.exp(xp.clip(x, min=2.0))).backward()
    assert x.grad.shape == (2, 2)


WRONG = {
    "xp.sin([1.0])": "sin: expected an array of pluggrad's, got list. asarray makes one",
    "xp.add(1, 2)": "add: expected an array of pluggrad's, got int",
    "xp.multiply(f32, 1j)": "multiply: expected an array or a Python scalar that is real, got complex",
    "xp.bitwise_and(f32, f32)": "expected an integer or bool dtype, got float32",
    "xp.add(u8, -1)": "expected an integer that uint8 holds",
    "xp.squeeze(f32, 0)": r"squeeze: expected size 1 along \(0,\), got shape \(6,\)",
    "xp.take(f64, places)": r"take: expected an axis, or an array of one, got shape \(2, 3\)",
    "xp.cumulative_sum(f64)": "cumulative_sum: expected an axis",
    "xp.nonzero(single)": "nonzero: expected at least one axis",
    "xp.isdtype(xp.int8, 'whole')": "isdtype: expected one of bool, signed integer",
    "xp.result_type(1, 2.0)": "result_type: expected an array or a dtype",
    "xp.asarray([1, 2], copy=False)": "asarray: expected an array of pluggrad's with copy=False, got list",
    "xp.asarray(f32, dtype=xp.int8, copy=False)": "asarray: expected float32 on .* got int8",
    "xp.vecdot(v, places)": "vecdot: expected equal sizes along axis -1, got 3 and 4",
    "xp.vecdot(v, w, axis=1)": "vecdot: .*axis",
    "xp.linalg.cross(places, places)": "cross: expected size 3",
    "xp.linalg.inv(tall)": "inv: .*square",
    "xp.finfo(xp.int8)": "finfo: expected a float dtype",
}


@pytest.mark.parametrize("text", WRONG)
def test_bad_input(text):
    with pytest.raises(PluggradError, match=WRONG[text]):
        evaluate(text, xp, lambda value: Tensor(value, device="ref"))
