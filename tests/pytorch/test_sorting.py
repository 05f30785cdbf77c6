"""Running reductions, orders and counts beside PyTorch's, with gradients and second gradients."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor
from tests.pytorch.compare import compare, draw

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("device")]
X = draw(4, 7)
HOLES = np.where(np.random.default_rng(3).random((4, 7)) < 0.3, np.nan, X).astype("float64")
WITH_ZEROS = np.where(np.random.default_rng(4).random((4, 7)) < 0.3, 0, X)
INTEGERS = np.random.default_rng(5).integers(0, 9, 40)


def alike(found, expected):
    """Tensors of both libraries, one or several, hold the same."""
    pairs = zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5)


@pytest.mark.parametrize("dim", [0, 1])
def test_running_reductions(dim):
    for name in ("cumsum", "cumprod", "logcumsumexp"):
        compare(lambda x, name=name: getattr(x, name)(dim), lambda x, name=name: getattr(x, name)(dim), X,
                dtype="float64")
    for name in ("cummax", "cummin"):
        compare(lambda x, name=name: getattr(x, name)(dim)[0],
                lambda x, name=name: getattr(x, name)(dim)[0], X)


def test_products_with_zeros():
    compare(lambda x: x.cumprod(1), lambda x: x.cumprod(1), WITH_ZEROS, dtype="float64")


@pytest.mark.parametrize("descending", [False, True])
def test_orders(descending):
    import torch

    for dim in (0, 1):
        compare(lambda x, dim=dim: x.sort(dim, descending)[0] ** 2,
                lambda x, dim=dim: x.sort(dim=dim, descending=descending)[0] ** 2, X)
    rounded = np.round(HOLES)
    alike(Tensor(rounded).sort(1, descending),
          tuple(torch.sort(torch.tensor(rounded), stable=True, dim=1, descending=descending)))
    compare(lambda x: x.topk(3, 1, descending)[0] ** 2, lambda x: x.topk(3, 1, descending)[0] ** 2, X)


def test_ranks():
    import torch

    compare(lambda x: x.median(1)[0] ** 2, lambda x: x.median(1)[0] ** 2, X)
    compare(lambda x: x.kthvalue(3, 0)[0] ** 2, lambda x: x.kthvalue(3, 0)[0] ** 2, X)
    t = torch.tensor(HOLES)
    for ours, theirs in ((Tensor(HOLES).median(1)[0], t.median(1)[0]),
                         (Tensor(HOLES).nanmedian(1)[0], t.nanmedian(1)[0]),
                         (Tensor(HOLES).median(), t.median()), (Tensor(HOLES).nanmedian(), t.nanmedian())):
        alike(ours, theirs)


@pytest.mark.parametrize("mode", ["linear", "lower", "higher", "midpoint", "nearest"])
def test_quantiles(mode):
    import torch

    shares = [0.0, 0.25, 0.6, 1.0]
    q = torch.tensor(shares, dtype=torch.float64)
    compare(lambda x: x.quantile(shares, 1, True, mode),
            lambda x: x.quantile(q, 1, True, interpolation=mode), X, order=1, dtype="float64")
    alike(Tensor(HOLES).nanquantile(shares, 0, interpolation=mode),
          torch.tensor(HOLES).nanquantile(q, 0, interpolation=mode))


def test_counts():
    import torch

    weights = draw(40)
    alike(Tensor(INTEGERS).bincount(minlength=12), torch.tensor(INTEGERS).bincount(minlength=12))
    alike(Tensor(INTEGERS).bincount(weights), torch.tensor(INTEGERS).bincount(torch.tensor(weights)))
    alike(Tensor(weights).histc(6, -1, 2), torch.tensor(weights).histc(6, -1, 2))
    found = Tensor(weights).histogram(5, density=True)
    alike(found, tuple(torch.tensor(weights).histogram(5, density=True)))


def test_sets():
    import torch

    t, found = torch.tensor(INTEGERS), Tensor(INTEGERS)
    alike(found.unique(return_inverse=True, return_counts=True),
          t.unique(return_inverse=True, return_counts=True))
    pairs = INTEGERS.reshape(20, 2) % 3
    alike(Tensor(pairs).unique(return_counts=True, dim=0),
          torch.tensor(pairs).unique(return_counts=True, dim=0))
    alike(found.isin(Tensor([1, 5])), torch.isin(t, torch.tensor([1, 5])))


def test_positions():
    import torch

    edges, values = np.sort(draw(9)), draw(3, 4)
    for right in (False, True):
        alike(Tensor(edges).searchsorted(values, right=right),
              torch.searchsorted(torch.tensor(edges), torch.tensor(values), right=right))
        alike(Tensor(values).bucketize(Tensor(edges), right=right),
              torch.bucketize(torch.tensor(values), torch.tensor(edges), right=right))


def test_what_differs():
    """Equal extremes: the first place and its gradient here, the last there; int32 places, int64 there."""
    import torch

    x = [1.0, 3.0, 3.0, 2.0]
    ours, theirs = Tensor(x).cummax(), torch.tensor(x).cummax(0)
    assert ours[1].tolist() == [0, 1, 1, 1]
    assert theirs[1].tolist() == [0, 1, 2, 2]
    assert (ours[1].dtype.name, theirs[1].dtype) == ("int32", torch.int64)
