"""Operands on two devices: the error names the operation, both devices and what to do; numbers never mix."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pluggrad import Tensor, errors, jit, nn

pytestmark = pytest.mark.usefixtures("device")


def ones(*shape: int, device: str | None = None) -> Tensor:
    return Tensor(np.ones(shape, np.float32), device=device)


class Two:
    """Tensors on the default device, and on another."""

    def __init__(self, other: str) -> None:
        self.x, self.y = ones(2, 3), ones(2, 3, device=other)
        self.labels, self.index = Tensor([0, 1]), Tensor([0, 1], device=other)
        self.mask = Tensor([[True, False, True]] * 2, device=other)
        self.weight = ones(3, device=other)
        self.image, self.kernel = ones(1, 1, 4, 4), ones(1, 1, 2, 2)
        self.other = other

    def column(self, index: Tensor) -> Tensor:
        return index.reshape(2, 1)


# what errors call the operation, and a call with an operand elsewhere
CASES = [
    ("add", lambda t: t.x + t.y),
    ("add", lambda t: t.x.__iadd__(t.y)),
    ("add", lambda t: t.x + Tensor(1.0, device=t.other)),
    ("sub", lambda t: t.y - t.x),
    ("pow", lambda t: t.x**t.y),
    ("max", lambda t: t.x.maximum(t.y)),
    ("lt", lambda t: t.x < t.y),
    ("eq", lambda t: t.x == t.y),
    ("matmul", lambda t: t.x @ t.y.T),
    ("dot", lambda t: t.x.dot(t.y.T)),
    ("outer", lambda t: t.x[0].outer(t.y[0])),
    ("kron", lambda t: t.x.kron(t.y)),
    ("tensordot", lambda t: t.x.tensordot(t.y, 2)),
    ("where", lambda t: (t.x > 0).where(t.x, t.y)),
    ("where", lambda t: t.mask.where(t.x, 1.0)),
    ("masked_fill", lambda t: t.x.masked_fill(t.mask, 0)),
    ("clamp", lambda t: t.x.clip(t.y, None)),
    ("lerp", lambda t: t.x.lerp(t.x, t.y)),
    ("copysign", lambda t: t.x.copysign(t.y)),
    ("isclose", lambda t: t.x.allclose(t.y)),
    ("prelu", lambda t: t.x.prelu(t.weight)),
    ("cat", lambda t: t.x.cat(t.y)),
    ("stack", lambda t: t.x.stack(t.y)),
    ("hstack", lambda t: t.x.hstack(t.y)),
    # ---- reading and writing at indices
    ("index", lambda t: t.x[t.index]),
    ("index", lambda t: t.x[t.mask]),
    ("index", lambda t: t.x.__setitem__(t.index, 1.0)),
    ("index", lambda t: t.x.__setitem__(t.mask, 1.0)),
    ("setitem", lambda t: t.x.__setitem__(0, t.y[0])),
    ("setitem", lambda t: t.x.__setitem__(t.labels, t.y)),
    ("gather", lambda t: t.x.gather(1, t.column(t.index))),
    ("scatter", lambda t: t.x.scatter(1, t.column(t.index), 5.0)),
    ("scatter_add", lambda t: t.x.scatter_add(1, t.column(t.labels), t.y)),
    ("index_select", lambda t: t.x.index_select(0, t.index)),
    ("index_add", lambda t: t.x.index_add(0, t.labels, t.y)),
    ("take", lambda t: t.x.take(t.index)),
    ("masked_select", lambda t: t.x.masked_select(t.mask)),
    # ---- networks
    ("conv2d", lambda t: t.image.conv2d(t.kernel.to(t.other))),
    ("conv2d", lambda t: t.image.conv2d(t.kernel, ones(1, device=t.other))),
    ("conv_transpose2d", lambda t: t.image.conv_transpose2d(t.kernel.to(t.other))),
    ("linear", lambda t: nn.Linear(3, 1)(t.y)),
    ("linear", lambda t: t.x.linear(ones(3, 2), ones(2, device=t.other))),
    ("layer_norm", lambda t: nn.LayerNorm(3)(t.y)),
    ("batchnorm", lambda t: nn.BatchNorm(3)(t.y)),
    ("embedding", lambda t: nn.Embedding(4, 2)(t.index)),
    ("mse_loss", lambda t: t.x.mse_loss(t.y)),
    ("l1_loss", lambda t: t.x.l1_loss(t.y)),
    ("huber_loss", lambda t: t.x.huber_loss(t.y)),
    ("binary_crossentropy", lambda t: t.x.binary_crossentropy(t.y)),
    ("binary_crossentropy_logits", lambda t: t.x.binary_crossentropy_logits(t.x, pos_weight=t.weight)),
    ("kl_div", lambda t: t.x.kl_div(t.y)),
    ("nll_loss", lambda t: t.x.nll_loss(t.index)),
    ("cross_entropy", lambda t: t.x.cross_entropy(t.index)),
    ("cross_entropy", lambda t: t.x.cross_entropy(t.labels, weight=t.weight)),
    # ---- state and gradients
    ("assign", lambda t: t.x.assign(t.y)),
    ("grad", lambda t: setattr(t.x, "grad", t.y)),
    ("backward", lambda t: (t.x * 2).backward(t.y)),
    ("gradient", lambda t: (t.x * 2).gradient(t.x, gradient=t.y)),
    ("add", lambda t: jit(lambda a, b: a + b)(t.x, t.y)),
]


@pytest.mark.parametrize(("op", "call"), CASES, ids=[f"{op}-{i}" for i, (op, _) in enumerate(CASES)])
def test_the_operation_both_devices_and_the_fix_are_named(device, other_device, op, call):
    two = Two(other_device)
    with pytest.raises(errors.MixedDevices) as caught:
        call(two)
    message = str(caught.value)
    assert message.startswith(f"{op}: expected operands on one device, got ")
    assert set(re.search(r"got (\S+) and (\S+)\. ", message).groups()) == {device, other_device}
    assert re.search(rf"x\.to\('({device}|{other_device})'\)$", message)
    assert isinstance(caught.value, ValueError)
    np.testing.assert_array_equal(two.x.numpy(), np.ones((2, 3)))  # nothing was changed
    assert two.x.device == device


def test_the_fix_is_one(device, other_device):
    x, y = ones(2), ones(2, device=other_device)
    assert (x + y.to(device)).tolist() == [2, 2]
    assert (x.to(y.device) + y).device == other_device


def test_numbers_and_arrays_go_where_the_tensor_is(other_device):
    x = ones(2, device=other_device)
    results = [x + 1, 2.0 * x, 1 / x, x + True, x + np.ones(2, np.float32), (x > 0).where(x, 0)]
    results += [x.clip(0, 1), x.masked_fill(x > 0, 3.0), x[[1, 0]], x.lerp(x, 0.5)]
    assert {result.device for result in results} == {other_device}
    x[0] = 5
    x += np.ones(2, np.float32)
    assert (x.device, x.tolist()) == (other_device, [6, 2])
    assert Tensor([x[0], 3.0]).tolist() == [6, 3]  # elements are read as numbers


def test_an_optimizer_may_hold_tensors_of_two_devices(device, other_device):
    here, there = ones(2), ones(3, device=other_device)
    optimizer = nn.optim.Adam([here, there], lr=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        (here.sum().to(other_device) + (there * 2).sum()).backward()
        assert (here.grad.device, there.grad.device) == (device, other_device)
        optimizer.step()
    assert [m.device for m in optimizer.m] == [device, other_device]
    np.testing.assert_allclose(here.numpy(), np.zeros(2), atol=1e-5)
    np.testing.assert_allclose(there.numpy(), np.zeros(3), atol=1e-5)
