"""PyTorch's files, read without PyTorch: zip archives, and the plain pickles that came before version 1.6.

Format: https://docs.pytorch.org/docs/stable/notes/serialization.html
"""
from __future__ import annotations

import io
import mmap
import os
import struct
import sys
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from pluggrad.errors import FileFormatError
from pluggrad.io.torch_pickle import Stored, unpickle, with_tensors
from pluggrad.target import DeviceId

if TYPE_CHECKING:
    import zipfile

_MAGIC: Final = 0x1950A86A20F9469CFC6C  # the first pickle of a file before version 1.6
_PROTOCOL: Final = 1001
_STORED: Final = 0  # the compression of a zip entry that has none
_LOCAL_HEADER: Final = struct.Struct("<26xHH")  # of a zip entry: lengths of the name and of what follows it


def torch_load(path: str | os.PathLike[str], device: str | DeviceId | None = None) -> Any:
    """What `torch.save` wrote, with our tensors on `device` (default: the default device).

    State dicts and other containers of tensors, numbers and text. No code of the file is run: only tensors
    are rebuilt, and FileFormatError names anything else that the file asks for, as it does a file that is
    damaged, truncated or of another format. PyTorch itself is not needed. Parameters are marked
    `requires_grad`. Tensors are made one after another from the mapped file. OSError where it cannot be read.

    ```python
    nn.state.load_state_dict(model, nn.state.torch_load("model.pt"))
    ```
    """
    import zipfile  # when a file is read: it brings compressors along

    op = f"torch_load of {os.fspath(path)}"
    with open(path, "rb") as file:
        if zipfile.is_zipfile(file):
            return _load_zip(file, op, device)
        file.seek(0)
        return _load_legacy(file, op, device)


# ---- zip archives ------------------------------------------------------------------------------------------
def _load_zip(file: BinaryIO, op: str, device: Any) -> Any:
    import zipfile

    try:
        with zipfile.ZipFile(file) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            found = [name for name in entries if name.rpartition("/")[2] == "data.pkl"]
            if len(found) != 1:
                raise FileFormatError(op=op, expected="an archive with one data.pkl",
                                      got=f"{len(found)} of them among {len(entries)} files",
                                      hint="torch_load reads what torch.save writes")
            folder = found[0].removesuffix("data.pkl")
            noted, _ = unpickle(io.BytesIO(archive.read(found[0])), op)
            swap = _swapped(archive, entries, folder + "byteorder")
            mapped = _mapped(file)

            def read(stored: Stored) -> npt.NDArray[Any]:
                entry = entries.get(f"{folder}data/{stored.key}")
                if entry is None:
                    raise _missing(op, stored)
                return _elements(op, stored, _content(archive, entry, mapped), swap)

            return with_tensors(noted, read, op, device)
    except zipfile.BadZipFile as error:
        raise FileFormatError(op=op, expected="a whole zip archive", got=str(error),
                              hint="It is truncated or damaged: copy it again") from error


def _swapped(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], name: str) -> bool:
    """Whether the bytes of each element are in the other order than here."""
    written = archive.read(name).decode() if name in entries else "little"
    return written.strip() != sys.byteorder


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, mapped: memoryview) -> bytes | memoryview:
    """The bytes of an entry; of the mapped file itself, unless they are compressed."""
    if entry.compress_type != _STORED:
        return archive.read(entry)
    name_length, extra_length = _LOCAL_HEADER.unpack_from(mapped, entry.header_offset)
    begin = entry.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    return mapped[begin:begin + entry.file_size]


# ---- before version 1.6 ------------------------------------------------------------------------------------
def _load_legacy(file: BinaryIO, op: str, device: Any) -> Any:
    """Pickles one after another: a number, a version, facts, the object, keys; then storage after storage."""
    if file.read(1) != b"\x80":  # what every pickle of PyTorch begins with
        raise _not_torch(op, "other first bytes")
    file.seek(0)
    if unpickle(file, op)[0] != _MAGIC:
        raise _not_torch(op, "a pickle of something else")
    if unpickle(file, op)[0] != _PROTOCOL:
        raise _not_torch(op, "another version of the format")
    facts, _ = unpickle(file, op)
    swap = isinstance(facts, dict) and (sys.byteorder == "little") != facts.get("little_endian", True)
    noted, stored = unpickle(file, op)
    keys, _ = unpickle(file, op)
    places: dict[str, int] = {}
    mapped = _mapped(file)
    for key in keys if isinstance(keys, list) else []:
        if key not in stored:
            raise _not_torch(op, f"a storage {key!r} that nothing refers to")
        file.seek(8, os.SEEK_CUR)  # the number of elements, which the pickle has as well
        places[key] = file.tell()
        file.seek(_size(op, stored[key]), os.SEEK_CUR)

    def read(found: Stored) -> npt.NDArray[Any]:
        if found.key not in places:
            raise _missing(op, found)
        begin = places[found.key]
        return _elements(op, found, mapped[begin:begin + _size(op, found)], swap)

    return with_tensors(noted, read, op, device)


def _size(op: str, stored: Stored) -> int:
    if stored.dtype is None or stored.size < 0:
        raise _not_torch(op, "a storage without a dtype")
    return stored.size * stored.dtype.itemsize


# ---- both --------------------------------------------------------------------------------------------------
def _mapped(file: BinaryIO) -> memoryview:
    """The file's bytes, of which those are read that are looked at; unmapped with the last view of it."""
    return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _elements(op: str, stored: Stored, content: bytes | memoryview, swap: bool) -> npt.NDArray[Any]:
    """The elements of a storage, as bytes where it has no dtype."""
    kind = np.dtype(np.uint8) if stored.dtype is None else stored.dtype.numpy
    if len(content) < stored.size * kind.itemsize:
        raise FileFormatError(op=op, expected=f"{stored.size * kind.itemsize} bytes in storage {stored.key}",
                              got=str(len(content)), hint="It is truncated or damaged: copy it again")
    if swap and stored.dtype is None:
        raise FileFormatError(op=op, expected="dtypes of storages in a file of the other byte order",
                              got="bytes", hint="Save it again with another dtype")
    elements = np.frombuffer(content, kind, stored.size)
    return elements.byteswap() if swap else elements


def _missing(op: str, stored: Stored) -> FileFormatError:
    return FileFormatError(op=op, expected=f"a storage {stored.key!r}", got="none of that name",
                           hint="It is truncated or damaged: copy it again")


def _not_torch(op: str, got: str) -> FileFormatError:
    return FileFormatError(op=op, expected="a file that torch.save wrote", got=got,
                           hint="For safetensors: nn.state.safe_load")
