"""safetensors: what the library's own NumPy interface reads and writes, bfloat16, and clear refusals."""

from __future__ import annotations

import json
import re
import struct
import sys

import numpy as np
import pytest
import safetensors.numpy

from pluggrad import Tensor, dtypes
from pluggrad.errors import DTypeError, FileFormatError, MissingLibrary, ValueRangeError
from pluggrad.io import safe_load, safe_load_metadata, safe_save

ARRAYS = {
    "f32": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3),
    "f64": np.array([1e-300, np.inf]),
    "f16": np.array([[0.5], [np.nan]], np.float16),
    "i8": np.array([-128, 127], np.int8),
    "u16": np.array([0, 65535], np.uint16),
    "i64": np.array(-(2**62)),
    "flags": np.array([True, False, True]),
    "empty": np.zeros((0, 3), np.float32),
}


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype
        np.testing.assert_array_equal(actual[name], array, err_msg=name)


def test_round_trip(tmp_path):
    path = tmp_path / "model.safetensors"
    safe_save({name: Tensor(array) for name, array in ARRAYS.items()}, path)
    assert_same({name: tensor.numpy() for name, tensor in safe_load(path).items()}, ARRAYS)


def test_the_numpy_interface_reads_what_we_write(tmp_path):
    path = tmp_path / "model.safetensors"
    safe_save({name: Tensor(array) for name, array in ARRAYS.items()}, path, {"epoch": "3", "µ": "é"})
    assert_same(safetensors.numpy.load_file(path), ARRAYS)
    with safetensors.safe_open(path, framework="numpy") as file:
        assert file.metadata() == {"epoch": "3", "µ": "é"}


def test_we_read_what_the_numpy_interface_writes(tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(ARRAYS, path, {"epoch": "3"})
    assert_same({name: tensor.numpy() for name, tensor in safe_load(str(path)).items()}, ARRAYS)
    assert safe_load_metadata(path) == {"epoch": "3"}


def test_bfloat16_keeps_its_bits(tmp_path):
    path = tmp_path / "model.safetensors"
    bits = np.array([0x3F80, 0xC000, 0x7F80, 0x0001], np.uint16)
    safe_save({"x": Tensor(bits).bitcast(dtypes.bfloat16)}, path)
    loaded = safe_load(path)["x"]
    assert loaded.dtype is dtypes.bfloat16
    np.testing.assert_array_equal(loaded.bitcast(dtypes.uint16).numpy(), bits)


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=str)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 2)], ids=str)
def test_every_dtype_and_rank(tmp_path, dtype, shape):
    path = tmp_path / "model.safetensors"
    x = Tensor(np.arange(np.prod(shape)).reshape(shape) % 2).cast(dtype)
    safe_save({"x": x}, path)
    loaded = safe_load(path)["x"]
    assert (loaded.dtype, loaded.shape) == (dtype, shape)
    np.testing.assert_array_equal(loaded.numpy(), x.numpy())


def test_values_are_stored_in_order_whatever_the_view(tmp_path):
    path = tmp_path / "model.safetensors"
    array = np.arange(6.0).reshape(2, 3)
    safe_save({"x": Tensor(array).T, "y": Tensor(array)[::-1]}, path)
    assert_same(safetensors.numpy.load_file(path), {"x": array.T, "y": array[::-1]})


def test_saving_leaves_gradients_alone(tmp_path):
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = x * 3
    safe_save({"y": y}, tmp_path / "y.safetensors")
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [3, 3])


def test_a_reserved_name_and_metadata_that_is_not_text(tmp_path):
    with pytest.raises(ValueRangeError, match="metadata="):
        safe_save({"__metadata__": Tensor([1.0])}, tmp_path / "a")
    with pytest.raises(ValueRangeError, match="text by text"):
        safe_save({}, tmp_path / "a", {"epoch": 3})
    assert list(tmp_path.iterdir()) == []


def packed(fields, data=b"", length=None):
    header = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(start=0, stop=8, dtype="F32", shape=(2,)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


BROKEN = {
    "empty": b"",
    "short": b"1234567",
    "text": b"import torch\nprint()\n" * 9,
    "header beyond the end": packed(b"{}", length=50),
    "not json": packed(b"{oops}"),
    "not utf-8": packed(b'{"\xff\xfe": 1}'),
    "not a table": packed([1, 2]),
    "metadata not a table": packed({"__metadata__": 3}),
    "entry without fields": packed({"x": {"dtype": "F32"}}),
    "entry of text": packed({"x": "F32"}),
    "unknown dtype": packed({"x": entry(dtype="F5")}, bytes(8)),
    "negative size": packed({"x": entry(shape=(-2,))}, bytes(8)),
    "size that is no integer": packed({"x": entry(shape=(2.0,))}, bytes(8)),
    "shape of other size": packed({"x": entry(shape=(3,))}, bytes(8)),
    "truncated": packed({"x": entry()}, bytes(7)),
    "too long": packed({"x": entry()}, bytes(9)),
    "gap": packed({"x": entry(4, 12)}, bytes(12)),
    "overlap": packed({"x": entry(), "y": entry(4, 12)}, bytes(12)),
}


@pytest.mark.parametrize("load", [safe_load, safe_load_metadata])
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_named_with_the_librarys_reason(tmp_path, case, load):
    path = tmp_path / "model.safetensors"
    path.write_bytes(BROKEN[case])
    with pytest.raises(FileFormatError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value.__cause__, safetensors.SafetensorError)
    assert str(caught.value.__cause__) in str(caught.value)


def test_a_dtype_that_we_lack_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(packed({"x": entry(dtype="F8_E4M3", shape=(8,))}, bytes(8)))
    with pytest.raises(FileFormatError, match=r"'x' of dtype F8_E4M3"):
        safe_load(path)


def test_every_truncation_is_noticed(tmp_path):
    path = tmp_path / "model.safetensors"
    safe_save({"a": Tensor([1.0, 2.0]), "b": Tensor([3])}, path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError):
            safe_load(path)


@pytest.mark.parametrize("load", [safe_load, safe_load_metadata])
def test_a_missing_file_is_the_systems_error(tmp_path, load):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none")


def test_a_missing_library_is_named_with_what_installs_it(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    safe_save({"a": Tensor([1.0])}, path)
    whole = path.read_bytes()
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for call in (lambda: safe_save({}, path), lambda: safe_load(path), lambda: safe_load_metadata(path)):
        with pytest.raises(MissingLibrary, match=re.escape('pip install "pluggrad[io]"')):
            call()
    assert path.read_bytes() == whole


def test_values_that_are_no_tensors_are_named(tmp_path):
    with pytest.raises(DTypeError, match=r"safe_save: expected a tensor for each name, got \{'b': 'float'\}"):
        safe_save({"a": Tensor([1.0]), "b": 2.0}, tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())
