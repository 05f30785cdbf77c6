"""Named tensors in one file that runs no code when it is read: the format and the library safetensors.

The library is the extra `io`. Its low-level interface is used, which passes bytes: NumPy has no bfloat16.
"""
from __future__ import annotations

import os
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.errors import DTypeError, FileFormatError, MissingLibrary, ValueRangeError
from pluggrad.io.atomic import replacing
from pluggrad.target import DeviceId
from pluggrad.tensor import Tensor

if TYPE_CHECKING:
    import numpy.typing as npt

_DTYPES: Final = {
    "BOOL": dtypes.bool_,
    "U8": dtypes.uint8, "U16": dtypes.uint16, "U32": dtypes.uint32, "U64": dtypes.uint64,
    "I8": dtypes.int8, "I16": dtypes.int16, "I32": dtypes.int32, "I64": dtypes.int64,
    "F16": dtypes.float16, "BF16": dtypes.bfloat16, "F32": dtypes.float32, "F64": dtypes.float64,
}
_METADATA: Final = "__metadata__"


def _library(op: str) -> ModuleType:
    try:
        import safetensors
    except ImportError as error:
        raise MissingLibrary(op=op, expected="the library safetensors", got="an import that failed",
                             hint='Install it: pip install "pluggrad[io]"') from error
    return safetensors


# ---- writing -------------------------------------------------------------------------------------
def safe_save(tensors: Mapping[str, Tensor], path: str | os.PathLike[str],
              metadata: Mapping[str, str] | None = None) -> None:
    """Write named tensors (any dtype and device) to `path`, with optional text beside them.

    The file is complete or the old one is untouched. DTypeError for a value that is no tensor,
    ValueRangeError for a reserved name or metadata that is not text, MissingLibrary without safetensors,
    OSError where the file cannot be written.
    """
    if _METADATA in tensors:
        raise ValueRangeError(op="safe_save", expected="names of tensors", got=repr(_METADATA),
                              hint="that name is the format's own; pass metadata=")
    given: Mapping[str, object] = tensors
    strange = {name: type(value).__name__ for name, value in given.items() if not isinstance(value, Tensor)}
    if strange:
        raise DTypeError(op="safe_save", expected="a tensor for each name", got=str(strange),
                         hint="Make them tensors: Tensor(value)")
    if any(not isinstance(text, str) for item in (metadata or {}).items() for text in item):
        raise ValueRangeError(op="safe_save", expected="metadata of text by text", got=repr(metadata))
    library = _library("safe_save")
    arrays = {name: _stored(tensor) for name, tensor in tensors.items()}
    specs = {name: _spec(library, tensors[name].dtype, array) for name, array in arrays.items()}
    content = library.serialize(specs, dict(metadata) if metadata else None)
    with replacing(path) as file:
        file.write(content)


def _spec(library: ModuleType, dtype: DType, array: npt.NDArray[Any]) -> Any:
    """What `serialize` takes for a tensor; `array` has to live until it returns."""
    if not hasattr(library, "TensorSpec"):  # before 0.8
        return {"dtype": dtype.name, "shape": array.shape, "data": array.tobytes()}
    address = array.ctypes.data
    return library.TensorSpec(dtype=dtype.name, shape=array.shape, data_ptr=address, data_len=array.nbytes)


def _stored(tensor: Tensor) -> npt.NDArray[Any]:
    """The tensor's values as they stand in a file: little-endian, without gaps, bfloat16 as its bits."""
    tensor = tensor.detach()
    if tensor.dtype is dtypes.bfloat16:
        tensor = tensor.bitcast(dtypes.uint16)
    array = tensor.numpy()
    return array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)


# ---- reading -------------------------------------------------------------------------------------
def safe_load(path: str | os.PathLike[str], device: str | DeviceId | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, on `device` (default: the default device).

    FileFormatError, naming the file, if it is truncated, damaged or of another format; MissingLibrary without
    safetensors; OSError where the file cannot be read.
    """
    library = _library("safe_load")
    with open(path, "rb") as file:
        content = file.read()
    try:
        entries = library.deserialize(content)
    except library.SafetensorError as error:
        raise _broken(path, str(error)) from error
    return {name: _tensor(path, name, entry, device) for name, entry in sorted(entries)}


def safe_load_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The text that was saved beside the tensors; errors as for `safe_load`."""
    library = _library("safe_load_metadata")
    try:
        with library.safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except library.SafetensorError as error:
        raise _broken(path, str(error)) from error


def _tensor(path: str | os.PathLike[str], name: str, entry: Mapping[str, Any],
            device: str | DeviceId | None) -> Tensor:
    dtype = _DTYPES.get(entry["dtype"])
    if dtype is None:
        raise _broken(path, f"an entry {name!r} of dtype {entry['dtype']}", f"one of {', '.join(_DTYPES)}")
    stored = np.frombuffer(entry["data"], dtype.numpy.newbyteorder("<"))
    tensor = Tensor(stored.astype(dtype.numpy, copy=False).reshape(entry["shape"]), device=device)
    return tensor.bitcast(dtype) if dtype is dtypes.bfloat16 else tensor


def _broken(path: str | os.PathLike[str], got: str, expected: str = "a safetensors file") -> FileFormatError:
    return FileFormatError(op=f"safe_load of {os.fspath(path)}", expected=expected, got=got,
                           hint="It is truncated, damaged or of another format: copy or save it again")
