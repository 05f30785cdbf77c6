"""Mixed precision: which methods cast their operands, to what, and who else notices."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from pluggrad import Context, Tensor, autocast, dtypes, jit, nn
from pluggrad.tensor.precision import IN_FLOAT32, IN_HALF

HALVES = [dtypes.float16, dtypes.bfloat16]


def of(dtype: dtypes.DType, *shape: int) -> Tensor:
    return Tensor.ones(*shape, dtype=dtype)


# a call for each row of the tables; nothing is computed, dtypes are known before
PRODUCTS = {
    "dot": lambda d: of(d, 2, 3).dot(of(d, 3, 2)),
    "matmul": lambda d: of(d, 2, 3) @ of(d, 3, 2),
    "mm": lambda d: of(d, 2, 3).mm(of(d, 3, 2)),
    "mv": lambda d: of(d, 2, 3).mv(of(d, 3)),
    "addmm": lambda d: of(d, 2, 2).addmm(of(d, 2, 3), of(d, 3, 2)),
    "baddbmm": lambda d: of(d, 1, 2, 2).baddbmm(of(d, 1, 2, 3), of(d, 1, 3, 2)),
    "inner": lambda d: of(d, 2, 3).inner(of(d, 2, 3)),
    "vecdot": lambda d: of(d, 2, 3).vecdot(of(d, 2, 3)),
    "bmm": lambda d: of(d, 1, 2, 3).bmm(of(d, 1, 3, 2)),
    "linear": lambda d: of(d, 2, 3).linear(of(d, 3, 2), of(d, 2)),
    "einsum": lambda d: Tensor.einsum("ij,jk->ik", of(d, 2, 3), of(d, 3, 2)),
    "tensordot": lambda d: of(d, 2, 3).tensordot(of(d, 3, 2), 1),
    "outer": lambda d: of(d, 2).outer(of(d, 3)),
    "conv1d": lambda d: of(d, 1, 1, 3).conv1d(of(d, 1, 1, 2)),
    "conv2d": lambda d: of(d, 1, 1, 3, 3).conv2d(of(d, 1, 1, 2, 2), bias=of(d, 1)),
    "conv3d": lambda d: of(d, 1, 1, 3, 3, 3).conv3d(of(d, 1, 1, 2, 2, 2)),
    "conv_transpose1d": lambda d: of(d, 1, 1, 3).conv_transpose1d(of(d, 1, 1, 2)),
    "conv_transpose2d": lambda d: of(d, 1, 1, 3, 3).conv_transpose2d(of(d, 1, 1, 2, 2)),
    "conv_transpose3d": lambda d: of(d, 1, 1, 3, 3, 3).conv_transpose3d(of(d, 1, 1, 2, 2, 2)),
    "scaled_dot_product_attention":
        lambda d: of(d, 2, 3).scaled_dot_product_attention(of(d, 2, 3), of(d, 2, 3)),
}
LOSSES = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_crossentropy",
          "binary_crossentropy_logits", "kl_div")
LABELED = ("cross_entropy", "sparse_categorical_crossentropy", "nll_loss")
TWO = {"pow", "logaddexp", "hypot", *LOSSES}
OTHERS = {
    "batchnorm": lambda x, d: x.batchnorm(of(d, 3), of(d, 3), of(d, 3), of(d, 3)),
    "layer_norm": lambda x, d: x.layer_norm(3, of(d, 3), of(d, 3)),
    "rms_norm": lambda x, d: x.rms_norm(3, of(d, 3)),
    "group_norm": lambda x, d: x.group_norm(1, of(d, 3)),
    "instance_norm": lambda x, d: x.unsqueeze(-1).expand(2, 3, 4).instance_norm(),
    "solve": lambda x, d: of(d, 2, 2).solve(of(d, 2, 1)),
    "solve_triangular": lambda x, d: of(d, 2, 2).solve_triangular(of(d, 2, 1), upper=True),
    "lstsq": lambda x, d: x.lstsq(of(d, 2, 1))[0],
    "newton_schulz": lambda x, d: x.newton_schulz(2, (1.0, 2.0, 0.5)),
    "cosine_embedding_loss": lambda x, d: x.cosine_embedding_loss(x, Tensor([1, -1])),
}


SQUARE = {"inv", "det", "slogdet", "logdet", "cond", "cholesky", "eigh", "eigvalsh", "matrix_exp"}
ALONG = {"cumsum", "cumprod", "logcumsumexp"}


def wide_result(name: str, dtype: dtypes.DType) -> Tensor:
    x = of(dtype, 2, 2 if name in SQUARE else 3)
    if name in OTHERS:
        return OTHERS[name](x, dtype)
    if name in TWO:
        return getattr(x, name)(of(dtype, 2, 3))
    if name in ALONG:
        return getattr(x, name)(1)
    if name in LABELED:
        return getattr(x, name)(Tensor([0, 2]))
    result = getattr(x, name)()
    return result[0] if isinstance(result, tuple) else result


@pytest.mark.parametrize("half", HALVES, ids=lambda d: d.name)
@pytest.mark.parametrize("name", sorted(IN_HALF))
def test_products_are_of_the_half(name, half):
    product = PRODUCTS[name]
    with autocast(half):
        assert {product(dtype).dtype for dtype in (dtypes.float32, *HALVES)} == {half}
        assert product(dtypes.float64).dtype is dtypes.float64
    assert product(dtypes.float32).dtype is dtypes.float32


@pytest.mark.parametrize("name", sorted(IN_FLOAT32))
def test_what_adds_up_or_magnifies_is_of_float32(name):
    with autocast():
        assert {wide_result(name, d).dtype for d in (dtypes.float32, *HALVES)} == {dtypes.float32}
        assert wide_result(name, dtypes.float64).dtype is dtypes.float64
    assert wide_result(name, dtypes.bfloat16).dtype is dtypes.bfloat16


@pytest.mark.parametrize("name", [*LOSSES, *LABELED, "cosine_embedding_loss"])
def test_losses_are_of_float32(name):
    with autocast():
        assert {wide_result(name, d).dtype for d in (dtypes.float32, *HALVES)} == {dtypes.float32}


def test_the_rest_takes_what_it_is_given():
    x, y = of(dtypes.bfloat16, 2), of(dtypes.float32, 2)
    with autocast():
        assert (x + 1).relu().dtype is dtypes.bfloat16
        assert (x + y).dtype is dtypes.float32
        assert x.cat(x).dtype is dtypes.bfloat16
        assert Tensor([1, 2]).sum().dtype is dtypes.int32
        assert Tensor([[1]]).matmul(Tensor([[2]])).dtype is dtypes.int32


def test_blocks_nest_and_end_with_an_error():
    x = of(dtypes.float32, 2, 2)

    @autocast(dtypes.float16)
    def product() -> Tensor:
        return x @ x

    with autocast() as block:
        assert (x @ x).dtype is dtypes.bfloat16
        with autocast(enabled=False):
            assert (x @ x).dtype is dtypes.float32
            with block:
                assert (x @ x).dtype is dtypes.bfloat16
        assert product().dtype is dtypes.float16
        assert (x @ x).dtype is dtypes.bfloat16
    with pytest.raises(RuntimeError), autocast():
        raise RuntimeError
    assert (x @ x).dtype is dtypes.float32


def test_a_block_is_its_threads_alone():
    x, seen = of(dtypes.float32, 2, 2), []
    with autocast():
        thread = threading.Thread(target=lambda: seen.append((x @ x).dtype))
        thread.start()
        thread.join()
    assert seen == [dtypes.float32]


def test_a_block_for_one_type_of_device():
    here, there = (Tensor.ones(2, 2, device=name) for name in ("cpu", "ref"))
    with autocast(device="ref"):
        assert (here @ here).dtype is dtypes.float32
        assert (there @ there).dtype is dtypes.bfloat16


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_only_halves(dtype):
    with pytest.raises(TypeError, match=f"autocast: expected float16 or bfloat16, got {dtype}"):
        autocast(dtype)


def test_weights_and_gradients_stay_in_float32(device):
    w = Tensor([[1.0, 2.0], [3.0, 1.001]], requires_grad=True)
    x = Tensor([[1.0, 0.5]])
    with autocast():
        product = x @ w
        loss = product.square().sum()
    loss.backward()
    assert (w.dtype, w.grad.dtype, loss.dtype) == (dtypes.float32,) * 3
    np.testing.assert_array_equal(product.numpy(), [[2.5, 2.5]])  # of the weight rounded to 1
    np.testing.assert_array_equal(w.grad.numpy(), [[5, 5], [2.5, 2.5]])


def test_sums_of_products_are_kept_in_float32(device):
    x, y = Tensor.ones(1, 1001), Tensor.ones(1001, 1)
    with autocast():
        assert (x @ y).item() == 1000  # the nearest bfloat16; added up in bfloat16 it would stay at 256


def test_what_a_method_is_made_of_is_not_cast_again(device):
    x = Tensor([[1.001, 0.5], [0.25, 2.0]])
    with autocast():
        exponential = x.matrix_exp()
    np.testing.assert_array_equal(exponential.numpy(), x.matrix_exp().numpy())


def test_a_captured_function_is_captured_for_each(device):
    w = Tensor.ones(2, 2)
    product = jit(lambda x: x @ w)
    x = Tensor([[1.001, 1.0]]).realize()
    plain = product(x)
    for _ in range(2):
        with autocast():
            half = product(x)
        again = product(x)
    assert (plain.dtype, half.dtype, again.dtype) == (dtypes.float32, dtypes.bfloat16, dtypes.float32)
    assert half.numpy()[0, 0] == 2 != plain.numpy()[0, 0] == again.numpy()[0, 0]
    assert product.captures == 2


def test_a_captured_function_is_captured_for_each_default():
    make = jit(lambda x: x + Tensor([2]).exp())
    x = Tensor([1]).realize()
    assert make(x).dtype is dtypes.float32
    with Context(DEFAULT_FLOAT="float64"):
        assert make(x).dtype is dtypes.float64
    assert make.captures == 2


def test_layers(device):
    net = [nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), Tensor.relu, lambda x: x.flatten(1), nn.Linear(8, 3)]
    with Tensor.train(), autocast():
        out = Tensor.ones(2, 1, 4, 4).sequential(net)
        loss = out.cross_entropy(Tensor([0, 1]))
        assert (out.dtype, loss.dtype) == (dtypes.bfloat16, dtypes.float32)
        loss.backward()
    assert {p.grad.dtype for p in nn.state.get_parameters(net) if p.grad is not None} == {dtypes.float32}
    assert np.isfinite(loss.item())
