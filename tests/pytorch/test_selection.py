"""gather, scatter and indexing beside PyTorch's, with gradients and second gradients."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor
from tests.pytorch.compare import compare, draw

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("device")]

INDEX = np.random.default_rng(1).integers(0, 6, (4, 5))
ORDER = np.random.default_rng(2).permuted(np.tile(np.arange(6), (5, 1)), axis=1).T[:4].copy()  # none meet
X, SOURCE = draw(6, 5), draw(4, 5, seed=4)


def both(ours, theirs, index, *arrays, **options):
    import torch

    compare(lambda *x: ours(*x, Tensor(index)), lambda *x: theirs(*x, torch.tensor(index)), *arrays,
            dtype="float64", **options)


def test_gather():
    both(lambda x, i: x.gather(0, i) ** 2, lambda x, i: x.gather(0, i) ** 2, INDEX, X)
    both(lambda x, i: x.take(i) ** 2, lambda x, i: x.take(i) ** 2, INDEX, X)
    both(lambda x, i: x.index_select(1, i) ** 2, lambda x, i: x.index_select(1, i) ** 2, INDEX[0] % 5, X)


def test_scatter_where_nothing_meets():
    both(lambda x, y, i: x.scatter(0, i, y) ** 2, lambda x, y, i: x.scatter(0, i, y) ** 2, ORDER, X, SOURCE)


def test_sums():
    def added(x, y, i):
        return x.scatter_add(0, i, y) ** 2

    def weighted(x, y, i):
        return x.index_add(0, i, y, alpha=3.0) ** 2

    both(added, added, INDEX, X, SOURCE)
    both(weighted, weighted, INDEX[:, 0], X, SOURCE)


@pytest.mark.parametrize("reduce", ["sum", "mean", "amax", "amin"])
@pytest.mark.parametrize("include_self", [True, False])
def test_scatter_reduce(reduce, include_self):
    def apply(x, y, i):
        return x.scatter_reduce(0, i, y, reduce, include_self=include_self) ** 2

    both(apply, apply, INDEX, X, SOURCE)


def test_products():
    def apply(x, y, i):
        return x.scatter_reduce(0, i, y, "prod", include_self=True)

    both(apply, apply, INDEX, X, SOURCE)


def test_indexing():
    both(lambda x, i: x[i] ** 2, lambda x, i: x[i] ** 2, INDEX, X)
    both(lambda x, i: x[:, i, None] ** 2, lambda x, i: x[:, i, None] ** 2, INDEX % 5, X)
    both(lambda x, i: x[i, i % 5] ** 2, lambda x, i: x[i, i % 5] ** 2, INDEX, X)


@pytest.mark.parametrize("accumulate", [True, False])
def test_index_put(accumulate):
    def apply(x, y, i):
        return x.index_put((i[:, 0], i[:, 1] % 5), y, accumulate) ** 2

    both(apply, apply, ORDER, X, draw(4))


def test_writes_through_keys():
    def apply(x, y, i):
        x = x * 1
        x[i] = y * 2
        x[x > 1] = 0.5
        return x ** 2

    both(apply, apply, np.array([3, 0, 5, 1]), X, SOURCE)


def test_embedding():
    import torch.nn.functional as F

    both(lambda w, i: i.embedding(w) ** 2, lambda w, i: F.embedding(i, w) ** 2, INDEX, X)
