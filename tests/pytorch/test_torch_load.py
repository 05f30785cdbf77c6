"""Files that PyTorch wrote, in both of its formats: whole checkpoints, every dtype, views of one storage."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, nn
from pluggrad.errors import FileFormatError
from pluggrad.nn import state

pytestmark = pytest.mark.torch

FORMATS = [True, False]


def equal(ours, theirs, where=""):
    """The same structure, with tensors of equal shapes, dtypes and values."""
    import torch

    if isinstance(theirs, torch.Tensor):
        assert ours.dtype.name == str(theirs.dtype).removeprefix("torch."), where
        assert ours.shape == tuple(theirs.shape), where
        wide = theirs.detach().float() if theirs.dtype is torch.bfloat16 else theirs.detach()
        np.testing.assert_array_equal(ours.numpy(), wide.numpy(), err_msg=where)
    elif isinstance(theirs, dict):
        assert list(ours) == list(theirs), where
        for key, value in theirs.items():
            equal(ours[key], value, f"{where}.{key}")
    elif isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs), where
        for index, value in enumerate(theirs):
            equal(ours[index], value, f"{where}.{index}")
    else:
        assert ours == theirs, where


@pytest.mark.parametrize("zipped", FORMATS)
def test_a_whole_checkpoint(tmp_path, zipped):
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(144, 3)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, amsgrad=True)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 5])
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(2, 1, 8, 8)).square().mean().backward()
        optimizer.step()
        schedule.step()
    checkpoint = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "epoch": 3,
        "loss": 0.25,
        "rng": torch.get_rng_state(),
    }
    path = tmp_path / "checkpoint.pt"
    torch.save(checkpoint, path, _use_new_zipfile_serialization=zipped)
    found = state.torch_load(path)
    equal(found, torch.load(path))
    ours = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))
    state.load_state_dict(ours, found["model"])
    images = np.random.default_rng(0).standard_normal((2, 1, 8, 8)).astype(np.float32)
    expected = model.eval()(torch.tensor(images)).detach().numpy()
    np.testing.assert_allclose(ours(Tensor(images)).numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("zipped", FORMATS)
def test_every_dtype_and_views(tmp_path, zipped):
    import torch

    names = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
    base = torch.arange(12.0)
    thing = {name: torch.tensor([[0, 1], [2, 100]]).to(getattr(torch, name)) for name in names}
    if zipped:
        thing |= {n: torch.tensor([1, 2]).to(getattr(torch, n)) for n in ("uint16", "uint32", "uint64")}
    thing |= {"view": base[3:9].view(2, 3).t(), "base": base, "one": base[5], "none": base[:0],
              "wide": base[:2].expand(3, 2)}
    path = tmp_path / "tensors.pt"
    torch.save(thing, path, _use_new_zipfile_serialization=zipped)
    equal(state.torch_load(path), thing)


def test_parameters_and_buffers_with_attributes(tmp_path):
    import torch

    parameter = torch.nn.Parameter(torch.ones(2))
    with_attribute = torch.nn.Parameter(torch.ones(3), requires_grad=False)
    with_attribute.tag = "kept by PyTorch"
    path = tmp_path / "parameters.pt"
    torch.save([parameter, with_attribute], path)
    found = state.torch_load(path)
    equal(found, [parameter, with_attribute])
    assert [each.requires_grad for each in found] == [True, False]


def test_a_whole_model_is_refused(tmp_path):
    import torch

    path = tmp_path / "model.pt"
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(FileFormatError, match=r"asks for torch\.nn\.modules\.linear\.Linear.*state dict"):
        state.torch_load(path)
    torch.save(torch.ones(2, dtype=torch.complex64), path)
    with pytest.raises(FileFormatError, match="ComplexFloatStorage"):
        state.torch_load(path)
    torch.save(torch.ones(2, 2).to_sparse(), path)
    with pytest.raises(FileFormatError, match="sparse"):
        state.torch_load(path)
