"""Softmax and its family, layers and losses, against SciPy and plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from pluggrad import Tensor, dtypes

pytestmark = pytest.mark.usefixtures("device")

RNG = np.random.default_rng(11)
X = RNG.normal(size=(5, 7)).astype(np.float32)
LABELS = np.array([0, 6, 3, 3, 2])


@pytest.mark.parametrize("axis", [-1, 0, (0, 1)], ids=str)
def test_softmax_family(axis):
    t = Tensor(X)
    np.testing.assert_allclose(t.softmax(axis).numpy(), special.softmax(X, axis), rtol=1e-5)
    np.testing.assert_allclose(t.softmin(axis).numpy(), special.softmax(-X, axis), rtol=1e-5)
    np.testing.assert_allclose(t.log_softmax(axis).numpy(), special.log_softmax(X, axis), rtol=1e-5)


def test_softmax_does_not_overflow():
    x = Tensor([[1000.0, 1000.0, -1000.0], [-np.inf, 0.0, 0.0]])
    np.testing.assert_allclose(x.softmax().numpy(), [[0.5, 0.5, 0], [0, 0.5, 0.5]])
    np.testing.assert_allclose(x.log_softmax().numpy()[0, :2], [-np.log(2)] * 2, rtol=1e-6)
    assert Tensor.zeros(0, 3).softmax(0).shape == (0, 3)
    assert Tensor([1, 2]).softmax().dtype is dtypes.float32
    assert Tensor([1.0], dtype="float16").softmax().dtype is dtypes.float16


def test_linear_and_sequential():
    weight, bias = RNG.normal(size=(7, 3)).astype(np.float32), RNG.normal(size=3).astype(np.float32)
    np.testing.assert_allclose(
        Tensor(X).linear(Tensor(weight), Tensor(bias)).numpy(), X @ weight + bias, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(Tensor(X).linear(Tensor(weight[:, 0])).numpy(), X * weight[:, 0], rtol=1e-6)
    assert Tensor([-1.0, 4.0]).sequential([Tensor.relu, lambda t: t.sqrt()]).tolist() == [0, 2]


def test_glu():
    np.testing.assert_allclose(Tensor(X[:, :6]).glu().numpy(), X[:, :3] * special.expit(X[:, 3:6]), rtol=1e-5)
    with pytest.raises(ValueError, match="glu: expected an axis of even size, got 7"):
        Tensor(X).glu(1)


def test_layernorm():
    expected = (X - X.mean(-1, keepdims=True)) / np.sqrt(X.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(Tensor(X).layernorm().numpy(), expected, rtol=1e-4, atol=1e-5)
    flat = (X - X.mean()) / np.sqrt(X.var() + 1e-3)
    np.testing.assert_allclose(Tensor(X).layernorm((0, 1), 1e-3).numpy(), flat, rtol=1e-4, atol=1e-5)


def reduced(loss, reduction):
    return {"mean": np.mean, "sum": np.sum, "none": lambda x: x}[reduction](loss)


Y = RNG.normal(size=(5, 7)).astype(np.float32)
P, Q = special.expit(X), (Y > 0).astype(np.float32)
D = X - Y
LOSSES = {
    "mse_loss": (X, Y, D**2),
    "l1_loss": (X, Y, np.abs(D)),
    "huber_loss": (X, Y, special.huber(1.0, D)),
    "smooth_l1_loss": (X, Y, special.huber(1.0, D)),
    "binary_crossentropy": (P, Q, -(Q * np.log(P) + (1 - Q) * np.log(1 - P))),
    "binary_crossentropy_logits": (X, Q, np.logaddexp(0, X) - Q * X),
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_equal_shapes(name, reduction):
    x, y, loss = LOSSES[name]
    result = getattr(Tensor(x), name)(Tensor(y), reduction=reduction)
    np.testing.assert_allclose(result.numpy(), reduced(loss, reduction), rtol=2e-5, atol=1e-6)


def test_binary_cross_entropy_at_the_ends():
    loss = Tensor([0.0, 1.0]).binary_crossentropy(Tensor([1.0, 0.0]), "none")
    assert loss.tolist() == [100, 100]
    logits = Tensor([1000.0, -1000.0])
    np.testing.assert_allclose(
        logits.binary_crossentropy_logits(Tensor([0.0, 1.0]), "none").numpy(), [1000, 1000]
    )
    weighted = Tensor([0.0]).binary_crossentropy_logits(Tensor([1.0]), pos_weight=3.0)
    np.testing.assert_allclose(weighted.item(), 3 * np.log(2), rtol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none", "batchmean"])
def test_kl_div(reduction):
    target = special.softmax(Y, 1)
    target[0, :2] = 0
    expected = special.xlogy(target, target) - target * X
    expected = expected.sum() / 5 if reduction == "batchmean" else reduced(expected, reduction)
    result = Tensor(X).kl_div(Tensor(target), reduction).numpy()
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    logs = special.log_softmax(Y, 1)
    result = Tensor(X).kl_div(Tensor(logs), "sum", log_target=True).item()
    np.testing.assert_allclose(result, (np.exp(logs) * (logs - X)).sum(), rtol=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cosine_embedding(reduction):
    sides = np.array([1, -1, 1, -1, -1])
    cos = (X * Y).sum(1) / np.linalg.norm(X, axis=1) / np.linalg.norm(Y, axis=1)
    expected = reduced(np.where(sides == 1, 1 - cos, np.maximum(cos - 0.1, 0)), reduction)
    result = Tensor(X).cosine_embedding_loss(Tensor(Y), Tensor(sides), 0.1, reduction)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-5, atol=1e-6)
    zeros = Tensor.zeros(1, 3)
    assert zeros.cosine_embedding_loss(zeros, Tensor([1])).item() == 1


def test_losses_of_halves_are_computed_in_float32():
    x, y = (Tensor(part * 100, dtype="float16") for part in (X, Y))
    for loss in (x.mse_loss(y, "sum"), x.kl_div(y.softmax(1), "sum"), x.cross_entropy(Tensor(LABELS), "sum")):
        assert loss.dtype is dtypes.float32
        assert np.isfinite(loss.item())


LOG = special.log_softmax(X.astype(np.float64), 1)
PICKED = -LOG[np.arange(5), LABELS]
W = RNG.uniform(0.5, 2, 7).astype(np.float32)


def smoothed(share):
    return (1 - share) * PICKED - share * LOG.mean(1)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy(reduction):
    t, y = Tensor(X), Tensor(LABELS)
    for result, loss in (
        (t.cross_entropy(y, reduction), PICKED),
        (t.cross_entropy(y, reduction, label_smoothing=0.1), smoothed(0.1)),
        (t.cross_entropy(Tensor(np.eye(7, dtype=np.float32)[LABELS]), reduction), PICKED),
        (
            t.cross_entropy(Tensor(np.eye(7, dtype=np.float32)[LABELS]), reduction, label_smoothing=0.1),
            smoothed(0.1),
        ),
        (t.sparse_categorical_crossentropy(y, reduction=reduction), PICKED),
        (t.log_softmax().nll_loss(y, reduction=reduction), PICKED),
    ):
        np.testing.assert_allclose(result.numpy(), reduced(loss, reduction), rtol=2e-5)


def test_class_weights_and_ignored_labels():
    t, y = Tensor(X), Tensor(LABELS)
    weights = W[LABELS]
    np.testing.assert_allclose(
        t.cross_entropy(y, weight=Tensor(W)).item(), (PICKED * weights).sum() / weights.sum(), rtol=1e-5
    )
    kept = LABELS != 3
    np.testing.assert_allclose(t.cross_entropy(y, ignore_index=3).item(), PICKED[kept].mean(), rtol=1e-5)
    np.testing.assert_allclose(
        t.sparse_categorical_crossentropy(y, ignore_index=3).item(), PICKED[kept].mean(), rtol=1e-5
    )
    smooth = t.cross_entropy(y, "none", 0.2, ignore_index=3).numpy()
    np.testing.assert_allclose(smooth, np.where(kept, smoothed(0.2), 0), rtol=1e-5)


def test_class_axis():
    x = RNG.normal(size=(2, 7, 3)).astype(np.float32)
    y = RNG.integers(0, 7, (2, 3))
    log = special.log_softmax(x, 1)
    picked = -np.take_along_axis(log, y[:, None], 1)[:, 0]
    np.testing.assert_allclose(Tensor(x).cross_entropy(Tensor(y), "none").numpy(), picked, rtol=1e-5)
    last = Tensor(np.moveaxis(x, 1, -1)).sparse_categorical_crossentropy(Tensor(y), reduction="none")
    np.testing.assert_allclose(last.numpy(), picked, rtol=1e-5)
    np.testing.assert_allclose(
        Tensor(x[0, :, 0]).cross_entropy(Tensor(int(y[0, 0]))).item(), picked[0, 0], rtol=1e-5
    )


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda t: t.cross_entropy(Tensor([1, 2])),
            ValueError,
            r"cross_entropy: expected labels of shape \(5,\)",
        ),
        (lambda t: t.cross_entropy(Tensor(np.zeros(5, np.float32))), TypeError, "integer labels"),
        (lambda t: t.cross_entropy(Tensor(LABELS), "average"), ValueError, "reduction"),
        (lambda t: t.cross_entropy(Tensor(LABELS), label_smoothing=2), ValueError, "label_smoothing"),
        (lambda t: t.mse_loss(Tensor([1.0])), ValueError, r"mse_loss: expected a target of shape \(5, 7\)"),
        (lambda t: t.gelu("exact"), ValueError, "gelu"),
    ],
)
def test_bad_arguments(call, error, text):
    with pytest.raises(error, match=text):
        call(Tensor(X))


def test_probabilities_of_0_and_1_have_finite_gradients():
    """Where a sigmoid saturates, the logarithm's slope is bounded as its value is."""
    p = Tensor([0.0, 1.0, 0.0, 1.0, 0.5], requires_grad=True)
    loss = p.binary_crossentropy(Tensor([0.0, 1.0, 1.0, 0.0, 1.0]), "none")
    assert loss.numpy().round(3).tolist() == pytest.approx([0, 0, 100, 100, 0.693], abs=1e-3)
    assert loss.sum().gradient(p)[0].tolist() == pytest.approx([1, -1, -1e12, 1e12, -2])


def test_labels_that_do_not_count_give_no_gradient():
    x = Tensor([[1.0, 2.0]], requires_grad=True)
    loss = x.cross_entropy(Tensor([7]), label_smoothing=0.1, ignore_index=7)
    assert loss.gradient(x)[0].tolist() == [[0.0, 0.0]]
