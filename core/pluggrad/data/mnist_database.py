"""MNIST and Fashion-MNIST: 28 x 28 images in ten classes, in files of the same names and format.

MNIST: handwritten digits (Y. LeCun, C. Cortes, C. Burges; CC BY-SA 3.0). Fashion-MNIST: clothes (H. Xiao, K.
Rasul, R. Vollgraf, https://arxiv.org/abs/1708.07747; MIT).
"""
from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import numpy as np

from pluggrad import config
from pluggrad.data.download import fetch
from pluggrad.data.idx import read_idx
from pluggrad.data.split import Array, Split, as_tensors, scaled, split_last
from pluggrad.errors import FileFormatError

# where each dataset is, and the SHA-256 of its files
_MIRRORS: Final = {
    "mnist": (
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ),
    "fashion_mnist": (
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
}
_SHA256: Final = {
    "mnist": {
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
}
# what the file names of each part begin with; a folder may also hold one pair of files with no prefix
_TRAIN, _TEST, _ALONE = "train-", "t10k-", ""
_TEST_SHARE = 0.2


def mnist(folder: str | os.PathLike[str] | None = None, device: str | None = None) -> Split:
    """`X_train, Y_train, X_test, Y_test` of MNIST, on `device`.

    X: float32 (n, 1, 28, 28) in [0, 1]; Y: int32 (n,), 0 to 9. `folder` holds IDX files, plain or `.gz`,
    named `train-images-idx3-ubyte` or `train-images.idx3-ubyte` and so on; of a single pair named
    `images-...` and `labels-...` the last fifth is for the test. Without a folder the files are downloaded.

    FileFormatError, naming the file, if one is damaged; FileNotFoundError if one is missing; ConnectionError
    if a download fails.
    """
    return _read("mnist", folder, device)


def fashion_mnist(folder: str | os.PathLike[str] | None = None, device: str | None = None) -> Split:
    """`X_train, Y_train, X_test, Y_test` of Fashion-MNIST, on `device`: 60,000 and 10,000 images of clothes.

    X: float32 (n, 1, 28, 28) in [0, 1]; Y: int32 (n,), 0 to 9: T-shirt, trouser, pullover, dress, coat,
    sandal, shirt, sneaker, bag, ankle boot. `folder` and errors as for `mnist`.
    """
    return _read("fashion_mnist", folder, device)


def _read(name: str, folder: str | os.PathLike[str] | None, device: str | None) -> Split:
    place = _downloaded(name) if folder is None else Path(folder)
    if _find(place, _TRAIN + "images") is None and _find(place, _ALONE + "images") is not None:
        return as_tensors(split_last(*_pair(place, _ALONE), _TEST_SHARE), device)
    return as_tensors((*_pair(place, _TRAIN), *_pair(place, _TEST)), device)


def _downloaded(name: str) -> Path:
    folder = config.cache_dir() / "datasets" / name
    for file, sha256 in _SHA256[name].items():
        fetch(_MIRRORS[name], file, sha256, folder)
    return folder


def _pair(folder: Path, prefix: str) -> tuple[Array, Array]:
    """Images (n, 1, 28, 28) scaled to [0, 1] and labels (n,) of one pair of files."""
    image_file, label_file = _require(folder, prefix + "images"), _require(folder, prefix + "labels")
    images, labels = read_idx(image_file, 3), read_idx(label_file, 1)
    if len(images) != len(labels):
        raise FileFormatError(op=f"read {label_file}", expected=f"{len(images):,} labels, one for each image",
                              got=f"{len(labels):,}")
    if labels.max(initial=0) > 9:
        raise FileFormatError(op=f"read {label_file}", expected="labels from 0 to 9", got=str(labels.max()))
    return scaled(images[:, None]), labels.astype(np.int32)


def _names(stem: str) -> list[str]:
    axes = 3 if stem.endswith("images") else 1
    return [f"{stem}{dot}idx{axes}-ubyte{end}" for dot in "-." for end in ("", ".gz")]


def _find(folder: Path, stem: str) -> Path | None:
    return next((folder / name for name in _names(stem) if (folder / name).is_file()), None)


def _require(folder: Path, stem: str) -> Path:
    found = _find(folder, stem)
    if found is None:
        raise FileNotFoundError(f"{folder} has none of {', '.join(_names(stem))}")
    return found
