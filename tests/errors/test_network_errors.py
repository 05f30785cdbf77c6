"""Bad input to convolutions, pooling, normalization, losses and embeddings: the right error and its text."""

from __future__ import annotations

import numpy as np
import pytest

from pluggrad import Tensor, errors, nn

pytestmark = pytest.mark.usefixtures("device")


@pytest.fixture(autouse=True)
def training(monkeypatch):
    monkeypatch.setattr(Tensor, "training", True)


def image(*shape: int) -> Tensor:
    return Tensor.ones(*(shape or (2, 4, 6, 5)))


KERNEL = (3, 4, 3, 3)

CASES = [
    # ---- convolution
    (lambda: image().conv2d(image(3, 4, 7, 3)), r"at least 7 elements along axis 2.*got 6 .*\(2, 4, 6, 5\)"),
    (lambda: image().conv2d(image(*KERNEL), dilation=3), r"conv2d: .*at least 7 elements .*dilation 3"),
    (lambda: image(1, 4, 2, 1).conv2d(image(*KERNEL), padding=(1, 0)), r"axis 3.*got 1 .*smaller kernel"),
    (lambda: image(1, 4, 1, 2).conv2d(image(3, 4, 5, 3), padding=1), r"axis 2.* got 3 with padding in shape"),
    (lambda: image().conv2d(image(3, 2, 3, 3), groups=2), "groups that divide the 3 output channels, got 2"),
    (lambda: image().conv2d(image(*KERNEL), groups=0), "groups that divide the 3 output channels, got 0"),
    (lambda: image().conv2d(image(3, 5, 3, 3)), r"5 input channels, .* got 4 in shape \(2, 4, 6, 5\)"),
    (lambda: image().conv2d(image(4, 4, 3, 3), groups=2), "expected 8 input channels, .*groups=2, got 4"),
    (lambda: image().conv2d(image(*KERNEL), padding=-1), "padding of at least 0, got -1.*shrink or a slice"),
    (lambda: image().conv2d(image(*KERNEL), padding=(1, -1)), r"padding of at least 0, got \(1, -1\)"),
    (lambda: image().conv2d(image(*KERNEL), padding=(1, 2, 3)), r"padding: an integer, 2 of them, or 4"),
    (lambda: image().conv2d(image(*KERNEL), padding="full"), "'same' or 'valid', got 'full'"),
    (lambda: image().conv2d(image(*KERNEL), padding="same", stride=2), "stride 1 with padding 'same'"),
    (lambda: image().conv2d(image(*KERNEL), stride=0), "conv2d: expected stride of at least 1, got 0"),
    (lambda: image().conv2d(image(*KERNEL), dilation=(1, 0)), r"dilation of at least 1, got \(1, 0\)"),
    (lambda: image().conv2d(image(*KERNEL), stride=(1, 2, 3)), "stride: an integer, or one for each of 2"),
    (lambda: image(4, 6, 5).conv2d(image(*KERNEL)), r"equally many, got \(4, 6, 5\) and .* unsqueeze\(0\)"),
    (lambda: image(2, 4).conv2d(image(3, 4)), "conv2d: expected input and weight of 3 or 4 or 5 dimensions"),
    (lambda: image().conv1d(image(*KERNEL)), "conv1d: expected input and weight of 3 dimensions"),
    (lambda: image().conv3d(image(*KERNEL)), "conv3d: expected input and weight of 5 dimensions"),
    (lambda: image().conv2d(image(*KERNEL), image(4)), r"a bias of shape \(3,\), got \(4,\)"),
    (lambda: nn.Conv2d(3, 8, 3)(image()), "conv2d: expected 3 input channels"),
    # ---- transposed
    (lambda: image().conv_transpose2d(image(*KERNEL)), "conv_transpose2d: expected 3 input channels.*got 4"),
    (lambda: image().conv_transpose2d(image(4, 3, 3, 3), groups=3), "divide the 4 input channels, got 3"),
    (
        lambda: image().conv_transpose2d(image(4, 3, 3, 3), output_padding=1),
        r"an output_padding below the stride \(1, 1\) or the dilation \(1, 1\), got 1",
    ),
    (lambda: image().conv_transpose2d(image(4, 3, 3, 3), output_padding=-1), "output_padding of at least 0"),
    (lambda: image().conv_transpose2d(image(4, 3, 3, 3), padding=4), r"leaves a result, got sizes \(0, -1\)"),
    (lambda: image().conv_transpose2d(image(4, 3, 3, 3), stride=0), "stride of at least 1"),
    (lambda: image().conv_transpose1d(image(4, 3, 3, 3)), "conv_transpose1d: .* of 3 dimensions"),
    # ---- pooling
    (lambda: image().max_pool2d(7), r"max_pool2d: .* at least 7 .*got 6 with padding in shape \(2"),
    (lambda: image().avg_pool2d((2, 4), dilation=2), "avg_pool2d: expected at least 7 .*got 5"),
    (lambda: image().max_pool2d(2, padding=2), "padding of at most half of what a window spans, 2 .*got 2"),
    (lambda: image().avg_pool2d(3, padding=(0, 2)), r"at most half .* 3 elements, got \(0, 2\)"),
    (lambda: image().max_pool2d(2, padding=-1), "max_pool2d: expected padding of at least 0, got -1"),
    (lambda: image().max_pool2d(2, stride=0), "max_pool2d: expected stride of at least 1, got 0"),
    (lambda: image().max_pool2d(0), "max_pool2d: expected kernel_size of at least 1"),
    (lambda: image().max_pool2d(()), "max_pool2d: expected kernel_size: an integer"),
    (lambda: image(5).max_pool2d(2), r"max_pool2d: expected at least 2 dimensions, got \(5,\)"),
    (lambda: image(0, 3).max_pool2d(1), "max_pool2d: expected at least 1 elements along axis 0"),
    (lambda: image(5).avg_pool3d(2), "avg_pool3d: expected at least 3 dimensions"),
    (lambda: image().max_pool1d((2, 2)), "kernel_size: an integer, or one for each of 1 spatial axes"),
    (lambda: image().adaptive_avg_pool2d(0), "adaptive_avg_pool2d: expected output_size of at least 1"),
    (lambda: image().adaptive_max_pool2d((1, 2, 3)), "adaptive_max_pool2d: expected output_size: an integer"),
    (lambda: image(3).adaptive_avg_pool2d(1), "adaptive_avg_pool2d: expected at least 2 dimensions"),
    (lambda: image(3, 0).adaptive_avg_pool1d(1), "at least one element along each axis that is split"),
    (lambda: image().max_unpool2d(Tensor([1])), r"indices of shape \(2, 4, 6, 5\), got \(1,\)"),
    (lambda: image().unfold(2, 7, 1), "unfold: expected at least 7 elements along axis 2"),
    (lambda: image().unfold(2, 2, 0), "unfold: expected a size, a stride and a dilation of at least 1"),
    # ---- normalization
    (lambda: nn.BatchNorm(4)(image(1, 4)), "BatchNorm: .*one value per channel while training.*larger batch"),
    (lambda: nn.BatchNorm(3)(image()), r"BatchNorm: expected \(batch, 3 channels, ...\), got \(2, 4, 6, 5\)"),
    (
        lambda: image().batchnorm(image(3), None, image(4), image(4)),
        r"batchnorm: expected a weight of shape \(4,\), for axes \(1,\) of \(2, 4, 6, 5\), got \(3,\)",
    ),
    (lambda: image().group_norm(3), "group_norm: expected groups that divide the 4 channels.*got 3"),
    (lambda: image(4).group_norm(2), r"group_norm: expected \(batch, channels, ...\), got \(4,\)"),
    (lambda: image(2, 3, 1).instance_norm(), "instance_norm: expected .* more than one element per channel"),
    (lambda: image(2, 3).layer_norm((3, 2)), r"layer_norm: .*ends in \(3, 2\), got \(2, 3\)"),
    (lambda: image(2, 3).rms_norm(3, image(2)), r"rms_norm: expected a weight of shape \(3,\)"),
    # ---- losses
    (lambda: image(3, 2).kl_div(image(2, 3)), r"kl_div: expected a target of shape \(3, 2\), got \(2, 3\)"),
    (lambda: image(3, 2).kl_div(image(3, 2), "median"), "kl_div: expected reduction 'mean', 'sum', 'none'"),
    (
        lambda: image(3, 2).cosine_embedding_loss(image(3, 2), Tensor([1, -1])),
        r"cosine_embedding_loss: expected a target of shape \(3,\), got \(2,\)",
    ),
]


