"""vmap: axes, nesting, randomness, devices, what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

import pluggrad
from pluggrad import Tensor, jit, manual_seed, nn, vmap
from pluggrad.errors import AxisError, ShapeError, TransformError, ValueRangeError

RNG = np.random.default_rng(4)
A, B = RNG.uniform(-1, 1, (2, 3, 4)).astype(np.float32), RNG.uniform(-1, 1, 4).astype(np.float32)


def test_axes(device):
    f = vmap(lambda x, y: x * 2 + y, in_axes=(1, None), out_axes=-1)
    expected = np.stack([A[:, i] * 2 + B for i in range(3)], -1)
    assert np.allclose(f(Tensor(A), Tensor(B)).numpy(), expected, atol=1e-6)
    g = vmap(lambda x, y: x @ y, in_axes=(-1, 0))
    assert np.allclose(g(Tensor(A), Tensor(B).reshape(4, 1).expand(4, 3)).numpy(),
                       np.stack([A[..., i] @ np.full(3, B[i]) for i in range(4)]), atol=1e-6)


def test_nested_arguments_and_results():
    def f(pair, scale, *, shift):
        return {"sum": pair["a"] + pair["b"][0] * scale, "rest": [shift, 7]}

    f = vmap(f, in_axes=({"a": 0, "b": [1]}, None), out_axes={"sum": 1, "rest": [0, None]})
    found = f({"a": Tensor(A[0]), "b": [Tensor(A[1].T)]}, 2.0, shift=Tensor(B[:3]))
    assert np.allclose(found["sum"].numpy(), (A[0] + 2 * A[1]).T, atol=1e-6)
    assert found["rest"][0].shape == (3,)
    assert found["rest"][1] == 7


def test_of_vmap(device):
    outer = vmap(vmap(lambda x, y: (x * y).sum(), in_axes=(0, None)), in_axes=(None, 0))
    found = outer(Tensor(A[0]), Tensor(A[1]))
    assert np.allclose(found.numpy(), (A[0] @ A[1].T).T, atol=1e-6)


def test_a_result_that_does_not_depend_on_the_batch():
    assert vmap(lambda x: Tensor(B))(Tensor(A)).shape == (2, 4)
    assert vmap(lambda x: Tensor(B), out_axes=None)(Tensor(A)).shape == (4,)


def test_a_model_and_its_gradients(device):
    model = nn.Linear(4, 2)
    rows = vmap(lambda x: model(x).relu())(Tensor(A[0]))
    assert np.allclose(rows.numpy(), model(Tensor(A[0])).relu().numpy(), atol=1e-6)
    rows.sum().backward()
    expected = model(Tensor(A[0])).relu().sum().gradient(model.weight)[0]
    assert np.allclose(model.weight.grad.numpy(), expected.numpy(), atol=1e-5)


def test_convolution_of_each(device):
    images, kernels = RNG.uniform(-1, 1, (2, 1, 2, 5, 5)), RNG.uniform(-1, 1, (2, 3, 2, 3, 3))
    found = vmap(lambda x, w: x.conv2d(w, padding=1))(Tensor(images), Tensor(kernels))
    for i in range(2):
        assert np.allclose(found[i].numpy(), Tensor(images[i]).conv2d(Tensor(kernels[i]), padding=1).numpy())


def test_setitem_and_stack_inside(device):
    def f(x, i):
        made = Tensor.zeros(4)
        made[1:3] = x[:2]
        made[i] = 9.0
        return Tensor.stack(made, x)

    found = vmap(f)(Tensor(A[0]), Tensor([0, 3, 1])).numpy()
    for row, i, got in zip(A[0], (0, 3, 1), found, strict=True):
        expected = np.array([0, row[0], row[1], 0], np.float32)
        expected[i] = 9
        assert np.array_equal(got, [expected, row])


def test_under_jit(device):
    f = jit(vmap(lambda x, y: (x * y).softmax(0), in_axes=(0, None)))
    for shift in range(3):
        z = (A[0] + shift) * B
        expected = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        assert np.allclose(f(Tensor(A[0] + shift), Tensor(B)).numpy(), expected, atol=1e-6)


def test_an_empty_batch():
    assert vmap(lambda x: x.sum())(Tensor(np.zeros((0, 3)))).shape == (0,)


def test_linear_algebra_and_devices(device_name, other_device):
    matrices = RNG.uniform(-1, 1, (3, 2, 2)) + 3 * np.eye(2)
    found = vmap(lambda m: m.inv().to(other_device) * 2)(Tensor(matrices, device=device_name))
    assert np.allclose(found.numpy(), 2 * np.linalg.inv(matrices))


# ---- randomness ----------------------------------------------------------------------------------------


def draws(randomness):
    manual_seed(7)
    return vmap(lambda x: x * 0 + Tensor.rand(3), randomness=randomness)(Tensor(np.ones((5, 3), np.float32)))


def test_different_and_same_draws(device):
    different, same = draws("different").numpy(), draws("same").numpy()
    assert len(np.unique(different)) == 15
    assert np.array_equal(same, np.broadcast_to(same[0], (5, 3)))
    manual_seed(7)
    assert np.array_equal(same[0], Tensor.rand(3).numpy())


def test_a_draw_is_an_error_by_default():
    with pytest.raises(TransformError, match="randomness='different' or 'same'"):
        draws("error")


def test_nested_draws_differ_where_asked():
    def inner(x):
        return vmap(lambda v: v * 0 + Tensor.rand(2), randomness="different")(x)

    found = vmap(inner, randomness="different")(Tensor(np.ones((3, 4, 2)))).numpy()
    assert len(np.unique(found)) == 24
    same = vmap(inner, randomness="same")(Tensor(np.ones((3, 4, 2)))).numpy()
    assert np.array_equal(same, np.broadcast_to(same[0], (3, 4, 2)))
    assert len(np.unique(same)) == 8


def test_a_mask_from_outside_is_the_same_for_all():
    mask = Tensor.rand(3)
    found = vmap(lambda x: x + mask + Tensor.rand(3) * 0, randomness="different")(Tensor(np.zeros((2, 3))))
    assert np.array_equal(found[0].numpy(), found[1].numpy())


def test_dropout_of_each():
    with Tensor.train():
        found = vmap(lambda x: x.dropout(0.5), randomness="different")(Tensor(np.ones((64, 8)))).numpy()
    assert len(np.unique(found, axis=0)) > 32


# ---- errors --------------------------------------------------------------------------------------------

OUTSIDE = Tensor(B)


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda: vmap(lambda x: x.sum().item())(Tensor(A)), TransformError, "no value to be read"),
    (lambda: vmap(lambda x: x if x.sum() > 0 else -x)(Tensor(A)), TransformError, r"decide with where\(\)"),
    (lambda: vmap(lambda x: x[x > 0])(Tensor(A)), TransformError, "no value to be read"),
    (lambda: vmap(lambda x: x.sum().backward())(Tensor(A)), TransformError, "in a function that vmap calls"),
    (lambda: vmap(lambda x: OUTSIDE.assign(x[0]))(Tensor(A)), TransformError, "an assignment to a tensor"),
    (lambda: vmap(lambda x: x.assign(x * 2))(Tensor(A)), TransformError, "an assignment to a tensor"),
    (lambda: vmap(lambda x, y: x + y)(Tensor(A), Tensor(B)), ShapeError, "batches of one size, got 2 and 4"),
    (lambda: vmap(lambda x: x, in_axes=3)(Tensor(A)), AxisError, "an axis in"),
    (lambda: vmap(lambda x: x, out_axes=4)(Tensor(A)), AxisError, "an axis in"),
    (lambda: vmap(lambda x: x)(Tensor(1.0)), AxisError, "an axis for the batch"),
    (lambda: vmap(lambda x: x, in_axes=None)(Tensor(A)), ValueRangeError, "at least one tensor with a batch"),
    (lambda: vmap(lambda x: x, in_axes=(0, 0))(Tensor(A)), ValueRangeError, "in_axes that fit a tuple of 1"),
    (lambda: vmap(lambda x: x, out_axes=None)(Tensor(A)), ValueRangeError, "the same for all"),
    (lambda: vmap(lambda x: x, randomness="no"), ValueRangeError, "randomness to be one of"),
], ids=range(14))
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()
    assert np.array_equal(OUTSIDE.numpy(), B)


def test_a_tensor_that_escaped_has_no_value():
    kept = []
    vmap(lambda x: kept.append(x * 2) or x)(Tensor(A))
    with pytest.raises(TransformError, match="no value to be read"):
        kept[0].numpy()
    assert np.allclose(pluggrad.Tensor(B).numpy(), B)  # and later calls are none the worse
