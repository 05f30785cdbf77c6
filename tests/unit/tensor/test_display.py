"""Tensors as text: every dtype, NumPy's print options, large tensors, captures, failures, formats."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, dtypes, jit, profile
from pluggrad.errors import TensorIndexError


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ([1.0, 2.5], "Tensor([1. , 2.5], dtype=float32, device={})"),
        (3, "Tensor(3, dtype=int32, device={})"),
        (-0.0, "Tensor(-0., dtype=float32, device={})"),
        ([True, False], "Tensor([ True, False], dtype=bool, device={})"),
        ([[1, 2], [3, 4]], "Tensor([[1, 2],\n        [3, 4]], dtype=int32, device={})"),
        ([float("nan"), float("-inf")], "Tensor([ nan, -inf], dtype=float32, device={})"),
        ([], "Tensor([], dtype=float32, device={})"),
        ([[], []], "Tensor([], shape=(2, 0), dtype=float32, device={})"),
    ],
    ids=repr,
)
def test_text(data, text, device):
    x = Tensor(data)
    assert repr(x) == str(x) == f"{x}" == text.format(device)


NUMBERS = {
    "bool": ([1], " True"), "float16": ([0.1], "0.1"), "bfloat16": ([0.1], "0.10009766"),
    "float32": ([0.1], "0.1"), "float64": ([1 / 3], "0.33333333"),
    "uint64": ([2**64 - 1], "18446744073709551615"), "int64": ([-(2**63)], "-9223372036854775808"),
    "int8": ([-128], "-128"), "uint8": ([255], "255"), "int16": ([-1], "-1"), "uint16": ([65535], "65535"),
    "int32": ([-1], "-1"), "uint32": ([2**32 - 1], "4294967295"),
}


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda d: d.name)
def test_every_dtype(dtype):
    numbers, text = NUMBERS[dtype.name]
    x = Tensor(numbers, dtype=dtype, device="ref")
    assert repr(x) == f"Tensor([{text}], dtype={dtype.name}, device=ref)"


def test_parameters_say_so(device):
    assert repr(Tensor([1.0], requires_grad=True)).endswith(f"device={device}, requires_grad=True)")
    assert "requires_grad" not in repr(Tensor([1.0]) * 2)
    assert "requires_grad" not in repr(Tensor([1.0], requires_grad=False))


OPTIONS = {
    "none": {}, "precision": {"precision": 2}, "edgeitems": {"edgeitems": 1}, "threshold": {"threshold": 10},
    "no threshold": {"threshold": 10**9}, "suppress": {"suppress": True}, "linewidth": {"linewidth": 40},
    "several": {"precision": 3, "threshold": 0, "edgeitems": 2, "sign": "+"},
    "formatter": {"formatter": {"float": lambda number: f"<{number:.1f}>"}},
    "all of it": {"edgeitems": 2500, "threshold": 4999},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("shape", [(7,), (5000,), (40, 30), (3, 2, 5000), (9, 8, 7, 10), (2, 3)], ids=str)
def test_numpys_print_options_hold(shape, options):
    numbers = (np.arange(np.prod(shape)).reshape(shape) ** 2 / 7).astype(np.float32)
    with np.printoptions(**options):
        text = repr(Tensor(numbers, device="ref"))
        expected = np.array2string(numbers, separator=", ", prefix="Tensor(", suffix=",")
    values = text.removeprefix("Tensor(")[:len(expected)]
    assert values == expected
    assert f"shape={shape}" in text if "..." in expected else "shape" not in text


def test_only_the_edges_of_a_large_tensor_are_read(device):
    x = (Tensor.arange(3_000_000).reshape(1000, 3000) * 2).realize()
    with profile() as profiled:
        text = repr(x)
    assert "5999994, 5999996, 5999998]]" in text
    assert text.endswith(f"shape=(1000, 3000), dtype=int32, device={device})")
    assert sum(event.nbytes for event in profiled.copied) <= 4 * 4096 * 6
    assert not profiled.finished  # and nothing is computed for it


def test_printing_computes_once(device):
    x = Tensor([1.0, 2.0]).exp()
    repr(x)
    with profile() as profiled:
        repr(x)
    assert not profiled.finished


def test_a_view_and_a_transposed_tensor(device):
    x = Tensor.arange(6).reshape(2, 3)
    assert "[[0, 3],\n        [1, 4],\n        [2, 5]]" in repr(x.T)
    assert repr(x[1, 1:]).startswith("Tensor([4, 5]")


def test_nothing_is_computed_inside_a_captured_function(device, capsys):
    @jit
    def doubled(x: Tensor) -> Tensor:
        print(x * 2)
        return x * 2

    assert doubled(Tensor([1.0, 2.0])).tolist() == doubled(Tensor([1.0, 2.0])).tolist() == [2, 4]
    assert capsys.readouterr().out == f"Tensor(<not computed>, shape=(2,), dtype=float32, device={device})\n"


def test_what_cannot_be_computed(device):
    x = Tensor([1.0, 2.0])[Tensor([5])]
    text = repr([x])  # as a debugger or a notebook asks for it
    assert text.startswith("[Tensor(<not computed: TensorIndexError: index: expected an index in [-2, 1]")
    assert "shape=(1,), dtype=float32" in text
    with pytest.raises(TensorIndexError):
        print(x)


def test_formats():
    assert f"{Tensor(2.71828):.3f} {Tensor([[7]]):05d} {Tensor(True)!s:.6}" == "2.718 00007 Tensor"
    with pytest.raises(ValueError, match=r"format '.3f': expected one element, got shape \(2,\)"):
        f"{Tensor([1.0, 2.0]):.3f}"
