"""Training and test parts of a dataset."""
from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from pluggrad.tensor import Tensor

Array: TypeAlias = npt.NDArray[Any]


class Split(NamedTuple):
    """A dataset in two parts: unpack it, or name the part."""

    X_train: Tensor
    Y_train: Tensor
    X_test: Tensor
    Y_test: Tensor


Arrays: TypeAlias = tuple[Array, Array, Array, Array]


def split_last(images: Array, labels: Array, test_share: float) -> Arrays:
    """The arrays as they stand, the last `test_share` of them (rounded down) for the test."""
    train = len(images) - int(len(images) * test_share)
    return images[:train], labels[:train], images[train:], labels[train:]


def scaled(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Bytes as float32 from 0 to 1."""
    floats = images.astype(np.float32)
    floats /= 255  # in place: a second copy of a dataset would be felt
    return floats


def as_tensors(parts: Arrays, device: str | None) -> Split:
    """The four parts on `device`, each in memory of its own."""
    return Split(*(Tensor(np.ascontiguousarray(part), device=device) for part in parts))
