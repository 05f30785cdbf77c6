"""The safetensors format: named tensors in one file that runs no code when it is read.

A file is the length of the header (8 bytes, little-endian), the header (JSON: a dtype, a shape and a range of
bytes for each name, text under "__metadata__"), then the bytes of all tensors without gaps, row-major and
little-endian.
Source: https://github.com/huggingface/safetensors#format
"""
from __future__ import annotations

import json
import math
import os
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np

from pluggrad import dtypes
from pluggrad.dtypes import DType
from pluggrad.errors import FileFormatError, ValueRangeError
from pluggrad.io.atomic import replacing
from pluggrad.tensor import Tensor

if TYPE_CHECKING:
    import numpy.typing as npt

_DTYPES: Final = {
    "BOOL": dtypes.bool_,
    "U8": dtypes.uint8, "U16": dtypes.uint16, "U32": dtypes.uint32, "U64": dtypes.uint64,
    "I8": dtypes.int8, "I16": dtypes.int16, "I32": dtypes.int32, "I64": dtypes.int64,
    "F16": dtypes.float16, "BF16": dtypes.bfloat16, "F32": dtypes.float32, "F64": dtypes.float64,
}
_NAMES: Final = {dtype: name for name, dtype in _DTYPES.items()}
_LENGTH: Final = struct.Struct("<Q")
_METADATA: Final = "__metadata__"
# the limit of the reference implementation: a foreign file's first bytes are rarely a small number
_MAX_HEADER: Final = 100_000_000


@dataclass(frozen=True, slots=True)
class _Entry:
    """One tensor of a file; `start` and `stop` are bytes after the header."""

    dtype: DType
    shape: tuple[int, ...]
    start: int
    stop: int


# ---- writing -------------------------------------------------------------------------------------
def safe_save(tensors: Mapping[str, Tensor], path: str | os.PathLike[str],
              metadata: Mapping[str, str] | None = None) -> None:
    """Write named tensors (any dtype and device) to `path`, with optional text beside them.

    The file is complete or the old one is untouched. ValueRangeError for a reserved name or metadata that is
    not text; OSError where the file cannot be written.
    """
    if _METADATA in tensors:
        raise ValueRangeError(op="safe_save", expected="names of tensors", got=repr(_METADATA),
                              hint="that name is the format's own; pass metadata=")
    if any(not isinstance(text, str) for item in (metadata or {}).items() for text in item):
        raise ValueRangeError(op="safe_save", expected="metadata of text by text", got=repr(metadata))
    # widest dtypes first, so that every tensor is aligned to its items when the file is mapped into memory
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header = _header([(name, tensors[name]) for name in order], metadata)
    with replacing(path) as file:
        file.write(_LENGTH.pack(len(header)) + header)
        for name in order:
            file.write(_stored(tensors[name]).tobytes())


def _header(tensors: list[tuple[str, Tensor]], metadata: Mapping[str, str] | None) -> bytes:
    fields: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    start = 0
    for name, tensor in tensors:
        stop = start + math.prod(tensor.shape) * tensor.dtype.itemsize
        dtype, shape = _NAMES[tensor.dtype], list(tensor.shape)
        fields[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % 8)


def _stored(tensor: Tensor) -> npt.NDArray[Any]:
    """The tensor's values as they stand in a file; NumPy has no bfloat16, so its bits travel as uint16."""
    tensor = tensor.detach()
    if tensor.dtype is dtypes.bfloat16:
        tensor = tensor.bitcast(dtypes.uint16)
    return _little_endian(tensor.numpy())


def _little_endian(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.byteswap() if sys.byteorder == "big" else array


# ---- reading -------------------------------------------------------------------------------------
def safe_load(path: str | os.PathLike[str], device: str | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, on `device` (default: the default device).

    FileFormatError, naming the file, if it is truncated, damaged or of another format.
    """
    with open(path, "rb") as file:
        entries, _, begin = _read_header(file, Path(path))
        return {name: _read_tensor(file, begin, entry, device) for name, entry in entries.items()}


def safe_load_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The text that was saved beside the tensors; FileFormatError as for `safe_load`."""
    with open(path, "rb") as file:
        return _read_header(file, Path(path))[1]


def _read_tensor(file: BinaryIO, begin: int, entry: _Entry, device: str | None) -> Tensor:
    file.seek(begin + entry.start)
    array = np.fromfile(file, dtype=entry.dtype.numpy, count=math.prod(entry.shape))
    tensor = Tensor(_little_endian(array).reshape(entry.shape), device=device)
    return tensor.bitcast(entry.dtype) if entry.dtype is dtypes.bfloat16 else tensor


def _read_header(file: BinaryIO, path: Path) -> tuple[dict[str, _Entry], dict[str, str], int]:
    """The entries, the metadata, and where the data begins."""
    size = os.fstat(file.fileno()).st_size
    prefix = file.read(_LENGTH.size)
    if len(prefix) < _LENGTH.size:
        raise _broken(path, f"only {size} bytes")
    length = _LENGTH.unpack(prefix)[0]
    begin = _LENGTH.size + length
    if length > _MAX_HEADER or begin > size:
        raise _broken(path, f"a file of {size:,} bytes that would need a header of {length:,}")
    try:
        fields = json.loads(file.read(length))
    except ValueError as error:  # also undecodable text
        raise _broken(path, "a header that is not JSON") from error
    if not isinstance(fields, dict):
        raise _broken(path, "a header that is not a table of tensors")
    metadata = fields.pop(_METADATA, {})
    if not isinstance(metadata, dict):
        raise _broken(path, "metadata that is not a table of texts")
    entries = {name: _entry(path, name, field) for name, field in fields.items()}
    _check_layout(path, entries, size - begin)
    return entries, metadata, begin


def _entry(path: Path, name: str, field: Any) -> _Entry:
    try:
        kind, shape, (start, stop) = field["dtype"], tuple(field["shape"]), field["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(path, f"an entry {name!r} without dtype, shape and data_offsets") from error
    if not all(type(number) is int and number >= 0 for number in (*shape, start, stop)):
        raise _broken(path, f"an entry {name!r} with shape {shape} at bytes {start} to {stop}")
    dtype = _DTYPES.get(kind) if isinstance(kind, str) else None
    if dtype is None:
        raise _broken(path, f"an entry {name!r} of dtype {kind!r}", f"one of {', '.join(_DTYPES)}")
    if stop - start != math.prod(shape) * dtype.itemsize:
        raise _broken(path, f"an entry {name!r} of {stop - start} bytes for {dtype.name}{list(shape)}")
    return _Entry(dtype, shape, start, stop)


def _check_layout(path: Path, entries: Mapping[str, _Entry], size: int) -> None:
    """Tensors follow one another and fill the file, or its header is damaged."""
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != position:
            raise _broken(path, f"an entry {name!r} at byte {entry.start} where {position} follows")
        position = entry.stop
    if position > size:
        raise _broken(path, f"{size:,} of {position:,} bytes of data", hint="The file is truncated")
    if position < size:
        raise _broken(path, f"{size - position:,} bytes after the last tensor")


def _broken(path: Path, got: str, expected: str = "a safetensors file", hint: str = "") -> FileFormatError:
    return FileFormatError(op=f"safe_load of {path}", expected=expected, got=got, hint=hint)