@pytest.mark.parametrize(("call", "text"), CASES)
def test_bad_shapes_and_values(call, text):
    with pytest.raises(ValueError, match=text) as caught:
        call()
    _has_the_format(caught.value)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: image().conv2d(image(*KERNEL), stride=1.5), "conv2d: expected stride in integers, got 1.5"),
        (lambda: image().max_pool2d("2"), "max_pool2d: expected kernel_size in integers, got '2'"),
        (lambda: image().max_pool2d(2, padding=None), "expected padding in integers, got None"),
        (lambda: image().max_unpool2d(image()), "integer indices, got float32"),
        (lambda: nn.Embedding(4, 2)(Tensor([0.5])), "embedding: expected integer indices, got float32"),
        (lambda: image().conv2d("weight"), "conv2d: expected a tensor, a number or an array, got str"),
    ],
)
def test_bad_types(call, text):
    with pytest.raises(TypeError, match=text) as caught:
        call()
    _has_the_format(caught.value)


def _has_the_format(error):
    assert isinstance(error, errors.UserError)
    assert error.op
    assert error.expected
    assert error.got
    assert str(error).startswith(f"{error.op}: expected ")


@pytest.mark.parametrize(
    "call",
    [
        lambda: nn.Embedding(4, 2)(Tensor([1, 4])),
        lambda: nn.Embedding(4, 2)(Tensor([[-5]])),
        lambda: Tensor.ones(1, 1, 1, 1).max_unpool2d(Tensor([[[[4]]]])),
    ],
)
def test_an_index_out_of_range(call):
    with pytest.raises(IndexError, match=r"expected an index in \[-4, 3\] on axis . of size 4, got (4|-5)"):
        call().realize()
    assert (Tensor([1.0, 2.0]) + 1).tolist() == [2, 3]


