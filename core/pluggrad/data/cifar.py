"""CIFAR-10: 32 x 32 color images in ten classes.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. Both forms that he offers are
read: the binary one, and Python's pickles, of which nothing is executed.
Source: https://www.cs.toronto.edu/~kriz/cifar.html.
"""
from __future__ import annotations

import io
import os
import pickle
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from pluggrad import config
from pluggrad.data.download import fetch
from pluggrad.data.split import Array, Split, as_tensors, scaled
from pluggrad.errors import FileFormatError

_MIRRORS: Final = ("https://www.cs.toronto.edu/~kriz/",)
_ARCHIVE: Final = "cifar-10-binary.tar.gz"
_SHA256: Final = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
_PIXELS: Final = 3 * 32 * 32
_PARTS: Final = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")

Batch = tuple[Array, Array]
Open = Callable[[str], bytes]


def cifar10(folder: str | os.PathLike[str] | None = None, device: str | None = None) -> Split:
    """`X_train, Y_train, X_test, Y_test` of CIFAR-10, on `device`: 50,000 and 10,000 images.

    X: float32 (n, 3, 32, 32) in [0, 1], red, green, blue; Y: int32 (n,), 0 to 9: airplane, automobile, bird,
    cat, deer, dog, frog, horse, ship, truck. `folder` holds `cifar-10-batches-bin` or `cifar-10-batches-py`,
    their files, or one of the archives `cifar-10-binary.tar.gz` and `cifar-10-python.tar.gz`. Without a
    folder the first archive is downloaded.

    FileFormatError, naming the file, if one is damaged or a pickle holds anything but images and labels;
    FileNotFoundError if files are missing; ConnectionError if the download fails.
    """
    place = _downloaded() if folder is None else Path(folder)
    form, names, read = _find(place)
    batches = [form.parse(f"{place}: {name}", read(name)) for name in names]
    images, labels = (np.concatenate(parts) for parts in zip(*batches[:-1], strict=True))
    return as_tensors((*_prepared(images, labels), *_prepared(*batches[-1])), device)


def _downloaded() -> Path:
    folder = config.cache_dir() / "datasets" / "cifar10"
    fetch(_MIRRORS, _ARCHIVE, _SHA256, folder)
    return folder


def _prepared(images: Array, labels: Array) -> tuple[Array, Array]:
    return scaled(images.reshape(-1, 3, 32, 32)), labels.astype(np.int32)


# ---- where the files are -------------------------------------------------------------------------
def _find(place: Path) -> tuple[_Form, list[str], Open]:
    """The form that is there, its files in order, and what reads one of them."""
    for form in _FORMS:
        names = [part + form.suffix for part in _PARTS]
        for folder in (place, place / form.folder):
            if all((folder / name).is_file() for name in names):
                return form, names, lambda name, folder=folder: (folder / name).read_bytes()
        archive = place / form.archive
        if archive.is_file():
            content = _unpacked(archive, {f"{form.folder}/{name}": name for name in names})
            return form, names, content.__getitem__
    looked_for = ", ".join(f"{form.folder}/, {form.archive}" for form in _FORMS)
    raise FileNotFoundError(f"cifar10: {place} has none of {looked_for}")


def _unpacked(archive: Path, wanted: dict[str, str]) -> dict[str, bytes]:
    """Those files of an archive, by their new names; nothing is written to disk."""
    content: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                file = tar.extractfile(member) if member.name in wanted else None
                if file is not None:
                    content[wanted[member.name]] = file.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise FileFormatError(op=f"read {archive}", expected="a whole tar.gz file", got=str(error)) from error
    missing = wanted.values() - content.keys()
    if missing:
        raise FileFormatError(op=f"read {archive}", expected=f"files {', '.join(sorted(wanted))}",
                              got=f"none called {', '.join(sorted(missing))}")
    return content


# ---- what is in them -----------------------------------------------------------------------------
def _from_binary(name: str, content: bytes) -> Batch:
    """Records of a label and an image, one byte each and 3,072."""
    if not content or len(content) % (1 + _PIXELS):
        raise FileFormatError(op=f"read {name}", expected=f"records of {1 + _PIXELS} bytes",
                              got=f"{len(content):,} bytes")
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + _PIXELS)
    return _checked(name, records[:, 1:], records[:, 0])


def _from_pickle(name: str, content: bytes) -> Batch:
    """A dictionary with `data`, uint8 (n, 3072), and `labels`, a list."""
    try:
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        return _checked(name, batch[b"data"].array(), np.array(batch[b"labels"], np.int64))
    except FileFormatError:
        raise
    except Exception as error:  # a damaged pickle raises anything
        raise FileFormatError(op=f"read {name}", expected="a pickle of images and labels",
                              got=f"{type(error).__name__}: {error}") from error


def _checked(name: str, images: Array, labels: Array) -> Batch:
    if images.shape != (len(labels), _PIXELS):
        raise FileFormatError(op=f"read {name}", expected=f"{len(labels)} images of {_PIXELS} bytes",
                              got=f"shape {images.shape}")
    if labels.max(initial=0) > 9 or labels.min(initial=0) < 0:
        raise FileFormatError(op=f"read {name}", expected="labels from 0 to 9",
                              got=f"{labels.min()} to {labels.max()}")
    return images, labels


class _Type:
    """Takes the place of `numpy.dtype` in a pickle."""

    def __init__(self, code: object, *flags: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        pass


class _Bytes:
    """Takes the place of `numpy.ndarray` in a pickle: what an array is made of, to be looked at first."""

    def __init__(self, *reconstruct: object) -> None:
        self.state: Any = ()

    def __setstate__(self, state: object) -> None:
        self.state = state

    def array(self) -> npt.NDArray[np.uint8]:
        _, shape, dtype, by_columns, content = self.state
        if dtype.code not in (b"u1", "u1"):
            raise ValueError(f"an array of {dtype.code!r}, not of bytes")
        return np.frombuffer(content, np.uint8).reshape(shape, order="F" if by_columns else "C")


class _Unpickler(pickle.Unpickler):
    """Numbers, text, lists and arrays of bytes; no name in a pickle leads to code outside this file."""

    _KNOWN: Final = {
        "numpy.core.multiarray _reconstruct": _Bytes,
        "numpy._core.multiarray _reconstruct": _Bytes,
        "numpy ndarray": _Bytes,
        "numpy dtype": _Type,
    }

    def find_class(self, module: str, name: str) -> Any:
        known = self._KNOWN.get(f"{module} {name}")
        if known is None:
            raise pickle.UnpicklingError(f"{module}.{name}, which is not loaded")
        return known


class _Form(NamedTuple):
    """One way in which the dataset is distributed."""

    archive: str
    folder: str
    suffix: str
    parse: Callable[[str, bytes], Batch]


_FORMS: Final = (
    _Form(_ARCHIVE, "cifar-10-batches-bin", ".bin", _from_binary),
    _Form("cifar-10-python.tar.gz", "cifar-10-batches-py", "", _from_pickle),
)
