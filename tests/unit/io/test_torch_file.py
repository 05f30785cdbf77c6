"""torch_load on files made by hand: what PyTorch writes is read, anything else is refused by its name."""

from __future__ import annotations

import io
import os
import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from typing import Any, ClassVar

import numpy as np
import pytest

from pluggrad import Tensor, dtypes
from pluggrad.errors import FileFormatError
from pluggrad.io import torch_load
from pluggrad.nn import Linear, state


class Named:
    """Something that a pickle names but that need not exist here."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Call:
    """`function(*arguments)`, when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments


class Storage:
    """Elements beside the pickle."""

    def __init__(self, key: str, kind: str, array: np.ndarray, count: int | None = None) -> None:
        self.key, self.kind, self.array = key, kind, array
        self.count = array.size if count is None else count

    @property
    def pid(self) -> Any:
        module = "torch.storage" if self.kind == "UntypedStorage" else "torch"
        return "storage", Named(module, self.kind), self.key, "cpu", self.count, *self.more

    more: tuple[Any, ...] = ()


class Writer(pickle._Pickler):
    """Python's own pickler, which can be taught names and calls."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def persistent_id(self, thing: Any) -> Any:
        return thing.pid if isinstance(thing, Storage) else None

    def save_named(self, thing: Named) -> None:
        self.write(f"c{thing.module}\n{thing.name}\n".encode())

    def save_call(self, thing: Call) -> None:
        self.save(thing.function)
        self.save(thing.arguments)
        self.write(pickle.REDUCE)
        self.memoize(thing)

    dispatch[Named] = save_named
    dispatch[Call] = save_call


V2, PARAMETER = Named("torch._utils", "_rebuild_tensor_v2"), Named("torch._utils", "_rebuild_parameter")


def tensor(storage: Storage, offset: int, size: tuple, stride: tuple) -> Call:
    return Call(V2, storage, offset, size, stride, False, OrderedDict())


def pickled(thing: Any) -> bytes:
    file = io.BytesIO()
    Writer(file, 2).dump(thing)
    return file.getvalue()


def save(path, thing: Any, *storages: Storage, byteorder: bytes | None = b"little", compress: bool = False):
    """The file that PyTorch would write."""
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("archive/data.pkl", pickled(thing))
        if byteorder is not None:
            archive.writestr("archive/byteorder", byteorder)
        for storage in storages:
            order = ">" if byteorder == b"big" else "<"
            content = storage.array.astype(storage.array.dtype.newbyteorder(order)).tobytes()
            archive.writestr(f"archive/data/{storage.key}", content)
        archive.writestr("archive/version", b"3\n")
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.pt"


SIX = Storage("0", "FloatStorage", np.arange(6, dtype=np.float32))


# ---- what is read --------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [False, True])
def test_strided_views_of_a_shared_storage(path, compress):
    thing = {
        "rows": tensor(SIX, 0, (2, 3), (3, 1)),
        "columns": tensor(SIX, 0, (3, 2), (1, 3)),
        "part": tensor(SIX, 1, (2,), (2,)),
        "repeated": tensor(SIX, 5, (2, 2), (0, 0)),
        "scalar": tensor(SIX, 4, (), ()),
        "empty": tensor(SIX, 6, (0, 3), (3, 1)),
    }
    found = torch_load(save(path, thing, SIX, compress=compress))
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    expected = {
        "rows": rows,
        "columns": rows.T,
        "part": [1, 3],
        "repeated": [[5, 5], [5, 5]],
        "scalar": 4,
        "empty": np.zeros((0, 3)),
    }
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype is dtypes.float32
        np.testing.assert_array_equal(found[name].numpy(), array, err_msg=name)


KINDS = {
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "HalfStorage": "float16",
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
}


@pytest.mark.parametrize("byteorder", [b"little", b"big", None])
@pytest.mark.parametrize("kind", KINDS)
def test_every_dtype_in_both_byte_orders(path, kind, byteorder):
    array = np.array([0, 1, 100]).astype(KINDS[kind])
    storage = Storage("7", kind, array)
    found = torch_load(save(path, [tensor(storage, 0, (3,), (1,))], storage, byteorder=byteorder))[0]
    assert found.dtype.name == KINDS[kind]
    np.testing.assert_array_equal(found.numpy(), array)


def test_bfloat16(path):
    storage = Storage("0", "BFloat16Storage", np.array([0x3F80, 0xC000], np.uint16))
    found = torch_load(save(path, tensor(storage, 0, (2,), (1,)), storage))
    assert found.dtype is dtypes.bfloat16
    np.testing.assert_array_equal(found.numpy(), [1, -2])


def test_storages_of_bytes(path):
    array = np.array([1, 65535], np.uint16)
    storage = Storage("0", "UntypedStorage", array, array.nbytes)
    rebuild = Named("torch._utils", "_rebuild_tensor_v3")
    thing = Call(rebuild, storage, 0, (2,), (1,), False, OrderedDict(), Named("torch", "uint16"))
    found = torch_load(save(path, thing, storage))
    assert found.dtype is dtypes.uint16
    np.testing.assert_array_equal(found.numpy(), array)


def test_parameters_shared_tensors_and_plain_values(path):
    weight = Call(PARAMETER, tensor(SIX, 0, (6,), (1,)), True, OrderedDict())
    thing = {
        "one": weight,
        "two": weight,
        "counts": Call(Named("collections", "Counter"), {3: 2}),
        "nested": [(1, None), {"lr": 0.1, "name": "x", "on": True}],
        "size": Call(Named("torch", "Size"), (2, 3)),
        "device": Call(Named("torch", "device"), "cuda", 1),
        "dtype": Named("torch", "bfloat16"),
        "state": OrderedDict(a=1),
    }
    found = torch_load(save(path, thing, SIX))
    assert found["one"] is found["two"]
    assert found["one"].requires_grad
    del found["one"], found["two"]
    assert found == {
        "counts": {3: 2},
        "nested": [(1, None), {"lr": 0.1, "name": "x", "on": True}],
        "size": (2, 3),
        "device": "cuda:1",
        "dtype": dtypes.bfloat16,
        "state": {"a": 1},
    }


def test_a_state_dict_loads_into_a_model(path):
    bias = Storage("1", "FloatStorage", np.array([7, 8], np.float32))
    thing = OrderedDict(weight=tensor(SIX, 0, (2, 3), (3, 1)), bias=tensor(bias, 0, (2,), (1,)))
    model = Linear(3, 2)
    state.load_state_dict(model, torch_load(save(path, thing, SIX, bias)))
    np.testing.assert_array_equal(model(Tensor([[1.0, 0, 0]])).numpy(), [[7, 11]])


def test_files_from_before_version_1_6(path):
    long = Storage("k", "LongStorage", np.array([5, -5], np.int64))
    six_old, long_old = Storage("0", "FloatStorage", SIX.array), long
    six_old.more = long_old.more = (None,)
    thing = {"a": tensor(six_old, 0, (3, 2), (1, 3)), "b": tensor(long_old, 0, (2,), (1,))}
    facts = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    parts = [0x1950A86A20F9469CFC6C, 1001, facts, thing, ["k", "0"]]
    content = b"".join(pickled(part) for part in parts)
    for storage in (long, SIX):
        content += struct.pack("<q", storage.array.size) + storage.array.tobytes()
    path.write_bytes(content)
    found = torch_load(path)
    np.testing.assert_array_equal(found["a"].numpy(), SIX.array.reshape(2, 3).T)
    np.testing.assert_array_equal(found["b"].numpy(), [5, -5])
    path.write_bytes(content[:-4])
    with pytest.raises(FileFormatError, match=r"24 bytes in storage 0, got 20"):
        torch_load(path)


# ---- what is refused -----------------------------------------------------------------------------


class Evil:
    """Makes a file when it is unpickled the usual way."""

    def __init__(self, witness) -> None:
        self.witness = str(witness)

    def __reduce__(self):
        return os.mkdir, (self.witness,)


def test_a_malicious_pickle_is_refused_and_nothing_executed(tmp_path, path):
    witness = tmp_path / "witness"
    pickle.loads(pickle.dumps(Evil(witness)))
    assert witness.exists()  # it works
    witness.rmdir()
    save(path, {"a": tensor(SIX, 0, (6,), (1,)), "b": Evil(witness)}, SIX)
    with pytest.raises(FileFormatError, match=r"asks for \w+\.mkdir\. Nothing of it was run") as caught:
        torch_load(path)
    assert str(path) in str(caught.value)
    path.write_bytes(pickled(Evil(witness)))  # as the first pickle of an old file
    with pytest.raises(FileFormatError, match="mkdir"):
        torch_load(path)
    assert not witness.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("torch.storage", "_load_from_bytes"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_sparse_tensor"),
        ("torch", "ComplexFloatStorage"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("pluggrad", "Tensor"),
        ("__main__", "Model"),
    ],
)
def test_other_names_are_refused(path, module, name):
    save(path, Call(Named(module, name), "1"))
    with pytest.raises(FileFormatError, match=f"asks for {module}.{name}".replace(".", r"\.")):
        torch_load(path)


def build(thing: bytes, change: bytes) -> bytes:
    """A pickle that sets attributes of a thing."""
    return b"\x80\x02" + thing + change + b"b."


CHANGE = b"N}X\x04\x00\x00\x00nameX\x09\x00\x00\x00os.systems\x86"  # (None, {"name": "os.system"})


def test_stand_ins_that_are_renamed_run_nothing(path):
    content = build(b"ctorch._utils\n_rebuild_tensor_v2\n", CHANGE)
    call = content[:-1] + b"X\x04\x00\x00\x00true\x85R."  # and calls it
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", call)
    with pytest.raises(FileFormatError, match=r"os\.system"):
        torch_load(path)


def test_dtypes_are_no_part_of_a_pickle(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", build(b"ctorch\nfloat32\n", CHANGE))
    assert torch_load(path) == "os.system"
    assert dtypes.float32.name == "float32"


@pytest.mark.parametrize(
    "arguments",
    [
        (0, (7,), (1,)),
        (1, (2, 3), (3, 1)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (2, 3), (1,)),
        (0, (2,), ("x",)),
        (10**12, (1,), (1,)),
    ],
)
def test_views_beyond_their_storage_are_refused(path, arguments):
    with pytest.raises(FileFormatError, match="tensors within their storages"):
        torch_load(save(path, tensor(SIX, *arguments), SIX))


def test_damaged_files(path):
    save(path, tensor(SIX, 0, (6,), (1,)))
    with pytest.raises(FileFormatError, match="storage '0', got none"):
        torch_load(path)
    save(path, tensor(SIX, 0, (6,), (1,)), Storage("0", "", SIX.array[:5]))
    with pytest.raises(FileFormatError, match="24 bytes in storage 0, got 20"):
        torch_load(path)
    content = save(path, tensor(SIX, 0, (6,), (1,)), SIX).read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(FileFormatError, match="that torch"):
        torch_load(path)
    for other in (b"", b"text", b"\x80\x04not a pickle", pickle.dumps(3)):
        path.write_bytes(other)
        with pytest.raises(FileFormatError, match=re.escape(str(path))):
            torch_load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other", b"")
    with pytest.raises(FileFormatError, match="with one data"):
        torch_load(path)
    with pytest.raises(FileNotFoundError):
        torch_load(path.with_name("missing"))


def test_a_pickle_of_great_depth(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"]" * 20000 + b"a" * 19999 + b".")
    with pytest.raises(FileFormatError):
        torch_load(path)