LOGITS = [[0.0, 1.0, 2.0], [1.0, 0.0, 3.0]]
WEIGHTED = {"label_smoothing": 0.1, "ignore_index": 7}


@pytest.mark.parametrize("label", [3, -1, -100])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("cross_entropy", lambda x, y: x.cross_entropy(y)),
        ("cross_entropy", lambda x, y: x.cross_entropy(y, weight=Tensor([1.0, 2, 3]), **WEIGHTED)),
        ("nll_loss", lambda x, y: nn.nll_loss(x, y, reduction="none")),
        ("cross_entropy", lambda x, y: x.sparse_categorical_crossentropy(y, ignore_index=7)),
    ],
)
def test_a_label_that_names_no_class(name, call, label):
    x = Tensor(LOGITS, requires_grad=True)
    loss = call(x, Tensor([1, label]))
    with pytest.raises(IndexError, match=rf"{name}: expected a label in \[0, 2\], got {label}.*ignore_index"):
        loss.realize()
    assert np.isfinite(call(x, Tensor([1, 2])).numpy()).all()


def test_a_label_that_is_left_out_names_no_class():
    loss = Tensor(LOGITS).cross_entropy(Tensor([1, -100]), ignore_index=-100)
    np.testing.assert_allclose(loss.item(), Tensor(LOGITS[:1]).cross_entropy(Tensor([1])).item(), rtol=1e-6)


def test_a_refused_batch_leaves_the_statistics():
    layer = nn.BatchNorm(2)
    layer(Tensor(np.arange(8, dtype=np.float32).reshape(4, 2))).realize()
    before = {name: tensor.numpy() for name, tensor in layer.state_dict().items()}
    with pytest.raises(ValueError, match="more than one value"):
        layer(Tensor.ones(1, 2))
    for name, tensor in layer.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), before[name])


def test_operands_on_two_devices(other_device):
    with pytest.raises(ValueError, match=r"conv2d: expected operands on one device") as caught:
        image().conv2d(Tensor.ones(*KERNEL, device=other_device))
    assert isinstance(caught.value, errors.MixedDevices)
