"""Batches as PyTorch's DataLoader makes them."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
import pytest

from pluggrad.data import DataLoader, TensorDataset, random_split

Pair = namedtuple("Pair", "x y")
GENERATOR = np.random.default_rng(0)
ARRAYS = [GENERATOR.standard_normal((3, 2)).astype(np.float32) for _ in range(7)]
DATASETS = {
    "numbers": list(range(7)),
    "floats": [0.5 * i for i in range(7)],
    "arrays": ARRAYS,
    "tuples": [(array, i) for i, array in enumerate(ARRAYS)],
    "lists": [[array, i] for i, array in enumerate(ARRAYS)],
    "dictionaries": [{"x": array, "name": f"item {i}", "inner": {"y": i}} for i, array in enumerate(ARRAYS)],
    "named tuples": [Pair(array, (i, i * i)) for i, array in enumerate(ARRAYS)],
}


def plain(batch: Any) -> Any:
    """Values alone. PyTorch makes lists of tuples; here they stay tuples."""
    if isinstance(batch, dict):
        return {key: plain(part) for key, part in batch.items()}
    if isinstance(batch, list | tuple):
        return [plain(part) for part in batch]
    return batch if isinstance(batch, str) else batch.tolist()


@pytest.mark.torch
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 7, 10])
@pytest.mark.parametrize("name", DATASETS)
def test_batches(name, batch_size, drop_last):
    from torch.utils import data

    ours = DataLoader(DATASETS[name], batch_size, drop_last=drop_last)
    theirs = data.DataLoader(DATASETS[name], batch_size, drop_last=drop_last)
    assert len(ours) == len(theirs)
    assert [plain(batch) for batch in ours] == [plain(batch) for batch in theirs]


@pytest.mark.torch
def test_tensors_side_by_side():
    import torch
    from torch.utils import data

    arrays = np.stack(ARRAYS), np.arange(7)
    ours = DataLoader(TensorDataset(*arrays), 3)
    theirs = data.DataLoader(data.TensorDataset(*map(torch.tensor, arrays)), 3)
    assert [plain(batch) for batch in ours] == [plain(batch) for batch in theirs]


@pytest.mark.torch
@pytest.mark.parametrize("lengths", [[4, 3], [0.5, 0.5], [0.7, 0.2, 0.1], [1 / 3] * 3, [1.0], [7, 0]])
def test_lengths_of_random_parts(lengths):
    from torch.utils import data

    ours = [len(part) for part in random_split(range(7), lengths)]
    assert ours == [len(part) for part in data.random_split(range(7), lengths)]
