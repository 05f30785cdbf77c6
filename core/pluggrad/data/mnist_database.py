"""MNIST: 28 x 28 images of handwritten digits (Y. LeCun, C. Cortes, C. Burges; CC BY-SA 3.0)."""
from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import numpy as np

from pluggrad import config
from pluggrad.data.download import fetch
from pluggrad.data.idx import read_idx
from pluggrad.data.split import Array, Split, as_tensors, split_last
from pluggrad.errors import FileFormatError

_MIRRORS: Final = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
_SHA256: Final = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
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
    place = _downloaded() if folder is None else Path(folder)
    if _find(place, _TRAIN + "images") is None and _find(place, _ALONE + "images") is not None:
        return as_tensors(split_last(*_pair(place, _ALONE), _TEST_SHARE), device)
    return as_tensors((*_pair(place, _TRAIN), *_pair(place, _TEST)), device)


def _downloaded() -> Path:
    folder = config.cache_dir() / "datasets" / "mnist"
    for name, sha256 in _SHA256.items():
        fetch(_MIRRORS, name, sha256, folder)
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
    return images[:, None].astype(np.float32) / 255, labels.astype(np.int32)


def _names(stem: str) -> list[str]:
    axes = 3 if stem.endswith("images") else 1
    return [f"{stem}{dot}idx{axes}-ubyte{end}" for dot in "-." for end in ("", ".gz")]


def _find(folder: Path, stem: str) -> Path | None:
    return next((folder / name for name in _names(stem) if (folder / name).is_file()), None)


def _require(folder: Path, stem: str) -> Path:
    found = _find(folder, stem)
    if found is None:
        raise FileNotFoundError(f"mnist: {folder} has none of {', '.join(_names(stem))}")
    return found
