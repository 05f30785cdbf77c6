"""Datasets: anything with `__len__` and `__getitem__`; here, tensors side by side, and parts of a dataset."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from pluggrad.data.order import Indices, shuffled
from pluggrad.errors import ShapeError, ValueRangeError
from pluggrad.tensor import Tensor


class Dataset(Protocol):
    """What a `DataLoader` needs: a number of items, and each by its index. No base class is needed."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class TensorDataset:
    """Tensors of equal length, side by side: item i is the tuple of their i-th rows.

    tensors: at least one, each (n, ...); arrays and lists become tensors. An index may be anything that a
    tensor takes: `dataset[2:5]` is a tuple of rows 2 to 4. ShapeError if lengths differ.

        >>> dataset = TensorDataset(Tensor([[1.0], [2.0], [3.0]]), Tensor([0, 1, 0]))
        >>> len(dataset), dataset[1][1].item()
        (3, 1)
    """

    def __init__(self, *tensors: Any) -> None:
        self.tensors = tuple(x if isinstance(x, Tensor) else Tensor(x) for x in tensors)
        if not self.tensors:
            raise ValueRangeError(op="TensorDataset", expected="at least one tensor", got="none")
        if any(x.ndim == 0 for x in self.tensors) or len({len(x) for x in self.tensors}) > 1:
            shapes = " and ".join(str(x.shape) for x in self.tensors)
            raise ShapeError(op="TensorDataset", expected="tensors of one length along the first axis",
                             got=f"shapes {shapes}")

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(x[index] for x in self.tensors)


class Subset:
    """The items of `dataset` at `indices`, in that order."""

    def __init__(self, dataset: Dataset, indices: Sequence[int] | Indices) -> None:
        self.dataset = dataset
        self.indices = np.asarray(indices, np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[index])]


def random_split(dataset: Dataset, lengths: Sequence[int | float], seed: int = 0) -> list[Subset]:
    """Parts of `dataset` that share no item, of these lengths, drawn by `seed` (the same on every machine).

    lengths: integers that add up to len(dataset), or shares that add up to 1; what rounding down the shares
    leaves goes to the parts in turn, one item each. ValueRangeError if they do not add up.

        >>> train, test = random_split(TensorDataset(Tensor.arange(10)), [0.8, 0.2])
        >>> len(train), len(test)
        (8, 2)
    """
    sizes = _sizes(len(dataset), lengths)
    order = shuffled(len(dataset), seed)
    return [Subset(dataset, part) for part in np.split(order, np.cumsum(sizes)[:-1])]


def _sizes(count: int, lengths: Sequence[int | float]) -> list[int]:
    if any(length < 0 for length in lengths):
        raise ValueRangeError(op="random_split", expected="lengths of at least 0", got=str(list(lengths)))
    if sum(lengths) == count and all(length == int(length) for length in lengths):
        return [int(length) for length in lengths]
    if not math.isclose(sum(lengths), 1):
        raise ValueRangeError(op="random_split", expected=f"lengths that add up to {count}, or shares to 1",
                              got=f"{list(lengths)}, {sum(lengths)} in all")
    sizes = [math.floor(count * share) for share in lengths]
    for turn in range(count - sum(sizes)):
        sizes[turn % len(sizes)] += 1
    return sizes
