"""IDX files: the format that MNIST and its relatives come in, plain or compressed by gzip.

Two zero bytes, a code for the dtype, the number of axes; each axis as a big-endian uint32; then the items.
Source: http://yann.lecun.com/exdb/mnist (archived).
"""
from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pluggrad.errors import FileFormatError

_GZIP_MAGIC = b"\x1f\x8b"
_UNSIGNED_BYTES = 0x08


def read_idx(path: Path, ndim: int) -> npt.NDArray[np.uint8]:
    """The bytes of an IDX file with `ndim` axes; FileFormatError, naming the file, if it is anything else."""
    content = _content(path)
    zero, code, axes = struct.unpack(">HBB", content[:4]) if len(content) >= 4 else (None, None, None)
    if (zero, code, axes) != (0, _UNSIGNED_BYTES, ndim):
        expected = f"an IDX file of unsigned bytes with {ndim} axes (first bytes 00 00 08 {ndim:02x})"
        raise _damaged(path, expected, content[:4].hex(" ") or "an empty file")
    begin = 4 + 4 * ndim
    if len(content) < begin:
        raise _damaged(path, f"{ndim} sizes after the first four bytes", f"{len(content)} bytes in all")
    shape = struct.unpack(f">{ndim}I", content[4:begin])
    if math.prod(shape) != len(content) - begin:
        raise _damaged(path, f"{math.prod(shape):,} bytes for shape {shape}", f"{len(content) - begin:,}")
    return np.frombuffer(content, np.uint8, offset=begin).reshape(shape)


def _content(path: Path) -> bytes:
    raw = path.read_bytes()
    if not raw.startswith(_GZIP_MAGIC):  # by content: a browser may have unpacked a file called .gz
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, OSError, zlib.error) as error:
        raise _damaged(path, "a whole gzip file", str(error)) from error


def _damaged(path: Path, expected: str, got: str) -> FileFormatError:
    return FileFormatError(op=f"read {path}", expected=expected, got=got)
