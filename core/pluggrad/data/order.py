"""Which items make up each batch of each epoch: a function of the seed alone, the same on every machine."""
from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Indices: TypeAlias = npt.NDArray[np.int64]


def stream(*key: int) -> np.random.Philox:
    """Random bits that `key` decides; NumPy promises to keep them, as it does not for `permutation`."""
    return np.random.Philox(np.random.SeedSequence([number % 2**64 for number in key]))


@lru_cache(maxsize=4)  # one epoch of each loader that takes turns with others
def shuffled(count: int, *key: int) -> Indices:
    """0 to count - 1 in an order that `key` decides; read-only."""
    order = np.argsort(stream(*key).random_raw(count), kind="stable")
    order.flags.writeable = False
    return order


class Order(NamedTuple):
    """The batches of every epoch over so many items."""

    items: int
    batch_size: int
    shuffle: bool
    drop_last: bool
    seed: int

    @property
    def batches(self) -> int:
        """Batches in an epoch."""
        return self.items // self.batch_size if self.drop_last else -(-self.items // self.batch_size)

    def indices(self, epoch: int, number: int) -> Indices:
        """The items of one batch of one epoch, both counted from 0."""
        begin, end = number * self.batch_size, min((number + 1) * self.batch_size, self.items)
        return shuffled(self.items, self.seed, epoch)[begin:end] if self.shuffle else np.arange(begin, end)
