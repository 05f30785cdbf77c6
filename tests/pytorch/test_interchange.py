"""DLPack and NumPy between pluggrad and PyTorch: shared memory, copies, lifetimes."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import pluggrad
from pluggrad import Tensor

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("device")]


@pytest.fixture
def torch():
    import torch

    return torch


DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_there_and_back(torch, dtype):
    x = Tensor([[0, 1, 2], [3, 4, 5]]).cast(dtype)
    for theirs in (torch.from_dlpack(x), torch.utils.dlpack.from_dlpack(x.__dlpack__())):
        assert theirs.dtype == getattr(torch, dtype)
        assert theirs.tolist() == x.tolist()
        for back in (Tensor.from_dlpack(theirs), Tensor.from_dlpack(torch.utils.dlpack.to_dlpack(theirs)),
                     Tensor(theirs), Tensor([theirs, theirs])[1]):
            assert back.dtype is x.dtype
            assert back.tolist() == x.tolist()


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1, 4)])
def test_few_elements(torch, shape):
    assert torch.from_dlpack(Tensor.ones(*shape)).shape == shape
    assert Tensor.from_dlpack(torch.ones(shape)).shape == shape


def test_they_share_memory_and_we_write_elsewhere(torch):
    x = Tensor([1.0, 2.0, 3.0]).realize()
    theirs, view = torch.from_dlpack(x), torch.from_dlpack(x[::2])
    assert theirs.data_ptr() == view.data_ptr() == np.asarray(x).__array_interface__["data"][0]
    assert view.stride() == (2,)
    x += 1
    x.realize()
    assert (theirs.tolist(), view.tolist(), x.tolist()) == ([1, 2, 3], [1, 3], [2, 3, 4])


def test_pytorch_ignores_that_memory_is_read_only(torch):
    """Documented: it has no such tensors. A copy may be written to."""
    x = Tensor([1.0, 2.0]).realize()
    torch.from_dlpack(x).add_(1)
    assert x.tolist() == [2, 3]
    for copied in (torch.from_dlpack(x, copy=True), torch.utils.dlpack.from_dlpack(x.__dlpack__())):
        copied.add_(1)
    assert x.tolist() == [2, 3]


def test_theirs_is_shared_and_let_go_of(torch):
    theirs = torch.zeros(64)
    gone = weakref.ref(theirs)
    x = Tensor.from_dlpack(theirs)
    theirs[0] = 5
    assert x[0].item() == 5
    x += 1
    assert x[0].item() == 6
    assert theirs[0].item() == 5
    assert Tensor.from_dlpack(theirs.reshape(8, 8).T).shape == (8, 8)  # a copy
    del theirs, x
    gc.collect()
    assert gone() is None


def test_memory_outlives_the_tensor(torch, device):
    x = Tensor.full((1000,), 2.0).contiguous().realize()
    gc.collect()
    held = pluggrad.memory_stats()[device]["used"]
    theirs = torch.from_dlpack(x)
    del x
    others = [(Tensor.zeros(1000) + i).contiguous().realize() for i in range(3)]
    assert theirs.eq(2).all()
    del theirs, others
    gc.collect()
    assert pluggrad.memory_stats()[device]["used"] < held


def test_what_pytorch_does_not_give_away(torch):
    with pytest.raises(BufferError, match="require"):
        Tensor.from_dlpack(torch.ones(2, requires_grad=True))
    with pytest.raises(TypeError, match="complex64"):
        Tensor.from_dlpack(torch.ones(2, dtype=torch.complex64))
