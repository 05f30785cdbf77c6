"""Losses, embedding and activations beside PyTorch's, with gradients and second gradients."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from pluggrad import Tensor, nn
from tests.pytorch.compare import close, compare, draw, in_torch

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("device")]

REDUCTIONS = ["mean", "sum", "none"]
SHAPE = (4, 3, 5)


def probabilities(*shape: int, seed: int = 0) -> np.ndarray:
    return (1 / (1 + np.exp(-draw(*shape, seed=seed)))).astype(np.float32)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mse_loss", {}),
        ("l1_loss", {}),
        ("smooth_l1_loss", {"beta": 0.5}),
        ("huber_loss", {"delta": 0.7}),
    ],
)
def test_distances(name, options, reduction):
    import torch.nn.functional as F

    compare(
        lambda x, y: getattr(nn, name)(x, y, reduction=reduction, **options),
        lambda x, y: getattr(F, name)(x, y, reduction=reduction, **options),
        draw(*SHAPE),
        draw(*SHAPE, seed=3),
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_binary_cross_entropy(reduction):
    import torch.nn.functional as F

    compare(
        lambda x, y: x.binary_crossentropy(y, reduction),
        lambda x, y: F.binary_cross_entropy(x, y, reduction=reduction),
        probabilities(*SHAPE),
        probabilities(*SHAPE, seed=3),
    )
    weight = np.array([0.5, 2, 1, 3, 1], np.float32)
    compare(
        lambda x, y: x.binary_crossentropy_logits(y, reduction, Tensor(weight, dtype=x.dtype)),
        lambda x, y: F.binary_cross_entropy_with_logits(
            x, y, reduction=reduction, pos_weight=in_torch(weight, "float32").to(x.dtype).detach()
        ),
        draw(*SHAPE) * 3,
        probabilities(*SHAPE, seed=3),
        dtype="float64",
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(6, 5), (5,), (3, 5, 4), (2, 5, 3, 2)], ids=str)
def test_cross_entropy(shape, weighted, smoothing, reduction):
    import torch
    import torch.nn.functional as F

    axis = min(1, len(shape) - 1)
    labels = np.random.default_rng(0).integers(0, 5, shape[:axis] + shape[axis + 1 :])
    labels.reshape(-1)[0] = 3 if len(shape) == 1 else -100
    weight = np.array([0.5, 2, 1, 3, 1], np.float32) if weighted else None

    def ours(x):
        w = None if weight is None else Tensor(weight)
        return x.cross_entropy(Tensor(labels), reduction, smoothing, weight=w, ignore_index=-100)

    def theirs(x):
        w = None if weight is None else torch.tensor(weight)
        return F.cross_entropy(x, torch.tensor(labels), w, reduction=reduction, label_smoothing=smoothing)

    compare(ours, theirs, draw(*shape))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_of_probabilities(smoothing, weighted):
    import torch
    import torch.nn.functional as F

    weight = np.array([0.5, 2, 1, 3, 1], np.float32) if weighted else None
    target = probabilities(4, 5)
    compare(
        lambda x, y: x.cross_entropy(
            y, label_smoothing=smoothing, weight=None if weight is None else Tensor(weight)
        ),
        lambda x, y: F.cross_entropy(
            x, y, None if weight is None else torch.tensor(weight), label_smoothing=smoothing
        ),
        draw(4, 5),
        target / target.sum(1, keepdims=True),
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_nll(weighted, reduction):
    import torch
    import torch.nn.functional as F

    labels = np.array([[1, 4], [0, 2], [3, 3]])
    weight = np.array([0.5, 2, 1, 3, 1], np.float32) if weighted else None
    compare(
        lambda x: x.nll_loss(Tensor(labels), None if weight is None else Tensor(weight), 3, reduction),
        lambda x: F.nll_loss(
            x, torch.tensor(labels), None if weight is None else torch.tensor(weight), ignore_index=3,
            reduction=reduction,
        ),
        draw(3, 5, 2),
    )  # fmt: skip


def test_sparse_categorical_cross_entropy():
    import torch
    import torch.nn.functional as F

    labels = np.array([1, -1, 0, 4])
    compare(
        lambda x: x.sparse_categorical_crossentropy(Tensor(labels), label_smoothing=0.1),
        lambda x: F.cross_entropy(x, torch.tensor(labels), ignore_index=-1, label_smoothing=0.1),
        draw(4, 5),
    )


@pytest.mark.filterwarnings("ignore:reduction:UserWarning")
@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batchmean"])
@pytest.mark.parametrize("logarithms", [False, True])
def test_kl_div(logarithms, reduction):
    import torch.nn.functional as F

    target = probabilities(*SHAPE, seed=3)
    compare(
        lambda x, y: x.kl_div(y, reduction, logarithms),
        lambda x, y: F.kl_div(x, y, reduction=reduction, log_target=logarithms),
        np.log(probabilities(*SHAPE)),
        np.log(target) if logarithms else target,
    )


@pytest.mark.filterwarnings("ignore:reduction:UserWarning")
def test_kl_div_of_what_never_happens():
    import torch
    import torch.nn.functional as F

    x, y = np.log(probabilities(3)), np.array([0.0, 0.4, 0.6], np.float32)
    close(Tensor(x).kl_div(Tensor(y)), F.kl_div(torch.tensor(x), torch.tensor(y)), "float32")


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_cosine_embedding(margin, reduction):
    import torch
    import torch.nn.functional as F

    sides = np.array([1, -1, 1, -1, -1, -1])
    compare(
        lambda a, b: nn.cosine_embedding_loss(a, b, Tensor(sides), margin, reduction),
        lambda a, b: F.cosine_embedding_loss(a, b, torch.tensor(sides), margin, reduction=reduction),
        draw(6, 4),
        draw(6, 4, seed=3),
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    ("name", "options", "sides"),
    [
        ("soft_margin_loss", {}, "signs"),
        ("hinge_embedding_loss", {"margin": 0.7}, "signs"),
        ("poisson_nll_loss", {}, "counts"),
        ("poisson_nll_loss", {"full": True}, "counts"),
        ("poisson_nll_loss", {"log_input": False, "eps": 1e-3}, "counts"),
    ],
)
def test_more_losses(name, options, sides, reduction):
    import torch
    import torch.nn.functional as F

    targets = np.array([[1, -1, 1, -1]] * 3) if sides == "signs" else np.arange(12).reshape(3, 4)
    x = draw(3, 4) if options.get("log_input", True) else np.abs(draw(3, 4)) + 0.1
    compare(
        lambda x: getattr(nn, name)(x, Tensor(targets), reduction=reduction, **options),
        lambda x: getattr(F, name)(x, torch.tensor(targets), reduction=reduction, **options),
        x,
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_losses_of_several_tensors(reduction):
    import torch
    import torch.nn.functional as F

    signs = np.array([[1, -1, 1, -1]] * 3)
    x, y, z = draw(3, 4), draw(3, 4, seed=3), draw(3, 4, seed=4)
    compare(
        lambda x, y: nn.margin_ranking_loss(x, y, Tensor(signs), 0.3, reduction),
        lambda x, y: F.margin_ranking_loss(x, y, torch.tensor(signs), 0.3, reduction=reduction),
        x, y,
    )
    for options in ({}, {"margin": 0.5, "p": 3.0}):
        compare(
            functools.partial(nn.triplet_margin_loss, reduction=reduction, **options),
            functools.partial(F.triplet_margin_loss, reduction=reduction, **options),
            x, y, z,
        )
    for options in ({}, {"full": True}):
        ours, theirs = [functools.partial(each.gaussian_nll_loss, reduction=reduction, **options)
                        for each in (nn, F)]
        compare(ours, theirs, x, y, np.abs(z) + 0.1)
    weight, targets = np.abs(z), np.eye(3, 4, dtype=np.float32)
    w, t = torch.tensor(weight), torch.tensor(targets)
    compare(
        lambda x: nn.binary_cross_entropy_with_logits(x, Tensor(targets), reduction, weight=Tensor(weight)),
        lambda x: F.binary_cross_entropy_with_logits(x, t, w, reduction=reduction),
        x,
    )
    compare(
        lambda x: nn.binary_cross_entropy(x.sigmoid(), Tensor(targets), reduction, weight=Tensor(weight)),
        lambda x: F.binary_cross_entropy(x.sigmoid(), t, w, reduction=reduction),
        x,
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("CrossEntropyLoss", {"label_smoothing": 0.1, "ignore_index": 1}),
        ("NLLLoss", {"reduction": "sum"}),
        ("BCEWithLogitsLoss", {}),
        ("MSELoss", {"reduction": "none"}),
        ("L1Loss", {}),
        ("SmoothL1Loss", {"beta": 0.3}),
        ("HuberLoss", {"delta": 0.3}),
        ("KLDivLoss", {"reduction": "batchmean"}),
    ],
)
def test_losses_as_layers(name, options):
    import torch

    labels = name in ("CrossEntropyLoss", "NLLLoss")
    targets = np.array([0, 1, 2]) if labels else probabilities(3, 4, seed=3)
    ours, theirs = getattr(nn, name)(**options), getattr(torch.nn, name)(**options)
    compare(lambda x: ours(x, Tensor(targets)), lambda x: theirs(x, torch.tensor(targets)), draw(3, 4))


@pytest.mark.parametrize("padding", [None, 2])
def test_embedding(padding):
    import torch.nn.functional as F

    index, layer = np.array([[0, 2, 6], [2, 2, 5]]), nn.Embedding(7, 3, padding)

    def ours(weight):
        layer.weight = weight
        return layer(Tensor(index))

    def theirs(weight):
        import torch

        return F.embedding(torch.tensor(index), weight, padding)

    compare(ours, theirs, draw(7, 3))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ReLU", ()),
        ("LeakyReLU", (0.2,)),
        ("GELU", ()),
        ("GELU", ("tanh",)),
        ("SiLU", ()),
        ("Tanh", ()),
        ("Sigmoid", ()),
        ("Softmax", (1,)),
    ],
)
def test_activations(name, arguments):
    import torch

    options = {"approximate": arguments[0]} if name == "GELU" and arguments else {}
    other = getattr(torch.nn, name)(*(() if options else arguments), **options)
    compare(getattr(nn, name)(*arguments), other, draw(4, 5))
