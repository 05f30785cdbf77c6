"""Sets of values. How many there are is known only from the values, so these are read, by NumPy.

Each NaN is a value of its own; 0 and -0 are one.
"""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pluggrad.array_api.arguments import INDEX, array
from pluggrad.tensor import Tensor


class UniqueAll(NamedTuple):
    """values: sorted. indices: of the first of each. inverse_indices: in the shape of the array. counts."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCounts(NamedTuple):
    """values: sorted. counts: how many of each."""

    values: Tensor
    counts: Tensor


class UniqueInverse(NamedTuple):
    """values: sorted. inverse_indices: where each element is among them, in the shape of the array."""

    values: Tensor
    inverse_indices: Tensor


def unique_all(x: Tensor, /) -> UniqueAll:
    """Values, the position of the first of each in the flattened array, inverse positions and counts."""
    values, first, inverse, counts = np.unique(
        np.asarray(array("unique_all", x)), return_index=True, return_inverse=True, return_counts=True,
        equal_nan=False)
    return UniqueAll(_like(x, values, x.dtype), _like(x, first, INDEX),
                     _like(x, inverse.reshape(x.shape), INDEX), _like(x, counts, INDEX))


def unique_counts(x: Tensor, /) -> UniqueCounts:
    """Values and counts."""
    found = unique_all(x)
    return UniqueCounts(found.values, found.counts)


def unique_inverse(x: Tensor, /) -> UniqueInverse:
    """Values, and where each element is among them."""
    found = unique_all(x)
    return UniqueInverse(found.values, found.inverse_indices)


def unique_values(x: Tensor, /) -> Tensor:
    """The values, sorted."""
    return unique_all(x).values


def _like(x: Tensor, values: Any, dtype: Any) -> Tensor:
    return Tensor(values, device=x.device, dtype=dtype)
