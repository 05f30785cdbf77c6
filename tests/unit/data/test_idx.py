"""IDX files: read exactly, and refused by name where anything is wrong."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from pluggrad.data.idx import read_idx
from pluggrad.errors import FileFormatError


def idx(array: np.ndarray) -> bytes:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


IMAGES = np.arange(2 * 3 * 4).reshape(2, 3, 4)


@pytest.mark.parametrize("name", ["images.idx3-ubyte", "images-idx3-ubyte.gz"])
def test_plain_and_compressed_files_hold_the_same(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(idx(IMAGES)) if name.endswith(".gz") else idx(IMAGES))
    np.testing.assert_array_equal(read_idx(path, 3), IMAGES)


def test_an_unpacked_file_that_is_still_called_gz(tmp_path):
    path = tmp_path / "images.gz"
    path.write_bytes(idx(IMAGES))
    np.testing.assert_array_equal(read_idx(path, 3), IMAGES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"<htm", "3c 68 74 6d"),
        (idx(np.arange(3)), "3 axes"),
        (struct.pack(">HBB3I", 0, 13, 3, 1, 1, 1) + bytes(4), "00 00 0d 03"),
        (idx(IMAGES)[:9], "9 bytes in all"),
        (idx(IMAGES)[:-1], "expected 24 bytes for shape (2, 3, 4), got 23"),
        (idx(IMAGES) + b"x", "got 25"),
        (gzip.compress(idx(IMAGES), mtime=0)[:-9], "a whole gzip file"),
        (gzip.compress(idx(IMAGES), mtime=0)[:20] + bytes(20), "a whole gzip file"),
    ],
    ids=["empty", "a web page", "too few axes", "other dtype", "cut header", "cut data", "too long",
         "cut gzip", "damaged gzip"],
)
def test_a_file_that_is_something_else_is_named(tmp_path, content, message):
    path = tmp_path / "images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(FileFormatError) as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert isinstance(caught.value, ValueError)
